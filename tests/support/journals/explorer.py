"""Run a workload over a `SimDisk`, and check what the engine makes of every disk that a crash in it could leave."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from journal.erasure import covers, erasure_of
from journal.errors import JournalError, JournalGone, JournalPoisoned
from journal.file.backup import backup, read_backup
from journal.file.engine import FileJournal
from journal.file.examine import examine
from journal.file.index import INDEX_NAME, Index, Position, Row, remove_index
from journal.file.open import open_journal
from journal.file.segment import SegmentFile, list_segments
from journal.file.settings import WriteSettings
from journal.file.verify import verify
from journal.format.codec import Envelope
from journal.records import OWN_SUBJECT, Appended, Conflict, Entry, Head, Record, Witness
from tests.support.journals.entries import digest
from tests.support.journals.opening import open_with
from tests.support.journals.simdisk import Crashes, Density, Image, SimDisk

SEGMENT_BYTES = 2048
NEVER_S = 1e6
"""As `idle_s`: the committer writes nothing of its own accord."""
OWN_KINDS = {"journal.synced", "journal.torn", "journal.mended", "journal.epoch"}


def counting_token(seed: int = 0) -> Callable[[int], str]:
    numbers = itertools.count(seed)
    return lambda size: hashlib.sha256(b"%d" % next(numbers)).hexdigest().ljust(64, "0")[: 2 * size]


def counting_clock(start: float = 1_800_000_000.0) -> Callable[[], float]:
    ticks = itertools.count()
    return lambda: start + next(ticks) / 8


@contextmanager
def scratch() -> Iterator[Path]:
    """A real directory for lock and index; in memory where there is such a place, since thousands are opened there."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="covenq-explore-", dir=place))
    try:
        (path / "journal").mkdir()
        (path / "backup").mkdir()
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


# ---- workloads


