"""How far state.db is folded, why it gets no further, and waiting for it.

Who folds reports it (`covenq.state.follow`), in a daemon from another process (`covenq.daemon.following`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from covenq.errors import StateBehind
from covenq.model import at_text
from covenq.state.fold_rate import STILL_S, FoldRate
from covenq.text import counted, duration
from journal.errors import JournalDamaged

_FREE_SPACE = "Free space on the data directory's disk: the state catches up by itself, and nothing is lost."

_LATER = "Nothing is lost, and deliveries are accepted meanwhile: try again in {}."

DAMAGED = "state.db is damaged, which a reader came upon: some of what is asked for can't be answered"
"""An alarm, for anybody."""

STUCK_S = 2.0
"""Seconds of tries that failed after which who waits for the fold is told so, instead of waiting on."""


class FoldReport(Protocol):
    """What a fold says of itself, from its own thread; nothing here may raise or block for long."""

    def advanced(self, seq: int, *, moved_tasks: bool) -> None:
        """A batch is committed, up to `seq`; `moved_tasks` says whether it had a record of a task."""

    def failed(self, error: str, *, full: bool = False, damage: JournalDamaged | None = None) -> None:
        """A try has failed, and is repeated: why, whether the disk is full, and the damage if that is why.

        Damage is known until a try succeeds, whatever else is in the way meanwhile.
        """

    def recovered(self) -> None:
        """A try has succeeded."""

    def distrust(self) -> None:
        """Damage of the file was met that the fold need not meet: see that the next start makes it anew."""


class FoldProgress:
    """The progress of one fold, as others see it. Methods may be called from any thread."""

    still_hint: str | None = None
    """What is done, and by whom, about a fold that stands still."""

    def __init__(
        self,
        head: Callable[[], int],
        folded: int = 0,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`head` returns the newest durable seq, `folded` is the newest that is folded."""
        self._clock = clock
        self._moved_at = monotonic()
        """When it folded something last, or had nothing to fold."""
        self._head = head
        self._folded = folded
        self._monotonic = monotonic
        self.changed = threading.Condition()
        """Notified of everything that is reported, and of who waits."""
        self.awaited = 0
        """The newest seq that a caller of `wait_for` waits for."""
        self.moved_tasks = False
        """Whether the batch folded last had a record of a task."""
        self._rate = FoldRate(monotonic)
        self._callbacks: tuple[Callable[[int], None], ...] = ()
        self._ended = False
        self._error: str | None = None
        self._failed_at: float | None = None
        """When the first of the tries failed that have failed since the last that didn't."""
        self._full = False
        self._damage: JournalDamaged | None = None
        self.distrusted = False
        """Whether a reader has met damage of the file: the next start makes it anew."""

    @property
    def folded(self) -> int:
        """The newest seq that readers can see. It never goes back."""
        return self._folded

    @property
    def lag(self) -> int:
        """How many records are durable and not yet folded."""
        return max(0, self._head() - self._folded)

    @property
    def left_s(self) -> float | None:
        """Seconds until it has caught up, at its present rate; None where that is near, or can't be told."""
        return self._rate.left_s(self._folded, self.lag)

    @property
    def still_since(self) -> str | None:
        """When it folded something last, or had nothing to fold; None unless it is behind and that is STILL_S ago."""
        still_s = self._monotonic() - self._moved_at
        return at_text(self._clock() - still_s) if still_s >= STILL_S and self.lag else None

    @property
    def who(self) -> str:
        """What folds, in words."""
        return "what folds it"

    @property
    def error(self) -> str | None:
        """Why the fold makes no progress, in one sentence; None while it does."""
        return self._error

    @property
    def stuck(self) -> bool:
        """Whether it has failed for STUCK_S, and goes on failing: waiting for it is of no use."""
        failed_at = self._failed_at
        return failed_at is not None and self._monotonic() - failed_at >= STUCK_S

    @property
    def damage(self) -> JournalDamaged | None:
        """The damage to the journal, if that is why the fold makes no progress."""
        return self._damage

    def behind(self) -> StateBehind:
        """The error that what was waited for isn't folded."""
        left, still_since = self.left_s, self.still_since
        if still_since is not None and self._error is None:
            words = f"{self.who} has folded nothing since {still_since[11:19]}Z"
            return StateBehind(
                f"the state is {counted(self.lag, 'record')} behind the journal: {words}", hint=self.still_hint
            )
        hint = _FREE_SPACE if self._full else None if left is None else _LATER.format(duration(left))
        why = f": {self._error}" if self._error else ""
        until = "" if left is None or self._error else f", and has caught up in about {duration(left)}"
        return StateBehind(f"the state is {counted(self.lag, 'record')} behind the journal{why}{until}", hint=hint)

    def distrust(self) -> None:
        """See `FoldReport`; readers say it, too."""
        self.distrusted = True

    def subscribe(self, callback: Callable[[int], None]) -> None:
        """Call `callback` with the new seq after each batch, on the reporting thread: it must neither block nor raise."""
        with self.changed:
            self._callbacks = (*self._callbacks, callback)

    def wait_for(self, seq: int, timeout: float, unless: Callable[[], bool] = lambda: False) -> bool:
        """Block until the state has folded `seq` (True), or `timeout` seconds passed, the fold ended or `unless` holds (False).

        `unless` is evaluated whenever the fold has advanced, or failed.
        """
        if self._folded >= seq:
            return True
        with self.changed:
            self.awaited = max(self.awaited, seq)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self._folded >= seq or self._ended or unless(), timeout)
        return self._folded >= seq

    def reach(self, seq: int, timeout: float) -> bool:
        """As `wait_for`, but wait only until it is stuck, or damage is found before `seq`. Raises JournalDamaged for that."""
        if self.wait_for(seq, timeout, lambda: self._damage is not None or self.stuck):
            return True
        damage = self._damage
        if damage is not None:
            raise JournalDamaged(damage.damage)
        return False

    # ---- the report

    def advanced(self, seq: int, *, moved_tasks: bool) -> None:
        """See `FoldReport`."""
        with self.changed:
            if seq > self._folded:
                self._folded, self._moved_at = seq, self._monotonic()
            self._rate.note(self._folded)
            self.moved_tasks = moved_tasks
            self.changed.notify_all()
            callbacks = self._callbacks
        for callback in callbacks:
            callback(seq)

    def failed(self, error: str, *, full: bool = False, damage: JournalDamaged | None = None) -> None:
        """See `FoldReport`."""
        with self.changed:
            if self._failed_at is None:
                self._failed_at = self._monotonic()
            self._error, self._full = error, full
            self._damage = damage or self._damage  # which no other trouble disproves
            self.changed.notify_all()

    def recovered(self) -> None:
        """See `FoldReport`."""
        if self._error is None:
            return
        with self.changed:
            self._error, self._full, self._damage, self._failed_at = None, False, None, None
            self.changed.notify_all()

    def ended(self) -> None:
        """Nothing more will be folded: nobody waits any longer."""
        with self.changed:
            self._ended = True
            self.changed.notify_all()
