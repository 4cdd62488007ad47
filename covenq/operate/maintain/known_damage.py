"""Damage to the journal that is known while the daemon runs: what the last whole verification found, and what the fold ran into.

An opening reads only what the caches have not proven, so a daemon may serve beside damage that a verification has named. Its log,
/readyz and the metrics repeat that until a verification finds none. That does not close the intake: what comes in is appended
behind the damage, and no more is lost by it. Damage that stops the fold does (`covenq.intake.admission`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from covenq.config.journal import POSTGRES
from covenq.config.live import Stamp, stamp
from covenq.model.status import Verified
from covenq.operate.maintain import verify_note
from covenq.paths import VERIFIED_NAME
from covenq.text import counted
from journal.errors import JournalDamaged

log = logging.getLogger("covenq.daemon")


class KnownDamage:
    """`check` is for one thread, a few times a second; everything else may be read from any."""

    def __init__(self, data: Path, engine: str, folding: Callable[[], JournalDamaged | None] = lambda: None) -> None:
        """`engine` keeps the journal; `folding` returns the damage that stops the fold, if any does."""
        self._data, self._engine = data, engine
        self._folding = folding
        self._seen: Stamp = None
        self._note: Verified | None = None
        """Of the last whole verification, if that found damage."""

    def check(self) -> None:
        """Read the note of the last verification if it has changed; log what it found, and its end."""
        seen = stamp(self._data / VERIFIED_NAME)
        if seen == self._seen:
            return
        self._seen = seen
        note = verify_note.read(self._data, self._engine)
        if note is None or note.ok:
            if self._note is not None:
                log.warning("no damage of the journal is known any more")
            self._note = None
            return
        self._note = note
        log.error("the journal is damaged, %s; the first: %s", _found(note), note.first)

    @property
    def findings(self) -> int:
        """How many are known; 0 is none."""
        note, folding = self._note, self._folding()
        return max(0 if note is None else max(1, note.findings), 0 if folding is None else max(1, len(folding.damage)))

    @property
    def sentence(self) -> str | None:
        """One sentence for those who ask whether it is ready: how much and since when it is known, not what and where."""
        note = self._note
        return None if note is None else f"The journal is damaged, {_found(note)}."


def _found(note: Verified) -> str:
    number = counted(note.findings, "finding")
    keep = "" if note.engine == POSTGRES else ", `covenq salvage` what can be kept"
    return f"by {number} of the verification of {note.at[:19]}Z: `covenq verify` lists them{keep}"
