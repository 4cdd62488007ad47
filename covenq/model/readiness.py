"""Whether all is well with a daemon, in one word, one exit code and one sentence: what `covenq status` says first.

It serves one decision: whether anything has to be done now. So that a script decides as a person does, the exit code follows from
the word, and what is worse comes first: damage is there with a daemon or without one, and starting one doesn't mend it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from covenq.model import NOT_RUNNING

if TYPE_CHECKING:
    from covenq.model.journal_status import DatabaseStatus
    from covenq.model.status import Status

DAMAGED, NO_DAEMON, NO_ANSWER, NOT_READY, READY = "DAMAGED", "NO DAEMON", "NO ANSWER", "NOT READY", "READY"
STANDBY = "STANDBY"
WELL = (READY, STANDBY)
"""The words of a daemon that is as it should be."""
EXIT_CODES = {READY: 0, STANDBY: 0, NOT_READY: 1, DAMAGED: 5, NO_DAEMON: 6, NO_ANSWER: 6}


@dataclass(frozen=True, slots=True)
class Readiness:
    """The word, and what is said beside it."""

    word: str
    sentence: str

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.word]


def readiness(found: Status) -> Readiness:
    """The worst that is true of the status."""
    running = "" if found.pid is not None else "no daemon runs" if NOT_RUNNING in found.reasons else "no daemon answers"
    received = "deliveries are accepted" if found.ready else "nothing is received"
    if running:
        kept = "database" if found.journal.engine == "postgres" else "files"
        received = f"{running}: nothing is received; what follows is read from the {kept}"
    verified = found.verified
    if found.damaged or (verified is not None and not verified.ok):
        return Readiness(DAMAGED, f"the journal, and {received}")
    if found.state.damaged:
        return Readiness(DAMAGED, f"state.db, which is a cache of the journal, and {received}")
    if running:
        return Readiness(NO_DAEMON if NOT_RUNNING in found.reasons else NO_ANSWER, received)
    if found.standby and len(found.reasons) == 1 and not _is_away(found.journal.database):
        return Readiness(
            STANDBY, "deliveries are passed on to the node that leads, and this one takes over if it is lost"
        )
    return Readiness(READY if found.ready else NOT_READY, received)


def _is_away(database: DatabaseStatus | None) -> bool:
    from covenq.model.database_text import AWAY_S  # imported by who has one

    return database is not None and (database.away_s or 0.0) > AWAY_S
