"""Every byte changed, every length cut to, every line removed, doubled, swapped or moved: told, and called what it is.

What it is, is said by `independent_reader`, from the page: a fault, or a torn tail, which only the last record can be part of
when nothing but the segments is left to say how far the log went.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from journal.errors import JournalDamaged
from journal.file.verify import verify
from journal.records import Entry
from journal.reports import VerifyReport
from tests.support.journals import independent_reader, making
from tests.support.journals.explorer import scratch

NAMES = "none twice lone form lines nul latin empty marks".split()
SHARDS = 8


@dataclass
class Sample:
    """A journal of several segments, closed cleanly, with dropped content; and where its lines stand."""

    directory: Path
    segments: dict[str, bytes]
    lines: list[tuple[str, int, int, int]]
    """(segment, start, end, seq; 0 for a header's copy)"""
    head: int

    def line_of(self, segment: str, offset: int) -> tuple[str, int, int, int]:
        return next(line for line in self.lines if line[0] == segment and line[1] <= offset < line[2])

    @property
    def last(self) -> str:
        return max(self.segments)


@pytest.fixture(scope="module")
def sample() -> Iterator[Sample]:
    with scratch() as root:
        directory = root / "sample"
        with making.opened(directory, segment_bytes=2300) as journal:
            making.fill(journal, NAMES[:5])
            journal.erase([Entry("ops.retention", "journal.dropped", {"drops": [[2, 2]], "about": False})])
            journal.erase([Entry("ops.retention", "journal.dropped", {"drops": [[3, 3]], "about": True})])
            making.fill(journal, NAMES[5:])
        segments = {path.name: path.read_bytes() for path in making.segments(directory)}
        lines = []
        for name, raw in segments.items():
            offset = 0
            for number, line in enumerate(raw.splitlines(keepends=True)):
                seq = 0 if number < 2 else int(line[7 : line.index(b",")])
                lines.append((name, offset, offset + len(line), seq))
                offset += len(line)
        assert len(segments) >= 3
        yield Sample(directory, segments, lines, lines[-1][3])


def other_values(byte: int) -> list[int]:
    """What a byte becomes: a bit at either end flipped, NUL, newline, space, another digit or letter, the other case."""
    values = [byte ^ 0x01, byte ^ 0x80, 0x00, 0x0A, 0x20]
    if chr(byte).isalnum() and byte < 128:
        values += [ord("0") if byte == ord("9") else byte + 1, byte ^ 0x20 if byte >= 64 else ord("a")]
    return sorted(set(values) - {byte})


def flips(sample: Sample) -> Iterator[tuple[str, int, bytes]]:
    for name, raw in sample.segments.items():
        for offset, byte in enumerate(raw):
            for value in other_values(byte):
                yield name, offset, raw[:offset] + bytes([value]) + raw[offset + 1 :]


class Bench:
    """Two copies of the sample, damaged alike: one with its caches, one of the segments alone."""

    def __init__(self, sample: Sample, root: Path) -> None:
        self.sample = sample
        self.whole = making.copy(sample.directory, root / "whole")
        self.bare = making.copy(sample.directory, root / "bare", caches=False)
        self.checked = self.opened = self.torn = self.mended = 0

    def hold(self, changed: dict[str, bytes | None], *, opens: bool) -> tuple[VerifyReport, independent_reader.Reading]:
        """Change these segments (None: remove), and let everybody judge: (verify's report with caches, the page without).

        With the caches any change is damage. Without, verify and an opening find what the page says.
        """
        with self.changed(changed):
            report = verify(self.whole)
            assert not report.ok, "not noticed, with the caches there"
            page = independent_reader.read(self.bare)
            bare = verify(self.bare)
            assert bare.ok == (page.fault is None), (page.fault, bare.damage)
            self.checked += 1
            if opens:
                self.open(page)
        return report, page

    def hold_newline(self, changed: dict[str, bytes | None], value: int, seq: int) -> VerifyReport:
        """Only a newline is wrong. An opening writes it again if nothing proves that the line was whole once."""
        with self.changed(changed):
            report = verify(self.whole)
            assert not report.ok
            proven = seq < self.sample.head - 1 or changed.keys() != {self.sample.last}
            assert verify(self.bare).ok == (value == 0 and not proven)
            self.checked += 1
            self.opened += 1
            try:
                with making.opened(self.bare, seed=3) as journal:
                    assert not proven
                    assert journal.recovery.mended_newlines == 1
                    assert [record.seq for record in journal.read(0)][: self.sample.head] == [
                        *range(1, self.sample.head + 1)
                    ]
                self.mended += 1
            except JournalDamaged:
                assert proven
            finally:
                making.copy(self.sample.directory, self.bare, caches=False)
        return report

    @contextmanager
    def changed(self, changed: dict[str, bytes | None]) -> Iterator[None]:
        for name, raw in changed.items():
            put(self.whole / name, raw)
            put(self.bare / name, raw)
        try:
            yield
        finally:
            for name in changed:
                put(self.whole / name, self.sample.segments.get(name))
                put(self.bare / name, self.sample.segments.get(name))

    def open(self, page: independent_reader.Reading) -> None:
        self.opened += 1
        try:
            with making.opened(self.bare, seed=3) as journal:
                seqs = [record.seq for record in journal.read(0)]
                recovery = journal.recovery
        except JournalDamaged:
            assert page.fault is not None, "an opening finds damage that the page knows nothing of"
            return
        finally:
            for path in self.bare.iterdir():
                if path.suffix != ".jsonl" or page.fault is None:
                    path.unlink()
            if page.fault is None:
                making.copy(self.sample.directory, self.bare, caches=False)
        assert page.fault is None, "an opening takes damage for a journal"
        kept = len(page.records) + recovery.mended_newlines
        assert seqs[:kept] == list(range(1, kept + 1))
        assert (page.torn is not None) == (recovery.torn is not None or recovery.mended_newlines == 1)
        self.torn += recovery.torn is not None
        self.mended += recovery.mended_newlines


def put(path: Path, raw: bytes | None) -> None:
    if raw is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(raw)


def tell(bench: Bench, record_property: Callable[[str, object], None]) -> None:
    for name in ("checked", "opened", "torn", "mended"):
        record_property(name, getattr(bench, name))
    print(f"{bench.checked} changes, {bench.opened} openings: {bench.torn} torn, {bench.mended} mended")


# ---- bytes


def check_flips(sample: Sample, root: Path, changes: Iterator[tuple[str, int, bytes]], each: int) -> Bench:
    bench = Bench(sample, root)
    for number, (name, offset, raw) in enumerate(changes):
        _, start, end, seq = sample.line_of(name, offset)
        torn = None
        if seq and offset == end - 1:
            report = bench.hold_newline({name: raw}, raw[offset], seq)
        else:
            report, page = bench.hold({name: raw}, opens=number % each == 0)
            torn = page.torn
        first = report.damage[0]
        assert (first.segment, first.offset) == (name, start), "another place"
        if seq:
            assert first.kind in {"flipped", "foreign", "payload", "truncated"}
            assert first.seq == seq
        else:
            assert first.kind == "bad header"
        if torn is not None:
            # Nothing proves that the last record was acknowledged, and this is how a lost sector looks.
            assert (name, seq) == (sample.last, sample.head)
            assert raw[offset] == 0
            assert (offset + 1) % 512 == 0
    return bench


def test_a_changed_byte_is_told(sample: Sample, root: Path, record_property: Callable[[str, object], None]) -> None:
    """Every newline to each of its other values; of the other bytes every fifth, to one. The deep test has all of all."""

    def sampled() -> Iterator[tuple[str, int, bytes]]:
        for number, ((name, offset), group) in enumerate(itertools.groupby(flips(sample), lambda change: change[:2])):
            values = list(group)
            if sample.segments[name][offset] == 0x0A:
                yield from values
            elif number % 5 == 0:
                yield values[number // 5 % len(values)]

    bench = check_flips(sample, root, sampled(), 11)
    tell(bench, record_property)
    assert bench.mended, "no newline was written again: not all that can happen did"


@pytest.mark.deep
@pytest.mark.parametrize("shard", range(SHARDS))
def test_any_changed_byte_is_told(
    shard: int, sample: Sample, root: Path, record_property: Callable[[str, object], None]
) -> None:
    """Every byte to every value of `other_values`, and an opening for each."""
    changes = itertools.islice(flips(sample), shard, None, SHARDS)
    tell(check_flips(sample, root, changes, 1), record_property)


def test_a_changed_mark_is_told(sample: Sample, root: Path) -> None:
    """The mark of a clean close: verify tells; an opening believes it no longer, and no less of the log."""
    directory = making.copy(sample.directory, root / "copy")
    whole = (directory / "closed.json").read_bytes()
    for offset, byte in enumerate(whole):
        for value in other_values(byte):
            (directory / "closed.json").write_bytes(whole[:offset] + bytes([value]) + whole[offset + 1 :])
            report = verify(directory)
            assert [(one.kind, one.segment) for one in report.damage] == [("bad mark", "closed.json")]
    for length in range(len(whole)):
        (directory / "closed.json").write_bytes(whole[:length])
        assert [one.kind for one in verify(directory).damage] == ["bad mark"]
    with making.opened(directory) as journal:
        assert len(list(journal.read(0))) == sample.head
    assert verify(directory).ok


# ---- lengths


def lengths(sample: Sample) -> Iterator[tuple[str, int]]:
    return ((name, length) for name, raw in sample.segments.items() for length in range(len(raw)))


def check_lengths(sample: Sample, root: Path, cuts: Iterator[tuple[str, int]], each: int) -> tuple[Bench, set[int]]:
    """Also the lengths of the last segment that can't be told from a journal that ends there."""
    bench, untold = Bench(sample, root), set()
    for number, (name, length) in enumerate(cuts):
        _, start, _, seq = sample.line_of(name, length)
        boundary = length == start and (seq > 0 or start == 0)
        report, page = bench.hold({name: sample.segments[name][:length]}, opens=boundary or number % each == 0)
        first = report.damage[0]
        if name != sample.last or seq == 0:
            kinds = {"bad header"} if seq == 0 else {"truncated", "gap between segments"}
            assert page.fault is not None, "the next segment proves this one whole; a name proves a header"
        else:
            # The mark and the index know how far it went. Without them only its own lines do.
            kinds = {"truncated", "shorter than caches"}
            if page.torn is None and page.fault is None:
                untold.add(length)
        assert first.kind in kinds
        assert first.segment == name or first.kind == "gap between segments"
        if page.torn is not None:
            proven = max((record["synced"] for record in page.records), default=0)
            assert page.torn == (name, start)
            assert seq > proven
            assert (seq, length > start) == (len(page.records) + 1, True)
    return bench, untold


def test_a_cut_is_told_but_for_the_one_that_cannot_be(
    sample: Sample, root: Path, record_property: Callable[[str, object], None]
) -> None:
    """Cut clean at a line's end, with index and mark deleted too: no one can tell, and the manual says so.

    At every line's end, and of the other lengths every 15th, in the last segment every fifth. The deep test has them all.
    """
    ends = {(name, start) for name, start, _, _ in sample.lines}
    cuts = (cut for cut in lengths(sample) if cut in ends or cut[1] % (5 if cut[0] == sample.last else 15) == 0)
    bench, untold = check_lengths(sample, root, cuts, 13)
    tell(bench, record_property)
    assert bench.torn, "no torn tail among them: not all that can happen did"
    assert untold == {start for name, start, _, seq in sample.lines if name == sample.last and seq}


@pytest.mark.deep
@pytest.mark.parametrize("shard", range(SHARDS))
def test_any_cut_is_told(
    shard: int, sample: Sample, root: Path, record_property: Callable[[str, object], None]
) -> None:
    bench, untold = check_lengths(sample, root, itertools.islice(lengths(sample), shard, None, SHARDS), 1)
    tell(bench, record_property)
    assert untold <= {start for name, start, _, seq in sample.lines if name == sample.last and seq}


# ---- lines


Lines = dict[str, list[bytes]]


def line_changes(sample: Sample) -> Iterator[tuple[str, Lines, set[str]]]:
    """(what was done, all segments' lines, the kinds that the first finding may be of)"""
    whole = {name: raw.splitlines(keepends=True) for name, raw in sample.segments.items()}
    for name, lines in whole.items():
        for at, line in enumerate(lines):
            header = at < 2
            missing = {"missing record", "gap between segments", "shorter than caches"}
            yield f"remove {at}", {name: lines[:at] + lines[at + 1 :]}, {"bad header"} if header else missing
            double = {"flipped", "foreign"} if header else {"reordered"}
            yield f"double {at}", {name: lines[: at + 1] + lines[at:]}, double
            if at + 1 < len(lines) and lines[at + 1] != line:
                swapped = [*lines[:at], lines[at + 1], line, *lines[at + 2 :]]
                yield f"swap {at}", {name: swapped}, {"bad header"} if header else {"missing record"}
            for other, target in whole.items():
                if other == name:
                    continue
                kinds = {"bad header", "flipped", "foreign", "missing record", "gap between segments"}
                for place in {2, len(target)}:
                    moved = {name: lines[:at] + lines[at + 1 :], other: [*target[:place], line, *target[place:]]}
                    yield f"move {at} of {name} to {place} of {other}", moved, kinds
                    yield f"copy {at} of {name} to {place} of {other}", {other: moved[other]}, kinds


def test_lines_removed_doubled_swapped_or_moved_are_told(
    sample: Sample, root: Path, record_property: Callable[[str, object], None]
) -> None:
    bench = Bench(sample, root)
    for what, lines, kinds in line_changes(sample):
        report, page = bench.hold({name: b"".join(those) for name, those in lines.items()}, opens=True)
        assert report.damage[0].kind in kinds, what
        assert page.torn is None, what
        last = f"remove {len(sample.segments[sample.last].splitlines()) - 1}"
        assert page.fault is not None or (what, list(lines)) == (last, [sample.last]), what
    tell(bench, record_property)


def test_segments_removed_renamed_or_swapped_are_told(sample: Sample, root: Path) -> None:
    bench = Bench(sample, root)
    names = sorted(sample.segments)
    for name in names:
        report, page = bench.hold({name: None}, opens=True)
        kinds = {"missing segment"} if name == names[0] else {"gap between segments", "shorter than caches"}
        assert report.damage[0].kind in kinds
        assert page.fault is not None or name == sample.last
    for name, other in itertools.permutations(names, 2):
        report, page = bench.hold({name: sample.segments[other], other: sample.segments[name]}, opens=True)
        assert "wrong segment order" in {one.kind for one in report.damage}
        assert page.fault is not None
        report, page = bench.hold({name: sample.segments[other]}, opens=True)
        assert "wrong segment order" in {one.kind for one in report.damage}
        assert page.fault is not None
    report, _ = bench.hold(dict.fromkeys(names), opens=False)
    assert [one.kind for one in report.damage] == ["gone"]
