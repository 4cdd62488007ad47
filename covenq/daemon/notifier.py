"""The daemon's notices ([notify]): one thread looks what holds, and one for each target sends what is owed.

Neither the intake nor tasks wait for any of it: what is looked at is what the status reads, and what is sent is sent by threads
of its own, which begin nothing more when the daemon stops. What can't be sent is kept (`covenq.operate.notify.outbox`), tried
again, and shown by the status, `covenq doctor`, the metrics and the log.

A poisoned journal ends the process within seconds: what is to be told of that is recorded at once (`tell`), and sent then if the
time is enough for it, else at the next start. A journal that is damaged at the start keeps the daemon from starting, and that is
told before the process ends (`tell_damage`).
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from covenq.config.live import Live, Snapshot
from covenq.config.notify import KINDS, Notify
from covenq.daemon.log_masking import LogMask
from covenq.errors import CovenqError
from covenq.http.api.status import StatusSources
from covenq.http.api.status import status as status_of
from covenq.model.notices import ENDED, Notice, Notices, NotifyStatus, OwedNotice, TargetStatus
from covenq.model.waiting import Cause
from covenq.operate.notify.conditions import Condition, LeftAlone, Observed, conditions
from covenq.operate.notify.failures import FailureWindow
from covenq.operate.notify.outbox import Outbox
from covenq.operate.notify.send import Said, Sender, sender_of
from covenq.operate.notify.transitions import Change
from covenq.operate.notify.wording import notice_of
from covenq.paths import NOTICES_NAME
from covenq.rounds import Loop
from covenq.tasks.execution.command import StopEvent
from covenq.tasks.execution.forward import target_of
from journal.errors import JournalError

EVERY_S = 5.0
"""How often it is looked what holds."""
OVERDUE_S = 120.0
"""Seconds without a look after which the thread is overdue."""
IDLE_S = 60.0
"""The longest that a thread that sends waits without looking at the clock, which may be set."""
LAST_TRY_S = 10.0
"""Seconds for each target, where the daemon can't start."""

log = logging.getLogger("covenq.notify")


class Observer:
    """What conditions are found in, read from what the status is read from. For one thread."""

    def __init__(self, sources: StatusSources) -> None:
        self._sources = sources
        self._failures = FailureWindow()

    def __call__(self, notify: Notify) -> Observed:
        """Raises sqlite3.Error, OSError, CovenqError, JournalError."""
        try:
            return self._observed(notify)
        except sqlite3.Error as error:
            self._sources.readers.met(error)
            raise

    def _observed(self, notify: Notify) -> Observed:
        sources = self._sources
        now = sources.clock()
        status = status_of(sources)
        ended = {}
        if "failures" in notify.on and not sources.alarms.is_far_behind:
            ended = self._failures.read(sources.readers.reader(), now, notify.failures.within_s)
        waits = {one.scope for one in status.waiting if one.cause == Cause.RECEIVER}
        used = {target_of(one.forward) for one in sources.config.config.routes if one.forward is not None}
        receivers = [
            LeftAlone(target, why, routes)
            for target, (why, routes) in sources.pool.breakers.left_alone().items()
            if target in used or any(f"route {route}" in waits for route in routes)
        ]
        for route in {route for one in receivers for route in one.routes}:
            self._failures.forget(route)  # the receiver failed, and is told of
            ended.pop(route, None)
        room = sources.admission.room()
        unknown = used - sources.pool.breakers.answering()
        return Observed(status, now, receivers, unknown, ended, None if room is None else room[0].kept)


@dataclass(slots=True)
class _Target:
    """How the sending goes, since the daemon's start."""

    thread: threading.Thread
    sent: int = 0
    failed: int = 0
    error: str | None = None


@dataclass(slots=True)
class _Threads:
    looking: threading.Thread | None = None
    targets: dict[str, _Target] = field(default_factory=dict)


