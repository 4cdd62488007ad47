"""Leased claims: pull workers claim tasks, by long polling, and a lease that runs out ends the attempt.

A claim is the same append as the pool's, with `lease_until` in it. Its fencing token (`covenq.tasks.scheduling.claim`) is all
that a worker has to show afterwards, in its reports (`covenq.tasks.remote.reports`). `covenq.tasks.scheduling.leases` decides
when a lease has run out.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from covenq.errors import UsageError
from covenq.model import TOKEN, WORKER_NAME, WORKER_NAME_HINT, Kind, State, rows
from covenq.model.answers import Grant
from covenq.model.token_scope import Scope
from covenq.rounds import Loop
from covenq.state import query
from covenq.state.progress import FoldProgress
from covenq.state.readers import Readers
from covenq.tasks.remote.report_files import ReportFiles
from covenq.tasks.remote.reports import ClaimReports, Conditions, Measures
from covenq.tasks.scheduling.claim import RETRY_S, Claim
from covenq.tasks.scheduling.dispatcher import Dispatcher
from covenq.tasks.scheduling.fairness import OWN_KINDS, PULL_KINDS
from covenq.tasks.scheduling.interruption import expire
from covenq.tasks.scheduling.leases import Leases, check_lease
from covenq.tasks.scheduling.outcome import Task
from journal.append import append_known
from journal.errors import JournalError, may_pass
from journal.interface import Journal
from journal.records import Appended

log = logging.getLogger("covenq.claims")

WAIT_MAX_S = 60.0
"""The longest that a claim may wait for a task."""
WAITERS_MAX = 32
"""Claims that may wait at a time: each occupies a thread of the API. One more is answered at once."""
BATCH_MAX = 64
"""Tasks that one request may claim or complete."""

OVERDUE_S = 60.0
"""Seconds without a round of the thread after which it is overdue: it comes round every half second."""

_TICK_S = 0.5
_TRIES = 8
_OTHERS_MAX = 256
"""Tasks that are not for workers, and are passed over at most."""
_ROUTES_MAX = 100


@dataclass(slots=True, eq=False)
class _Waiter:
    """One long poll. `task` is the task that it was given; `ready` is set then, and at the stop, when it has to return."""

    routes: frozenset[str] | None
    kinds: Collection[str]
    scope: Scope | None = None
    ready: threading.Event = field(default_factory=threading.Event)
    task: Task | None = None


class Claimant(NamedTuple):
    """Who claims, for how long at first, and on which node it runs what it gets; None of a worker elsewhere."""

    worker: str
    lease_s: float
    node: str | None


@dataclass(frozen=True, slots=True)
class TimeSources:
    """The time and the randomness that leases and retries go by."""

    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    lease_clock: Callable[[], float] | None = None
    """The journal's (`journal.interface.Leasing`)."""


REAL = TimeSources()