class Run:
    """One workload in the making: the engine over a `SimDisk`, and notes in its trace of what was promised when."""

    def __init__(
        self, root: Path, image: Image | None = None, *, segment_bytes: int = SEGMENT_BYTES, seed: int = 0
    ) -> None:
        self.directory = root / "journal"
        self.disk = SimDisk(root, image)
        self.segment_bytes = segment_bytes
        self.token = counting_token(seed)
        self.clock = counting_clock()
        self.journal: FileJournal | None = None
        self.calls = itertools.count()
        remove_index(self.directory / INDEX_NAME)

    def open(self, **options: Any) -> FileJournal:
        self.journal = open_with(
            self.directory,
            files=self.disk,
            clock=self.clock,
            token=self.token,
            segment_bytes=self.segment_bytes,
            force_filesystem=True,
            **{"idle_s": NEVER_S, **options},
        )
        # What it serves from here on is promised, and what it doesn't serve of earlier appends is never to be seen again.
        self.disk.note("opened", None, self.read())
        return self.journal

    def own(self) -> None:
        """Note the records that the journal wrote by itself: they are promised as well, once they are in its head."""
        assert self.journal is not None
        self.disk.note("ack", None, [record for record in self.read() if record.subject == OWN_SUBJECT])

    def read(self, seqs: Sequence[int] | None = None) -> list[Record]:
        assert self.journal is not None
        with self.disk.aside():
            if seqs is None:
                return list(self.journal.read(0))
            return [record for record in map(self.journal.get, seqs) if record is not None]

    def append(self, *entries: Entry) -> Appended | Conflict | JournalError:
        return self._append(next(self.calls), entries)

    def _append(self, number: int, entries: Sequence[Entry]) -> Appended | Conflict | JournalError:
        assert self.journal is not None
        disk = self.disk
        disk.note("begin", number, [digest(entry) for entry in entries])
        try:
            answer = self.journal.append(entries)
        except (JournalPoisoned, JournalGone) as error:
            return error  # undetermined: it may come back, or not
        except JournalError as error:
            disk.note("fail", number)
            return error
        if isinstance(answer, Appended):
            disk.note("ack", number, self.read(answer.seqs))
        else:
            disk.note("fail", number)
        return answer

    def erase(self, entry: Entry) -> Appended | Conflict | Exception:
        """Erase what `entry` names in its data, and promise it gone."""
        assert self.journal is not None
        number = next(self.calls)
        self.disk.note("begin", number, [digest(entry)])
        try:
            answer, _ = self.journal.erase([entry])
        except (OSError, JournalError) as error:
            return error  # how far it came is told by what is there
        assert isinstance(answer, Appended), answer
        self.disk.note("ack", number, self.read(answer.seqs))
        return answer

    def backup(self, name: str = "backup") -> None:
        assert self.journal is not None
        target = self.directory.parent / name
        head = self.journal.head()
        self.disk.note("copying", None, name)  # from here until it is done, an earlier copy there is not finished
        backup(self.directory, target, journal=self.journal.id, head=lambda: head, files=self.disk)
        self.disk.note("copied", None, name, head)

    def together(self, *appends: Sequence[Entry]) -> None:
        """Appends from as many threads, in this order, all but the first in one batch: it waits in its sync for them."""
        assert self.journal is not None
        queue = self.journal._committer._queue
        held, go = threading.Event(), threading.Event()

        def hold(_disk: SimDisk, kind: str, _name: str, _size: int) -> None:
            if kind == "fdatasync" and not go.is_set():
                held.set()
                go.wait(30)

        before, self.disk.hook = self.disk.hook, hold
        numbers = [next(self.calls) for _ in appends]
        threads = [
            threading.Thread(target=self._append, args=pair, daemon=True) for pair in zip(numbers, appends, strict=True)
        ]
        try:
            threads[0].start()
            assert held.wait(30)
            for queued, thread in enumerate(threads[1:], 1):
                thread.start()
                while len(queue) < queued and thread.is_alive():
                    pass
        finally:
            self.disk.hook = before
            go.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()

    def close(self) -> None:
        assert self.journal is not None
        self.journal.close()

    def die(self, kind: str = "", entries: Sequence[Entry] = ()) -> None:
        """The process dies, at once or just before the next call of `kind` while it appends; the machine goes on.

        What it had written stays in the page cache. Index and lock are dropped with it.
        """
        assert self.journal is not None
        forks: list[SimDisk] = []

        def fork(disk: SimDisk, called: str, _name: str, _size: int) -> None:
            if called == kind and not forks:
                disk.hook = None
                forks.append(disk.fork())

        if kind:
            self.disk.note("begin", next(self.calls), [digest(entry) for entry in entries])
            self.disk.hook = fork
            self.journal.append(entries)
        else:
            forks.append(self.disk.fork())
        self.journal.close()
        self.disk = forks[0]
        remove_index(self.directory / INDEX_NAME)


@dataclass(frozen=True)
class Promise:
    """What a crash at a point may not take: records by seq. And what else may be found: digests in the order begun."""

    acked: dict[int, Record]
    undetermined: tuple[bytes, ...]
    copies: dict[str, Head] = field(default_factory=dict)


def promises(trace: Sequence[tuple[Any, ...]], start: Promise | None = None) -> list[Promise]:
    """For each point of the trace, what was promised when the event there had happened."""
    acked = dict(start.acked) if start else {}
    copies = dict(start.copies) if start else {}
    begun: dict[int, list[bytes]] = {}
    carried = start.undetermined if start else ()
    found = []
    current = Promise(dict(acked), carried, dict(copies))
    for event in trace:
        if event[0] == "note":
            if event[1] == "begin":
                begun[event[2]] = event[3]
            elif event[1] == "copying":
                copies.pop(event[3], None)
            elif event[1] == "copied":
                copies[event[3]] = event[4]
            elif event[1] == "opened":
                begun.clear()
                carried = ()
            else:
                begun.pop(event[2], None)
            if event[1] in ("ack", "opened"):
                acked.update({record.seq: record for record in event[3]})
            late = [one for digests in begun.values() for one in digests]
            current = Promise(dict(acked), (*carried, *late), dict(copies))
        found.append(current)
    return found


