"""Rollups: whatever was folded, changed and erased since they were made, statistics by them are those of the rows."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace

from covenq.filter.grammar import parse
from covenq.model import at_text
from covenq.model.answers import Stats
from covenq.operate.inspect import route_times
from covenq.operate.inspect.stats import stats
from covenq.state import rollup_cover, rollup_upkeep, rollups
from covenq.state.fold import fold
from covenq.state.readers import is_damage
from covenq.state.rollup_upkeep import RollupUpkeep
from covenq.state.store import StateStore
from journal.errors import JournalDamaged
from journal.file.engine import FileJournal
from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from journal.records import Entry
from tests.state.test_fold_machine import ROUTES, Folding
from tests.support.checkout import ROOT
from tests.support.fold_thread import FoldThread
from tests.support.records import START, as_records, empty_state, moved, note, of, queued, received
from tests.support.same_state import assert_rollups_are_of_the_rows, assert_state_is_a_fresh_fold
from tests.support.waiting import eventually

BITS, FAN_OUT_BITS = 3, 1
"""Small blocks, of which few make one of the level above."""
REPOS = (None, "octo/hello", "Octo/Hello", "a/b", "None")
EVENTS = (None, "issues", "push")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for name, value in (("BITS", BITS), ("FAN_OUT_BITS", FAN_OUT_BITS)):
            patch.setattr(rollups, name, value)
        patch.setattr(rollup_cover, "FEW", 1 << 40)  # always by rollups
        yield


def by_scan(conn: sqlite3.Connection, since: float, now: float, buckets: int = 24) -> Stats:
    """With a filter that every delivery matches: all of the rows are counted."""
    return stats(conn, parse("seq>0"), since=since, now=now, buckets=buckets)


def make_all(conn: sqlite3.Connection, folded: int) -> None:
    for block in sorted(rollups.missing(conn, folded)):
        rollups.make(conn, block)


# ---- any history


class RollingUp(Folding):
    """As `Folding`, of several repositories and events, with erasures, replays, clocks that are set back, and upkeep."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = 0.0

    def append(self, *entries: Entry) -> None:
        before = len(self.records)
        super().append(*entries)
        for n in range(before, len(self.records)):
            record = self.records[n]
            self.clock += 1.0
            if record.kind == "delivery.received":
                data, about = record.data | {"event": EVENTS[n % 3]}, (record.about or {}) | {"repo": REPOS[n % 5]}
                record = replace(record, data=data, about=about)
            self.records[n] = replace(record, at=at_text(START + self.clock))

    @initialize(deliveries=st.integers(0, 20), made=st.booleans())
    def fill(self, deliveries: int, made: bool) -> None:
        """A past that has its rollups, for what is done to it."""
        for n in range(deliveries):
            self.deliver({*ROUTES[: n % 3]}, None, "never", 0, False, n % 7 != 3)
        self.get_on(len(self.records))
        if made:
            make_all(self.live, self.folded)

    @rule(by=st.integers(-60, 60))
    def set_clock(self, by: int) -> None:
        self.clock = max(self.clock + by, 0.0)

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data(), route=st.sampled_from([None, "fix", "Fix"]), replay=st.integers(1, 3))
    def replay(self, data: st.DataObject, route: str | None, replay: int) -> None:
        entry = queued(data.draw(st.sampled_from(self.deliveries)), route=f"replay{len(self.records)}", replay=replay)
        self.tasks[entry.subject.partition(".")[2]] = {"state": "queued", "attempt": 0, "claim": None}
        self.append(entry._replace(data={**entry.data, "route": route}))

    @rule(known=st.booleans())
    def queue_without_delivery(self, known: bool) -> None:
        name = (
            f"g{len(self.deliveries)}" if known else f"nobody{len(self.records)}"
        )  # whose delivery comes later, or never
        entry = queued(name, route="early")
        if entry.subject.partition(".")[2] not in self.tasks:
            self.tasks[entry.subject.partition(".")[2]] = {"state": "queued", "attempt": 0, "claim": None}
            self.append(entry)

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data(), first=st.integers(1, 200), more=st.integers(0, 20), about=st.booleans())
    def erase(self, data: st.DataObject, first: int, more: int, about: bool) -> None:
        first = 1 + first % len(self.records)
        guid = data.draw(st.sampled_from(self.deliveries))
        self.append(note("redacted", guid, drops=[[first, first + more]], about=about))

    @rule(most=st.integers(1, 40))
    def get_on(self, most: int) -> None:
        fold(self.live, self.records[self.folded : self.folded + most])
        self.folded = min(self.folded + most, len(self.records))

    @rule(data=st.data())
    def keep_up(self, data: st.DataObject) -> None:
        missing = sorted(rollups.missing(self.live, self.folded))
        for block in missing[: data.draw(st.integers(0, 12))]:
            rollups.make(self.live, block)

    @rule(since=st.integers(-5, 300), length=st.integers(1, 300), buckets=st.sampled_from([1, 2, 5, 24]))
    def ask(self, since: int, length: int, buckets: int) -> None:
        begins, ends = START + since + 0.5, START + since + length + 0.5
        found = stats(self.live, parse(""), since=begins, now=ends, buckets=buckets)
        assert found == by_scan(self.live, begins, ends, buckets)
        assert sum(one.deliveries for one in found.time) == found.deliveries

    @invariant()
    def rollups_are_right(self) -> None:
        assert_rollups_are_of_the_rows(self.live)

    def teardown(self) -> None:
        self.get_on(len(self.records))
        self.rollups_are_right()
        make_all(self.live, self.folded)
        self.rollups_are_right()
        for since, length in ((-5, 1000), (40, 30)):
            self.ask(since, length, 24)
        for conn in (self.live, self.built):
            conn.close()