class Claims:
    """Claims of pull workers.

    Methods may be called from any thread; `start` begins the thread that serves long polls and ends leases. What workers report
    of their claims goes to `reports`.
    """

    def __init__(
        self,
        journal: Journal,
        readers: Readers,
        fold: FoldProgress,
        files: ReportFiles,
        *,
        dispatcher: Dispatcher | None = None,
        sources: TimeSources = REAL,
        room: Callable[[], bool] = lambda: True,
        conditions: Conditions = Conditions(),  # noqa: B008 - frozen
    ) -> None:
        """`files` is where what workers report is kept; `dispatcher` is shared with the pool.

        Nothing is claimed while `room` returns False: the disk is low. It may raise what a claim then raises.
        """
        self._journal = journal
        self._readers = readers
        self._fold = fold
        self._clock = sources.clock
        self._monotonic = sources.monotonic
        self._room = room
        self._dispatcher = dispatcher or Dispatcher(journal, lambda: fold.folded)
        self._waiters: list[_Waiter] = []
        self._waiting = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._leases = Leases(sources.clock, sources.monotonic, sources.lease_clock)
        self.reports = ClaimReports(
            journal,
            readers,
            fold,
            files,
            self._leases,
            Measures(sources.clock, sources.random, self._dispatcher.times, sources.lease_clock is not None),
            conditions,
        )
        self.loop = Loop("leases", OVERDUE_S, "no lease ends, and no claim that waits gets a task")
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        self._fold.subscribe(lambda seq: self._wake.set() if self._waiters else None)
        self._thread.start()

    def stop(self) -> None:
        """Let no claim wait any longer, and end no more leases. Leases stay as they are recorded."""
        self._stopping.set()
        self._wake.set()
        with self._waiting:
            for waiter in self._waiters:
                waiter.ready.set()
        if self._thread.ident is not None:
            self._thread.join(5.0)

    # ---- claiming

    def claim(
        self,
        worker: str,
        lease_s: float,
        *,
        routes: Collection[str] | None = None,
        wait_s: float = 0.0,
        gone: Callable[[], bool] = lambda: False,
    ) -> Grant | None:
        """As `claim_all`, for one task; None if there is none, or none within `wait_s`."""
        found = self.claim_all(worker, lease_s, 1, routes=routes, wait_s=wait_s, gone=gone)
        return found[0] if found else None

    def claim_all(
        self,
        worker: str,
        lease_s: float,
        limit: int,
        *,
        routes: Collection[str] | None = None,
        wait_s: float = 0.0,
        node: str | None = None,
        scope: Scope | None = None,
        gone: Callable[[], bool] = lambda: False,
    ) -> list[Grant]:
        """Claim up to `limit` tasks in one append: those that can be claimed at once, or else one that comes within `wait_s`.

        With `node`, tasks of commands, which are this pool's else, to be run on that node; with `scope`, none but its tasks.
        `gone` returns whether the client has
        disconnected. Raises UsageError, and the journal's errors.
        """
        if node is not None and not WORKER_NAME.match(node):
            raise UsageError("node is no name", hint=WORKER_NAME_HINT)
        kinds = PULL_KINDS if node is None else OWN_KINDS
        wanted = _checked_routes(worker, lease_s, limit, routes, wait_s)
        deadline = self._monotonic() + min(wait_s, WAIT_MAX_S)
        claimant = Claimant(worker, lease_s, node)
        found = self._claim_now(claimant, limit, wanted, kinds, scope)
        while not found and (left := deadline - self._monotonic()) > 0 and not self._stopping.is_set():
            waiter = _Waiter(wanted, kinds, scope)
            with self._waiting:
                if len(self._waiters) >= WAITERS_MAX:
                    return []
                self._waiters.append(waiter)
            self._wake.set()
            while not waiter.ready.wait(min(left, 0.5)):
                left = deadline - self._monotonic()
                if left <= 0 or gone():
                    break
            with self._waiting:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
            if waiter.task is not None and gone():
                self._dispatcher.release(waiter.task, 0)
                return []
            if waiter.task is not None:
                found = self._acquire([waiter.task], claimant)
            elif not waiter.ready.is_set():
                return []
        return found

    def _claim_now(
        self,
        claimant: Claimant,
        limit: int,
        routes: frozenset[str] | None,
        kinds: Collection[str],
        scope: Scope | None,
    ) -> list[Grant]:
        """What can be claimed at once. A task that was acknowledged before this was called is seen."""
        head = self._journal.head().seq
        behind = self._fold.folded < head
        for _ in range(_TRIES):
            picked = self._pick(limit, routes, kinds, scope)
            if picked:
                found = self._acquire(picked, claimant)
                if found:
                    return found
            elif behind and self._fold.wait_for(head, 10.0):
                behind = False
            else:
                return []
        return []

    def _pick(
        self, limit: int, routes: frozenset[str] | None, kinds: Collection[str], scope: Scope | None
    ) -> list[Task]:
        found: list[Task] = []
        others: list[Task] = []
        try:
            while len(found) < limit and len(others) < _OTHERS_MAX and self._room() and not self._stopping.is_set():
                wanted = limit - len(found)
                picked = self._dispatcher.pick(
                    self._readers.reader(), self._clock(), wanted, kinds=kinds, routes=routes, scope=scope
                )
                if not picked:
                    break
                for task in picked:
                    # One that forwards, of a route that has a command by now, is the pool's: it stood before what is wanted.
                    (others if task.kind == "forward" else found).append(task)
        except BaseException:
            others += found
            raise
        finally:
            for task in others:
                self._dispatcher.release(task, 0)
        return found

    def _acquire(self, tasks: Sequence[Task], claimant: Claimant) -> list[Grant]:
        """Claim picked tasks; the grants for those that have not moved meanwhile."""
        lease_s, node = claimant.lease_s, claimant.node or self._dispatcher.node
        last, picked = {task.id: 0 for task in tasks}, {task.id: task for task in tasks}
        try:
            until = self._leases.until(lease_s)
            claims = Claim.acquire_all(self._journal, tasks, claimant.worker, until, node=node)
            for claim in claims:
                last[claim.task] = claim.seq
                self._leases.grant(claim.task, until, lease_s)
                self._dispatcher.times.began(picked[claim.task], claim.seq, self._clock())
        finally:
            for task in tasks:
                # Some may have been claimed before an error: in flight until the state shows it, or no limit would count them.
                self._dispatcher.release(task, last[task.id] or self._newest_seq(task))
        claimed = query.tasks_with(self._readers.reader(), [claim.task for claim in claims])
        return [self._grant(claim, claimed[claim.task], until, node) for claim in claims]

    def _newest_seq(self, task: Task) -> int:
        """The seq of the task's newest record; the head's where it can't be read now: then its row is believed later."""
        try:
            newest = self._journal.last(task.subject)
        except JournalError:
            return self._journal.head().seq
        return 0 if newest is None else newest.seq

    def _grant(self, claim: Claim, row: rows.Task, until: str, node: str | None) -> Grant:
        """The answer to a claim, with the task as it is after it, which the fold may not have reached yet."""
        record = self._journal.get(claim.seq)
        row.state = State.RUNNING.value
        row.reason = row.category = row.detail = row.not_before = None
        row.attempts, row.worker, row.node, row.lease_until = claim.attempt, claim.worker, node, until
        row.claim_seq = row.last_seq = claim.seq
        if record is not None:
            row.updated_at = record.at
        payload_url = f"/api/v1/deliveries/{row.hook}/{row.guid}/payload"
        return Grant(row, claim.attempt, claim.fence, until, payload_url)

    # ---- the thread that serves long polls and ends leases

    def _run(self) -> None:
        ended_at = 0.0
        self.loop.done()
        while not self._stopping.is_set():
            self._wake.wait(_TICK_S)
            self._wake.clear()
            try:
                self._serve_waiters()
                if time.monotonic() - ended_at >= _TICK_S / 2:
                    self._end_expired()
                    ended_at = time.monotonic()
                self.loop.done()
            except JournalError as error:
                self.loop.failed(error)
                if not may_pass(error):
                    log.error("no lease is looked after any more: %s", error)
                    return
                log.warning("leases that ran out wait to be recorded so: %s", error)
                self._stopping.wait(RETRY_S)
            except Exception as error:
                # No error may make leases live forever.
                self.loop.failed(error)
                self._readers.met(error)
                log.exception("the leases could not be looked at; it is tried again")
                self._stopping.wait(RETRY_S)
        self.loop.end()

    def _serve_waiters(self) -> None:
        """Give ready tasks to the claims that wait: those that want the same routes, and may have the same, share a pick."""
        with self._waiting:
            groups: dict[tuple[frozenset[str] | None, Collection[str], Scope | None], list[_Waiter]] = {}
            for waiter in self._waiters:
                groups.setdefault((waiter.routes, waiter.kinds, waiter.scope), []).append(waiter)
        for (routes, kinds, scope), waiters in groups.items():
            for task in self._pick(len(waiters), routes, kinds, scope):
                with self._waiting:
                    given = next((one for one in waiters if one in self._waiters), None)
                    if given is not None:
                        self._waiters.remove(given)
                        given.task = task
                        given.ready.set()
                if given is None:
                    self._dispatcher.release(task, 0)

    def _end_expired(self) -> None:
        """Record the end of each lease that has run out, against the task's newest record: a report that came first wins."""
        for task in self._leases.expired(self._readers.reader()):
            end = expire(task, self._clock())
            ended = append_known(self._journal, [end], stopped=self._stopping.is_set)
            if isinstance(ended, Appended):
                self._dispatcher.times.ended(task.claim_seq or 0, Kind(end.kind), self._clock())
                log.warning("task %s attempt %d: its lease ran out", task.id, task.attempts)


def _checked_routes(
    worker: str, lease_s: float, limit: int, routes: Collection[str] | None, wait_s: float
) -> frozenset[str] | None:
    if not WORKER_NAME.match(worker):
        raise UsageError("worker is no name", hint=WORKER_NAME_HINT)
    check_lease(lease_s)
    if not 1 <= limit <= BATCH_MAX:
        raise UsageError(f"{limit} tasks at once", hint=f"max is between 1 and {BATCH_MAX}.")
    if not 0 <= wait_s <= WAIT_MAX_S:
        raise UsageError(f"a wait of {wait_s:g} s", hint=f"wait_s is between 0 and {WAIT_MAX_S:g}.")
    if routes is None:
        return None
    if not routes or len(routes) > _ROUTES_MAX or not all(TOKEN.match(route) for route in routes):
        raise UsageError("routes must be names of routes", hint=f"At most {_ROUTES_MAX}; leave it out for all.")
    return frozenset(routes)