# ---- checking one state


@dataclass
class Checker:
    """Opens disk images with the real engine, in one scratch directory."""

    root: Path
    segment_bytes: int = SEGMENT_BYTES
    _indexes: dict[str, dict[tuple[int, int], bytes]] = field(default_factory=dict)
    _turn: int = 0

    @property
    def directory(self) -> Path:
        return self.root / "journal"

    def check(self, image: Image, promise: Promise, index_at: int, *, witness: bool) -> SimDisk:
        """`index_at`: the seq that the index had reached, 0 for no index. Raises AssertionError; returns the disk, reopened."""
        disk = SimDisk(self.root, image)
        self._place_index(disk, index_at)
        witnesses = []
        if witness and promise.acked:
            newest = promise.acked[max(promise.acked)]
            witnesses = [Witness(self._journal_id(disk), newest.seq, newest.sum)]
        report = verify(self.directory, files=disk, witnesses=witnesses)
        assert report.ok, f"verify of the crashed journal: {report.damage}"
        with self._open(disk, witnesses) as journal:
            records = list(journal.read(0))
            check_records(records, promise)
            noted = (journal.recovery.torn is not None) + (journal.recovery.mended_newlines > 0)
            assert report.head.seq == report.records == len(records) - noted, f"verify counted {report}"
            newest_of = {record.subject: record.seq for record in records}
            for subject, seq in newest_of.items():
                found = journal.last(subject)
                assert found is not None and found.seq == seq, f"last({subject}) is {found and found.seq}, not {seq}"
            for record in records[:1]:
                again = Entry(record.subject, "delivery.received", {}, expect=0)
                assert journal.append([again]) == Conflict(record.subject, newest_of[record.subject])
            after = Entry("ops.after", "ops.crashed", {"n": len(records)}, {"a": 1}, b"after", 0)
            answer = journal.append([after])
            assert isinstance(answer, Appended)
            assert answer.seqs == (len(records) + 1,)
        leftovers = [name for name in disk.image() if name.startswith("journal/") and name.endswith(".tmp")]
        assert not leftovers, leftovers
        with self._open(disk, []) as journal:
            again_records = list(journal.read(0))
            assert again_records[: len(records)] == records
            assert digest(again_records[len(records)]) == digest(after)
            assert journal.recovery.torn is None and journal.recovery.mended_newlines == 0
        report = verify(self.directory, files=disk)
        assert report.ok, f"verify of the recovered journal: {report.damage}"
        head, journal_id = report.head, self._journal_id(disk)
        for name in {name.split("/")[0] for name in image} - {"journal"}:
            copy = self.root / name
            self.check_copy(disk.fork(), copy, promise)
            backup(self.directory, copy, journal=journal_id, head=lambda: head, files=disk)
            self.check_copy(disk, copy, Promise({one.seq: one for one in again_records}, (), {name: head}))
        return disk

    def check_copy(self, disk: SimDisk, directory: Path, promise: Promise) -> None:
        """A backup that says it is finished verifies, opens, and holds what it says; one that was finished says so."""
        promised = promise.copies.get(directory.name)
        note = read_backup(disk, directory)
        if note is None or not note["finished"]:
            assert promised is None, "a finished backup does not say so"
            return
        head = Head(note["seq"], note["sum"])
        assert promised is None or head.seq >= promised.seq
        remove_index(directory / INDEX_NAME)
        report = verify(directory, files=disk)
        assert report.ok, report.damage
        assert report.head == head
        with SegmentFile(disk, directory, list_segments(disk, directory)[-1]) as segment:
            header, _ = segment.header()
        assert header is not None
        with self._open(disk, [], directory=directory) as journal:
            records = [record for record in journal.read(0) if record.seq <= head.seq]
            check_records(
                records,
                replace(promise, acked={seq: one for seq, one in promise.acked.items() if seq <= head.seq}),
                copy=True,
            )
            assert journal.epoch != header.epoch, "a copy goes on in an epoch of its own"
        assert not [name for name in disk.image() if name.startswith(directory.name) and name.endswith(".tmp")]

    def _open(self, disk: SimDisk, witnesses: Sequence[Witness], directory: Path | None = None) -> FileJournal:
        return open_journal(
            directory or self.directory,
            files=disk,
            witnesses=witnesses,
            force_filesystem=True,
            settings=WriteSettings(
                clock=counting_clock(), token=counting_token(1 << 20), segment_bytes=self.segment_bytes, idle_s=NEVER_S
            ),
        )

    def _journal_id(self, disk: SimDisk) -> str:
        found = examine(disk, self.directory)
        assert found.header is not None
        return found.header.journal

    def _place_index(self, disk: SimDisk, upto: int) -> None:
        path = self.directory / INDEX_NAME
        remove_index(path)
        if upto == 0:
            return
        rows: list[Row] = []
        at: list[tuple[Envelope, int, int, int]] = []

        def visit(envelope: Envelope, segment: int, start: int, end: int) -> None:
            if envelope.seq <= upto:
                rows.append((envelope.subject, envelope.seq, start))
                at[:] = [(envelope, segment, start, end)]

        found = examine(disk, self.directory, visit=visit)
        if not at or found.header is None:
            return
        envelope, segment, start, end = at[0]
        # Of the places the record has had, before and after rewrites, each index may still know any.
        cached = self._indexes.setdefault(envelope.sum, {})
        if (start, end) not in cached:
            index = Index(path)
            index.begin()
            index.add(rows)
            index.commit(Position(found.header.journal, envelope.seq, envelope.sum, segment, start, end))
            index.close()
            cached[start, end] = path.read_bytes()
        self._turn += 1
        path.write_bytes(list(cached.values())[self._turn % len(cached)])


