"""Erased is erased everywhere, and once: the chain verifies, ids stay known, and no crash in it leaves half of it for good."""

from __future__ import annotations

import base64
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from journal.erasure import erasure_of
from journal.errors import EntryRefused, JournalDamaged, JournalError
from journal.file.engine import FileJournal
from journal.file.erase import NOTE_NAME
from journal.file.files import OsFiles
from journal.file.reader import open_reader
from journal.file.verify import verify
from journal.records import Appended, Conflict, Entry, Rewritten
from tests.support.journals import independent_reader, making

SECRETS = {
    "object": b'{"body":"secret-in-an-object"}',
    "text": b"secret in a text\n",
    "binary": b"\xffsecret in bytes\xff",
    "none": None,
    "big": b'{"body":"secret-in-a-big-one","pad":"' + b"p" * 2000 + b'"}',
}
TRACES = [
    b"secret-in-an-object",
    b"secret in a text",
    base64.b64encode(SECRETS["binary"] or b""),
    b"secret-in-a-big",
    b"secret title",
]


def fill(journal: FileJournal, rounds: int = 3) -> None:
    for number in range(rounds):
        for name, payload in SECRETS.items():
            about = {"title": f"secret title {number}"} if name != "text" else None
            journal.append([making.delivery(f"{name}{number}", payload, about=about)])
            journal.append([making.delivery(f"kept{name}{number}", b'{"kept":%d}' % number, about={"kept": number})])


def naming(seqs: list[list[int]], *, about: bool = True) -> Entry:
    return Entry("ops.redaction", "journal.dropped", {"drops": seqs, "about": about, "reason": "asked"})


def secrets(rounds: int = 3) -> list[list[int]]:
    """Every second record: the secret ones."""
    return [[seq, seq] for seq in range(1, rounds * 10, 2)]


def traces(directory: Path) -> set[bytes]:
    """What of the secrets stands in any file there, SQLite's with them."""
    return {trace for path in directory.iterdir() for trace in TRACES if trace in path.read_bytes()}


def check(directory: Path, rounds: int = 3) -> None:
    """All is erased that was to be, and nothing else has changed."""
    assert traces(directory) == set()
    assert not (directory / NOTE_NAME).exists()
    assert not list(directory.glob("*.tmp"))
    assert verify(directory).ok
    assert independent_reader.read(directory).fault is None
    with making.opened(directory, seed=8) as journal:
        for record in journal.read(0):
            if record.kind != "delivery.received":
                continue
            kept = record.data["guid"].startswith("kept")
            assert (record.payload is not None, record.about is not None) == (kept, kept)
            if kept:
                assert record.about == {"kept": int(record.data["guid"][-1])}
            assert journal.append([Entry(record.subject, "delivery.received", {}, expect=0)]) == Conflict(
                record.subject, record.seq
            )
        assert journal.get(1) is not None
        assert isinstance(journal.append([making.delivery("afterwards", b"{}")]), Appended)


