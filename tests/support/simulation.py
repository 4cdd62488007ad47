"""The scheduler and the tasks' state machine under a virtual clock and a seeded scheduler of events.

What runs is the product's own: routing, the dispatcher with its picker, claims and their leases, what becomes of ended
attempts, recovery, the fold, what operators do. What is simulated is the world: time, the journal's disk and line, the
workers, the moments at which the fold gets on, and crashes. One thread, one random generator: a seed is a whole history.

`Monitor` reads every record as it becomes durable and holds the promises against it, without asking the state.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from msgspec import structs

from covenq.config.limits import tenant_of
from covenq.config.load import Config, build
from covenq.errors import CovenqError, StaleFence
from covenq.filter.grammar import parse
from covenq.intake import resume
from covenq.intake.scope_bindings import ScopeBindings
from covenq.model import Category, DeliveryId, Kind, State, at_text, seconds_of
from covenq.model import rows as model_rows
from covenq.operate.act import actions, pauses
from covenq.operate.act.importing import SigningSecrets, import_deliveries
from covenq.operate.act.plan import Plan, apply
from covenq.operate.imported import ImportedDelivery
from covenq.operate.parameters import Import, Pause, Replay, Selection
from covenq.routing.decide import route
from covenq.state import query
from covenq.state.fold import fold
from covenq.tasks.remote.claims import Claims, TimeSources
from covenq.tasks.remote.report_files import ReportFiles
from covenq.tasks.remote.reports import Failure
from covenq.tasks.scheduling.claim import Claim, StaleClaim
from covenq.tasks.scheduling.dispatcher import Dispatcher
from covenq.tasks.scheduling.interruption import recover, running_without_lease
from covenq.tasks.scheduling.outcome import Outcome, Task, ending_after
from covenq.tasks.scheduling.supersede import superseded_by
from covenq.tasks.scheduling.waiting import Waiting
from journal.append import append_known
from journal.errors import JournalError, JournalFull
from journal.interface import Durability
from journal.records import Appended, Conflict, Entry, Head, Record, Unknown
from tests.support.records import dump, empty_state

START = 1_800_000_000.0
DAY = 86400.0
WEEK = 7 * DAY


class Crash(BaseException):
    """The process is gone."""


class Violated(AssertionError):
    """A promise was broken."""


class SimJournal:
    """`journal.interface.Journal` in memory. `fault` is asked before each append: it may raise, or say what goes wrong."""

    id = "0" * 32
    epoch = "e" * 16
    durability: Durability = "replicated"

    def __init__(self, clock: Callable[[], float], fault: Callable[[int], str | int | None]) -> None:
        self.records: list[Record] = []
        self.watch: Callable[[Record], None] = lambda record: None
        self._last: dict[str, int] = {}
        self._attempts: dict[str, Appended] = {}
        """What was recorded of the appends whose answer may have been lost, as an engine on a network keeps it."""
        self._clock = clock
        self._fault = fault

    def append(self, entries: Sequence[Entry]) -> Appended | Conflict | Unknown:
        fault = self._fault(len(entries))
        if fault == "full":
            raise JournalFull("there is no space")
        if fault == "unsent":
            return Unknown()
        attempt = entries[0].attempt
        if attempt is not None and (known := self._attempts.get(attempt)) is not None:
            return Unknown() if fault == "unanswered" else known
        for entry in entries:
            newest = self._last.get(entry.subject, 0)
            if entry.expect is not None and entry.expect != newest:
                return Conflict(entry.subject, newest)
        kept = fault if isinstance(fault, int) else len(entries)
        seqs = tuple(self._write(entry) for entry in entries[:kept])
        if isinstance(fault, int):
            raise Crash
        if attempt is not None:
            self._attempts[attempt] = Appended(seqs)
        return Unknown() if fault == "unanswered" else Appended(seqs)

    def _write(self, entry: Entry) -> int:
        seq = len(self.records) + 1
        data, about = orjson.loads(orjson.dumps(entry.data)), entry.about
        record = Record(
            seq=seq,
            at=at_text(self._clock()),
            synced=seq - 1,
            subject=entry.subject,
            kind=str(entry.kind),
            data=data,
            about=None if about is None else orjson.loads(orjson.dumps(about)),
            payload=entry.payload,
            payload_sha256=None if entry.payload is None else f"{seq:064x}",
            payload_bytes=None if entry.payload is None else len(entry.payload),
            dropped=None,
            prev=f"{seq - 1:064x}",
            sum=f"{seq:064x}",
            epoch=self.epoch,
        )
        self.records.append(record)
        self._last[entry.subject] = seq
        self.watch(record)
        return seq

    def read(self, after: int, *, payloads: bool = True) -> Iterator[Record]:
        found = self.records[after:]
        return iter(found if payloads else [structs.replace(record, payload=None) for record in found])

    def get(self, seq: int) -> Record | None:
        return self.records[seq - 1] if 0 < seq <= len(self.records) else None

    def last(self, subject: str) -> Record | None:
        return self.get(self._last.get(subject, 0))

    def wait(self, after: int, timeout: float | None) -> bool:
        return len(self.records) > after

    def head(self) -> Head:
        return Head(len(self.records), f"{len(self.records):064x}")


# ---- the promises


@dataclass
class Watched:
    """A task, as its records alone tell it."""

    id: str
    created: int
    data: dict[str, Any]
    about: dict[str, Any]
    sent: float = 0.0
    """When GitHub sent its delivery, or a replay was asked for."""
    state: str = "queued"
    attempts: int = 0
    claim: int | None = None

    @property
    def moment(self) -> tuple[float, int]:
        """Its place in the order in which things were sent."""
        return self.sent, self.created

    @property
    def scopes(self) -> list[str]:
        found = [
            f"installation {tenant_of(self.data['installation'], self.data['hook'])}",
            f"route {self.data['route']}",
        ]
        return [*found, f"repo {self.data['repo_id']}"]


_FROM = {
    Kind.DELAYED: {"queued"},
    Kind.CLAIMED: {"queued"},
    Kind.PHASE: {"running"},
    Kind.RENEWED: {"running"},
    Kind.RETRY: {"running"},
    Kind.COMPLETED: {"running"},
    Kind.FAILED: {"running"},
    Kind.CANCELLED: {"queued", "running"},
    Kind.SUPERSEDED: {"queued", "running"},
    Kind.REQUEUED: {"failed", "cancelled", "superseded"},
}
_TO = {
    Kind.CLAIMED: "running",
    Kind.RETRY: "queued",
    Kind.COMPLETED: "completed",
    Kind.FAILED: "failed",
    Kind.CANCELLED: "cancelled",
    Kind.SUPERSEDED: "superseded",
    Kind.REQUEUED: "queued",
}


class Monitor:
    """Holds each record against what came before it. Raises Violated."""

    def __init__(self, config: Config) -> None:
        self.tasks: dict[str, Watched] = {}
        self.steady = True
        """No clock was set back, so that daily limits can be held against the records' times."""
        self._caps = config.caps
        self._newest_at = 0.0
        self._ahead = 0.0
        """The clock may be set back; what is recorded later is later all the same, and so far ahead of that clock."""
        self._sent: dict[str, float] = {}
        """GUID → when GitHub sent the delivery."""
        self._running: Counter[str] = Counter()
        self._starts: dict[str, deque[float]] = {}

    def see(self, record: Record) -> None:
        kind, _, id = record.subject.partition(".")
        if record.kind in (Kind.RECEIVED, Kind.QUEUED):
            at = seconds_of(record.at)
            self._ahead = max(self._ahead, self._newest_at - at)
            self._newest_at = at + self._ahead
        if record.kind == Kind.RECEIVED:
            told = record.data.get("origin", {}).get("delivered_at")
            sent = self._newest_at if told is None else min(seconds_of(told) + self._ahead, self._newest_at)
            self._sent[record.data["guid"]] = sent
        if kind != "task":
            return
        task = self.tasks.get(id)
        if record.kind == Kind.QUEUED:
            self._require(task is None, record, "is queued twice")
            sent = self._newest_at if record.data["replay"] else self._sent[record.data["guid"]]
            self.tasks[id] = Watched(id, record.seq, record.data, record.about or {}, sent)
            return
        self._require(task is not None, record, "moves before it is there")
        assert task is not None
        self._require(task.state in _FROM[Kind(record.kind)], record, f"comes while the task is {task.state}")
        if record.kind in (Kind.PHASE, Kind.RENEWED, Kind.RETRY, Kind.COMPLETED, Kind.FAILED):
            self._require(record.data["claim"] == task.claim, record, f"is not of the claim {task.claim}")
        if record.kind == Kind.SUPERSEDED:
            self._superseded(task, record)
        if record.kind == Kind.CLAIMED:
            self._claimed(task, record)
        elif record.kind in _TO and task.state == "running":
            self._count(task, -1)
            task.claim = None
        task.state = _TO.get(Kind(record.kind), task.state)

    def _claimed(self, task: Watched, record: Record) -> None:
        self._require(record.data["attempt"] == task.attempts + 1, record, f"is not attempt {task.attempts + 1}")
        task.attempts += 1
        task.claim = record.seq
        self._count(task, 1)
        caps = self._caps
        tenant = task.scopes[0].partition(" ")[2]
        key = task.about.get("key")
        if key is not None:
            same = [one for one in self.tasks.values() if one.claim is not None and one.about.get("key") == key]
            most = min(caps.of_route(one.data["route"]).key_concurrency for one in same)
            self._require(len(same) <= most, record, f"is one more than {most} of key {key}")
        at = seconds_of(record.at)
        limits = (caps.share(tenant).cap, caps.of_route(task.data["route"]).cap, caps.repo)
        for scope, cap in zip(task.scopes, limits, strict=True):
            if cap.concurrency is not None:
                self._require(self._running[scope] <= cap.concurrency, record, f"is over the concurrency of {scope}")
            if cap.daily is not None and self.steady:
                starts = self._starts.setdefault(scope, deque())
                starts.append(at)
                while starts[0] <= at - DAY:
                    starts.popleft()
                self._require(len(starts) <= cap.daily, record, f"is over the daily limit of {scope}")

    def _superseded(self, task: Watched, record: Record) -> None:
        by = self.tasks.get(record.data["by_task"])
        self._require(by is not None and by is not task, record, "is superseded by nothing")
        assert by is not None
        if record.data["reason"] in ("newer", "late"):
            self._require(by.moment > task.moment, record, "is superseded by what was sent earlier")
            self._require(by.about["key"] == task.about["key"], record, "is superseded for another key")
        else:
            self._require(
                by.about["source_at"] > task.about["source_at"], record, "is not staler than what supersedes it"
            )
        self._require(by.data["route"] == task.data["route"], record, "is superseded by another route's")

    def _count(self, task: Watched, change: int) -> None:
        for scope in task.scopes:
            self._running[scope] += change

    def _require(self, holds: bool, record: Record, what: str) -> None:
        if not holds:
            raise Violated(f"seq {record.seq}: {record.kind} of {record.subject} {what}")