def check_records(records: Sequence[Record], promise: Promise, *, copy: bool = False) -> None:
    """Nothing acknowledged is lost or altered, nothing is there that nobody appended, and batches survive in prefixes."""
    by_seq = {record.seq: record for record in records}
    for seq, promised in promise.acked.items():
        found = by_seq.get(seq)
        assert found is not None, f"acknowledged seq {seq} ({promised.kind} {promised.subject}) is lost"
        if found.dropped is not None:
            # That the record it names allows it is what verify checks.
            about = None if found.about is None else promised.about
            promised = structs.replace(promised, payload=None, about=about, dropped=found.dropped)
        elif copy and promised.dropped is not None:
            # Taken before the erasure.
            promised = structs.replace(promised, payload=found.payload, about=found.about, dropped=None)
        assert found == promised, f"acknowledged seq {seq} came back altered"
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    for record in records:
        erasure = erasure_of(record.seq, record.data)
        for seq in range(1, len(records) + 1) if erasure else ():
            if covers(erasure.drops, seq) and seq != record.seq:
                left = by_seq[seq]
                assert left.payload is None, f"seq {seq} still has what record {record.seq} erased"
                assert not erasure.about or left.about is None, f"seq {seq} still says what it was about"
    others = [
        digest(record)
        for record in records
        if record.seq not in promise.acked and not (record.subject == OWN_SUBJECT and record.kind in OWN_KINDS)
    ]
    if others:
        assert others == list(promise.undetermined[: len(others)]), "records that nobody appended, or not in this order"


# ---- exploring


@dataclass
class Count:
    """What was checked: distinct journals by the hash of their files, and distinct disks, the caches a part of them."""

    points: int = 0
    seen: set[tuple[bytes, int]] = field(default_factory=set)

    @property
    def states(self) -> int:
        return len(self.seen)

    @property
    def journals(self) -> int:
        return len({key for key, _ in self.seen})