def test_it_is_gone_from_every_file(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    with making.opened(directory, segment_bytes=5000) as journal:
        fill(journal)
        (directory / "00000000000000000001.99.0123456789abcdef.torn").write_bytes(SECRETS["object"] or b"")
        before = {record.seq: record for record in journal.read(0)}
        seen: list[tuple[int, int]] = []
        answer, done = journal.erase([naming(secrets())], lambda *at: seen.append(at))
        assert answer == Appended((31,))
        assert traces(directory) == set()
        assert sum(record.dropped == 31 for record in journal.read(0)) == 15
        assert done.freed > 0 and done.parts <= {first for first, _ in journal.parts()}
        assert seen == [(number + 1, len(done.parts)) for number in range(len(done.parts))]
        for record in journal.read(0):
            if record.seq in before and before[record.seq].data["guid"].startswith("kept"):
                assert record == before[record.seq]
            elif record.seq in before:
                old = before[record.seq]
                assert (record.sum, record.prev, record.payload_sha256) == (old.sum, old.prev, old.payload_sha256)
                assert (record.payload, record.about) == (None, None)
                # What never had content lacks none, and is not said to.
                assert record.dropped == (31 if old.payload is not None or old.about is not None else None)
        found = journal.last("delivery.9.object0")
        assert found is not None
        assert found.dropped == 31
    check(directory)


def test_payloads_alone(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    with making.opened(directory, segment_bytes=5000) as journal:
        fill(journal)
        journal.erase([naming([[1, 30]], about=False)])
        assert traces(directory) == {b"secret title"}
        assert all(record.payload is None for record in journal.read(0))
        assert sum(record.about is not None for record in journal.read(0)) == 27
        journal.erase([naming(secrets())])
        assert traces(directory) == set()
        assert {record.dropped for record in journal.read(0) if record.about is not None} == {31}
    assert verify(directory).ok
    assert independent_reader.read(directory).fault is None


def test_the_next_record_goes_on_and_later_ones_keep_their_content(tmp_path: Path) -> None:
    """A record names only what came before it, however far its stretch reaches."""
    directory = tmp_path / "j"
    with making.opened(directory) as journal:
        fill(journal, 1)
        journal.erase([naming([[1, 10_000]])])
        journal.append([making.delivery("later", b'{"later":1}')])
        journal.erase([naming([[1, 2]])])
        later = journal.last("delivery.9.later")
        assert later is not None
        assert later.payload == b'{"later":1}'
    assert verify(directory).ok


def test_readers_go_on_reading_what_they_opened(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    with making.opened(directory, segment_bytes=5000) as journal:
        fill(journal)
        with open_reader(directory, upto=30) as reader:
            reading = reader.read(0)
            first = next(reading)
            journal.erase([naming(secrets())])
            assert [first.seq, *(record.seq for record in reading)] == list(range(1, 31))
            assert [record.seq for record in reader.read(0)] == list(range(1, 31))
            gone = reader.get(9)
            assert gone is not None
            assert gone.dropped == 31


def test_a_conflict_erases_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    with making.opened(directory) as journal:
        fill(journal, 1)
        entry = Entry("delivery.9.object0", "delivery.redacted", {"drops": [[1, 1]], "about": True}, expect=7)
        assert journal.erase([entry]) == (Conflict("delivery.9.object0", 1), Rewritten())
        assert not journal.erasing
        assert len(traces(directory)) == len(TRACES)
        with pytest.raises(EntryRefused):
            journal.erase([Entry("no subject", "journal.dropped", {"drops": [[1, 1]]})])
        journal.erase([naming(secrets(1))])
    check(directory, 1)


def test_a_damaged_segment_is_left_as_it_is(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    with making.opened(directory, segment_bytes=5000) as journal:
        fill(journal)
        path = making.segments(directory)[1]
        making.alter(path, lambda raw: raw.replace(b'"kept":', b'"kepd":', 1))
        damaged = path.read_bytes()
        with pytest.raises(JournalDamaged) as raised:
            journal.erase([naming(secrets())])
        assert path.read_bytes() == damaged
        [damage] = raised.value.damage
        assert (damage.kind, damage.segment) == ("payload", path.name)
        assert damage.delivery is not None
        line = damaged[damage.offset :].split(b"\n")[0]
        assert line.startswith(b'{"seq":%d,' % (damage.seq or 0))
        assert f'"subject":"delivery.{damage.delivery.replace("/", ".")}"'.encode() in line
        assert not list(directory.glob("*.tmp")), "a part of a copy holds content"
        assert journal.erasing
        for other in making.segments(directory):
            if other != path:
                assert not any(trace in other.read_bytes() for trace in TRACES), "from the others it is gone"


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"drops": []},
        {"drops": "x"},
        {"drops": [1]},
        {"drops": [[1]]},
        {"drops": [["a", "b"]]},
        {"drops": [[float("inf"), 8]]},
        {"drops": [[9, 20], [1 << 63, 1 << 70], [5, 4], [-9, 0]]},
    ],
)
def test_what_names_nothing(data: dict[str, Any]) -> None:
    assert erasure_of(9, data) is None


def test_only_earlier_records_are_named() -> None:
    found = erasure_of(9, {"drops": [[-3, 2], [7, 1 << 70]]})
    assert found is not None
    assert found.drops == ((1, 2), (7, 8))


def test_stretches_may_overlap() -> None:
    found = erasure_of(99, {"drops": [[1, 40], [7, 7], [41, 50], [60, 61]], "about": 1})
    assert found is not None
    assert (found.drops, found.about) == (((1, 50), (60, 61)), False)


# ---- crashes and faults


class Stops(OsFiles):
    """Fails at the nth call that changes anything, and at all that follow, as for a process that is killed there."""

    def __init__(self, at: int | None = None, *, only: int | None = None) -> None:
        self.at, self.only, self.calls = at, only, 0
        self.counting = False

    def _count(self) -> None:
        if self.counting:
            self.calls += 1
            if self.at is not None and self.calls > self.at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            if self.only is not None and self.calls == self.only + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def create(self, path: Path) -> int:
        self._count()
        return super().create(path)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self._count()
        return super().pwrite(fd, data, offset)

    def fdatasync(self, fd: int) -> None:
        self._count()
        super().fdatasync(fd)

    def fsync_dir(self, path: Path) -> None:
        self._count()
        super().fsync_dir(path)

    def truncate(self, fd: int, size: int) -> None:
        self._count()
        super().truncate(fd, size)

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._count()
        super().unlink(path)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("erase") / "j"
    with making.opened(directory, segment_bytes=5000) as journal:
        fill(journal)
    (directory / "00000000000000000001.99.0123456789abcdef.torn").write_bytes(b"secret in a text")
    return directory


def erase(directory: Path, files: Stops) -> bool:
    """An erasure over these files, in a process that ends with it; whether it said that it was done."""
    journal = making.opened(directory, seed=2, files=files, segment_bytes=5000)
    files.counting = True
    try:
        answer, _ = journal.erase([naming(secrets())])
        assert isinstance(answer, Appended)
        return True
    except (OSError, JournalError):
        return False
    finally:
        journal.close()


def steps(filled: Path, tmp_path: Path) -> int:
    counted = Stops()
    journal = making.opened(making.copy(filled, tmp_path / "count"), seed=2, files=counted, segment_bytes=5000)
    counted.counting = True
    journal.erase([naming(secrets())])
    counted.counting = False
    journal.close()
    return counted.calls


def each_step(filled: Path, tmp_path: Path) -> Iterator[int]:
    count = steps(filled, tmp_path)
    assert count > 30
    yield from range(count)


def test_a_crash_at_any_step_is_gone_on_from(filled: Path, tmp_path: Path) -> None:
    """Once the naming record is in the log, the next opening finishes; before that, nothing has changed."""
    finished = 0
    for step in each_step(filled, tmp_path):
        directory = making.copy(filled, tmp_path / "crashed")
        done = erase(directory, Stops(step))
        assert not done
        with making.opened(directory, seed=4) as journal:
            named = [record for record in journal.read(0) if record.subject == "ops.redaction"]
            assert not journal.erasing
        if named:
            finished += 1
            check(directory)
        else:
            assert len(traces(directory)) == len(TRACES)
            assert verify(directory).ok
            with making.opened(directory, seed=5) as journal:
                journal.erase([naming(secrets())])
            check(directory)
    assert finished > 20


def test_a_crash_in_the_going_on_is_gone_on_from(filled: Path, tmp_path: Path) -> None:
    count = steps(filled, tmp_path)
    half = making.copy(filled, tmp_path / "half")
    erase(half, Stops(count // 2))
    for step in range(60):
        directory = making.copy(half, tmp_path / "crashed")
        files = Stops(step)
        files.counting = True
        try:
            making.opened(directory, seed=3, files=files).close()
        except (OSError, JournalError):
            making.opened(directory, seed=4).close()
            check(directory)
        else:
            if files.calls <= step:
                check(directory)
                assert step > 5, "hardly anything was left to go on with"
                break
            making.opened(directory, seed=4).close()
            check(directory)
    else:
        raise AssertionError("no end")


def test_a_fault_at_any_step_leaves_it_to_the_next(filled: Path, tmp_path: Path) -> None:
    """The disk is full for one call, and the process lives on: the next erasure, of anything, finishes this one too."""
    gone_on = 0
    for step in each_step(filled, tmp_path):
        directory = making.copy(filled, tmp_path / "faulty")
        files = Stops(only=step)
        journal = making.opened(directory, seed=2, files=files, segment_bytes=5000)
        files.counting = True
        try:
            journal.erase([naming(secrets())])
        except (OSError, JournalError):
            pass
        files.counting = False
        if not journal.poisoned:
            named = any(record.subject == "ops.redaction" for record in journal.read(0))
            if named:
                journal.erase([naming([[2, 2]], about=False)])
                assert traces(directory) == set(), step
                assert not journal.erasing
                gone_on += 1
        journal.close()
        with making.opened(directory, seed=4) as again:
            named = any(record.subject == "ops.redaction" for record in again.read(0))
        assert verify(directory).ok
        assert traces(directory) == set() or not named
    assert gone_on > 5
