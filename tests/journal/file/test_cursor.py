"""Records without their payloads: as a full read gives them, of every form, beside a writer, and in bounded memory."""

from __future__ import annotations

import itertools
import random
import re
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from journal.errors import JournalDamaged, JournalGone
from journal.file import walk
from journal.file.cursor import Cursor
from journal.file.engine import FileJournal
from journal.file.files import OsFiles
from journal.file.reader import open_reader
from journal.file.scan import read_records
from journal.file.segment import write_header
from journal.format.codec import SUM_MARK, encode_line, open_envelope, prepare, sha256_hex
from journal.format.header import GENESIS, parse_header
from journal.records import Entry, Record
from tests.support.journals import making
from tests.support.journals.explorer import scratch
from tests.support.waiting import eventually

MARKS = {"a": {}, "payload": {"x": 1}, "b": {"body": "x", "c": {}}, "dropped": 7, "t": '},"payload":{},"dropped":7}\n'}
ABOUTS: list[dict[str, Any] | None] = [
    None,
    {},
    MARKS,
    {"x": MARKS, "body64": "AA==", "z": {}},
    {"title": "t" * 300, "dropped": 7},
]


class Counting(OsFiles):
    """The real files, counting calls; reads come in pieces of at most `piece` bytes, and all files can seem to be the same."""

    def __init__(self, piece: int = 1 << 30, *, same: bool = False) -> None:
        self.piece, self.same = piece, same
        self.preads: list[int] = []
        self.opened: set[int] = set()
        self.opens = self.lists = self.lookups = 0
        self.offsets: dict[int, int] = {}
        self.read_to = 0

    def open(self, path: Path, *, write: bool) -> int:
        fd = super().open(path, write=write)
        self.opens += 1
        self.opened.add(fd)
        return fd

    def close(self, fd: int) -> None:
        super().close(fd)
        self.opened.remove(fd)

    def listdir(self, path: Path) -> list[str]:
        self.lists += 1
        return super().listdir(path)

    def identity(self, fd: int) -> tuple[int, int]:
        return (1, 1) if self.same else super().identity(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        self.preads.append(size)
        return super().pread(fd, min(size, self.piece) if offset else size, offset)

    def offset_of(self, seq: int) -> int | None:
        self.lookups += 1
        return self.offsets.get(seq)

    def cursor(self, directory: Path) -> Cursor:
        return Cursor(self, directory, self.offset_of)


def bare(records: Iterator[Record] | list[Record]) -> list[Record]:
    return [structs.replace(record, payload=None) for record in records]


def head_of(journal: FileJournal) -> int:
    return journal.head().seq


def full(directory: Path, upto: int) -> list[Record]:
    return list(read_records(OsFiles(), directory, 0, upto, lambda _: None))


@pytest.fixture(scope="module")
def sample() -> Iterator[tuple[Path, list[Record]]]:
    """Every form of payload with every kind of `about`, erased content of both kinds, over several segments; and its records."""
    with scratch() as root:
        directory = root / "sample"
        with making.opened(directory, segment_bytes=9000) as journal:
            for (name, payload), about in itertools.product(making.PAYLOADS.items(), ABOUTS):
                number = head_of(journal)
                journal.append([making.delivery(f"{name}{number}", payload, about=about)])
            journal.erase([Entry("ops.retention", "journal.dropped", {"drops": [[4, 9]], "about": False})])
            journal.erase([Entry("ops.retention", "journal.dropped", {"drops": [[14, 29]], "about": True})])
            journal.append([making.delivery(f"last{n}", making.PAYLOADS["lines"], about=MARKS) for n in range(2)])
            records = list(journal.read(0))
        assert len(making.segments(directory)) > 5
        yield directory, records


@pytest.fixture
def passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is decoded whole, as only one with a fault has to be."""

    def refuse(self: walk.SegmentWalk, offset: int) -> Record:
        raise AssertionError(f"the line at {offset} of {self.segment.name} is taken for a damaged one")

    monkeypatch.setattr(walk.SegmentWalk, "whole_record", refuse)


# ---- the same as a full read


@pytest.mark.usefixtures("passed_over")
@pytest.mark.parametrize("piece", [1, 2, 3, 31, 100, 4096, 1 << 30])
def test_every_form_is_read_as_by_a_full_read(sample: tuple[Path, list[Record]], piece: int) -> None:
    directory, records = sample
    upto = records[-1].seq
    cursor = Counting(piece).cursor(directory)
    assert list(cursor.read(0, upto)) == bare(records) == bare(full(directory, upto))
    assert list(cursor.read(40, 60)) == bare(records[40:60])
    assert list(cursor.select(3, 90, {2, 5, 90, 91})) == bare([records[4], records[89]])
    assert list(cursor.select(3, 90, {5})) == bare([records[4]])
    assert cursor.find(77) == bare([records[76]])[0]


@pytest.mark.parametrize("index", [True, False], ids=["with the index", "without"])
def test_from_any_record_on(sample: tuple[Path, list[Record]], index: bool) -> None:
    directory, records = sample
    files = Counting()
    if index:
        with open_reader(directory) as reader:
            files.offsets = {seq: found for seq in range(200) if (found := reader.offset_of(seq)) is not None}
        assert files.offsets
    for after in range(len(records)):
        cursor = files.cursor(directory)
        assert next(cursor.read(after, records[-1].seq)) == bare([records[after]])[0]
        assert cursor.find(after + 1) == bare([records[after]])[0]
    assert not files.opened


JSON = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(max_size=8) | st.sampled_from(['},"payload":', '},"dropped":7}', '"}\n']),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["payload", "body", "body64", "dropped", "sum", "a"]), inner, max_size=3)
    ),
    max_leaves=8,
)
PAYLOAD = (
    st.none()
    | st.binary(max_size=400)
    | st.text(max_size=200).map(str.encode)
    | st.sampled_from(list(making.PAYLOADS.values()))
    | st.integers(0, 700).map(lambda size: b'{"x":"' + b"y" * size + b'"}')
)


@given(
    st.lists(
        st.tuples(st.none() | st.dictionaries(st.sampled_from(["payload", "dropped", "t"]), JSON), PAYLOAD),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 700),
)
def test_any_payload_and_about_at_any_border(
    entries: list[tuple[dict[str, Any] | None, bytes | None]], piece: int
) -> None:
    with scratch() as root:
        with making.opened(root / "j", segment_bytes=1500) as journal:
            for number, (about, payload) in enumerate(entries):
                journal.append([making.delivery(f"n{number}", payload, about=about)])
            records = list(journal.read(0))
        assert list(Counting(piece).cursor(root / "j").read(0, len(records))) == bare(records)


@pytest.mark.usefixtures("passed_over")
def test_every_length_around_a_border_of_what_is_read_at_a_time(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j") as journal:
        about = {"title": "t" * 50}
        for size in range(walk.CHUNK - 1200, walk.CHUNK + 30, 41):
            number = head_of(journal)
            for kind, payload in enumerate(
                [b'{"x":"%s"}' % (b"y" * size), b"\n" * (size // 2), b"\xff" * (size * 3 // 4)]
            ):
                journal.append([making.delivery(f"n{number}k{kind}", payload, about=about)])
        records = list(journal.read(0))
    assert list(Counting().cursor(tmp_path / "j").read(0, len(records))) == bare(records)


@pytest.mark.usefixtures("passed_over")
def test_the_largest_about_and_data(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j") as journal:
        large = {"t": '},"payload":' * 60_000}
        for number, payload in enumerate([None, b"{}", b"text", b"\xff"]):
            journal.append([making.delivery(f"n{number}", payload, about={"payload": {"body": ""}, **large}, **large)])
        records = list(journal.read(0))
    assert list(Counting().cursor(tmp_path / "j").read(0, len(records))) == bare(records)


def test_an_engine_gives_old_and_new_records_without_payloads(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j", segment_bytes=3000) as journal:
        making.fill(journal)
        assert list(journal.read(0, payloads=False)) == bare(journal.read(0))
        journal.erase([Entry("ops.retention", "journal.dropped", {"drops": [[2, 5]], "about": True})])
        assert list(journal.read(0, payloads=False)) == bare(journal.read(0))
        journal.append([making.delivery("new", b'{"a":1}')])
        for after in (0, 3, head_of(journal) - 1):
            assert list(journal.read(after, payloads=False)) == bare(journal.read(after))
        assert list(journal.read(0, only={3, 7}, payloads=False)) == bare(journal.read(0, only={3, 7}))


# ---- beside a writer


class Following:
    """A cursor that follows a journal of the same process, and lags as it likes. Each record is held against the journal."""

    def __init__(self, journal: FileJournal, rng: random.Random, files: Counting) -> None:
        self.journal, self.rng, self.files = journal, rng, files
        self.cursor = files.cursor(journal.directory)
        self.at = 0

    def follow(self) -> None:
        upto = min(head_of(self.journal), self.at + self.rng.randint(0, 12))
        stop = self.rng.choice([0, 1, 3, 99, 99])
        found = list(itertools.islice(self.cursor.read(self.at, upto), stop))
        assert found == bare(list(itertools.islice(self.journal.read(self.at), min(stop, upto - self.at))))
        self.at += len(found)
        if self.rng.random() < 0.1 and self.at:  # another one looks
            seq = self.rng.randint(1, head_of(self.journal))
            assert self.cursor.find(seq).seq == seq
        if self.rng.random() < 0.05:
            self.at -= self.rng.randint(0, min(self.at, 30))
        assert not self.files.opened, "a descriptor is kept"


@pytest.mark.parametrize("same", [False, True], ids=["as it is", "every file seems to be the one before"])
@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.deep) for seed in range(3, 5))])
def test_in_steps_beside_a_writer_that_rotates_erases_and_compacts(tmp_path: Path, seed: int, same: bool) -> None:
    rng = random.Random(seed)
    payloads = list(making.PAYLOADS.values())
    with making.opened(tmp_path / "j", segment_bytes=2500) as journal:
        one = Following(journal, rng, Counting(rng.choice([50, 1000, 1 << 30]), same=same))
        for number in range(160):
            head = head_of(journal)
            if rng.random() < 0.06 and head > 2:
                first = rng.randint(1, head)
                drops = [[first, min(head, first + rng.randint(0, 9))]]
                journal.erase(
                    [Entry("ops.retention", "journal.dropped", {"drops": drops, "about": rng.random() < 0.5})]
                )
            else:
                journal.append(
                    [
                        making.delivery(f"n{number}m{each}", rng.choice(payloads), about=rng.choice(ABOUTS))
                        for each in range(rng.randint(1, 4))
                    ]
                )
            if rng.random() < 0.5:
                one.follow()
            if rng.random() < 0.3:  # as far as the index knows
                one.files.offsets = {
                    seq: found
                    for seq in range(1, rng.randint(1, head + 1))
                    if (found := journal._catalogue.offset_of(seq)) is not None
                }
        while one.at < head_of(journal):
            one.follow()


WRITER = """
import sys
from pathlib import Path
from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from journal.records import Entry
with open_journal(Path(sys.argv[1]), force_filesystem=True, settings=WriteSettings(segment_bytes=20000, idle_s=3600)) as journal:
    print(0, flush=True)
    for number in range(150):
        if number % 40 == 39:
            drops = [[number, 2 * number]]
            journal.erase([Entry("ops.retention", "journal.dropped", {"drops": drops, "about": True})])
        entries = [Entry(f"delivery.9.n{number}e{e}", "delivery.received", {}, {"t": "x"}, b"p" * 99, 0) for e in range(5)]
        print(journal.append(entries).seqs[-1], flush=True)
    sys.stdin.read()
"""


def test_another_process_appends_and_says_how_far(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        assert writer.stdout.readline() == "0\n"
        seqs: list[int] = []
        with open_reader(directory, upto=0) as reader:
            assert reader.head().seq == 0
            assert not reader.wait(0, 0.0)

            def listen() -> None:
                for line in writer.stdout or ():
                    reader.advance(int(line))
                reader.close()

            thread = threading.Thread(target=listen)
            thread.start()
            while len(seqs) < 753 and reader.wait(len(seqs), 60.0):
                seqs += [record.seq for record in reader.read(len(seqs), payloads=False)]
            writer.stdin.close()
            thread.join()
            assert seqs == list(range(1, 754))
            assert reader.head().seq == 753
    with open_reader(directory) as after:
        assert [one.seq for one in after.read(0)][:753] == seqs


def test_at_the_live_edge_one_file_is_opened_and_nothing_looked_up(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j") as journal:
        files = Counting()
        cursor = files.cursor(tmp_path / "j")
        making.fill(journal, ["object"])
        assert len(list(cursor.read(0, 1))) == 1
        files.opens = files.lists = files.lookups = 0
        files.preads.clear()
        for number in range(2, 20):
            journal.append([making.delivery(f"n{number}", b'{"a":1}')])
            assert [one.seq for one in cursor.read(number - 1, number)] == [number]
        assert (files.opens, files.lists, files.lookups, len(files.preads)) == (18, 0, 0, 18)
        assert list(cursor.read(19, 19)) == [] and files.opens == 18
        assert not files.opened


def test_a_rotation_lists_the_directory_once(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j", segment_bytes=1200) as journal:
        files = Counting()
        cursor = files.cursor(tmp_path / "j")
        for number in range(1, 30):
            journal.append([making.delivery(f"n{number}", b'{"a":1}')])
            assert [one.seq for one in cursor.read(number - 1, number)] == [number]
        rotations = len(making.segments(tmp_path / "j")) - 1
        assert rotations > 3
        assert (files.lists, files.lookups) == (1 + rotations, 1)


def test_a_read_that_is_not_run_to_its_end_is_gone_on_from(sample: tuple[Path, list[Record]]) -> None:
    directory, records = sample
    files = Counting()
    cursor = files.cursor(directory)
    at = 0
    while at < len(records):
        reading = cursor.read(at, len(records))
        found = list(itertools.islice(reading, 3))
        reading.close()  # type: ignore[attr-defined]
        assert found == bare(records[at : at + 3])
        at += len(found)
    assert files.lookups == 1
    assert not files.opened


def test_what_is_erased_stays_nowhere_on_the_disk_for_a_reader_that_lags(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j", segment_bytes=1500) as journal:
        making.fill(journal)
        with open_reader(tmp_path / "j", upto=head_of(journal)) as reader:
            next(reader.read(0, payloads=False))
            held = {str(path.resolve()) for path in Path("/proc/self/fd").iterdir() if path.exists()}
            assert not [
                path for path in held if path.endswith(".jsonl") and path != str(making.segments(tmp_path / "j")[-1])
            ]
            journal.erase([Entry("ops.retention", "journal.dropped", {"drops": [[1, 9]], "about": True})])
            assert list(reader.read(1, payloads=False)) == bare(list(journal.read(1))[: reader.head().seq - 1])


@pytest.mark.parametrize("torn", [b"", b'{"seq":4,"at":"20', b"\0" * 512, b'"}\n', b'{"seq":3,"at":1}\n{"seq":4,'])
def test_what_stands_behind_the_head_is_not_touched(tmp_path: Path, torn: bytes) -> None:
    with making.opened(tmp_path / "j") as journal:
        making.fill(journal, ["object", "lines", "form"])
        records = bare(journal.read(0))
    [path] = making.segments(tmp_path / "j")
    whole = path.read_bytes()
    end = whole.index(b'{"seq":4')
    for head in (3, 2, 1):
        path.write_bytes(whole[:end] + torn)
        cursor = Counting().cursor(tmp_path / "j")
        assert list(cursor.read(0, head)) == records[:head]
        path.write_bytes(whole)  # now it is whole, and said to be durable
        assert [one.seq for one in cursor.read(head, 4)] == [*range(head + 1, 5)]
        end = whole.index(b'{"seq":%d' % head)


def test_a_vanished_journal_is_gone(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j") as journal:
        making.fill(journal, ["object", "none"])
    cursor = Counting().cursor(tmp_path / "j")
    assert len(list(cursor.read(0, 1))) == 1
    (tmp_path / "j").rename(tmp_path / "k")
    with pytest.raises(JournalGone):
        list(cursor.read(1, 2))
    making.segments(tmp_path / "k")[0].unlink()
    (tmp_path / "k").rename(tmp_path / "j")
    with pytest.raises(JournalDamaged, match="gone"):
        list(cursor.read(1, 2))


# ---- the head


def test_the_head_moves_when_the_writer_says_so_and_never_back(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j", segment_bytes=2200) as journal:
        reader = open_reader(tmp_path / "j", upto=0)
        assert (reader.id, reader.epoch, reader.head().seq) == (journal.id, journal.epoch, 0)
        making.fill(journal, ["none", "object", "form", "binary", "empty"])
        assert list(reader.read(0)) == []
        heads = {record.seq: record.sum for record in journal.read(0)}
        for seq, head in [(2, 2), (1, 2), (0, 2), (4, 4), (5, 5), (3, 5)]:
            reader.advance(seq)
            assert (reader.head().seq, reader.head().sum) == (head, heads[head])
            assert list(reader.read(0)) == list(journal.read(0))[:head]
            assert reader.get(head + 1) is None
            newest = journal.get(head)
            assert newest is not None
            assert reader.last(newest.subject) == newest
        reader.close()


def test_the_sum_of_the_record_read_last_is_not_read_again(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j") as journal:
        making.fill(journal, ["none", "object"])
        files = Counting()
        with open_reader(tmp_path / "j", upto=1, files=files) as reader:
            reader.advance(2)
            assert len(list(reader.read(0, payloads=False))) == 2
            opens = files.opens
            assert reader.head() == journal.head()
            assert files.opens == opens


def test_a_head_that_the_log_does_not_reach_is_damage(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j") as journal:
        making.fill(journal, ["none", "object"])
        reader = open_reader(tmp_path / "j", upto=2)
        reader.advance(3)
        with pytest.raises(JournalDamaged, match="shorter than caches"):
            reader.head()
        reading = reader.read(0, payloads=False)
        assert [next(reading).seq, next(reading).seq] == [1, 2]
        with pytest.raises(JournalDamaged, match="shorter than caches"):
            next(reading)
        reader.close()


@pytest.mark.parametrize("said", [True, False], ids=["advance", "close"])
def test_who_waits_is_woken(tmp_path: Path, said: bool) -> None:
    making.opened(tmp_path / "j").close()
    reader = open_reader(tmp_path / "j", upto=0)
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(reader.wait(3, None))) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(reader._moved._waiters) == 3)  # type: ignore[attr-defined]
    reader.advance(3)
    assert not answers
    if said:
        reader.advance(4)
    else:
        reader.close()
    for thread in threads:
        thread.join(30)
    assert answers == [said] * 3
    reader.close()


# ---- damage


def outcome(reading: Iterator[Record]) -> tuple[list[Record], str | None]:
    """The records, and the damage that they end with."""
    found: list[Record] = []
    try:
        for record in reading:
            found.append(structs.replace(record, payload=None))
    except JournalDamaged as error:
        return found, str(error)
    return found, None


@pytest.fixture(scope="module")
def small() -> Iterator[tuple[Path, int]]:
    with scratch() as root:
        directory = root / "small"
        with making.opened(directory, segment_bytes=2300) as journal:
            making.fill(journal, ["none", "twice", "lone", "form", "lines"])
            journal.erase([Entry("ops.retention", "journal.dropped", {"drops": [[2, 2]], "about": False})])
            journal.erase([Entry("ops.retention", "journal.dropped", {"drops": [[3, 3]], "about": True})])
            making.fill(journal, ["nul", "latin", "empty", "marks"])
            journal.append([making.delivery("simple", b"text\n", about={"title": "a"})])
            head = head_of(journal)
        assert len(making.segments(directory)) >= 3
        yield directory, head


def payload_starts(line: bytes, raw: bytes) -> int:
    """Where the payload's bytes begin in its line; its length if it has none."""
    header, _ = parse_header(raw)
    assert header is not None
    envelope = open_envelope(line, header.salted)
    if envelope.match[8] is None or re.search(rb',"dropped":\d+}\n\Z', line):
        return len(line)
    marks = [
        line.rfind(mark) + len(mark) for mark in (b',"body":"', b',"body64":"') if mark in line[envelope.tail_at :]
    ]
    plain = len(line) - 2 - int(envelope.match[8])
    return plain if line[plain - 11 : plain] == b',"payload":' else max(marks)


def test_each_changed_byte_but_a_payloads_is_found_and_named_as_by_a_full_read(
    small: tuple[Path, int], tmp_path: Path
) -> None:
    source, head = small
    directory = making.copy(source, tmp_path / "j")
    untouched = bare(full(directory, head))
    changes = found = 0
    for path in making.segments(directory):
        raw, first = path.read_bytes(), int(path.stem)
        header, _ = parse_header(raw)
        assert header is not None
        offset = header.size
        for line in raw[offset:].splitlines(keepends=True):
            payload = payload_starts(line, raw)
            for at, byte in enumerate(line):
                value = byte ^ 1 if at % 2 else 0x20 if byte == 0x0A else 0x0A
                path.write_bytes(raw[: offset + at] + bytes([value]) + raw[offset + at + 1 :])
                records, damage = outcome(Counting().cursor(directory).read(first - 1, head))
                expected = outcome(read_records(OsFiles(), directory, first - 1, head, lambda _: None))
                changes += 1
                found += damage is not None
                if (records, damage) == expected:
                    continue
                assert records == untouched[first - 1 :][: len(records)]
                if payload <= at < len(line) - 2:
                    assert damage in (None, expected[1])
                elif at == len(line) - 1:
                    assert damage is not None or len(records) == head - first + 1
                else:
                    # A full read passes over a line that states a seq which isn't asked for.
                    assert 7 <= at <= line.index(b",") and damage is not None
            offset += len(line)
        path.write_bytes(raw)
    assert found > changes * 0.7


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def damaged(directory: Path, head: int, after: int = 0) -> str:
    with pytest.raises(JournalDamaged) as raised:
        list(Counting().cursor(directory).read(after, head))
    return raised.value.damage[0].kind


def test_no_record_is_passed_over_unseen(small: tuple[Path, int], tmp_path: Path) -> None:
    directory, head = small
    for number in range(len(making.segments(directory))):
        target = making.copy(directory, tmp_path / "j", caches=False)
        path = making.segments(target)[number]
        lines = lines_of(path)
        for index in range(2, len(lines)):
            seq = int(lines[index][7 : lines[index].index(b",")])
            if seq <= head:
                path.write_bytes(b"".join([*lines[:index], *lines[index + 1 :]]))
                assert damaged(target, head) in {"missing record", "gap between segments", "shorter than caches"}
            if seq < head:
                path.write_bytes(b"".join([*lines[: index + 1], *lines[index:]]))
                assert damaged(target, head) == "reordered"
        path.unlink()
        if int(path.stem) <= head:
            assert damaged(target, head) in {"missing segment", "gap between segments", "shorter than caches"}


@pytest.mark.parametrize(
    ("data", "about"),
    [
        (b'{\n"guid":"x"}', None),
        (b'{"guid":"x"\n}', b"{}"),
        (b"{}", b'{"a":\n1}'),
        (b"{}", b'{"a":1}\n'),
        (b"{}", b"[1]"),
        (b"{}", b"null"),
    ],
)
def test_a_forged_line_that_a_full_read_refuses_is_refused_here(
    tmp_path: Path, data: bytes, about: bytes | None
) -> None:
    """A line break within a record, or what it is about no object: no writer writes that, though the sums match."""
    directory = tmp_path / "j"
    with making.opened(directory) as journal:
        journal.append([Entry("delivery.9.x", "delivery.received", {"guid": "x"}, {"a": 1}, b"{}", 0)])

    def forge(raw: bytes) -> bytes:
        header, _ = parse_header(raw)
        assert header is not None
        line, rest = raw[header.size :].split(b"\n", 1)
        envelope = line[: line.index(SUM_MARK)]
        told = b"" if about is None else b'"about_sha256":"%b",' % sha256_hex(about).encode()
        envelope = re.sub(rb'"about_sha256":"[0-9a-f]*",', lambda _: told, envelope)
        envelope = envelope.replace(b'"data":{"guid":"x"}', b'"data":' + data)
        total = header.salted.sum(envelope).encode()
        tail = b"" if about is None else b',"about":' + about
        return raw[: header.size] + envelope + SUM_MARK + total + b'"' + tail + b',"payload":{}}\n' + rest

    making.alter(making.segments(directory)[0], forge)
    with pytest.raises(JournalDamaged):
        full(directory, 1)
    with pytest.raises(JournalDamaged):
        list(Counting().cursor(directory).read(0, 1))


def test_a_lost_end_of_a_text_does_not_hide_the_record_behind_it(tmp_path: Path) -> None:
    """The text's end is looked for: without its newline, the line behind it would pass for a part of the text."""
    with making.opened(tmp_path / "j", segment_bytes=4000) as journal:
        making.fill(journal, ["lines"])
        for number in range(12):
            journal.append([making.delivery(f"n{number}", b"text\n" * 20)])
        head = head_of(journal)
    for path in making.segments(tmp_path / "j"):
        raw = path.read_bytes()
        header, _ = parse_header(raw)
        assert header is not None
        end = header.size
        for line in raw[end:].splitlines(keepends=True):
            end += len(line)
            path.write_bytes(raw[: end - 1] + b" " + raw[end:])
            seq = int(line[7 : line.index(b",")])
            if seq < head:
                found, damage = outcome(Counting().cursor(tmp_path / "j").read(0, head))
                assert damage is not None
                assert [one.seq for one in found] == [*range(1, seq + 1)] or [one.seq for one in found] == [
                    *range(1, seq)
                ]
        path.write_bytes(raw)


def test_records_that_a_salvage_left_out_are_passed_over(tmp_path: Path) -> None:
    """A segment whose `first` is more than `after` + 1 continues the one before it."""
    files, directory = OsFiles(), tmp_path / "j"
    with making.opened(tmp_path / "source") as journal:
        making.fill(journal, ["none", "form", "empty"])
        source = journal.read(0)
        records = list(source)
    assert records
    directory.mkdir()
    header = write_header(
        files, directory, journal="a" * 32, epoch="b" * 16, first=1, after=0, prev=GENESIS, salt="c" * 64
    )
    path = directory / f"{1:020d}.jsonl"
    total = header.sum
    for seq in (1, 2):
        line, total = encode_line(
            prepare(making.delivery(f"n{seq}", b"x\n")),
            seq=seq,
            at=records[0].at,
            synced=0,
            prev=total,
            salted=header.salted,
        )
        making.alter(path, lambda raw, line=line: raw + line)  # type: ignore[misc]
    header = write_header(
        files, directory, journal="a" * 32, epoch="b" * 16, first=9, after=2, prev=total, salt="d" * 64
    )
    line, _ = encode_line(
        prepare(making.delivery("n9", b"x\n")), seq=9, at=records[0].at, synced=0, prev=header.sum, salted=header.salted
    )
    making.alter(directory / f"{9:020d}.jsonl", lambda raw: raw + line)
    cursor = Counting().cursor(directory)
    for after, expected in [(0, [1, 2, 9]), (2, [9]), (2, [9]), (5, [9]), (8, [9]), (1, [2, 9])]:
        assert [one.seq for one in cursor.read(after, 9)] == expected


# ---- memory


@pytest.mark.usefixtures("passed_over")
def test_memory_does_not_grow_with_payloads(tmp_path: Path) -> None:
    size = 12 << 20
    with making.opened(tmp_path / "j", segment_bytes=size * 3) as journal:
        for number in range(2):
            for kind, payload in {
                "plain": b'{"x":"' + b"y" * size + b'"}',
                "text": b"text\n" * (size // 5),
                "binary": b"\xff" * size,
            }.items():
                journal.append([making.delivery(f"{kind}{number}", payload, about={"a": 1})])
    files = Counting()
    cursor = files.cursor(tmp_path / "j")
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in cursor.read(0, 6):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 3 << 20
    assert max(files.preads) <= walk.CHUNK
    texts = 2 * size * 6 // 5 * 2
    assert sum(files.preads) < texts, "what has a length is jumped over"


def test_a_line_that_never_comes_to_its_payload_is_not_kept(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j") as journal:
        making.fill(journal, ["none"])
    [path] = making.segments(tmp_path / "j")
    making.alter(path, lambda raw: raw[: raw.index(b'"sum":"', raw.index(b'{"seq":1'))] + b"x" * (9 << 20))
    assert damaged(tmp_path / "j", 1) in {"foreign", "truncated"}