@pytest.mark.usefixtures("small")
def test_statistics_by_rollups_are_those_of_the_rows_whatever_changed_since() -> None:
    run_state_machine_as_test(RollingUp, settings=settings(max_examples=60, stateful_step_count=30))


@pytest.mark.deep
@pytest.mark.usefixtures("small")
def test_many_more_histories() -> None:
    run_state_machine_as_test(
        RollingUp, settings=settings(max_examples=3000, stateful_step_count=80, derandomize=False)
    )


# ---- what they cost, and spare


def some_state(deliveries: int) -> tuple[sqlite3.Connection, int]:
    entries: list[Entry] = []
    for n in range(deliveries):
        entries += [received(f"g{n}", about={"repo": REPOS[n % 5]}), queued(f"g{n}")]
        entries += [moved("claimed", of(f"g{n}"), attempt=1), moved("completed", of(f"g{n}"), attempt=1)]
    conn = empty_state()
    fold(conn, as_records(entries))
    return conn, len(entries)


def steps(conn: sqlite3.Connection, since: float, now: float) -> tuple[Stats, int]:
    """What it says, and hundreds of steps of SQLite's machine."""
    taken: list[int] = []
    conn.set_progress_handler(lambda: taken.append(1), 100)
    found = stats(conn, parse(""), since=since, now=now)
    conn.set_progress_handler(None, 0)
    return found, len(taken)


