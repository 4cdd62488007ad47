"""What a salvage keeps, what it says it lost, and that it leaves the old journal alone."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from journal.errors import JournalError, SalvageRefused
from journal.file.files import OsFiles
from journal.file.reader import open_reader
from journal.file.salvage import Plan, plan, salvage
from journal.file.segment import list_segments
from journal.file.verify import verify
from journal.records import Appended, Conflict, Entry
from tests.support.journals import independent_reader, making

COUNT = 24


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """24 deliveries in several segments, closed; no caches."""
    directory = tmp_path / "whole"
    with making.opened(directory, segment_bytes=4000) as opened:
        for number in range(1, COUNT + 1):
            about = {"title": f"title {number}"} if number % 2 else None
            opened.append([making.delivery(f"g{number}", b'{"n":%d,"pad":"%s"}' % (number, b"x" * 200), about=about)])
    return making.copy(directory, tmp_path / "journal", caches=False)


def change(path: Path, number: int, edit: Callable[[bytes], bytes]) -> None:
    """One line of a segment, counted from its first record."""
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number + 2] = edit(lines[number + 2])
    path.write_bytes(b"".join(lines))


def save(journal: Path, *, segment_bytes: int = 4000) -> tuple[Plan, Path]:
    """A salvage, and what holds for every one of them."""
    before = making.bytes_of(journal)
    target = journal.with_name("saved")
    planned = plan(journal)
    assert making.bytes_of(journal) == before
    done = salvage(journal, target, now=making.START, token=making.Tokens(77), segment_bytes=segment_bytes)
    assert done == planned, "what was shown is what was done"
    assert making.bytes_of(journal) == before, "the old one is never touched"
    assert verify(target).ok
    assert not list(target.parent.glob("*.tmp"))
    found = independent_reader.read(target)
    assert found.fault is None
    assert [list(gap) for gap in found.gaps] == done.lost
    assert len(found.records) == done.kept + 1
    assert (found.records[-1]["kind"], found.records[-1]["seq"]) == ("journal.salvaged", done.last + 1)
    return done, target


def goes_on(target: Path, seqs: list[int]) -> None:
    """It opens; what it kept is known; what it lost can come again."""
    with making.opened(target, seed=9) as opened:
        for number in range(1, COUNT + 1):
            entry = making.delivery(f"g{number}", b"{}")
            kept = Conflict(entry.subject, number) if number in seqs else None
            answer = opened.append([entry])
            assert answer == kept if kept is not None else isinstance(answer, Appended)
    assert verify(target).ok


def test_of_a_whole_journal_everything_is_kept(journal: Path) -> None:
    done, target = save(journal)
    assert (done.kept, done.first, done.last) == (COUNT + 1, 1, COUNT + 1)
    assert (done.lost, done.dropped, done.deliveries, done.damage) == ([], [], [], [])
    with open_reader(journal, adopt=True) as old, open_reader(target, adopt=True) as new:
        assert new.id != old.id
        assert new.epoch != old.epoch
        for before, after in zip(old.read(0), new.read(0), strict=False):
            for name in "seq at synced subject kind data about payload payload_sha256 dropped".split():
                assert getattr(before, name) == getattr(after, name)
    goes_on(target, list(range(1, COUNT + 1)))


def test_a_record_lost_is_a_gap_that_is_stated(journal: Path) -> None:
    first, second = making.segments(journal)[:2]
    change(first, 1, lambda line: line.replace(b'"kind":"delivery', b'"kind":"delivers'))
    start = int(second.stem)
    change(second, 0, lambda line: b"")
    change(second, 0, lambda line: b"")
    done, target = save(journal)
    assert done.lost == [[2, 2], [start, start + 1]]
    assert done.deliveries == ["9/g2"]
    assert [(one.kind, one.segment, one.delivery) for one in done.damage] == [("flipped", first.name, "9/g2")]
    closing = independent_reader.read(target).records[-1]["data"]
    assert closing["from"] == "a" * 29 + "100"
    assert (closing["kept"], closing["lost"], closing["deliveries"]) == (done.kept, done.lost, done.deliveries)
    goes_on(target, [seq for seq in range(1, COUNT + 1) if seq not in (2, start, start + 1)])


def test_the_first_records_lost(journal: Path) -> None:
    first = making.segments(journal)[0]
    change(first, 0, lambda line: b"?" + line[1:])
    done, target = save(journal)
    assert done.lost == [[1, 1]]
    assert list_segments(OsFiles(), target)[0] == 2
    goes_on(target, list(range(2, COUNT + 1)))


def test_content_lost_is_dropped_and_its_id_stays(journal: Path) -> None:
    first = making.segments(journal)[0]
    change(first, 1, lambda line: line.replace(b"xxx", b"xyx", 1))
    change(first, 2, lambda line: line.replace(b'"title 3"', b'"title 9"'))
    change(first, 3, lambda line: line.replace(b'"}}\n', b'"}}}\n'))
    done, target = save(journal)
    assert (done.lost, done.dropped) == ([], [[2, 4]])
    assert [(one.kind, one.seq, one.delivery) for one in done.damage] == [
        ("payload", seq, f"9/g{seq}") for seq in (2, 3, 4)
    ]
    assert done.deliveries == ["9/g2", "9/g3", "9/g4"]
    records = {one["seq"]: one for one in independent_reader.read(target).records}
    for seq in range(1, COUNT + 1):
        assert (records[seq]["payload"] is None) == (seq in (2, 3, 4))
        assert records[seq]["dropped"] == (done.last + 1 if seq in (2, 3, 4) else None)
    goes_on(target, list(range(1, COUNT + 1)))


def test_a_segment_whose_header_is_lost(journal: Path) -> None:
    path, behind = making.segments(journal)[1:3]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(b"?" + line[1:] for line in lines[:2]) + b"".join(lines[2:]))
    first, last = int(path.stem), int(behind.stem) - 1
    done, _ = save(journal)
    assert done.lost == [[first, last]]
    assert done.deliveries == [f"9/g{seq}" for seq in range(first, last + 1)]
    assert [(one.kind, one.segment) for one in done.damage] == [("bad header", path.name)]


def test_one_copy_of_a_header_is_enough(journal: Path) -> None:
    for path in making.segments(journal):
        making.alter(path, lambda raw: b"?" + raw[1:])
    done, _ = save(journal)
    assert (done.kept, done.lost) == (COUNT + 1, [])


def test_a_segment_gone_and_a_torn_end(journal: Path) -> None:
    paths = making.segments(journal)
    paths[1].unlink()
    making.alter(paths[-1], lambda raw: raw[:-30])
    done, _ = save(journal)
    assert done.lost == [[int(paths[1].stem), int(paths[2].stem) - 1]]
    assert done.last == COUNT
    assert [one.kind for one in done.damage] == ["flipped"]


def test_records_in_another_order_twice_and_of_other_segments(journal: Path) -> None:
    first, second = making.segments(journal)[:2]
    lines = first.read_bytes().splitlines(keepends=True)
    stray = second.read_bytes().splitlines(keepends=True)[3]
    first.write_bytes(b"".join([*lines[:2], lines[3], stray, lines[2], *lines[4:], lines[2]]))
    done, target = save(journal)
    assert (done.kept, done.lost) == (COUNT + 1, [])
    goes_on(target, list(range(1, COUNT + 1)))


def test_another_journals_segment_is_left_out(journal: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with making.opened(other, seed=5, segment_bytes=4000) as opened:
        for number in range(1, COUNT + 1):
            opened.append([making.delivery(f"foreign{number}", b'{"n":%d,"pad":"%s"}' % (number, b"x" * 200))])
    path = making.segments(journal)[2]
    path.write_bytes(making.segments(other)[-1].read_bytes())
    done, target = save(journal)
    assert ("foreign segment", path.name) in {(one.kind, one.segment) for one in done.damage}
    assert done.lost == [[int(path.stem), int(making.segments(journal)[3].stem) - 1]]
    assert not any("foreign" in one["subject"] for one in independent_reader.read(target).records)


def test_an_intruder_in_front_does_not_pass_for_the_journal(journal: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with making.opened(other, seed=5) as opened:
        opened.append([making.delivery("foreign", b"{}")])
    path = making.segments(journal)[0]
    path.write_bytes(making.segments(other)[0].read_bytes())
    done, _ = save(journal)
    assert [(one.kind, one.segment) for one in done.damage] == [("foreign segment", path.name)]
    assert done.lost == [[1, int(making.segments(journal)[1].stem) - 1]]


def test_the_mark_says_whose_journal_it_is(journal: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with making.opened(other, seed=5) as opened:
        opened.append([making.delivery("foreign", b'{"pad":"%s"}' % (b"x" * 100_000))])
    making.segments(journal)[0].write_bytes(making.segments(other)[0].read_bytes())
    (journal / "closed.json").write_bytes((tmp_path / "whole" / "closed.json").read_bytes())
    assert plan(journal).lost == [[1, int(making.segments(journal)[1].stem) - 1]]


def test_segments_under_each_others_names(journal: Path) -> None:
    first, second = making.segments(journal)[:2]
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    done, target = save(journal)
    assert (done.kept, done.lost) == (COUNT + 1, [])
    goes_on(target, list(range(1, COUNT + 1)))


def test_many_contents_lost_are_named_by_more_than_one_record(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("journal.file.salvage.RANGES_MAX", 2)
    for path in making.segments(journal)[:3]:
        making.alter(path, lambda raw: raw.replace(b'"pad":"x', b'"pad":"y', 1))
        change(path, 2, lambda line: line.replace(b'"pad":"x', b'"pad":"y'))
    target = journal.with_name("saved")
    done = salvage(journal, target, now=making.START, token=making.Tokens(77), segment_bytes=4000)
    assert len(done.dropped) > 4
    assert verify(target).ok
    found = independent_reader.read(target)
    assert found.fault is None
    named = [one for one in found.records if "drops" in one["data"]]
    assert [one["seq"] for one in named] == list(range(done.last + 1, done.last + 1 + len(named)))
    assert [pair for one in named for pair in one["data"]["drops"]] == done.dropped
    goes_on(target, list(range(1, COUNT + 1)))


@pytest.fixture
def erased(tmp_path: Path) -> Path:
    """Of which the content of 3 is dropped, by record 13, and with what it was about of 5, by 14."""
    directory = tmp_path / "erased"
    with making.opened(directory, segment_bytes=4000) as opened:
        for number in range(1, 13):
            opened.append([making.delivery(f"g{number}", b'{"n":%d}' % number, about={"title": f"secret {number}"})])
        opened.erase([Entry("ops.x", "journal.dropped", {"drops": [[3, 3]], "about": False})])
        opened.erase([Entry("ops.x", "journal.dropped", {"drops": [[5, 5]], "about": True})])
    return making.copy(directory, tmp_path / "journal", caches=False)


def test_what_was_dropped_stays_so(erased: Path) -> None:
    done, target = save(erased)
    assert (done.lost, done.dropped) == ([], [])
    records = {one["seq"]: one for one in independent_reader.read(target).records}
    assert (records[3]["dropped"], records[5]["dropped"]) == (13, 14)
    assert records[3]["about"] == {"title": "secret 3"}


def test_a_lost_word_for_what_is_missing_is_given_anew(erased: Path) -> None:
    path = next(path for path in making.segments(erased) if b'"journal.dropped"' in path.read_bytes())
    making.alter(path, lambda raw: raw.replace(b'"journal.dropped"', b'"journal.dropper"', 1))
    done, target = save(erased)
    assert done.dropped == [[3, 3]]
    assert {one["seq"]: one for one in independent_reader.read(target).records}[3]["dropped"] == done.last + 1


def test_an_erasure_cut_short_is_finished_in_the_copy(tmp_path: Path) -> None:
    """The naming record is there, the rewrite was not done: the new journal is written without what it names."""
    directory = tmp_path / "journal"
    with making.opened(directory) as opened:
        for number in range(1, 6):
            opened.append(
                [making.delivery(f"g{number}", b'{"secret":%d}' % number, about={"title": f"secret {number}"})]
            )
        opened.append([Entry("ops.x", "journal.dropped", {"drops": [[2, 3]], "about": True})])
    path = making.segments(directory)[0]
    assert b'{"secret":2}' in path.read_bytes()
    _, target = save(directory)
    raw = b"".join(one.read_bytes() for one in making.segments(target))
    assert [number for number in range(1, 6) if b'{"secret":%d}' % number in raw] == [1, 4, 5]
    assert [number for number in range(1, 6) if b"secret %d" % number in raw] == [1, 4, 5]


def test_an_erased_record_does_not_come_back_out_of_a_payload(tmp_path: Path) -> None:
    """Someone sends us the whole line of it again; then both copies are damaged as luck would have it."""
    directory = tmp_path / "journal"
    with making.opened(directory) as opened:
        opened.append([making.delivery("first", b'{"secret":1}')])
        line = making.segments(directory)[0].read_bytes().splitlines()[2]
        opened.append([making.delivery("replayed", b'{"x":[1,' + line + b"]}")])
        opened.erase([Entry("ops.x", "journal.dropped", {"drops": [[1, 1]], "about": True})])
    path = making.segments(directory)[0]
    raw = path.read_bytes()
    at = raw.index(line)
    path.write_bytes(raw[:at] + b"\n" + line + b"\n" + raw[at + len(line) :].replace(b'"seq":1,', b'"sec":1,', 1))
    making.alter(path, lambda raw: raw.replace(b'{"seq":1,', b'{"sec":1,', 1))
    _, target = save(directory)
    assert b"secret" not in b"".join(one.read_bytes() for one in making.segments(target))


def test_what_it_refuses(journal: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    with pytest.raises(SalvageRefused):
        salvage(journal, taken, now=making.START, token=making.Tokens())
    for path in making.segments(journal):
        making.alter(path, lambda raw: b"?" * len(raw))
    with pytest.raises(SalvageRefused):
        plan(journal)
    with pytest.raises(SalvageRefused):
        salvage(journal, tmp_path / "new", now=making.START, token=making.Tokens())
    assert not (tmp_path / "new").exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SalvageRefused):
        plan(empty)


def test_what_a_crash_left_of_one_is_in_nobodys_way(journal: Path) -> None:
    target = journal.with_name("saved")
    work = target.with_name(target.name + ".tmp")
    work.mkdir()
    (work / "00000000000000000001.jsonl").write_bytes(b"half")
    _, saved = save(journal)
    assert saved == target
    assert not work.exists()


def test_a_salvage_of_a_salvage(journal: Path) -> None:
    change(making.segments(journal)[0], 1, lambda line: b"")
    once, target = save(journal)
    again = salvage(target, target.with_name("again"), now=making.START, token=making.Tokens(99))
    assert (again.kept, again.lost) == (once.kept + 1, [[2, 2]])
    assert verify(target.with_name("again")).ok


class Full(OsFiles):
    """A disk with so many bytes of room."""

    def __init__(self, room: int) -> None:
        self.room = room

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if len(data) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(data)
        return super().pwrite(fd, data, offset)


@pytest.mark.parametrize("room", [0, 600, 3000, 9000])
def test_a_salvage_that_fails_leaves_nothing_behind_and_says_where(journal: Path, room: int) -> None:
    target = journal.with_name("saved")
    before = sorted(journal.parent.iterdir())
    change(making.segments(journal)[0], 1, lambda line: line.replace(b"x" * 200, b"y" * 200))
    with pytest.raises(JournalError, match=f"{target}.*No space left on device") as raised:
        salvage(journal, target, now=0.0, token=lambda size: "ab" * size, files=Full(room), segment_bytes=4000)
    assert raised.value.exit_code == 1 and "--to" in raised.value.hint
    assert sorted(journal.parent.iterdir()) == before


def test_a_salvage_that_is_interrupted_leaves_nothing_behind(journal: Path) -> None:
    class Interrupted(Full):
        def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            try:
                return super().pwrite(fd, data, offset)
            except OSError:
                raise KeyboardInterrupt from None

    before = sorted(journal.parent.iterdir())
    with pytest.raises(KeyboardInterrupt):
        salvage(journal, journal.with_name("saved"), now=0.0, token=lambda size: "ab" * size, files=Interrupted(9000))
    assert sorted(journal.parent.iterdir()) == before
