"""The pool: picks queued tasks, runs them in threads, and closes what a dead daemon left running.

One dispatcher picks; each of the pool's threads claims, runs and records one task at a time. The claims and ends of
several tasks are therefore appended by several threads at once, and share the journal's group commits.
"""

from __future__ import annotations

import json
import logging
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
from pathlib import Path

from covenq.config.resources import OUTPUT_LIMIT
from covenq.model import JsonObject, at_text, seconds_of
from covenq.state.follow import Folder
from covenq.state.store import StateStore
from covenq.tasks.execution.attempt import NOT_NOW, Attempt, AttemptContext, Ended
from covenq.tasks.execution.command import Stop
from covenq.tasks.execution.forward import target_of
from covenq.tasks.execution.process_tree import Trace, kill_leftovers, read_mark, reap
from covenq.tasks.execution.scrub import Scrubber
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.scheduling.claim import AGAIN_S
from covenq.tasks.scheduling.dispatcher import Dispatcher
from covenq.tasks.scheduling.interruption import recover, running_without_lease
from covenq.tasks.scheduling.outcome import Task
from journal.errors import JournalClosed, JournalFull, JournalGone, JournalPoisoned, JournalReadOnly
from journal.interface import Journal
from journal.records import Conflict, Entry, Record, Unknown

log = logging.getLogger("covenq.worker")

LOOK_AGAIN_S = 5.0
"""The clock may be set: what waits for a time is looked at this often, whatever the clock said when it was last read."""
REAP_S = 1.0
"""Seconds between looks for orphans that ended: each goes through /proc, and every fold wakes the dispatcher."""

_RECOVERED_AT_ONCE = 256
_CLAIMS = "SELECT id, claim_seq FROM tasks WHERE id IN (SELECT value FROM json_each(?))"
_JOURNAL_OVER = (JournalClosed, JournalGone, JournalPoisoned, JournalReadOnly)
_RECORDING_S = 10.0  # beyond the grace, how long a stop waits for the last records


def worker_id() -> str:
    """Unique to this start of this process: `<host>-<pid>-<6 hex digits>`, within a subject token's alphabet."""
    host = re.sub(r"[^0-9A-Za-z]+", "-", socket.gethostname())[:32].strip("-") or "host"
    return f"{host}-{os.getpid()}-{secrets.token_hex(3)}"