class Notifier:
    """The threads and what they share. Methods may be called from any thread."""

    def __init__(
        self,
        live: Live,
        env: Mapping[str, str],
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        every_s: float = EVERY_S,
    ) -> None:
        """`path` is the outbox's file, which no other process may use meanwhile."""
        self.loop = Loop("notify", OVERDUE_S, "nobody is told of anything ([notify])")
        self._live = live
        self._env = env
        self._clock = clock
        self._every_s = every_s
        self._outbox = Outbox(path, log.error)
        self._wake = threading.Condition()
        self._look_now = threading.Event()
        self._looks = True
        self._ending = threading.Event()
        self._stop = StopEvent()
        self._threads = _Threads()
        self._look_error: str | None = None
        self._mask = LogMask()
        self._mask.use(lambda: live.now.keys)

    def sender(self) -> Sender:
        """By the configuration in effect. Raises Refused where nobody is told."""
        now = self._live.now
        return sender_of(now.config, self._env, now.keys, self._stop)

    def start(self, observe: Callable[[Notify], Observed]) -> None:
        """Begin to look, with `observe`, and to send what is owed."""
        self._live.subscribe(lambda before, now: self._look_now.set())
        self._threads.looking = threading.Thread(target=self._look_on, args=(observe,), name="notify", daemon=True)
        self._threads.looking.start()

    def tell(self, more: Sequence[Condition]) -> None:
        """Take in at once that these hold, beside what was told: for a process that is about to end."""
        notify = self._live.now.config.notify
        if notify is not None:
            self._took_in(notify, [*self._outbox.told().values(), *more], 0.0)

    def ask_stop(self) -> None:
        """Look no more: a daemon that stops receives nothing, which is no news. What is owed is sent till the stop."""
        self._looks = False
        self._look_now.set()

    def stop(self, timeout: float) -> None:
        """Begin no try any more, and end. A command that runs has half of the time for itself, and is ended then.

        A receiver that takes its time is left to the process's end: what is owed is kept.
        """
        self.ask_stop()
        self._ending.set()
        with self._wake:
            self._wake.notify_all()
        self._join(timeout / 2)
        self._stop.set(timeout / 4)
        self._join(timeout / 2)
        self._outbox.close()

    def _join(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        for thread in (self._threads.looking, *(one.thread for one in self._threads.targets.values())):
            if thread is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def status(self) -> NotifyStatus | None:
        """How it goes; None where nobody is told."""
        notify = self._live.now.config.notify
        if notify is None:
            return None
        owed, _ = self._outbox.listing()
        return NotifyStatus(
            targets=[self._target_status(to, owed) for to in notify.targets],
            holding=len(self._outbox.told()),
            untracked=self._outbox.untracked,
            error=self._outbox.error or self._look_error,
        )

    def notices(self) -> Notices:
        """What is owed, and what was sent."""
        owed, sent = self._outbox.listing()
        status = self.status()
        return Notices(configured=status is not None, owed=owed, sent=sent, status=status)

    def _target_status(self, to: str, owed: Sequence[OwedNotice]) -> TargetStatus:
        own = [one for one in owed if one.to == to]
        found = TargetStatus(to=to, owed=len(own))
        target = self._threads.targets.get(to)
        if target is not None:
            found.sent, found.failed = target.sent, target.failed
            found.error = target.error if own else None
        if found.error is not None:
            found.failing_since = min((one.notice.at for one in own), default=None)
            found.next_at = min((one.next_at for one in own if one.next_at is not None), default=None)
        return found

    # ---- looking

    def _look_on(self, observe: Callable[[Notify], Observed]) -> None:
        while self._looks:
            notify = self._live.now.config.notify
            if notify is None:  # nothing is looked at until a reload says who is told
                self._look_error = None
                self._outbox.forget()
                self.loop.end()
            else:
                self._look(notify, observe)
            self._look_now.wait(None if notify is None else self._every_s)
            self._look_now.clear()
        self.loop.end()

    def _look(self, notify: Notify, observe: Callable[[Notify], Observed]) -> None:
        if self.loop.age_s is None:
            self.loop.done()  # the watch begins
        try:
            self._start_targets(notify)
            seen = observe(notify)
            if self._looks:
                self._took_in(notify, conditions(seen, notify, self._outbox.told()), notify.debounce_s)
        except Exception as error:  # noqa: BLE001 - nothing of a look may end them all: it is shown, and tried again
            self._failed(error)
        else:
            self._look_error = None
            self.loop.done()

    def _took_in(self, notify: Notify, seen: Sequence[Condition], debounce_s: float) -> None:
        def notice(change: Change, now: float) -> Notice:
            return notice_of(change, now, mask=self._mask)

        seen = [one for one in seen if one.kind in notify.on]
        for one in self._outbox.look(seen, self._clock(), debounce_s, notify.on, notify.targets, notice):
            log.log(logging.INFO if one.state == ENDED else logging.WARNING, "%s %s: %s", one.kind, one.state, one.text)
        with self._wake:
            self._wake.notify_all()

    def _failed(self, error: Exception) -> None:
        """The type, not the text: an error may quote a payload. Those that are made for people have words."""
        words = str(error) if isinstance(error, CovenqError | JournalError) else type(error).__name__
        said = f"what holds can't be looked at: {words}"
        if said != self._look_error and self._looks:
            expected = isinstance(error, CovenqError | JournalError | OSError | sqlite3.Error)
            log.error("%s", said, exc_info=None if expected else error)
        self._look_error = said
        self.loop.failed(error)

    # ---- sending

    def _start_targets(self, notify: Notify) -> None:
        for to in notify.targets:
            if to not in self._threads.targets:
                thread = threading.Thread(target=self._send_on, args=(to,), name=f"notify {to}", daemon=True)
                self._threads.targets[to] = _Target(thread)
                try:
                    thread.start()
                except RuntimeError:
                    del self._threads.targets[to]  # the next look tries again
                    raise

    def _send_on(self, to: str) -> None:
        target = self._threads.targets[to]
        while not self._ending.is_set():
            with self._wake:
                if self._ending.is_set():
                    return
                one, wait_s = self._outbox.due(to, self._clock())
                if one is None:
                    self._wake.wait(IDLE_S if wait_s is None else min(IDLE_S, wait_s))
                    continue
            now = self._live.now
            if now.config.notify is None or to not in now.config.notify.targets:
                with self._wake:
                    self._wake.wait(IDLE_S)
                continue
            self._settle(to, target, one, self._tried(now, to, one.notice))

    def _tried(self, now: Snapshot, to: str, notice: Notice) -> Said:
        try:
            return sender_of(now.config, self._env, now.keys, self._stop).send(to, notice)
        except Exception as error:
            log.error("a try to tell of something failed", exc_info=error)
            return Said(False, f"a try failed: {type(error).__name__}")

    def _settle(self, to: str, target: _Target, one: OwedNotice, said: Said) -> None:
        now = self._clock()
        if said.ok:
            target.sent += 1
            if target.error is not None:
                log.info("notices are told to %s again", to)
            target.error = None
            self._outbox.taken(one, said.detail, now)
        elif not self._stop.is_set():
            target.failed += 1
            if target.error is None:
                log.error("a notice is not told to %s, and is tried again: %s", to, self._mask(said.detail))
            target.error = self._mask(said.detail)
            self._outbox.refused(one, target.error, now)


def tell_damage(now: Snapshot, env: Mapping[str, str], data: Path, error: JournalError) -> None:
    """Tell that a damaged journal keeps the daemon from starting: once each, until a start has found it whole.

    What isn't taken now is owed, and sent at the next start that comes so far. Not for a process that another one still serves
    beside, whose file it is; two that fail to start at the same moment may both tell it.
    """
    notify = now.config.notify
    if notify is None or "damage" not in notify.on:
        return
    mask = LogMask()
    mask.use(lambda: now.keys)
    outbox = Outbox(data / NOTICES_NAME, log.error)
    words = f"The journal is damaged, and the daemon does not start: {error}"
    seen = [*outbox.told().values(), Condition("damage", "journal", words, "covenq verify")]
    at = time.time()
    outbox.look(seen, at, 0.0, KINDS, notify.targets, lambda change, at: notice_of(change, at, mask=mask))
    quick = replace(notify, timeout_s=min(notify.timeout_s, LAST_TRY_S))
    sender = Sender(quick, env, now.keys, now.config.scrub)
    for to in notify.targets:
        one, _ = outbox.due(to, at)
        if one is None:
            continue
        said = sender.send(to, one.notice)
        if said.ok:
            outbox.taken(one, said.detail, at)
        else:
            log.error("a notice is not told to %s, and is owed: %s", to, mask(said.detail))
            outbox.refused(one, mask(said.detail), at)