# ---- the world


@cache
def configuration(number: int) -> Config:
    """One of a few dozen configurations, each with its own limits and policies."""
    rng = random.Random(number)
    any_of = rng.choice
    routes: list[dict[str, Any]] = [
        {"name": "push", "match": "event:push", "run": ["true"], "retry": {"max": any_of([0, 2]), "backoff": "5s"}},
        {
            "name": "issue",
            "match": "event:issues",
            "run": ["true"],
            "key": "{repo}#{number}",
            "supersede": any_of(["queued", "running"]),
            "retry": {"max": 1, "on": ["exit", "timeout"]},
        },
        {
            "name": "pull",
            "match": "event:pull_request",
            "run": ["true"],
            "key": "{repo}/{number}",
            "debounce": any_of(["5s", "30s"]),
            "debounce_max": "2m",
        },
        {"name": "order", "match": "event:pull_request", "run": ["true"], "order": "newest"},
        {"name": "far", "match": "event:check_run", "pull": True, "retry": {"max": 1, "backoff": "1s"}},
        {"name": "both", "match": "event:issues,check_run", "run": ["true"], "key": "{repo}#{number}"},
    ]
    for one in routes:
        one["priority"] = any_of([0, 0, 5, 9])
        if "key" in one and rng.random() < 0.2:
            one["key_concurrency"] = 2
        for what, most in (("concurrency", 3), ("daily", 12)):
            if rng.random() < 0.2:
                one[what] = rng.randint(1, most)
    limits: dict[str, Any] = {"installations": {"1": {"weight": rng.randint(1, 3)}}}
    for level in ("installation", "repo", "route"):
        if rng.random() < 0.4:
            limits[level] = {"concurrency": rng.randint(1, 3)}
        if rng.random() < 0.2:
            limits.setdefault(level, {})["daily"] = rng.randint(3, 20)
    return build({"route": routes, "limits": limits}, None, {})


