"""How `covenq logs` cuts what it reads into lines, however it comes, and goes from attempt to attempt."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from covenq.cli.log_reader import PIECE, LogReader, _Position
from covenq.errors import DaemonUnreachable
from covenq.operate.inspect import view
from covenq.tasks.execution.workdir import AttemptDirectory
from tests.support.records import empty_state


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_pieces_end_with_lines_and_nothing_is_lost(size: int) -> None:
    content = b"one\ntwo\r\n\r\nthree\rfour\n\nfive \xe2\x82\xac"
    position, pieces = _Position(), []
    for at in range(0, len(content), size):
        pieces.append(position.take(content[at : at + size]))
    assert all(not piece or piece[-1:] in b"\r\n" for piece in pieces)
    assert b"".join([*pieces, position.pending]) == content
    assert position.offset == len(content)
    lines = [line for piece in [*pieces, position.pending] for line in piece.splitlines()]
    assert lines == content.splitlines()


@pytest.mark.parametrize("size", [PIECE, PIECE - 1, 100_000])
@pytest.mark.parametrize("before", range(4))
def test_a_long_line_is_cut_between_characters_and_not_within_its_end(size: int, before: int) -> None:
    text = "x" * before + "\u20ac" * 200_000 + "\U0001f600" * 100_000 + "\r\n"
    content, position, pieces = text.encode(), _Position(), []
    for at in range(0, len(content), size):
        pieces.append(position.take(content[at : at + size]))
        assert len(position.pending) < PIECE
    pieces.append(position.pending)
    assert b"".join(pieces) == content and len([one for one in pieces if one]) > 1
    assert "".join(one.decode() for one in pieces) == text
    at_return = b"x" * (PIECE - 1) + b"\r"
    position = _Position()
    assert [position.take(at_return), position.take(b"\n")] == [at_return[:-1], b"\r\n"]


def test_bytes_that_are_no_utf_8_are_cut_where_they_end() -> None:
    for content in (b"\xff" * PIECE, b"\x80" * PIECE, b"x" * (PIECE - 1) + b"\xff"):
        assert _Position().take(content) == content


def test_a_line_without_an_end_waits_in_bounded_memory() -> None:
    position = _Position()
    for _ in range(100):
        position.take(b"x" * (PIECE - 1))
        assert len(position.pending) < PIECE
    assert position.offset == 100 * (PIECE - 1)


class Jumping:
    """A source in which all of a task's attempts come and go between two looks at it."""

    live = True

    def __init__(self, *looks: tuple[str, int]) -> None:
        self.looks = list(looks)

    def task(self, id: str) -> Any:
        state, attempts = self.looks[0] if len(self.looks) == 1 else self.looks.pop(0)
        return SimpleNamespace(id=id, state=state, attempts=attempts, kind="run")

    def log(self, task: str, attempt: int, stream: str, last: int, offset: int) -> bytes:
        return f"{stream} {attempt}\n".encode()[offset : offset + last]


@pytest.mark.parametrize(
    ("looks", "read"),
    [
        ([("queued", 0), ("failed", 3)], [1, 2, 3]),
        ([("running", 2), ("queued", 2), ("queued", 2), ("failed", 4)], [2, 3, 4]),
        ([("completed", 2)], [2]),
    ],
)
def test_no_attempt_is_missed_and_none_is_read_twice(looks: list[tuple[str, int]], read: list[int]) -> None:
    reader = LogReader("t1", None, ["stdout", "stderr"], True, None, None, task="t1")
    pieces = list(reader._read(Jumping(*looks)))  # type: ignore[arg-type]
    assert [piece.content.decode() for piece in pieces] == [
        f"{stream} {number}\n" for number in read for stream in ("stdout", "stderr")
    ]


def test_what_was_read_before_the_daemon_went_is_not_read_again() -> None:
    class Leaving(Jumping):
        gone = False

        def log(self, task: str, attempt: int, stream: str, last: int, offset: int) -> bytes:
            if stream == "stderr" and not self.gone:
                self.gone = True
                raise DaemonUnreachable("gone")
            return super().log(task, attempt, stream, last, offset)

    opened: Any = Leaving(("completed", 1))
    reader = LogReader("t1", None, ["stdout", "stderr"], True, None, None, task="t1")
    pieces: list[bytes] = []
    with pytest.raises(DaemonUnreachable):
        for piece in reader._read(opened):
            pieces.append(piece.content)
    pieces.extend(piece.content for piece in reader._read(opened))
    assert pieces == [b"stdout 1\n", b"stderr 1\n"]


def test_a_shortage_is_no_missing_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(AttemptDirectory, "open", short)
    with empty_state() as conn, pytest.raises(OSError, match="Too many open files"):
        view.log(conn, tmp_path, "t1", 1, "stdout", 100)
