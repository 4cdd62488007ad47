"""The pool: picks queued tasks, runs them in threads, and at the start ends what a dead daemon left running.

One dispatcher thread picks; each worker thread claims, runs and records one task at a time. So the claims and ends of
several tasks are appended by several threads at once, and share the journal's group commits.
"""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import random
import re
import secrets
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from covenq.config.limits import BackingOff
from covenq.config.resources import OUTPUT_LIMIT
from covenq.model import at_text, seconds_or
from covenq.model.worker_status import WorkerAttempt
from covenq.rounds import Loop
from covenq.state.progress import FoldProgress
from covenq.state.readers import Readers
from covenq.tasks.execution import running
from covenq.tasks.execution.attempt import FATAL, Attempt
from covenq.tasks.execution.attempt_context import AttemptContext, AttemptResult
from covenq.tasks.execution.breaker import Breakers
from covenq.tasks.execution.command import StopEvent
from covenq.tasks.execution.forward import target_of
from covenq.tasks.execution.lease_renewal import LeaseRenewal
from covenq.tasks.execution.process_tree import ProcessMarks, kill_leftovers, reap
from covenq.tasks.execution.scrub import Scrubber
from covenq.tasks.execution.shortage import StartLimit, is_shortage
from covenq.tasks.scheduling.claim import RETRY_S
from covenq.tasks.scheduling.dispatcher import Dispatcher
from covenq.tasks.scheduling.interruption import recover, running_pool_leases, running_without_lease
from covenq.tasks.scheduling.outcome import Task
from covenq.tasks.tokens.keeper import TokenKeeper
from journal.append import append_known
from journal.errors import JournalError, JournalFull, may_pass
from journal.interface import Journal
from journal.records import Appended, Conflict, Entry, Record

log = logging.getLogger("covenq.worker")

POLL_S = 5.0
"""Seconds between polls of the queue at most: the clock may be set, so a computed wait for a not-before time can be too long."""
OVERDUE_S = 60.0
"""Seconds without a round of the dispatcher after which it is overdue: twelve polls."""
REAP_S = 1.0
"""Seconds between scans for orphans that ended: each goes through /proc, and every fold wakes the dispatcher."""

_RECOVERED_AT_ONCE = 256
_DELIVERY = "SELECT seq FROM webhook_deliveries WHERE hook = ? AND guid = ?"
_CLAIMS = "SELECT id, claim_seq FROM tasks WHERE id IN (SELECT value FROM json_each(?))"
_RECORDING_S = 10.0
"""Seconds, beyond the grace, that a stop waits for the last records."""


def worker_id() -> str:
    """Unique to this start of this process: `<host>-<pid>-<6 hex digits>`, within a subject token's alphabet."""
    host = re.sub(r"[^0-9A-Za-z]+", "-", socket.gethostname())[:32].strip("-") or "host"
    return f"{host}-{os.getpid()}-{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How a pool works; the time, randomness and environment are passed in here."""

    concurrency: int = 4
    """Tasks at a time."""
    worker: str | None = None
    """The pool's id; None for one of its own (`worker_id`)."""
    environ: Mapping[str, str] | None = None
    """The environment that commands get parts of; None for the process's."""
    clock: Callable[[], float] = time.time
    random: Callable[[], float] = random.random
    grace_s: float = 5.0
    """Seconds that a command has between SIGTERM and SIGKILL at its timeout."""
    output_limit: int = OUTPUT_LIMIT
    scrubber: Callable[[Sequence[bytes]], Scrubber] = lambda secrets: Scrubber((), secrets)
    secret_of: Callable[[str], bytes | None] = lambda name: None
    """The webhook secret of that name as it is now."""
    lease_s: float | None = None
    """Seconds of the leases that it claims under; None where no other machine may take the journal over, and none are needed."""
    elsewhere: Callable[[], Sequence[WorkerAttempt]] = tuple
    """Attempts of this node at tasks that it claimed of another, when that one led: they are of `concurrency`, too."""
    tokens: TokenKeeper | None = None
    """Gets the tokens that routes want for their work."""
    node: str = ""
    """The id of this data directory, by which the claims under leases are known to be its own."""


DEFAULTS = PoolSettings()


