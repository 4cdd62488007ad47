"""The upkeep of rollups by whoever folds: a little at a time, when all is folded.

A block of which something changed is left alone until that is over: tasks that end, or an operator who requeues hundreds, would
have its rollup, and those above it, made again for each of them. Until then its rows are counted.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable

from covenq.state import rollups
from covenq.state.store import StateStore

EVERY_S = 0.5
"""Seconds between two rounds."""
WORK_S = 0.02
"""Seconds of a round, and then what it is at: a block takes a millisecond, and one that completes those above it twenty."""
QUIET_S = 10.0
"""Seconds that a block has to be left alone."""
RETRY_S = 10.0
"""Seconds to the next round after one that failed."""


class RollupUpkeep:
    """The blocks whose rollups are missing, and since when they are left alone. For the thread that folds."""

    def __init__(self, store: StateStore, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._full: int | None = None
        """So many blocks are full, and known here; None until the file was asked which lack their rollups."""
        self._changed_at: dict[int, float] = {}
        """When something of a full block without a rollup changed last."""
        self._failed: set[int] = set()
        """Those that could not be made when it was tried last: they hold up no other."""
        self._due_at = monotonic()

    def make_some(self) -> bool:
        """Make some of them, the oldest first, unless it is too early for the next round; whether any was made.

        Raises as `StateStore.make_rollup`.
        """
        now = self._monotonic()
        if now < self._due_at or self._store.building:
            return False
        self._due_at = now + RETRY_S
        self._note_changes(now)
        quiet = [block for block, at in self._changed_at.items() if now - at >= QUIET_S]
        made = False
        for block in sorted(quiet, key=lambda block: (block in self._failed, block)):
            self._make(block)
            made = True
            if self._monotonic() - now >= WORK_S:
                break
        self._due_at = now + EVERY_S
        return made

    def _make(self, block: int) -> None:
        try:
            self._store.make_rollup(block)
        except sqlite3.Error:
            self._failed.add(block)
            raise
        self._failed.discard(block)
        del self._changed_at[block]

    def _note_changes(self, now: float) -> None:
        changed = self._store.take_changed_blocks()
        full = (self._store.folded + 1) >> rollups.BITS
        if self._full is None:
            self._changed_at = dict.fromkeys(self._store.missing_rollups(), -math.inf)
        else:
            changed.update(range(self._full, full))
        self._changed_at |= dict.fromkeys((block for block in changed if block < full), now)
        self._full = full