def fingerprint(image: Image) -> bytes:
    state = hashlib.blake2b(digest_size=16)
    for name in sorted(image):
        state.update(b"%d %s %d\n" % (len(name), name.encode(), len(image[name])))
        state.update(image[name])
    return state.digest()


@dataclass(frozen=True)
class Plan:
    """How far to go. `positions` older positions of the index a state (None: every one); `limit` distinct journals.

    Of the journals checked, one in `again` is recovered under observation, and the crashes of that recovery are explored in
    turn, `inner` of them, `depth` deep.
    """

    density: Density
    positions: int | None = 1
    limit: int | None = None
    again: int = 0
    inner: int | None = None
    depth: int = 1
    shard: tuple[int, int] = (0, 1)


def explore(
    base: Image,
    trace: list[tuple[Any, ...]],
    checker: Checker,
    plan: Plan,
    start: Promise | None = None,
    count: Count | None = None,
) -> Count:
    """Check every distinct state, each against the strictest promise under which it can arise: that of its last point."""
    promised = promises(trace, start)
    count = count or Count()
    count.points += len(trace)
    last: dict[bytes, int] = {}
    shard, shards = plan.shard
    for point, image in Crashes(base, trace, plan.density):
        last[fingerprint(image)] = point
    chosen = sorted(key for key in last if int.from_bytes(key[:4], "big") % shards == shard)
    if plan.limit is not None and len(chosen) > plan.limit:
        chosen = chosen[: plan.limit]  # the order of hashes: as good as at random, and the same in each run
    wanted = {key: last[key] for key in chosen}
    checked = 0
    for point, image in Crashes(base, trace, plan.density):
        key = fingerprint(image)
        if wanted.get(key) != point:
            continue
        del wanted[key]
        checked += 1
        promise = promised[point]
        number = int.from_bytes(key[4:8], "big")
        for index_at in index_positions(promise, plan.positions, number):
            count.seen.add((key, index_at))
            try:
                checker.check(image, promise, index_at, witness=number % 2 == 0)
            except Exception as error:
                raise AssertionError(describe(point, trace, image, promise, index_at)) from error
        if plan.again and checked % plan.again == 0 and plan.depth > 0:
            deeper = replace(plan, limit=plan.inner, depth=plan.depth - 1, shard=(0, 1))
            explore_recovery(image, promise, checker, deeper, count)
    assert not wanted, "the second pass must build what the first one did"
    return count


def explore_recovery(image: Image, promise: Promise, checker: Checker, plan: Plan, count: Count) -> None:
    """Open an image under observation, append once, close; then every crash of that."""
    run = Run(checker.root, image, segment_bytes=checker.segment_bytes, seed=1 << 10)
    run.open()
    run.append(Entry("ops.again", "ops.crashed", {}, None, b"again", 0))
    run.close()
    explore(run.disk.base, run.disk.trace, checker, plan, promise, count)


def index_positions(promise: Promise, positions: int | None, number: int) -> list[int]:
    """No index, and older positions it may have had: all, or that many, chosen by the state's own number."""
    known = sorted(promise.acked)
    if positions is None or positions >= len(known):
        return [0, *known]
    return [0, *sorted({known[(number + step) % len(known)] for step in range(positions)})]


def describe(point: int, trace: Sequence[tuple[Any, ...]], image: Image, promise: Promise, index_at: int) -> str:
    """What to know about a state that failed."""
    lines = [f"crash after event {point} with the index at {index_at}; acknowledged: {sorted(promise.acked)}"]
    lines += [f"  {_short(event)}" for event in trace[max(0, point - 12) : point + 1]]
    lines += [f"  {name}: {len(content)} bytes, ends {content[-160:]!r}" for name, content in sorted(image.items())]
    return "\n".join(lines)


def _short(event: tuple[Any, ...]) -> str:
    return " ".join(f"{len(part)} bytes" if isinstance(part, bytes) else str(part)[:60] for part in event)