class Pool:
    """Runs queued tasks, `settings.concurrency` at a time. One start, one stop.

    It relies on being the only user of the data directory when it starts (the journal's lock): a task that is then running
    without a lease was running in a process that is dead. So was one under a lease of this data directory's own pool; those of
    other machines' pools are left to their leases (`covenq.tasks.remote.claims` ends them).
    """

    def __init__(
        self,
        journal: Journal,
        readers: Readers,
        fold: FoldProgress,
        data: Path,
        *,
        dispatcher: Dispatcher | None = None,
        settings: PoolSettings = DEFAULTS,
        room: Callable[[], bool] = lambda: True,
        on_full: Callable[[], bool] = lambda: False,
    ) -> None:
        """`data` is the data directory; `dispatcher` is shared with the claims of pull workers.

        No task is begun while `room` returns False, the disk being low: the rest is for the ends of those that run. `on_full`
        makes room for those when there is none, and returns whether it could.
        """
        self.id = settings.worker or worker_id()
        self.concurrency = settings.concurrency
        self.error: str | None = None
        """Why it runs nothing any more: the journal's error. None while it works."""
        self.loop = Loop("dispatcher", OVERDUE_S, "no task is started")
        self.recovered = False
        """Whether the tasks that a dead process left running are closed: before, what runs in the state may be nobody's."""
        self._journal = journal
        self._readers = readers
        self._fold = fold
        self._data = data.absolute()
        self._clock = settings.clock
        self._room = room
        self._stop = StopEvent()
        self._elsewhere = settings.elsewhere
        self._starts = StartLimit(settings.concurrency)
        self._dispatcher = dispatcher or Dispatcher(journal, lambda: fold.folded)
        self._leases: LeaseRenewal | None = None
        if settings.lease_s is not None:
            self._leases = LeaseRenewal(
                journal,
                settings.node,
                settings.lease_s,
                settings.grace_s,
                clock=settings.clock,
                failed=self._give_up,
            )
        self._context = AttemptContext(
            journal=journal,
            data=self._data,
            worker=self.id,
            node=self._dispatcher.node,
            stop=self._stop,
            environ=dict(os.environ if settings.environ is None else settings.environ),
            clock=settings.clock,
            random=settings.random,
            grace_s=settings.grace_s,
            output_limit=settings.output_limit,
            delivery_of=self._delivery_of,
            scrubber=settings.scrubber,
            starts=self._starts,
            secret_of=settings.secret_of,
            on_full=on_full,
            times=self._dispatcher.times,
            leases=self._leases,
            tokens=settings.tokens,
        )
        self._wake = threading.Event()
        self._retry_later = threading.Event()
        """Set when a picked task was not begun: it is not picked again at once, since that may fail in the same way."""
        self._handed_out: queue.SimpleQueue[Attempt | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._attempts: dict[str, Attempt] = {}
        """Task id → the attempt that was handed out and has not ended."""
        self._threads: list[threading.Thread] = []
        self._reap_at = 0.0

    def start(self) -> None:
        """Start the threads, which first recover the tasks that a dead process left running. Returns at once."""
        names = ["dispatcher", *(f"worker-{n}" for n in range(1, self.concurrency + 1))]
        targets = [self._dispatch] + [self._work] * self.concurrency
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True) for name, target in zip(names, targets, strict=True)
        ]
        self._fold.subscribe(lambda seq: self._wake.set())
        if self._leases is not None:
            self._leases.start()
        for thread in self._threads:
            thread.start()

    def stop(self, grace_s: float = 5.0) -> bool:
        """End what runs (SIGTERM to each group, SIGKILL after `grace_s`), record it as interrupted, end the threads.

        The tasks are queued again and lose no retry. False if some thread did not end: the journal did not accept its
        record; then recovery ends the attempt at the next start.
        """
        self._stop.set(grace_s)
        self._wake.set()
        for _ in range(self.concurrency):
            self._handed_out.put(None)
        deadline = time.monotonic() + grace_s + _RECORDING_S
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        if any(thread.is_alive() for thread in self._threads):
            return False
        if self._leases is not None:
            self._leases.stop()
        self._stop.close()
        return True

    def wake(self) -> None:
        """Look for tasks that may start at once: limits may have changed."""
        self._wake.set()

    def held(self) -> set[str]:
        """The tasks that this daemon has in hand, or had until a moment ago, before the state shows it. Waits for nothing.

        Take it before the rows that it is compared with: then a task that ends meanwhile is in it.
        """
        return {*list(self._attempts), *self._dispatcher.in_flight()}

    def ended_threads(self) -> int:
        """Worker threads that have ended though nobody stopped them."""
        if self._stop.is_set() or self.error is not None:
            return 0
        return sum(not thread.is_alive() for thread in self._threads if thread.ident is not None)

    @property
    def breakers(self) -> Breakers:
        """What is known of the receivers of what is forwarded."""
        return self._context.breakers

    def blocked_routes(self) -> dict[str, BackingOff]:
        """Route → why its tasks wait for a receiver whose circuit breaker is open."""
        return self._context.breakers.blocked_routes()

    def waits(self) -> str | None:
        """Why it starts fewer than `concurrency`, or nothing: what the daemon is short of. None while it isn't."""
        return self._starts.waits()

    def all_busy(self) -> int | None:
        """How many tasks run at a time, where no more can begin now; None while there is room."""
        return self.concurrency if len(self._attempts) + len(self._elsewhere()) >= self.concurrency else None

    def stopped(self) -> str | None:
        """Why it starts nothing at all, None while it works."""
        return None if self.error is None else f"the daemon runs nothing more: {self.error}"

    def running(self) -> list[WorkerAttempt]:
        """The attempts that run, oldest first."""
        with self._lock:
            attempts = [attempt for attempt in self._attempts.values() if attempt.since]
        own = [WorkerAttempt(a.task.id, a.number, a.task.route, at_text(a.since)) for a in attempts]
        return sorted([*own, *self._elsewhere()], key=lambda one: one.since)

    # The dispatcher's thread

    def _dispatch(self) -> None:
        self.loop.done()
        while not self._stop.is_set() and self.error is None:
            try:
                if not self.recovered:
                    self._recover()
                    self.recovered = True
                wait = self._hand_out()
                self.loop.done()
                self._wake.wait(wait)
                self._wake.clear()
            except FATAL as error:
                self._give_up(error)
            except Exception as error:
                # No error may make queued tasks wait forever. Nothing was claimed here.
                self.loop.failed(error)
                self._readers.met(error)
                log.exception("the dispatcher could not go on; it begins again")
                self._dispatcher.reset()
                self._stop.wait(RETRY_S)
        self.loop.end()

    def _hand_out(self) -> float:
        """Hand out as many tasks as there are idle threads; the seconds after which to look again if nothing wakes it before."""
        if self._retry_later.is_set():
            self._stop.wait(RETRY_S)
            self._retry_later.clear()
        if time.monotonic() >= self._reap_at:
            reap()
            self._reap_at = time.monotonic() + REAP_S
        now = self._clock()
        conn = self._readers.reader()
        self._drop_lost(conn)
        self._record_queue_changes(conn, now)
        with self._lock:
            free = self._starts.allowed() - len(self._attempts) - len(self._elsewhere())
        if free <= 0:
            return min(POLL_S, self._starts.wait_s() or POLL_S)
        if not self._room():
            return RETRY_S
        due = self._dispatcher.next_due(conn, now)
        left = self._dispatcher.pick(conn, now, free, without=self.blocked_routes())
        try:
            while left:
                self._hand_out_one(left[0])
                left.pop(0)
        except OSError as error:
            if not is_shortage(error):
                raise
            if self._starts.failed(error):
                log.warning("%d picked tasks wait: %s", len(left), self._starts.waits())
        finally:
            for task in left:  # they would stay in flight, and be picked by nobody
                self._dispatcher.release(task, 0)
        waits = [POLL_S if due is None else max(seconds_or(due, now) - self._clock(), 0.001)]
        if (probe := self._context.breakers.next_probe_s()) is not None:
            waits.append(max(probe, 0.05))
        if (short := self._starts.wait_s()) is not None:
            waits.append(short)
        return min(POLL_S, *waits)

    def _hand_out_one(self, task: Task) -> None:
        url = task.policy.forward
        if url and not self._context.breakers.admit(target_of(url), task.route):
            self._dispatcher.release(task, 0)  # the one probe of its receiver is under way
            return
        try:
            attempt = Attempt(task, self._context)
        except BaseException:  # no descriptors left, for one
            if url:
                self._context.breakers.cancel(target_of(url))
            raise
        with self._lock:
            self._attempts[task.id] = attempt
        self._handed_out.put(attempt)

    def _drop_lost(self, conn: sqlite3.Connection) -> None:
        """End the attempts whose task is no longer theirs: cancelled, superseded, moved by another daemon's recovery."""
        with self._lock:
            folded = self._fold.folded
            mine = {id: a for id, a in self._attempts.items() if 0 < a.claim_seq <= folded and not a.ending}
        if not mine:
            return
        rows = conn.execute(_CLAIMS, (json.dumps(list(mine)),))
        held = {row["id"]: row["claim_seq"] for row in rows}
        for id, attempt in mine.items():
            if held.get(id) != attempt.claim_seq and not attempt.lost.is_set():
                log.info("task %s was taken from attempt %d: it is ended", id, attempt.number)
                attempt.revoke()

    def _record_queue_changes(self, conn: sqlite3.Connection, now: float) -> None:
        """Record superseded tasks. One that can't be recorded now is not picked either, and is found again."""
        try:
            while (last := self._dispatcher.record_queue_changes(conn, now)) and not self._stop.is_set():
                self._fold.wait_for(last, RETRY_S)
        except JournalError as error:
            if not may_pass(error):
                raise
            log.warning("outdated tasks wait to be recorded so: %s", error)

    def _recover(self) -> None:
        """Record the end of attempts that a dead process left running, after killing what remains of them.

        So no task runs twice at once.
        """
        head = self._journal.head().seq
        while not self._fold.wait_for(head, RETRY_S):
            self.loop.progress()
            if self._stop.is_set():
                return
        conn = self._readers.reader()
        tasks = running_without_lease(conn)
        if self._leases is not None:
            tasks += [task for task in running_pool_leases(conn) if self._leases.is_own(task)]
        # Noted are also the commands of tasks that were moved without a daemon meanwhile.
        marks = [*running.noted(self._data), *(mark for task in tasks for mark in self._marks_of(conn, task))]
        if marks and (killed := kill_leftovers(marks)):
            log.warning("ended %d processes that an earlier daemon had left running", len(killed))
        running.clear(self._data)
        entries = recover(tasks, self._clock())
        for start in range(0, len(entries), _RECOVERED_AT_ONCE):
            some = entries[start : start + _RECOVERED_AT_ONCE]
            if isinstance(self._append_retrying(some), Conflict):
                for entry in some:  # a Conflict here means that the task has moved: its attempt has ended already
                    self._append_retrying([entry])

    def _marks_of(self, conn: sqlite3.Connection, task: Task) -> Sequence[ProcessMarks]:
        """The fencing token by which the processes of a task's current attempt are known."""
        rows = conn.execute("SELECT fence FROM task_attempts WHERE task = ? AND attempt = ?", (task.id, task.attempts))
        return [ProcessMarks(row["fence"]) for row in rows if row["fence"]]

    def _append_retrying(self, entries: Sequence[Entry]) -> Appended | Conflict | None:
        """Append; retry whatever may pass, until the stop. None if it was stopped."""
        while True:
            self.loop.progress()
            try:
                return append_known(self._journal, entries, math.inf, stopped=self._stop.is_set)
            except JournalError as error:
                if not may_pass(error):
                    raise
                if isinstance(error, JournalFull) and self._context.on_full():
                    continue
                log.warning("recovery waits: %s", error)
            if self._stop.wait(RETRY_S):
                return None

    # The workers' threads

    def _work(self) -> None:
        while (attempt := self._handed_out.get()) is not None:
            ended: AttemptResult | None = None
            try:
                try:
                    if not self._stop.is_set() and self.error is None:
                        ended = attempt.run()
                finally:
                    attempt.close()
            except FATAL as error:
                self._give_up(error)
            except Exception:
                # An error in one task must not stop the others. What is claimed has its end recorded: this came before or after.
                log.exception("attempt %d of task %s broke", attempt.number, attempt.task.id)
            finally:
                self._dispatcher.release(attempt.task, attempt.last)
                with self._lock:
                    del self._attempts[attempt.task.id]
                if ended is None or ended is AttemptResult.NOT_CLAIMED:
                    self._retry_later.set()
                self._wake.set()

    def _give_up(self, error: Exception) -> None:
        """Run nothing more, since nothing can be recorded any more."""
        if self.error is None:
            self.error = str(error) or type(error).__name__
            log.error("the pool runs nothing more: %s", self.error)
        self._wake.set()

    def _delivery_of(self, task: Task) -> Record | None:
        seq = task.delivery_seq
        if seq is None:
            row = self._readers.reader().execute(_DELIVERY, (task.hook, task.guid)).fetchone()
            seq = row["seq"] if row is not None else None
        return self._journal.get(seq) if seq is not None else None
