"""Looks after the follower: starts it, tells it the head, hears how far it is, and starts another when it dies.

What others of the daemon see is a `FoldProgress`. The daemon goes on without a follower: what comes in is accepted, and nothing
is started or shown that isn't folded. `folded` never goes back, since a follower that is started again opens the file only if it
is no further back than the last one told; else the daemon ends (`lost`), because what its tasks rest on is gone.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from covenq.daemon.follower_messages import (
    Begin,
    Busy,
    Damaged,
    Distrust,
    Ended,
    Failing,
    Folded,
    Head,
    Logged,
    Marked,
    Message,
    Opened,
    Recovered,
    Scrub,
    Scrubbed,
    Stop,
    Suspect,
    encoded,
)
from covenq.daemon.follower_process import FollowerProcess
from covenq.errors import CovenqError, DiskFull, StopAsked
from covenq.model.status import FollowerStatus
from covenq.rounds import Loop
from covenq.state.progress import FoldProgress
from covenq.text import duration
from journal.errors import JournalDamaged, JournalError
from journal.interface import Journal
from journal.records import NO_SUM, Witness

OPEN_S = 60.0
"""Seconds in which a follower opens the state: it may wait for a lock, and makes the tables."""
SILENT_S = 120.0
"""Seconds without a word of a follower that has something to fold, after which another is started in its place."""
OVERDUE_S = 60.0
END_S = 5.0
"""Seconds in which a follower ends whose socket is closed; then it is killed."""
SCRUB_S = 30.0
MARK_S = 10.0
"""Seconds after which the follower is told again to mark a damaged file, until it says that it has."""
BATCH_DELAY_S = 0.05
"""Seconds in which a batch grows, at most: a transaction of many records costs little more than one of a few."""
POLL_S = 0.25
LOG_S = 10.0
RESTARTS_S = (0.0, 0.2, 1.0, 5.0)
"""Seconds before a follower is started again that has ended by itself: the first time, and each time after that."""
DEATHS, DEATHS_S = 4, 600.0
"""Deaths in so many seconds that are an alarm."""
STEADY_S = 60.0
"""Seconds that a follower has to live for the next to be started at once."""

_SEE_LOG = "The log above has what it wrote. Is covenq installed as a whole, for this Python?"

log = logging.getLogger("covenq.daemon")


class FollowerWatch(Loop):
    """The rounds of the fold, and how often it died: one that can't stay up is overdue even though it comes round."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__("fold", OVERDUE_S, "what is shown is old, and no new task is started", monotonic)
        self._now = monotonic
        self._deaths: deque[float] = deque(maxlen=DEATHS)

    def died(self) -> None:
        """It ended by itself."""
        self._deaths.append(self._now())

    @property
    def overdue(self) -> str | None:
        """See `Loop.overdue`."""
        deaths = self._deaths
        if len(deaths) == DEATHS and self._now() - deaths[0] <= DEATHS_S:
            return (
                f"the process that folds has ended {DEATHS} times in {duration(DEATHS_S)}, and is started again each time: "
                "meanwhile what is shown is old, and no new task is started"
            )
        return super().overdue


