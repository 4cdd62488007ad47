"""Reading beside a writer, and after one that died: how far, and what is told of damage."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from journal.errors import JournalClosed, JournalDamaged, JournalGone, JournalLocked
from journal.file.files import OsFiles
from journal.file.index import Index
from journal.file.reader import open_reader
from journal.file.scan import read_records
from journal.file.verify import verify
from journal.format.header import parse_header
from journal.records import Witness
from tests.support.journals import making

NAMES = "none object form binary empty lone".split()


def drop_index(directory: Path) -> None:
    for path in directory.glob("index.sqlite*"):
        path.unlink()


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """Six deliveries and a `journal.synced`, in three segments, closed."""
    directory = tmp_path / "j"
    with making.opened(directory, segment_bytes=2200) as journal:
        making.fill(journal, NAMES)
    assert len(making.segments(directory)) > 2
    return directory


@pytest.fixture
def died(tmp_path: Path) -> Path:
    """The same, but the process died before the last record was proven by a later one."""
    directory = tmp_path / "source"
    with making.opened(directory, segment_bytes=2200) as journal:
        making.fill(journal, NAMES)
        return making.copy(directory, tmp_path / "died", caches=False)


def seqs(directory: Path, **options: object) -> list[int]:
    with open_reader(directory, **options) as reader:  # type: ignore[arg-type]
        return [record.seq for record in reader.read(0)]


@pytest.mark.parametrize("index", [True, False], ids=["with the index", "without"])
def test_everything_of_a_closed_journal(closed: Path, index: bool) -> None:
    if not index:
        drop_index(closed)
    before = making.bytes_of(closed)
    with open_reader(closed) as reader, making.opened(making.copy(closed, closed.with_name("copy"))) as journal:
        assert (reader.id, reader.epoch, reader.head()) == (journal.id, journal.epoch, journal.head())
        assert list(reader.read(0)) == list(journal.read(0))
        assert list(reader.read(3)) == list(journal.read(3))
        assert list(reader.read(99)) == []
        for seq in range(9):
            assert reader.get(seq) == journal.get(seq)
        for name in NAMES:
            assert reader.last(f"delivery.9.{name}") == journal.last(f"delivery.9.{name}")
        assert reader.last("delivery.9.unknown") is None
        assert reader.damage == ()
        assert not reader.locked
        assert reader.wait(3, None)
        assert not reader.wait(7, 0)
        with pytest.raises(JournalClosed):
            reader.append([])
    assert making.bytes_of(closed) == before


def test_up_to_the_witness_and_with_the_lock_to_the_end(died: Path) -> None:
    """What nothing proves may not be on the medium, and is not shown to who can't put it there."""
    assert seqs(died) == [1, 2, 3, 4, 5]
    assert seqs(died, adopt=True) == [1, 2, 3, 4, 5, 6]
    header, _ = parse_header(making.segments(died)[0].read_bytes())
    assert header is not None
    with open_reader(died, adopt=True) as reader:
        head = reader.head()
        assert reader.locked
    assert seqs(died, witnesses=[Witness(header.journal, head.seq, head.sum)]) == [1, 2, 3, 4, 5, 6]


class Noting(OsFiles):
    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self.calls.append(("pwrite", offset))
        return super().pwrite(fd, data, offset)

    def fdatasync(self, fd: int) -> None:
        self.calls.append(("fdatasync", 0))
        super().fdatasync(fd)


def test_what_is_adopted_is_rewritten_and_synced_first(died: Path) -> None:
    last = making.segments(died)[-1]
    start = last.read_bytes().rindex(b'{"seq":6')
    before = making.bytes_of(died)
    files = Noting()
    assert seqs(died, adopt=True, files=files) == [1, 2, 3, 4, 5, 6]
    assert [kind for kind, _ in files.calls] == ["pwrite", "fdatasync"]
    assert files.calls[0][1] <= start
    assert {name: raw for name, raw in making.bytes_of(died).items() if name != "lock"} == before
    files = Noting()
    seqs(died, files=files)
    assert files.calls == []


def test_a_torn_end_is_read_around_and_left(died: Path) -> None:
    last = making.segments(died)[-1]
    making.alter(last, lambda raw: raw[:-20])
    before = making.bytes_of(died)
    assert seqs(died, adopt=True) == [1, 2, 3, 4, 5]
    assert {name: raw for name, raw in making.bytes_of(died).items() if name != "lock"} == before


def test_reading_some_of_the_records_stops_at_the_head_too(died: Path) -> None:
    making.alter(making.segments(died)[-1], lambda raw: raw[:-20])  # a line that is half written yet
    found = read_records(OsFiles(), died, 0, 5, lambda _: None, only={1})
    assert [one.seq for one in found] == [1]