def test_statistics_of_much_read_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for attempts, of which so many are read at most, however many there are."""
    monkeypatch.setattr(rollups, "BITS", 5)
    monkeypatch.setattr(route_times, "ATTEMPTS_MAX", 50)
    monkeypatch.setattr(route_times, "PARTS", 5)
    conn, folded = some_state(2000)
    rows, by_rows = steps(conn, START, START + folded + 1)
    make_all(conn, folded)
    found, by_rollups = steps(conn, START, START + folded + 1)
    assert found == rows and found.deliveries == 2000
    assert by_rollups < by_rows / 5, (by_rollups, by_rows)


def test_few_deliveries_are_found_by_their_times_where_rollups_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    conn, folded = some_state(2000)
    found, by_times = steps(conn, START + folded - 20, START + folded + 1)
    monkeypatch.setattr(rollup_cover, "FEW", 1 << 40)
    same, by_rows = steps(conn, START + folded - 20, START + folded + 1)
    assert found == same and 0 < found.deliveries < 10
    assert by_times < by_rows / 10, (by_times, by_rows)


@pytest.mark.usefixtures("small")
def test_what_is_not_counted_leaves_rollups_alone() -> None:
    conn, folded = some_state(20)
    entries = [
        received("late"),
        queued("late"),
        moved("claimed", of("late"), attempt=1),
        *[received(f"x{n}") for n in range(9)],
    ]
    fold(conn, as_records(entries, first=folded + 1))
    folded += len(entries)
    make_all(conn, folded)
    for kept in (
        moved("renewed", of("late"), attempt=1, lease_until="2027-01-15T10:00:00.000000Z"),
        moved("phase", of("late"), attempt=1, phase="started"),
        note("conflicted", "g3"),
        note("dropped", "g4", drops=[[1, folded]], about=False),
    ):
        folded += 1
        assert fold(conn, as_records([kept], first=folded)) == set(), kept.kind
    assert len(rollups.missing(conn, folded)) <= 1, "that of these records"
    for gone in (note("repeated", "g3"), moved("completed", of("late"), attempt=1), queued("g5", route="other")):
        folded += 1
        assert len(fold(conn, as_records([gone], first=folded))) == 1, gone.kind
    assert len(rollups.missing(conn, folded)) >= 3


# ---- in a file


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[FileJournal]:
    with open_journal(tmp_path / "journal", settings=WriteSettings(idle_s=3600)) as one:
        yield one


def kept(store: StateStore) -> set[int]:
    return {row[0] for row in store.reader().execute("SELECT block FROM rollups WHERE level = 0")}


def deliver(journal: FileJournal, first: int, last: int) -> None:
    journal.append([received(f"g{n}") for n in range(first, last)])


@pytest.mark.usefixtures("small")
def test_upkeep_makes_a_few_at_a_time_and_leaves_alone_what_changes(tmp_path: Path, journal: FileJournal) -> None:
    now = 0.0

    def monotonic() -> float:
        nonlocal now
        now += 0.008  # as long as a block takes
        return now

    with StateStore(tmp_path / "state.db", journal) as store:
        deliver(journal, 0, 80)  # ten blocks
        store.catch_up()
        upkeep = RollupUpkeep(store, monotonic)
        upkeep.make_some()
        assert kept(store) == {0, 1, 2}, "the oldest, within 20 ms"
        upkeep.make_some()
        assert len(kept(store)) == 3, "no other round so soon"
        for _ in range(3):
            now += rollup_upkeep.EVERY_S
            upkeep.make_some()
        full = store.folded + 1 >> BITS
        assert kept(store) == {*range(full)}
        journal.append([note("repeated", "g3"), note("repeated", "g30")])
        deliver(journal, 80, 90)
        store.catch_up()
        now += rollup_upkeep.EVERY_S
        upkeep.make_some()
        changed = {*range(full + 1)} - kept(store)
        assert len(changed) >= 3 and full in changed
        now += rollup_upkeep.QUIET_S / 2
        journal.append([note("repeated", "g3")])
        store.catch_up()
        upkeep.make_some()
        now += rollup_upkeep.QUIET_S / 2
        upkeep.make_some()
        assert {*range(full + 1)} - kept(store) == {min(changed)}, "which was not left alone"
        now += rollup_upkeep.QUIET_S
        upkeep.make_some()
        assert min(changed) in kept(store)
        assert store.missing_rollups() == set()
    with StateStore(tmp_path / "state.db", journal) as store:
        journal.append([note("repeated", "g3")])
        store.catch_up()
        store.take_changed_blocks()
        RollupUpkeep(store, monotonic).make_some()
        assert store.missing_rollups() == set(), "those that another process left out"
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as conn:
        assert_rollups_are_of_the_rows(conn)


@pytest.mark.usefixtures("small")
def test_the_loop_that_folds_makes_them(tmp_path: Path, journal: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup_upkeep, "EVERY_S", 0.0)
    deliver(journal, 0, 40)
    with StateStore(tmp_path / "state.db", journal) as store:
        thread = FoldThread(store, journal)
        thread.start()
        eventually(lambda: len(kept(store)) == 5)
        thread.stop()


@pytest.mark.usefixtures("small")
def test_a_disk_that_is_full_for_them_is_reported_and_over_when_it_has_room(
    tmp_path: Path, journal: FileJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollup_upkeep, "EVERY_S", 0.0)
    monkeypatch.setattr(rollup_upkeep, "RETRY_S", 0.0)
    journal.append([received(f"g{n}", about={"repo": f"octo/{n}{'x' * 200}"}) for n in range(120)])
    with StateStore(tmp_path / "state.db", journal) as store:
        store.catch_up()
        pages = store._conn.execute("PRAGMA page_count").fetchone()[0]
        store._conn.execute(f"PRAGMA max_page_count = {pages}")
        thread = FoldThread(store, journal)
        thread.start()
        eventually(lambda: thread.error is not None)
        assert thread.error is not None and "full" in thread.error
        with store._writing:
            store._conn.execute(f"PRAGMA max_page_count = {1 << 30}")
        eventually(lambda: thread.error is None and store.missing_rollups() == set())
        thread.stop()


ROTTEN = {
    "no JSON": "counts = 'x'",
    "no UTF-8": "counts = CAST(x'ff41' AS TEXT)",
    "a time that is no text": "oldest = x'ff'",
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("change", ROTTEN.values(), ids=ROTTEN)
def test_a_rollup_that_has_rotted_is_named_once_and_the_fold_goes_on(
    tmp_path: Path,
    journal: FileJournal,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    change: str,
) -> None:
    for name in ("EVERY_S", "RETRY_S"):
        monkeypatch.setattr(rollup_upkeep, name, 0.0)
    path = tmp_path / "state.db"
    deliver(journal, 0, 80)
    with StateStore(path, journal) as store:
        store.catch_up()
        for block in sorted(store.missing_rollups()):
            store.make_rollup(block)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("DELETE FROM rollups WHERE level > 0 OR block = 1")
        conn.execute(f"UPDATE rollups SET {change} WHERE level = 0 AND block = 0")
    with StateStore(path, journal) as store:
        with pytest.raises(sqlite3.DatabaseError) as met:
            stats(store.reader(), parse(""), since=0, now=4e9)
        assert is_damage(met.value)
        failed: list[str] = []

        class Told(FoldThread):
            def failed(self, error: str, *, full: bool = False, damage: JournalDamaged | None = None) -> None:
                failed.append(error)

        thread = Told(store, journal)
        thread.start()
        eventually(lambda: thread.distrusted)
        for n in range(80, 90):
            deliver(journal, n, n + 1)
            eventually(lambda: store.folded == journal.head().seq)
        thread.stop()
        assert failed == [] and thread.error is None, "the fold is not what fails"
    told = [one.getMessage() for one in caplog.records if one.name == "covenq.state"]
    assert len(told) == 1 and told[0].startswith("state.db can't be counted: "), told


@pytest.mark.usefixtures("small")
def test_a_block_that_cannot_be_made_holds_up_no_other_and_is_tried_seldom(
    tmp_path: Path, journal: FileJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, tried = 0.0, 0
    make = rollups.make

    def failing(conn: sqlite3.Connection, block: int) -> None:
        nonlocal tried
        if block == 1:
            tried += 1
            raise sqlite3.OperationalError("disk I/O error")
        make(conn, block)

    monkeypatch.setattr(rollups, "make", failing)
    with StateStore(tmp_path / "state.db", journal) as store:
        deliver(journal, 0, 80)
        store.catch_up()
        upkeep = RollupUpkeep(store, lambda: now)
        with pytest.raises(sqlite3.OperationalError):
            upkeep.make_some()
        now += rollup_upkeep.EVERY_S
        assert not upkeep.make_some() and kept(store) == {0}, "not so soon"
        now += rollup_upkeep.RETRY_S
        with pytest.raises(sqlite3.OperationalError):
            upkeep.make_some()
        assert tried == 2 and store.missing_rollups() == {1}
        monkeypatch.setattr(rollups, "make", make)
        now += rollup_upkeep.RETRY_S
        assert upkeep.make_some() and store.missing_rollups() == set()
        now += rollup_upkeep.EVERY_S
        assert not upkeep.make_some(), "there is nothing to make"


@pytest.mark.usefixtures("small")
def test_what_is_erased_is_gone_from_the_file_with_its_rollups(tmp_path: Path, journal: FileJournal) -> None:
    path = tmp_path / "state.db"
    seqs = journal.append([received(f"g{n}", about={"repo": f"octo/hush{n % 2}"}) for n in range(40)]).seqs
    with StateStore(path, journal) as store:
        store.catch_up()
        for block in sorted(store.missing_rollups()):
            store.make_rollup(block)
        assert store.truncate_wal()
        assert b'"octo/hush0"' in path.read_bytes()
        journal.append([note("redacted", "g0", drops=[[seq, seq] for seq in seqs[::2]], about=True)])
        store.catch_up()
        for block in sorted(store.missing_rollups()):
            store.make_rollup(block)
        assert store.truncate_wal()
        content = b"".join(one.read_bytes() for one in tmp_path.glob("state.db*"))
        assert b"hush0" not in content and b'"octo/hush1"' in content


_KILLED = """
import os, sys
from pathlib import Path
from covenq.state import rollups
from covenq.state.store import StateStore
from journal.file.reader import open_reader
rollups.BITS, rollups.FAN_OUT_BITS = 3, 1
path, left, insert = Path(sys.argv[1]), int(sys.argv[2]), rollups._insert
def inserted(*args):
    global left
    insert(*args)
    left -= 1
    if left == 0:
        os._exit(9)
rollups._insert = inserted
with open_reader(path.parent / "journal") as journal, StateStore(path, journal) as store:
    store.catch_up()
    for block in sorted(store.missing_rollups()):
        store.make_rollup(block)
"""


@pytest.mark.usefixtures("small")
def test_upkeep_that_is_killed_leaves_whole_rollups_or_none(tmp_path: Path) -> None:
    with open_journal(tmp_path / "journal") as journal:
        deliver(journal, 0, 70)
    path, left, codes = tmp_path / "state.db", 1, []
    for left in (1, 3, 6, 100):
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", _KILLED, str(path), str(left)], env=env, check=False)
        codes.append(done.returncode)
        assert_state_is_a_fresh_fold(tmp_path)
        with closing(sqlite3.connect(path)) as conn:
            blocks = {row[0] for row in conn.execute("SELECT block FROM rollups WHERE level = 0")}
            parents = {row[0] for row in conn.execute("SELECT block FROM rollups WHERE level = 1")}
        assert blocks == {*range(len(blocks))} and parents == {*range(len(blocks) // 2)}
    assert codes == [9, 9, 9, 0]
    assert len(blocks) >= 8