class Pool:
    """Runs queued tasks, `concurrency` at a time. One start, one stop.

    It trusts that it is the only user of the data directory (the journal's lock) when it starts: what is then running
    without a lease was running in a process that is dead.
    """

    def __init__(
        self,
        journal: Journal,
        store: StateStore,
        folder: Folder,
        data: Path,
        *,
        dispatcher: Dispatcher | None = None,
        concurrency: int = 4,
        worker: str | None = None,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
        grace_s: float = 5.0,
        output_limit: int = OUTPUT_LIMIT,
        scrubber: Callable[[Sequence[bytes]], Scrubber] = lambda secrets: Scrubber((), secrets),
        room: Callable[[], bool] = lambda: True,
        on_full: Callable[[], bool] = lambda: False,
    ) -> None:
        """`data` is the data directory; `dispatcher` is shared with whoever else hands tasks out. `grace_s` is what a
        command has between SIGTERM and SIGKILL at its timeout.

        No task is begun while `room` says that the disk is low: what is left is for the ends of those that run. `on_full`
        makes room for those when there is none, and says whether it could.
        """
        self.id = worker or worker_id()
        self.concurrency = concurrency
        self.error: str | None = None
        """Why it no longer runs anything: the journal's own words. None while it works."""
        self._journal = journal
        self._store = store
        self._folder = folder
        self._data = data.absolute()
        self._clock = clock
        self._room = room
        self._stop = Stop()
        self._around = AttemptContext(
            journal=journal,
            data=self._data,
            worker=self.id,
            stop=self._stop,
            environ=dict(os.environ if environ is None else environ),
            clock=clock,
            random=random,
            grace_s=grace_s,
            output_limit=output_limit,
            delivery_of=self._delivery_of,
            scrubber=scrubber,
            on_full=on_full,
        )
        self._dispatcher = dispatcher or Dispatcher(journal, lambda: folder.folded)
        self._wake = threading.Event()
        self._again = threading.Event()
        """Set when something that was picked was not begun: not to be picked again at once, as it may go the same way."""
        self._handed: queue.SimpleQueue[Attempt | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._attempts: dict[str, Attempt] = {}
        """Task id → what was handed out and has not ended."""
        self._threads: list[threading.Thread] = []
        self._reap_at = 0.0

    def start(self) -> None:
        """Begin, with the tasks that a dead process left running. Returns at once."""
        names = ["dispatcher", *(f"worker-{n}" for n in range(1, self.concurrency + 1))]
        targets = [self._dispatch] + [self._work] * self.concurrency
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True) for name, target in zip(names, targets, strict=True)
        ]
        self._folder.subscribe(lambda seq: self._wake.set())
        for thread in self._threads:
            thread.start()

    def stop(self, grace_s: float = 5.0) -> bool:
        """End what runs (SIGTERM to each group, SIGKILL after `grace_s`), record it as interrupted, end the threads.

        The tasks are queued again and lose no retry. False if some thread did not end: the journal did not take its
        record; then recovery sees the task at the next start.
        """
        self._stop.set(grace_s)
        self._wake.set()
        for _ in range(self.concurrency):
            self._handed.put(None)
        deadline = time.monotonic() + grace_s + _RECORDING_S
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        if any(thread.is_alive() for thread in self._threads):
            return False
        self._stop.close()
        return True

    def look(self) -> None:
        """Look at once for what may start: limits have changed, perhaps."""
        self._wake.set()

    def waiting(self) -> dict[str, str]:
        """Route → why its tasks wait for a receiver that is left alone for a while."""
        return self._around.breakers.waiting()

    def running(self) -> list[JsonObject]:
        """What is in hand: `task`, `attempt`, `route` and `since` (RFC 3339), oldest first."""
        with self._lock:
            attempts = [attempt for attempt in self._attempts.values() if attempt.since]
        return [
            {"task": a.task.id, "attempt": a.number, "route": a.task.route, "since": at_text(a.since)}
            for a in sorted(attempts, key=lambda a: a.since)
        ]

    # The dispatcher's thread

    def _dispatch(self) -> None:
        recovered = False
        while not self._stop.is_set() and self.error is None:
            try:
                if not recovered:
                    self._recover()
                    recovered = True
                self._wake.wait(self._hand_out())
                self._wake.clear()
            except _JOURNAL_OVER as error:
                self._give_up(error)
            except Exception:
                # Whatever it was, queued work must not wait for ever because of it. Nothing was claimed here.
                log.exception("the dispatcher could not go on; it begins again")
                self._dispatcher.look_again()
                self._stop.wait(AGAIN_S)

    def _hand_out(self) -> float:
        """Hand out as many tasks as there are idle threads; seconds until there may be more without a sign."""
        if self._again.is_set():
            self._stop.wait(AGAIN_S)
            self._again.clear()
        if time.monotonic() >= self._reap_at:
            reap()
            self._reap_at = time.monotonic() + REAP_S
        now = self._clock()
        conn = self._store.reader()
        self._drop_lost(conn)
        self._outdate(conn, now)
        with self._lock:
            free = self.concurrency - len(self._attempts)
        if free <= 0:
            return LOOK_AGAIN_S
        if not self._room():
            return AGAIN_S
        tasks = self._dispatcher.pick(conn, now, free, without=self.waiting())
        due = self._dispatcher.next_due(conn, now)
        for task in tasks:
            url = task.policy.forward
            if url and not self._around.breakers.admit(target_of(url), task.route):
                self._dispatcher.release(task, 0)  # the one probe of its receiver is under way
                continue
            attempt = Attempt(task, self._around)
            with self._lock:
                self._attempts[task.id] = attempt
            self._handed.put(attempt)
        waits = [LOOK_AGAIN_S if due is None else max(seconds_of(due) - self._clock(), 0.001)]
        if (probe := self._around.breakers.next_s()) is not None:
            waits.append(max(probe, 0.05))
        return min(LOOK_AGAIN_S, *waits)

    def _drop_lost(self, conn: sqlite3.Connection) -> None:
        """End the attempts whose task somebody took away: cancelled, superseded, moved by another daemon's recovery."""
        with self._lock:
            folded = self._folder.folded
            mine = {id: a for id, a in self._attempts.items() if 0 < a.claim_seq <= folded and not a.over}
        if not mine:
            return
        rows = conn.execute(_CLAIMS, (json.dumps(list(mine)),))
        held = {row["id"]: row["claim_seq"] for row in rows}
        for id, attempt in mine.items():
            if held.get(id) != attempt.claim_seq and not attempt.lost.is_set():
                log.info("task %s was taken from attempt %d: it is ended", id, attempt.number)
                attempt.lose()

    def _outdate(self, conn: sqlite3.Connection, now: float) -> None:
        """Record what newer tasks have outdated. What can't be recorded now is not picked either, and found again."""
        try:
            while (last := self._dispatcher.outdate(conn, now)) and not self._stop.is_set():
                self._folder.wait_for(last, AGAIN_S)
        except NOT_NOW as error:
            log.warning("outdated tasks wait to be recorded so: %s", error)

    def _recover(self) -> None:
        """Close what a dead process left running, after ending what is left of it, so that none runs twice at once."""
        head = self._journal.head().seq
        while not self._folder.wait_for(head, AGAIN_S):
            if self._stop.is_set():
                return
        conn = self._store.reader()
        tasks = running_without_lease(conn)
        if not tasks:
            return
        killed = kill_leftovers([trace for task in tasks for trace in self._traces(conn, task)])
        if killed:
            log.warning("ended %d processes that an earlier daemon had left running", len(killed))
        entries = recover(tasks, self._clock())
        for start in range(0, len(entries), _RECOVERED_AT_ONCE):
            some = entries[start : start + _RECOVERED_AT_ONCE]
            if isinstance(self._append_held(some), Conflict):
                for entry in some:
                    self._append_held([entry])  # a Conflict here is a task that somebody moved: it is not ours to close

    def _traces(self, conn: sqlite3.Connection, task: Task) -> Sequence[Trace]:
        """What is known of the processes of a task's current attempt."""
        try:
            place = AttemptDirectory.of(self._data, task.id, task.attempts)
        except ValueError:
            return []
        rows = conn.execute("SELECT fence FROM task_attempts WHERE task = ? AND attempt = ?", (task.id, task.attempts))
        return [Trace(row["fence"], read_mark(place.process)) for row in rows if row["fence"]]

    def _append_held(self, entries: Sequence[Entry]) -> object:
        """Append; while the disk is full or no answer comes, again, until the stop."""
        while True:
            try:
                answer = self._journal.append(entries)
                if not isinstance(answer, Unknown):
                    return answer
            except NOT_NOW as error:
                if isinstance(error, JournalFull) and self._around.on_full():
                    continue
                log.warning("recovery waits: %s", error)
            if self._stop.wait(AGAIN_S):
                return None

    # The workers' threads

    def _work(self) -> None:
        while (attempt := self._handed.get()) is not None:
            ended: Ended | None = None
            try:
                if not self._stop.is_set() and self.error is None:
                    ended = attempt.run()
            except _JOURNAL_OVER as error:
                self._give_up(error)
            except Exception:
                # One task's trouble must not stop the others. It shows as running until a restart closes it.
                log.exception("attempt %d of task %s broke", attempt.number, attempt.task.id)
            finally:
                attempt.close()
                self._dispatcher.release(attempt.task, attempt.last)
                with self._lock:
                    del self._attempts[attempt.task.id]
                if ended is None or ended is Ended.FULL:
                    self._again.set()
                self._wake.set()

    def _give_up(self, error: Exception) -> None:
        """Nothing can be recorded any more, so nothing may be begun."""
        if self.error is None:
            self.error = str(error) or type(error).__name__
            log.error("the pool runs nothing more: %s", self.error)
        self._wake.set()

    def _delivery_of(self, task: Task) -> Record | None:
        seq = task.delivery_seq
        if seq is None:
            row = (
                self._store.reader()
                .execute("SELECT seq FROM webhook_deliveries WHERE hook = ? AND guid = ?", (task.hook, task.guid))
                .fetchone()
            )
            seq = row["seq"] if row is not None else None
        return self._journal.get(seq) if seq is not None else None