def test_up_to_what_the_daemon_says(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    with making.opened(directory, segment_bytes=2200) as journal:
        making.fill(journal, NAMES)
        for upto in range(1, 7):
            with open_reader(directory, upto=upto) as reader:
                assert list(reader.read(0)) == list(journal.read(0))[:upto]
                assert reader.head().seq == upto
                assert reader.get(upto + 1) is None
                newest = journal.get(upto)
                assert newest is not None
                assert reader.head().sum == newest.sum
                assert reader.last(newest.subject) == newest
                for only in ({1}, {1, upto}, {upto + 1}):
                    expected = [one for one in list(journal.read(0))[:upto] if one.seq in only]
                    assert list(reader.read(0, only=only)) == expected
        with pytest.raises(JournalLocked):
            open_reader(directory, adopt=True)
        with open_reader(directory, upto=3) as reader:
            assert reader.last("delivery.9.lone") is None, "beyond the head that was told"


def test_the_lock_is_given_back(closed: Path) -> None:
    with open_reader(closed, adopt=True), pytest.raises(JournalLocked):
        making.opened(closed)
    with making.opened(closed):
        pass
    making.segments(closed)[0].write_bytes(b"")
    drop_index(closed)
    with open_reader(closed, adopt=True) as reader:
        assert reader.damage
    fd = os.open(closed / "lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)


def test_damage_is_told_and_what_is_before_it_read(closed: Path) -> None:
    drop_index(closed)
    path = making.segments(closed)[1]
    seq = int(path.stem)
    making.alter(path, lambda raw: raw.replace(b'"delivery.received"', b'"delivery.receiver"', 1))
    for adopt in (False, True):
        with open_reader(closed, adopt=adopt) as reader:
            assert [(one.kind, one.segment, one.seq) for one in reader.damage] == [("flipped", path.name, seq)]
            assert [record.seq for record in reader.read(0)] == list(range(1, seq))
    assert not (closed / "index.sqlite").exists()


@pytest.mark.parametrize("loss", ["flipped", "cut", "segment"])
def test_without_the_record_that_the_index_ends_at_the_rest_can_be_read(closed: Path, loss: str) -> None:
    path = making.segments(closed)[-1]
    lines = path.read_bytes().splitlines(keepends=True)
    last = int(path.stem) + len(lines) - 3
    (closed / "closed.json").unlink()
    if loss == "segment":
        path.unlink()
        kind, left = "shorter than caches", int(path.stem) - 1
    elif loss == "cut":
        path.write_bytes(b"".join(lines[:-1]))
        kind, left = "shorter than caches", last - 1
    else:
        path.write_bytes(b"".join([*lines[:-1], lines[-1].replace(b'"kind":"', b'"kind":"x')]))
        kind, left = "flipped", last - 1
    with open_reader(closed) as reader:
        assert [(one.kind, one.seq) for one in reader.damage] == [(kind, left + 1)]
        assert [record.seq for record in reader.read(0)] == list(range(1, left + 1))
    found = verify(closed).damage[0]
    assert (found.kind, found.seq) == (kind, left + 1), "in the same words"
    with pytest.raises(JournalDamaged, match=f"{kind} in .* seq {left + 1}"):
        making.opened(closed, seed=9)


def test_a_stale_place_within_a_payload_that_looks_like_the_record(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    with making.opened(directory) as journal:
        journal.append([making.delivery("evil", b'{"x":[' + b'{"seq":2,"at":1},' * 50 + b"0]}")])
        journal.append([making.delivery("good", b"{}")])
    [path] = making.segments(directory)
    index = Index(directory / "index.sqlite")
    index.begin()
    index.move([(2, path.read_bytes().index(b'{"seq":2,"at":1}'))])
    index.db.execute("COMMIT")
    index.close()
    with open_reader(directory) as reader:
        assert next(record.subject for record in reader.read(1)) == "delivery.9.good"
        found = reader.get(2)
        assert found is not None
        assert found.subject == "delivery.9.good"


def test_damage_behind_the_index_is_met_when_it_is_read(closed: Path) -> None:
    """The index vouches for sealed history at the opening; each record is proven all the same as it is read."""
    path = making.segments(closed)[0]
    making.alter(path, lambda raw: raw.replace(b'"delivery.received"', b'"delivery.receiver"', 1))
    with open_reader(closed) as reader:
        assert reader.damage == ()
        with pytest.raises(JournalDamaged):
            list(reader.read(0))
        with pytest.raises(JournalDamaged):
            reader.get(1)
        assert reader.get(3) is not None


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(JournalGone):
        open_reader(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    with open_reader(empty) as reader:
        assert (reader.head().seq, list(reader.read(0)), reader.get(1), reader.last("task.x")) == (0, [], None, None)
    with open_reader(empty, witnesses=[Witness("a" * 32, 7, "b" * 64)]) as reader:
        assert [one.kind for one in reader.damage] == ["gone"]


def test_an_index_that_is_none(closed: Path) -> None:
    """A cache: whatever is wrong with it, the log is read."""
    whole = seqs(closed)
    for broken in (b"", b"no database", b"SQLite format 3\0" + b"\xff" * 4000):
        drop_index(closed)
        (closed / "index.sqlite").write_bytes(broken)
        assert seqs(closed) == whole
        with open_reader(closed) as reader:
            found = reader.last("delivery.9.none")
            assert found is not None
            assert found.seq == 1


def test_another_journals_index_is_not_believed(closed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with making.opened(other, seed=5) as journal:
        for number in range(20):
            journal.append([making.delivery(f"h{number}", b"{}")])
    (closed / "index.sqlite").write_bytes((other / "index.sqlite").read_bytes())
    assert seqs(closed) == [1, 2, 3, 4, 5, 6, 7]
    with open_reader(closed) as reader:
        assert reader.last("delivery.9.h1") is None
        found = reader.last("delivery.9.none")
        assert found is not None
        assert found.seq == 1