class Following(FoldProgress):
    """The follower's supervision. `open`, `check` and `stop` are for the main thread, everything else for any."""

    still_hint = (
        f"Nothing is lost, and deliveries are accepted meanwhile: it is replaced after {SILENT_S:.0f} s of silence."
    )

    def __init__(
        self,
        state: Path,
        address: str | Path,
        *,
        on_full: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the process, which imports what it needs meanwhile. `on_full` makes room on a full disk. Raises OSError."""
        super().__init__(self._newest, monotonic=monotonic)
        self.loop = FollowerWatch(monotonic)
        self.restarts = 0
        """How often another had to be started."""
        self.lost: str | None = None
        """Why no follower can be started again, in a sentence: the daemon has to end."""
        self._state = state
        self._address = address
        self._on_full = on_full
        self._journal: Journal | None = None
        self._told: int | None = None
        """The newest head that the running follower was told; None until it has opened the state."""
        self._ended_word: Ended | None = None
        self._ended_of: str | None = None
        """The damage that the last one ended with: it is logged once, however many find it again."""
        self._scrubbed: bool | None = None
        self._scrubbing = threading.Lock()
        self._marked = False
        """Whether the damaged file is marked."""
        self._mark_at: float | None = None
        """When the follower is to be told to mark it; None where nothing is to be marked."""
        self._heard_at = self._checked_at = monotonic()
        self._tries = 0
        self._logged_at = monotonic()
        self._start_at: float | None = None
        """When another is to be started; None while one runs."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fold-heads", daemon=True)
        self._started_at = monotonic()
        self._process = self._start_process()

    @property
    def pid(self) -> int:
        """The follower's process, or that of the last one."""
        return self._process.pid

    @property
    def who(self) -> str:
        """See `FoldProgress.who`."""
        return f"the process that folds it (pid {self.pid})"

    def status(self) -> FollowerStatus:
        return FollowerStatus(self.pid, self.restarts)

    # ---- its start

    def open(self, journal: Journal, stopped: Callable[[], bool] = lambda: False) -> None:
        """Have it open the state of `journal`. Raises JournalDamaged, DiskFull and CovenqError, as `StateStore` does.

        StopAsked once `stopped()`: a follower that hangs must not keep a daemon from ending. One that is killed meanwhile is
        started again, as later too.
        """
        self._journal = journal
        for last in (False, False, True):
            if self._process.ended() is not None:
                self._process.end(END_S)
                self._start()
            self._begin(None)
            opened = self._wait_opened(stopped)
            how = self._process.ended()
            if last or self._told is not None or self._ended_word is not None or not (how or "").startswith("signal"):
                break
            log.error("the follower has ended (%s) while it opened the state: another is started", how)
        word = self._ended_word
        if word is not None:
            self._ended_word = None
            if word.damage:
                raise JournalDamaged(list(word.damage))
            raise (DiskFull if word.full else CovenqError)(word.error, hint=word.hint or None)
        if not opened or self._told is None:
            why = self._process.ended() or f"no word in {OPEN_S:g} s"
            raise CovenqError(f"the process that folds the journal doesn't open {self._state}: {why}", hint=_SEE_LOG)

    def _wait_opened(self, stopped: Callable[[], bool]) -> bool:
        """Wait until it has opened the state or ended, or for OPEN_S; whether it has. Raises StopAsked."""
        for _ in range(round(OPEN_S / POLL_S)):
            if stopped():
                raise StopAsked("the daemon was asked to stop while the state was opened")
            with self.changed:
                if self.changed.wait_for(
                    lambda: self._told is not None or self._ended_word is not None or self._process.ended() is not None,
                    POLL_S,
                ):
                    return True
        return False

    def start(self) -> None:
        """Begin to tell it what is durable."""
        self.loop.done()
        self._thread.start()

    def _begin(self, at_least: Witness | None) -> None:
        assert self._journal is not None
        head = self._journal.head().seq
        self._process.tell(Begin(encoded(self._address), encoded(self._state), head, os.getpid(), at_least))

    def _start_process(self) -> FollowerProcess:
        """Raises OSError."""
        return FollowerProcess(self._hear, self._gone, database=isinstance(self._address, str))

    def _start(self) -> None:
        """Another process in place of the one that is gone."""
        self._started_at = self._heard_at = self._monotonic()
        self._process = self._start_process()

    # ---- looking after it

    def check(self) -> None:
        """Start another if it has died; end one that is behind and silent. Some times a second."""
        now = self._monotonic()
        if now - self._checked_at > OVERDUE_S:
            self._heard_at = now  # this process itself was stopped: what it was told meanwhile it has not read yet
        self._checked_at = now
        self._log_far_behind(now)
        if self._start_at is not None:
            if now >= self._start_at and self.lost is None:
                self._restart()
            return
        how = self._process.ended()
        if how is None:
            self._have_it_marked(now)
            if self._told is not None and self._folded >= self._told:
                self._heard_at = self._moved_at = now
                if self._error is None:
                    self.loop.done()
            elif now - self._heard_at > SILENT_S:
                log.error("the follower has been silent for %.0f s: another is started", now - self._heard_at)
                self._process.kill()
            return
        self._died(how, now)

    def distrust(self) -> None:
        """See `FoldProgress.distrust`. The follower is told by `check`: whoever read doesn't wait for it."""
        if not self.distrusted:
            log.error("%s is damaged; restart the daemon, and it is made anew", self._state.name)
            super().distrust()
            self._mark_at = self._monotonic()

    def _have_it_marked(self, now: float) -> None:
        """Told again where it failed, or where the follower died before it had done it."""
        if self._mark_at is not None and not self._marked and now >= self._mark_at and self._told is not None:
            self._mark_at = now + MARK_S
            self._process.tell(Distrust())

    def _log_far_behind(self, now: float) -> None:
        left_s = self.left_s
        if left_s is not None and now - self._logged_at >= LOG_S:
            self._logged_at = now
            head = self._newest()
            log.info("state.db has %d of %d records, and the rest in about %s", self._folded, head, duration(left_s))

    def _died(self, how: str, now: float) -> None:
        self._process.end(END_S)
        self.loop.died()
        word, self._ended_word = self._ended_word, None
        with self.changed:
            self._told = None
            self.changed.notify_all()
        if word is not None and word.lost:
            self.lost = word.error
            self.failed(word.error)
            return
        why = how if word is None else word.error
        self._tries = 0 if now - self._started_at >= STEADY_S else self._tries + 1
        self._start_at = now + RESTARTS_S[min(self._tries, len(RESTARTS_S) - 1)]
        if why != self._ended_of:
            log.error("the follower has ended (%s): another is started", why)
        self._ended_of = why if word is not None and word.damage else None
        damage = JournalDamaged(list(word.damage)) if word is not None and word.damage else self.damage
        self.failed(f"the process that folds the journal has ended ({why}), and another is started", damage=damage)

    def _restart(self) -> None:
        try:
            at_least = self._position()
            self._start()
        except (OSError, JournalError) as error:
            self._start_at = self._monotonic() + RESTARTS_S[-1]
            why = error.strerror if isinstance(error, OSError) else error
            said = f"the process that folds the journal can't be started: {why}"
            if said != self._error:
                log.error("%s; it is tried again", said)
            self.failed(said)
            return
        self._start_at = None
        self.restarts += 1
        self._begin(at_least)

    def _position(self) -> Witness:
        """Where the last one had folded to. Raises JournalError and OSError: the record is read."""
        assert self._journal is not None
        record = self._journal.get(self._folded) if self._folded else None
        return (
            Witness(self._journal.id, 0, NO_SUM)
            if record is None
            else Witness(self._journal.id, record.seq, record.sum)
        )

    def stop(self, timeout: float = 10.0) -> None:
        """Have it fold what is durable now, for half of `timeout` at most, and end. The next start folds the rest."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        with self.changed:
            self.changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        if self._told is not None and self._journal is not None:
            if self.distrusted and not self._marked:
                self._process.tell(Distrust())
                with self.changed:
                    self.changed.wait_for(lambda: self._marked or self._process.ended() is not None, timeout / 4)
            self._process.tell(Head(self._journal.head().seq))
            self._process.tell(Stop(timeout / 2))
            self._process.wait(0.8 * timeout)  # half of it, and a batch
        # What it has not folded by then it need not: whatever it is doing, it is cut short as by a crash.
        self._process.kill()
        self._process.end(END_S)
        self.loop.end()
        self.ended()

    # ---- what is told

    def _run(self) -> None:
        """Tell the head when it moves, each time the last one is folded; between, batches grow.

        Where a record of a task was folded, only as long as that took, since workers wait for tasks; and not at all when somebody
        waits for what isn't told.
        """
        journal = self._journal
        assert journal is not None
        while not self._stopping.is_set():
            told = self._told
            if told is None:
                with self.changed:
                    self.changed.wait_for(lambda: self._told is not None or self._stopping.is_set(), POLL_S)
                continue
            if not journal.wait(told, POLL_S):
                self._stopping.wait(0.01)  # a journal that is closed or poisoned answers at once
                continue
            began = self._monotonic()
            if not self._tell(journal.head().seq):
                self._stopping.wait(0.01)
                continue
            took = self._monotonic() - began
            delay = min(took, BATCH_DELAY_S) if self.moved_tasks else BATCH_DELAY_S
            with self.changed:
                self.changed.wait_for(lambda: self.awaited > self._folded or self._stopping.is_set(), delay)

    def _tell(self, head: int) -> bool:
        """Tell it, and wait until that is folded; False if there is no follower any more."""
        with self.changed:
            if self._told is None:
                return False
            self._told = head
        self._heard_at = self._monotonic()
        self._process.tell(Head(head))
        with self.changed:
            self.changed.wait_for(lambda: self._folded >= head or self._told != head or self._stopping.is_set())
            return self._folded >= head

    def scrub(self) -> bool:
        """Have the write-ahead log emptied, so that it holds no erased content; False if that can't be done now."""
        with self._scrubbing:
            self._scrubbed = None
            if self._told is None or not self._process.tell(Scrub()):
                return False
            with self.changed:
                self.changed.wait_for(
                    lambda: self._scrubbed is not None or self._told is None or self._stopping.is_set(), SCRUB_S
                )
            return bool(self._scrubbed)

    # ---- what is heard

    def _hear(self, process: FollowerProcess, message: Message) -> None:
        if process is not self._process:
            return
        self._heard_at = self._monotonic()
        match message:
            case Folded(seq, moved_tasks):
                self.loop.progress()
                self.advanced(seq, moved_tasks=moved_tasks)
            case Opened(seq):
                self._told = seq
                self._ended_of = None
                if self.damage is None:  # which only a fold past it can disprove
                    self.recovered()
                self.advanced(seq, moved_tasks=True)
            case Failing(error, full):
                if self._error is None:
                    log.error("the state makes no progress, and it is tried again: %s", error)
                self.failed(error, full=full)
                if full:
                    self._on_full()
            case Damaged(error, damage):
                self.failed(error, damage=JournalDamaged(list(damage)))
            case Recovered():
                if self._error is not None:
                    log.info("the state makes progress again")
                self.recovered()
            case Ended():
                with self.changed:
                    self._ended_word = message
                    self.changed.notify_all()
            case Suspect():
                self.distrust()
            case Marked():
                with self.changed:
                    self._marked = True
                    self.changed.notify_all()
            case Scrubbed() | Busy():
                with self.changed:
                    self._scrubbed = isinstance(message, Scrubbed)
                    self.changed.notify_all()
            case Logged(level, logger, text):
                logging.getLogger(logger).log(level, "%s", text)

    def _gone(self) -> None:
        """The process has closed its end: who waits for a word of it looks again."""
        with self.changed:
            self.changed.notify_all()

    def _newest(self) -> int:
        return 0 if self._journal is None else self._journal.head().seq
