"""Reads that see what was acknowledged before them: rows of state.db once everything durable by then is folded."""

from __future__ import annotations

import sqlite3

from covenq.errors import NotFound
from covenq.model import DeliveryId
from covenq.model.rows import Delivery
from covenq.model.token_scope import Scope
from covenq.state import query
from covenq.state.fold_rate import FAR
from covenq.state.progress import FoldProgress
from covenq.state.readers import Readers
from journal.interface import Journal

FOLD_S = 10.0
"""Seconds a read waits for the state to reach what was durable when it came."""
LOOKUP_S = 0.5
"""Seconds the answer to a delivery that came again waits: GitHub waits for it, and it can do with an older state."""

TWINS_S = 2.0
"""Seconds a delivery waits to be compared with those before it: GitHub waits for that, too."""


class FoldedState:
    """The state of a journal that goes on growing. Methods may be called from any thread."""

    def __init__(self, journal: Journal, readers: Readers, fold: FoldProgress) -> None:
        self._journal = journal
        self._readers = readers
        self._fold = fold
        self._stood_at = -1
        """How far the fold was when a wait for it was in vain: until it moves, no request waits for it again."""

    def reader(self, scope: Scope | None = None) -> sqlite3.Connection:
        """This thread's connection, once the state has folded all that is durable now. Raises StateBehind and JournalDamaged.

        With a scope it shows that alone.
        """
        if not self._fold.reach(self._journal.head().seq, FOLD_S):
            raise self._fold.behind()
        return self._readers.reader() if scope is None else self._readers.scoped(scope)

    def lookup(self, id: DeliveryId, at_least: int) -> Delivery | None:
        """The delivery's row once `at_least` is folded, or as it is after LOOKUP_S; None if there is none.

        None, too, where the state is far behind: it may be built anew, and have no index of ids. Raises sqlite3.Error.
        """
        if not self._wait(at_least, LOOKUP_S) and self._fold.lag >= FAR:
            return None
        try:
            return query.delivery(self._readers.reader(), id.hook, id.guid)
        except NotFound:
            return None
        except sqlite3.DatabaseError as error:
            self._readers.met(error)
            raise

    def wait_for(self, seq: int) -> bool:
        """Block until the state has folded `seq`; False if that takes longer than TWINS_S."""
        return self._wait(seq, TWINS_S)

    def _wait(self, seq: int, timeout: float) -> bool:
        """As `FoldProgress.wait_for`; but where the fold stands still, requests that come meanwhile don't hold a thread each."""
        if self._fold.folded == self._stood_at:
            timeout = 0.0
        began = self._fold.folded
        reached = self._fold.wait_for(seq, timeout)
        self._stood_at = began if not reached and self._fold.folded == began else -1
        return reached