@dataclass
class Fault:
    """How likely what goes wrong is, by append."""

    full: float = 0.0
    unknown: float = 0.0
    crash: float = 0.0


@dataclass
class Held:
    """What a worker elsewhere believes it holds."""

    task: str
    fence: str
    over: bool = False


@dataclass
class World:
    """One history. `run` makes it happen; everything random comes from `seed`."""

    seed: int
    steps: int = 120
    now: float = START
    mono: float = 1000.0
    fault: Fault = field(default_factory=Fault)
    journal_of: Callable[[Callable[[], float], Callable[[int], str | int | None]], Any] = SimJournal
    said: list[str] = field(default_factory=list)
    """What happened, for whoever looks at a failing seed."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.config = configuration(self.rng.randrange(40))
        self.journal = self.journal_of(lambda: self.now, self._fault)
        self.monitor = Monitor(self.config)
        self.journal.watch = self.monitor.see
        self.conn: sqlite3.Connection = empty_state()
        self.folded = 0
        self.unanswered = 0
        self.sent = 0
        self.moments: dict[tuple[int, int], int] = {}
        self.far: list[Held] = []
        """Workers elsewhere outlive the daemon."""
        self._begin()

    def _fault(self, entries: int) -> str | int | None:
        chance, fault = self.rng.random(), self.fault
        if chance < fault.full:
            return "full"
        if chance < fault.full + fault.unknown and self.unanswered < 2:
            self.unanswered += 1
            return self.rng.choice(["unsent", "unanswered"])
        self.unanswered = 0
        if chance > 1 - fault.crash:
            return self.rng.randint(0, entries)
        return None

    # ---- the daemon

    def _begin(self) -> None:
        """A new process, on what is durable."""
        self.dispatcher = Dispatcher(self.journal, lambda: self.folded, lambda: self.config.caps)
        self.claims = Claims(
            self.journal,
            self,  # type: ignore[arg-type]  # as StateStore: `reader`
            self,  # type: ignore[arg-type]  # as FoldThread: `folded`, `wait_for`
            ReportFiles(Path("/nowhere")),
            dispatcher=self.dispatcher,
            sources=TimeSources(lambda: self.now, lambda: self.mono, self.rng.random),
        )
        self.attempts: list[Iterator[None]] = []
        self.passed: dict[str, int] = {}
        """Who could start → starts of others since."""
        self.stopping = False

    def reader(self) -> sqlite3.Connection:
        return self.conn

    def wait_for(self, seq: int, timeout: float) -> bool:
        self.fold(seq - self.folded)
        return self.folded >= seq

    def fold(self, most: int) -> None:
        """Let the fold get on by so many records, in batches."""
        left = min(most, len(self.journal.records) - self.folded)
        while left > 0:
            size = self.rng.randint(1, left)
            self.conn.execute("BEGIN")
            fold(self.conn, self.journal.records[self.folded : self.folded + size])
            self.conn.execute("COMMIT")
            self.folded += size
            left -= size

    def crash(self) -> None:
        """Everything in memory is gone, perhaps the caches too; then a start as the daemon's."""
        self.said.append("crash")
        self.mono = self.rng.uniform(0, 1e6)
        if self.rng.random() < 0.2:
            self.conn.close()
            self.conn, self.folded = empty_state(), 0
        while True:
            self._begin()
            try:
                with suppress(JournalError):
                    self._recovery()
                    return
            except Crash:
                self.said.append("crash while starting")

    def _recovery(self) -> None:
        self.fault, before = Fault(crash=self.fault.crash), self.fault
        try:
            resume.resume(self.journal, self.config, lambda: self.now)
            self.fold(len(self.journal.records))
            for entry in recover(running_without_lease(self.conn), self.now):
                self._held(entry)
            self.fold(len(self.journal.records))
            self.reroute()
        finally:
            self.fault = before

    def _held(self, entry: Entry) -> None:
        append_known(self.journal, [entry])

    def reroute(self) -> None:
        for row in query.deliveries(self.conn, parse("state:received"), 0).items:
            record = self.journal.get(row.seq)
            assert record is not None
            resume.route_received(self.journal, self.config, row, record, lambda: self.now)

    # ---- what may happen, one thing at a time

    def arrive(self) -> None:
        rng = self.rng
        installation = rng.choices([1, 2, 3], [6, 2, 1])[0]
        repo, number = installation * 10 + rng.randint(0, 1), rng.randint(1, 2)
        event = rng.choice(["push", "issues", "pull_request", "check_run"])
        id = DeliveryId("9", f"g{self.sent}")
        self.sent += 1
        # GitHub's own clock goes on evenly; deliveries come late, and some of them in the wrong order.
        thing = (repo, number)
        self.moments[thing] = self.moments.get(thing, 0) + rng.choice([0, 1, 1, 2, -1])
        at = at_text(START + max(self.moments[thing], 0))[:19] + "Z"
        payload = orjson.dumps({"pull_request": {"updated_at": at}} if event == "pull_request" else {})
        data = {
            "hook": "9",
            "guid": id.guid,
            "event": event,
            "action": None,
            "installation": installation,
            "repo_id": repo,
        }
        head = f"{max(self.moments[thing], 0) // 2:040x}"
        about = {"repo": f"o{installation}/r{repo}", "number": None if event == "push" else number, "head_sha": head}
        row = {**data, **about, "received_at": at_text(self.now), "payload_bytes": len(payload)}
        decided = route(self.config, id, row, lambda: orjson.loads(payload), now=lambda: self.now)
        received = Entry(id.subject, Kind.RECEIVED, {**data, "tasks": list(decided.tasks)}, about, payload, expect=0)
        with suppress(JournalFull):
            append_known(self.journal, [received, *decided.entries])

    def fetch(self) -> None:
        """What GitHub sent up to minutes ago, and never came, is fetched out of its log."""
        rng = self.rng
        items = []
        for _ in range(rng.randint(1, 3)):
            installation, event = rng.choice([1, 2]), rng.choice(["issues", "issues", "pull_request"])
            repo, number = installation * 10 + rng.randint(0, 1), rng.randint(1, 2)
            sent_at = at_text(self.now - rng.choice([-5.0, 0.0, 0.5, 3.0, 40.0, 400.0]))
            body = {
                "installation": {"id": installation},
                "repository": {"id": repo, "full_name": f"o{installation}/r{repo}"},
                "issue" if event == "issues" else event: {"number": number, "updated_at": f"{sent_at[:19]}Z"},
            }
            headers = {"X-GitHub-Event": event, "X-GitHub-Delivery": f"g{self.sent}", "X-GitHub-Hook-ID": "9"}
            self.sent += 1
            items.append(
                ImportedDelivery(tuple(headers.items()), orjson.dumps(body), {"delivered_at": sent_at}, hold=None)
            )
        secrets = SigningSecrets([], ScopeBindings(self.journal))
        wanted = Import(items=items, routed=True)
        with suppress(JournalFull):
            import_deliveries(self.journal, self.config, secrets, self._rows, wanted, lambda: self.now)

    def get_on(self) -> None:
        self.fold(self.rng.randint(1, 6))

    def hand_out(self) -> None:
        """As the pool's dispatcher."""
        if self.stopping:
            return
        with suppress(JournalFull):
            self.dispatcher.record_queue_changes(self.conn, self.now)
        free = 3 - len(self.attempts)
        if free > 0:
            able = self._able() if self.seed % 4 == 0 else set()
            others = self.dispatcher.in_flight()
            tasks = self.dispatcher.pick(self.conn, self.now, self.rng.randint(1, free))
            self._in_order(tasks, others)
            self._in_turn(able, [task.tenant for task in tasks])
            for task in tasks:
                self.attempts.append(self._attempt(task))

    def _able(self) -> set[str]:
        """Who has something that could start now."""
        with self.dispatcher._in_flight.picking() as held:
            look, ids = Waiting(self.conn, self.now, self.config.caps, held), {task.id for task in held}
        rows = self.conn.execute("SELECT id, tenant FROM tasks WHERE state = 'queued' AND NOT pull").fetchall()
        told = [(row["tenant"], look.reason_for(row["id"])) for row in rows if row["id"] not in ids]
        return {tenant for tenant, waits in told if waits is not None and waits.word == "worker"}

    def _in_turn(self, able: set[str], started: list[str]) -> None:
        """Nobody who could start waits for more starts of others than all of theirs have in two rounds."""
        self.passed = {tenant: self.passed.get(tenant, 0) for tenant in able}
        for place, tenant in enumerate(started):
            for other in able - set(started[place:]):
                self.passed[other] += 1
            self.passed.pop(tenant, None)
            able = able - {tenant}
        weights = sum(self.config.caps.share(tenant).weight for tenant in ("1", "2", "3"))
        if able and not started:
            raise Violated(f"{able} could start, there is room, and nothing was picked")
        if max(self.passed.values(), default=0) > 2 * weights:
            raise Violated(f"starts of others passed by: {self.passed}")

    def _in_order(self, picked: Sequence[Task], others: set[str]) -> None:
        """Of a key's tasks that a route has made and that could start, the one that was sent first is started first."""
        of_key = """SELECT id FROM tasks WHERE route = ? AND key = ? AND tenant = ? AND priority = ?
            AND state = 'queued' AND not_before IS NULL"""
        tasks = self.monitor.tasks
        for task in picked:
            row = self.conn.execute("SELECT * FROM tasks WHERE id = ?", (task.id,)).fetchone()
            if row["not_before"] is None:  # what waited for its time takes its turn from then
                same = self.conn.execute(of_key, (row["route"], row["key"], row["tenant"], row["priority"]))
                for (other,) in same.fetchall():
                    if (
                        other not in others
                        and tasks[other].moment < tasks[task.id].moment
                        and superseded_by(self.conn, other) is None
                    ):
                        raise Violated(f"{task.id} was picked before {other}, which was sent earlier")
            others = {*others, task.id}

    def work(self) -> None:
        """One of what runs gets on."""
        if self.attempts:
            one = self.rng.choice(self.attempts)
            if next(one, self) is self:
                self.attempts.remove(one)

    def _attempt(self, task: Task) -> Iterator[None]:
        """As `covenq.tasks.execution.attempt`, without a process."""
        yield
        try:
            claim = Claim.acquire(self.journal, task, "pool")
        except JournalFull:
            self.dispatcher.release(task, 0)
            return
        if claim is None:
            newest = self.journal.last(task.subject)
            self.dispatcher.release(task, 0 if newest is None else newest.seq)
            return
        try:
            for name in ("prepared", "started"):
                yield
                with suppress(JournalFull):
                    claim.record([(Kind.PHASE, claim.record_data(phase=name))])
            yield
            outcome = self._outcome()
            if self.stopping:
                outcome = Outcome(Category.INTERRUPTED)
            ending = ending_after(
                task, claim.attempt, claim.seq, outcome, result=None, now=self.now, random=self.rng.random
            )
            while True:
                try:
                    claim.record([(Kind.PHASE, claim.record_data(phase="collected")), (ending.kind, ending.data)])
                    break
                except JournalFull:
                    yield
        except StaleClaim:
            self.said.append(f"{task.id} was lost")
        self.dispatcher.release(task, claim.last)

    def _outcome(self) -> Outcome:
        chance = self.rng.random()
        if chance < 0.6:
            return Outcome(None, 0)
        category = self.rng.choice([Category.EXIT, Category.TIMEOUT, Category.SIGNAL, Category.POLICY, Category.HTTP])
        return Outcome(category, 1, retry_after_s=self.rng.choice([None, 60.0, 1e9]) if chance > 0.95 else None)

    def far_claim(self) -> None:
        routes = self.rng.choice([None, ["far"], ["push"]])
        with suppress(JournalFull):
            most = self.rng.choice([1, 1, 3])
            for found in self.claims.claim_all("w1", self.rng.choice([1, 10, 60]), most, routes=routes):
                self.far.append(Held(found.task.id, found.fence))

    def far_report(self) -> None:
        """A report of a pull worker: in time or late, true or false, once or repeated."""
        if not self.far:
            return
        held = self.rng.choice(self.far)
        with suppress(StaleFence, JournalFull):
            match self.rng.choice(["renew", "phase", "complete", "complete", "fail"]):
                case "renew":
                    self.claims.reports.renew(held.task, held.fence, self.rng.choice([1, 60]))
                case "phase":
                    self.claims.reports.phase(held.task, held.fence, "on it")
                case "complete":
                    self.claims.reports.complete(held.task, held.fence)
                    held.over = True
                case "fail":
                    self.claims.reports.fail(held.task, held.fence, Failure(self.rng.choice(["exit", "interrupted"])))
                    held.over = True
        if self.rng.random() < 0.5:
            self.far = [one for one in self.far if not one.over]

    def leases(self) -> None:
        with suppress(JournalFull):
            self.claims._end_expired()

    def time(self) -> None:
        passed = self.rng.choice([0.5, 5.0, 40.0, 400.0])
        self.now += passed
        self.mono += passed

    def long_time(self) -> None:
        passed = self.rng.choice([3600.0, 12 * 3600.0])
        self.now += passed
        self.mono += passed

    def set_clock(self) -> None:
        change = self.rng.choice([-2 * DAY, -3600.0, -5.0, 5.0, 3600.0, 2 * DAY])
        self.said.append(f"clock {change:+}")
        self.monitor.steady = self.monitor.steady and change > 0
        self.now += change

    def operate(self) -> None:
        rng = self.rng
        self.fold(len(self.journal.records))
        states = {"cancel": "('queued', 'running')", "requeue": "('failed', 'cancelled', 'superseded')"}
        with suppress(CovenqError, JournalError):
            what = rng.choice(["cancel", "requeue", "requeue", "replay", "pause", "resume", "resume"])
            of = f"SELECT id FROM tasks WHERE state IN {states.get(what, '()')} ORDER BY created_seq"
            ids = [row["id"] for row in self.conn.execute(of)]
            if what in ("pause", "resume"):
                kind, name = rng.choice([("route", "push"), ("route", "far"), ("installation", "1"), ("worker", None)])
                act = pauses.pause if what == "pause" else pauses.resume
                routes = {"routes": ["push", "far"]} if what == "pause" else {}
                act(self.journal, self._rows, Pause(what=kind, name=name), **routes)
            elif ids and what == "cancel":
                self._apply(actions.plan_cancel, Selection(ids=[rng.choice(ids)]))
            elif ids and what == "requeue":
                self._apply(actions.plan_requeue, Selection(ids=[rng.choice(ids)]))
            elif what == "replay":
                over = "SELECT guid FROM webhook_deliveries WHERE state NOT IN ('received', 'queued', 'running')"
                guids = [row["guid"] for row in self.conn.execute(over)]
                if not guids:
                    return
                self._apply(actions.plan_replay, Replay(ids=[rng.choice(guids)], force=True))

    def _apply(self, plan: Callable[..., Plan], wanted: Selection) -> None:
        apply(plan(self.journal, self.conn, self.config, wanted, None), self.journal)

    def _rows(self) -> sqlite3.Connection:
        self.fold(len(self.journal.records))
        return self.conn

    def stop(self) -> None:
        """An orderly stop: what runs is ended and recorded; then a start."""
        self.stopping = True
        self.fault, before = Fault(crash=self.fault.crash), self.fault
        try:
            for one in self.attempts:
                for _ in one:
                    pass
            self.attempts = []
        finally:
            self.fault = before
        self.crash()

    # ---- a history, and what must be so at its end

    def run(self) -> World:
        rng = self.rng
        self.fault = Fault(
            full=rng.choice([0.0, 0.0, 0.1]), unknown=rng.choice([0.0, 0.1]), crash=rng.choice([0.0, 0.0, 0.03])
        )
        events = [
            (self.arrive, 8), (self.fetch, rng.choice([0, 0, 3])), (self.get_on, 10), (self.hand_out, 10),
            (self.work, 24), (self.far_claim, 3),
            (self.far_report, 4), (self.leases, 2), (self.time, 5), (self.long_time, rng.choice([0, 0.5])),
            (self.set_clock, rng.choice([0, 0, 0.5])), (self.operate, rng.choice([0, 3])),
            (self.stop, rng.choice([0, 0.3])), (self.crash, rng.choice([0, 0.3])),
        ]  # fmt: skip
        acts, weights = [act for act, _ in events], [weight for _, weight in events]
        for act in rng.choices(acts, weights, k=self.steps):
            self.said.append(act.__name__)
            self._guarded(act)
        self.settle()
        return self

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Crash:
            self.crash()

    def settle(self) -> None:
        """Let all faults end, workers be honest and time pass; what is then left must be paused, and say so."""
        self.fault = Fault()
        self.stopping = False
        self.far = []
        kept = self.rng.random() < 0.3
        if not kept:
            for what, name in [("route", "push"), ("route", "far"), ("installation", "1"), ("worker", None)]:
                pauses.resume(self.journal, self._rows, Pause(what=what, name=name))
        with suppress(JournalError):
            self.reroute()
        for _ in range(600 + 30 * len(self.monitor.tasks)):
            self.fold(len(self.journal.records))
            while self.dispatcher.record_queue_changes(self.conn, self.now):
                self.fold(len(self.journal.records))
            self.hand_out()
            for one in self.attempts:
                for _ in one:
                    pass
            self.attempts = []
            while (found := self.claims.claim("w2", 60)) is not None:
                self.claims.reports.complete(found.task.id, found.fence)
            self.leases()
            self.fold(len(self.journal.records))
            left = query.tasks(self.conn, parse("state:queued,running"), 0).items
            waits = [self._explained(one) for one in left]
            if all(word.startswith("paused") for word in waits):
                break
            self._pass_time(left, waits)
        else:
            raise Violated(f"after all that time, these wait: {Counter(waits)}")
        self._check_state()

    def _pass_time(self, left: list[model_rows.Task], waits: list[str]) -> None:
        """On to the next moment at which something can change."""
        step = 0.0
        if all(word.endswith("_daily") or word.startswith("paused") or word == "retry" for word in waits):
            step = 3600.0
        dues = [seconds_of(one.not_before) for one in left if one.not_before]
        later = [due - self.now for due in dues if due > self.now]
        step = min([step or WEEK, *later]) if step or later else 61.0
        self.now += step
        self.mono += max(step, 61.0)

    def _explained(self, task: model_rows.Task) -> str:
        """The word for what a task waits for; what runs is held by a lease."""
        if task.state == State.RUNNING:
            if task.lease_until is None:
                raise Violated(f"{task.id} runs, and nobody runs it")
            return "lease"
        if task.not_before and seconds_of(task.not_before) > self.now + DAY + 1:
            raise Violated(f"{task.id} waits for {task.not_before}, longer than anything may")
        told = Waiting(self.conn, self.now, self.config.caps).reason_for(task.id)
        if told is None or not told.why:
            raise Violated(f"{task.id} waits, and nothing says for what")
        return str(told.word)

    def _check_state(self) -> None:
        """The state, folded as it came, in batches and perhaps again, is what folding it all at once makes; and it agrees
        with the records."""
        whole = empty_state()
        fold(whole, self.journal.records)
        if dump(whole) != dump(self.conn):
            raise Violated("folding all at once makes another state")
        whole.close()
        for row in self.conn.execute("SELECT id, state, attempts FROM tasks"):
            seen = self.monitor.tasks[row["id"]]
            if (row["state"], row["attempts"]) != (seen.state, seen.attempts):
                raise Violated(f"{row['id']} is {row['state']} in the state and {seen.state} by its records")
