"""The thread that carries out tasks of kind `act`: what comments have an operator do (`covenq.operate.commanded`).

It claims as the pool does, without a lease: what a dead process has left claimed is queued again by the pool's recovery, at the
next start or where another node takes over, and is done again, which changes nothing that was done.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from covenq.daemon.datadir import Storage
from covenq.errors import CovenqError, NotDurable, StateBehind
from covenq.model import Category, Kind, at_text
from covenq.operate.commanded import CHANGES_MAX, Commanded, carry_out, commanded, waiting_acts
from covenq.operate.daemon_context import DaemonContext
from covenq.rounds import Loop
from covenq.state.progress import FoldProgress
from covenq.state.readers import Readers
from covenq.tasks.execution.pool import worker_id
from covenq.tasks.scheduling.claim import RETRY_S, Claim, StaleClaim
from covenq.tasks.scheduling.outcome import Outcome, Task, ending_after
from covenq.text import counted
from journal.errors import JournalClosed, JournalError, JournalGone, JournalPoisoned, JournalReadOnly, may_pass

AT_ONCE = 64
"""Tasks that are read at a time."""
STOP_S = 2.0
"""Seconds for what is being done: records alone, and done again at the next start where it takes longer."""
POLL_S = 5.0
"""Seconds between looks where nothing wakes it: a task may have a time, and the clock may be set."""
OVERDUE_S = 60.0
_FATAL = (JournalClosed, JournalGone, JournalPoisoned, JournalReadOnly)
"""Errors of a journal that records nothing more in this process."""

log = logging.getLogger("covenq.daemon")


class Acts:
    """Carries them out one by one, in the order in which they were queued. One start, one stop."""

    def __init__(
        self, context: DaemonContext, readers: Readers, fold: FoldProgress, worker: str, node: str | None = None
    ) -> None:
        """`worker` is the id that its claims have, `node` the name of this node."""
        self.loop = Loop("acts", OVERDUE_S, "nothing is cancelled or retried that a comment asks for")
        self._context = context
        self._readers = readers
        self._fold = fold
        self._worker = worker
        self._node = node
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="acts", daemon=True)

    def start(self) -> None:
        self._fold.subscribe(self._on_fold)
        self._thread.start()

    def _on_fold(self, seq: int) -> None:
        if self._fold.moved_tasks:
            self._wake.set()

    def stop(self) -> None:
        """Begin nothing more, and wait for what is being done. What isn't done by then is, after the next start."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                done = self.round()
                self.loop.done()
                if not done:
                    self._wake.wait(POLL_S)
            except _FATAL as error:
                log.error("nothing more is done that comments ask for: %s", error)
                break
            except (CovenqError, JournalError, OSError, sqlite3.Error) as error:
                self.loop.failed(error)
                log.warning("what comments ask for waits: %s", error)
                self._stopping.wait(RETRY_S)
            except Exception as error:
                self.loop.failed(error)
                log.exception("what comments ask for can't be done now; it is tried again")
                self._stopping.wait(RETRY_S)
        self.loop.end()

    def round(self) -> int:
        """Carry out what waits: of how many tasks the end is recorded. Raises as the context does, and JournalError."""
        rows = waiting_acts(self._readers.reader(), at_text(self._context.clock()), AT_ONCE)
        return sum(not self._stopping.is_set() and self._carry_out(row) for row in rows)

    def _carry_out(self, row: sqlite3.Row) -> bool:
        """One task, from its claim to its end; False where it has moved meanwhile."""
        task, wanted = Task.from_row(row), commanded(row)
        claim = Claim.acquire(self._context.journal, task, self._worker, node=self._node)
        if claim is None:
            return False
        count, outcome = 0, Outcome(None, 0)
        try:
            if wanted is None:
                outcome = Outcome(Category.POLICY, detail="it doesn't say what is to be done, and to what", final=True)
            else:
                count = self._done_to(wanted, f"{task.hook}/{task.guid}")
        except _FATAL:
            raise
        except Exception as error:
            # It ends with a record, so that no task stays running that nobody runs, and the next has its turn.
            log.exception("task %s can't be carried out", task.id)
            detail = f"covenq itself failed ({type(error).__name__[:80]}); its log has the traceback"
            outcome = Outcome(Category.INTERNAL, detail=detail)
        if self._stopping.is_set():
            outcome = Outcome(Category.INTERRUPTED, detail="the daemon was stopped meanwhile")
        end = ending_after(
            task,
            claim.attempt,
            claim.seq,
            outcome,
            result=None,
            now=self._context.clock(),
            random=random.random,
        )
        notes = [(Kind.PHASE, claim.record_data(phase=f"done-to-{count}")), (end.kind, end.data)]
        try:
            self._persisting(lambda: _recorded(claim, notes))
        except StaleClaim:
            log.warning("task %s was moved while it was carried out", task.id)
        log.info("%s of %s/%s: done to %s", row["purpose"], task.hook, task.guid, counted(count, "task"))
        return True

    def _done_to(self, wanted: Commanded, delivery: str) -> int:
        """Do it until nothing more is found: to how many tasks it was done. Raises as `_persisting`."""
        count = 0
        for _ in range(CHANGES_MAX):
            done = self._persisting(lambda: carry_out(self._context, wanted, delivery))
            if not done:
                break
            count += done
        return count

    def _persisting(self, step: Callable[[], int]) -> int:
        """A step, tried again while it fails for what may pass, until the stop; 0 then. Raises whatever else it raises."""
        while True:
            try:
                return step()
            except (JournalError, NotDurable, StateBehind, OSError) as error:
                if isinstance(error, JournalError) and not may_pass(error):
                    raise
                self.loop.failed(error)
                log.warning("what a comment asks for waits: %s", error)
                if self._stopping.wait(RETRY_S):
                    return 0


def _recorded(claim: Claim, notes: Sequence[tuple[Kind, Mapping[str, object]]]) -> int:
    claim.record(notes)
    return len(notes)


def make_acts(context: DaemonContext, storage: Storage, cleanup: ExitStack) -> Acts:
    acts = Acts(context, storage.readers, storage.fold, worker_id(), storage.node.name or None)
    cleanup.callback(acts.stop)
    return acts
