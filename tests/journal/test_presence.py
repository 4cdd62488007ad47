"""What is at a path: yes, no, or an error, never "no" for what can't be looked at."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from journal.presence import exists, is_absent, is_directory, is_file, is_named, is_pipe
from tests.support.other_user import as_nobody

QUESTIONS = (exists, is_directory, is_file, is_pipe, is_named)


def test_what_is_there_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    told = {name: [ask(tmp_path / name) for ask in QUESTIONS] for name in ("", "file", "link", "dangling", "pipe")}
    assert told == {
        "": [True, True, False, False, True],
        "file": [True, False, True, False, True],
        "link": [True, False, True, False, True],
        "dangling": [False, False, False, False, True],
        "pipe": [True, False, False, True, True],
    }


def test_what_can_not_be_there_is_absent(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "nothing", tmp_path / "file" / "below", tmp_path / "a\0b"):
        assert not any(ask(path) for ask in QUESTIONS)
        assert is_absent(path)


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    for ask in (exists, is_directory, is_file, is_pipe):
        with pytest.raises(OSError):
            ask(tmp_path / "circle")
    assert is_named(tmp_path / "circle")
    assert not is_absent(tmp_path / "circle")


CLOSED = """
from journal import presence
closed = Path(sys.argv[1]) / "closed"
closed.mkdir(mode=0)
said = []
for question in ("exists", "is_directory", "is_file", "is_pipe", "is_named", "is_absent"):
    try:
        said.append(getattr(presence, question)(closed / "x"))
    except OSError as error:
        said.append(error.strerror)
print(json.dumps(said))
"""


def test_what_this_user_may_not_look_at_is_an_error() -> None:
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o777)
        assert as_nobody(CLOSED, made) == ["Permission denied"] * 5 + [False]
