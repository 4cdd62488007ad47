"""The pool where another machine may take the journal over: it claims under leases, and renews them while it works."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from covenq.errors import Refused
from covenq.model import Kind, at_text, fence, seconds_of
from covenq.state import query
from covenq.tasks.execution.pool import Pool, PoolSettings
from covenq.tasks.remote.claims import Claims
from covenq.tasks.remote.report_files import ReportFiles
from covenq.tasks.scheduling.leases import Leases
from covenq.tasks.scheduling.outcome import RESULT_MAX
from journal.errors import JournalUnavailable
from journal.records import Appended, Entry
from tests.support.pool import Harness, alive
from tests.support.waiting import eventually

PY = [sys.executable, "-S", "-c"]

HOLDS_A_LOCK = """if True:
    import fcntl, os, sys, time
    lock = open(sys.argv[1] + "/lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        open(sys.argv[1] + "/doubled", "w").close()
    with open(sys.argv[1] + "/begun", "a") as file:
        file.write(f"{os.getpid()}\\n")
    while not os.path.exists(sys.argv[1] + "/go"):
        time.sleep(0.01)
"""


class Away:
    """A journal that can't be reached while `away` is set, and remembers the kinds of the entries of each append."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal
        self.away = threading.Event()
        self.refused = 0
        self.appended: list[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def append(self, entries: Sequence[Entry]) -> Any:
        self._check()
        self.appended.append([str(entry.kind) for entry in entries])
        return self._journal.append(entries)

    def get(self, seq: int) -> Any:
        self._check()
        return self._journal.get(seq)

    def last(self, subject: str) -> Any:
        self._check()
        return self._journal.last(subject)

    def _check(self) -> None:
        if self.away.is_set():
            self.refused += 1
            raise JournalUnavailable("the database is away")


@pytest.fixture(autouse=True)
def _renewed_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tests needn't wait, and a lease is long nevertheless."""
    monkeypatch.setattr("covenq.tasks.execution.lease_renewal.RENEWED_AFTER", 60)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    opened = Harness(tmp_path / "data").open()
    yield opened
    opened.close()


@pytest.fixture
def journal(harness: Harness) -> Away:
    return Away(harness.journal)


@pytest.fixture
def claims(harness: Harness, journal: Away) -> Iterator[Claims]:
    """What ends leases."""
    made = Claims(journal, harness.store, harness.fold_thread, ReportFiles(harness.data))
    made.start()
    yield made
    made.stop()


def leased(harness: Harness, journal: Away, **settings: Any) -> Pool:
    pool = Pool(
        journal,
        harness.store,
        harness.fold_thread,
        harness.data,
        settings=PoolSettings(**{"concurrency": 3, "lease_s": 30.0, "grace_s": 0.5, "node": "here", **settings}),
    )
    harness.pools.append(pool)
    pool.start()
    return pool


def begun(tmp_path: Path, count: int = 1) -> list[int]:
    path = tmp_path / "begun"

    def found() -> list[int]:
        return [int(word) for word in path.read_text().split()] if path.exists() else []

    return eventually(lambda: len(found()) >= count and found(), what=f"{count} commands have begun")


def test_a_lease_is_claimed_and_renewed(harness: Harness, journal: Away, tmp_path: Path) -> None:
    task = harness.add("g1", [*PY, HOLDS_A_LOCK, str(tmp_path)])
    leased(harness, journal)
    begun(tmp_path)
    eventually(lambda: harness.kinds(task).count("renewed") >= 2, what="it was renewed twice")
    (tmp_path / "go").touch()
    row = harness.wait(task)
    assert (row.state, row.attempts) == ("completed", 1)
    claim, *others = harness.records(task)[1:]
    assert claim.data["pool"] == "here"
    assert 0.0 < seconds_of(claim.data["lease_until"]) - seconds_of(claim.at) <= 30.0
    until = [record.data["lease_until"] for record in others if record.kind == Kind.RENEWED]
    assert [claim.data["lease_until"], *until] == sorted({claim.data["lease_until"], *until})
    assert all(record.data["claim"] == claim.seq for record in others)


@pytest.mark.parametrize(("size", "recorded"), [(0, True), (RESULT_MAX, True), (RESULT_MAX + 1, False)])
def test_a_result_is_in_the_record_of_the_end_too_if_it_is_small(
    harness: Harness, journal: Away, size: int, recorded: bool
) -> None:
    """Other nodes have the journal, and not this one's files."""
    code = f"import os; open(os.environ['COVENQ_RESULT'], 'wb').write(b'\\xff' * {size})"
    task = harness.add("g1", [*PY, code])
    leased(harness, journal)
    assert harness.wait(task).state == "completed"
    (end,) = [one for one in harness.records(task) if one.kind == Kind.COMPLETED]
    assert end.payload == (b"\xff" * size if recorded else None)
    assert (harness.data / end.data["result"]).stat().st_size == size
    harness.fold_thread.wait_for(end.seq, 30.0)
    (attempt,) = query.attempts(harness.store.reader(), task)
    assert attempt.result_seq == (end.seq if recorded else None)


def test_where_nobody_shares_the_journal_a_result_is_in_its_file_alone(harness: Harness, journal: Away) -> None:
    task = harness.add("g1", [*PY, "import os; open(os.environ['COVENQ_RESULT'], 'w').write('x')"])
    leased(harness, journal, lease_s=None)
    assert harness.wait(task).state == "completed"
    assert [one.payload for one in harness.records(task) if one.kind == Kind.COMPLETED] == [None]


def test_all_leases_are_renewed_by_one_append(harness: Harness, journal: Away, tmp_path: Path) -> None:
    for number in range(3):
        harness.add(f"g{number}", [*PY, "import time; time.sleep(600)"])
    leased(harness, journal)
    eventually(lambda: ["task.renewed"] * 3 in journal.appended, what="three were renewed at once")


def test_a_claim_that_moved_keeps_no_other_from_being_renewed(harness: Harness, journal: Away) -> None:
    """A phase that a command reported moves the newest record, and not the claim; who cancelled a task has taken it."""
    tasks = [harness.add(f"g{number}", [*PY, "import time; time.sleep(600)"]) for number in range(3)]
    leased(harness, journal)
    eventually(lambda: all("phase started" in harness.kinds(task) for task in tasks), what="all have started")
    claimed = harness.records(tasks[0])[1]
    newest = harness.records(tasks[0])[-1]
    data = {"attempt": 1, "claim": claimed.seq, "phase": "half"}
    harness.journal.append([Entry(newest.subject, Kind.PHASE, data, expect=newest.seq)])  # or a renewal was first
    eventually(lambda: all("renewed" in harness.kinds(task) for task in tasks), what="all are renewed")
    while True:
        newest = harness.records(tasks[1])[-1]
        entry = Entry(newest.subject, Kind.CANCELLED, {"by": "me", "reason": None}, expect=newest.seq)
        if isinstance(harness.journal.append([entry]), Appended):
            break
    seen = harness.kinds(tasks[2]).count("renewed")
    eventually(lambda: harness.kinds(tasks[2]).count("renewed") > seen + 1, what="others are renewed as before")
    assert harness.row(tasks[1]).state == "cancelled"
    assert [harness.row(task).attempts for task in tasks] == [1, 1, 1]


def test_a_journal_that_is_away_for_less_than_a_lease(
    harness: Harness, journal: Away, claims: Claims, tmp_path: Path
) -> None:
    task = harness.add("g1", [*PY, HOLDS_A_LOCK, str(tmp_path)])
    leased(harness, journal)
    (pid,) = begun(tmp_path)
    journal.away.set()
    eventually(lambda: journal.refused >= 2, what="a renewal was refused")
    assert alive(pid)
    journal.away.clear()
    eventually(lambda: "renewed" in harness.kinds(task), what="it is renewed after all")
    (tmp_path / "go").touch()
    row = harness.wait(task)
    assert (row.state, row.attempts, row.interruptions) == ("completed", 1, 0)


def test_a_journal_that_is_away_for_longer(harness: Harness, journal: Away, claims: Claims, tmp_path: Path) -> None:
    """The command is ended before its lease, and runs again only after it: never two at once."""
    task = harness.add("g1", [*PY, HOLDS_A_LOCK, str(tmp_path)])
    leased(harness, journal, lease_s=10.0)
    (pid,) = begun(tmp_path)
    journal.away.set()
    until = eventually(lambda: harness.row(task).lease_until, what="the lease is known")
    eventually(lambda: not alive(pid), what="the command has ended")
    journal.away.clear()
    begun(tmp_path, 2)
    (tmp_path / "go").touch()
    row = harness.wait(task)
    assert (row.state, row.attempts, row.interruptions) == ("completed", 2, 1)
    assert not (tmp_path / "doubled").exists()
    (end,) = [record for record in harness.records(task) if record.kind == Kind.RETRY]
    assert end.data["category"] == "lease_lost"
    # It is counted by a clock that nobody sets, and said by the journal's: two clocks, which don't go quite alike.
    assert seconds_of(end.at) > seconds_of(until) - 0.1


def claim(harness: Harness, task: str, until: str | None, node: str = "elsewhere") -> str:
    """A claim of the task by another pool; its fencing token."""
    newest = harness.records(task)[-1]
    data: dict[str, object] = {"attempt": 1, "worker": "other", "lease_until": until}
    if until is not None:
        data["pool"] = node
    answer = harness.journal.append([Entry(newest.subject, Kind.CLAIMED, data, expect=newest.seq)])
    assert isinstance(answer, Appended)
    return fence(harness.journal.epoch, answer.seqs[0])


def test_what_another_machine_runs_is_left_to_its_lease(harness: Harness, journal: Away, claims: Claims) -> None:
    """Ended at the start is what this node's own pool ran, with a lease or without one."""
    tasks = {name: harness.add(name, ["true"]) for name in ("bare", "ours", "theirs", "lapsed")}
    now = seconds_of(harness.records(tasks["bare"])[0].at)
    later = at_text(now + 3600)
    claim(harness, tasks["bare"], None)
    claim(harness, tasks["ours"], later, "here")
    claim(harness, tasks["theirs"], later)
    claim(harness, tasks["lapsed"], at_text(now))
    leased(harness, journal)
    for name, category in (("bare", "interrupted"), ("ours", "interrupted"), ("lapsed", "lease_lost")):
        assert harness.wait(tasks[name]).state == "completed"
        (end,) = [record for record in harness.records(tasks[name]) if record.kind == Kind.RETRY]
        assert end.data["category"] == category
    assert harness.kinds(tasks["theirs"]) == ["queued", "claimed"]


def test_a_lease_is_over_by_the_journals_clock_too(harness: Harness) -> None:
    task = harness.add("g1", ["true"])
    now = seconds_of(harness.records(task)[0].at)
    claim(harness, task, at_text(now + 100))
    harness.row(task)
    theirs, ours = now, 0.0
    leases = Leases(lambda: now + 1000, lambda: ours, lambda: theirs)
    conn = harness.store.reader()
    assert leases.expired(conn) == []  # seen for the first time
    ours = 1000.0
    assert leases.expired(conn) == []
    theirs = now + 100
    assert [one.id for one in leases.expired(conn)] == [task]


def test_a_command_can_say_no_more_of_a_lease_than_without_one(harness: Harness, claims: Claims) -> None:
    task = harness.add("g1", ["true"])
    token = claim(harness, task, at_text(seconds_of(harness.records(task)[0].at) + 3600))
    for report in (claims.reports.complete, lambda task, token: claims.reports.renew(task, token, 60.0)):
        with pytest.raises(Refused, match="run by the daemon itself"):
            report(task, token)
    assert claims.reports.phase(task, token, "half")["phase"] == "half"


def test_where_no_other_machine_can_nothing_is_leased(harness: Harness) -> None:
    """With the file engine: the same records as ever, no thread more, and a command alone in its session."""
    assert harness.journal.lease_clock is None
    code = """if True:
        import os
        own = os.getsid(0)
        def session(pid):
            try:
                return os.getsid(pid)
            except OSError:
                return 0
        pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
        with open("result", "w") as file:
            file.write(str([pid for pid in pids if session(pid) == own] == [os.getpid()]).lower())
    """
    task = harness.add("g1", [*PY, code])
    harness.pool()
    assert not any(thread.name.startswith("leases-") for thread in threading.enumerate())
    assert harness.wait(task).state == "completed"
    assert harness.file(task, "result").read_text() == "true"
    assert harness.kinds(task) == [
        "queued",
        "claimed",
        "phase prepared",
        "phase started",
        "phase collected",
        "completed",
    ]
    assert {name: value for name, value in harness.records(task)[1].data.items() if name != "worker"} == {
        "attempt": 1,
        "lease_until": None,
        "node": None,
    }
