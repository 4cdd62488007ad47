"""The answer to a delivery, as a value: its status and body, and the word that a refusal is counted under."""

from __future__ import annotations

from dataclasses import dataclass, field

from covenq.intake.admission import STANDBY
from covenq.model import JsonObject
from journal.errors import (
    EntryRefused,
    JournalClosed,
    JournalError,
    JournalFull,
    JournalPoisoned,
    JournalStandby,
    JournalUnanswered,
)

RETRY_AFTER_S = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer. `refusal` is the word it is counted under; None if the delivery was accepted, now or before."""

    status: int
    body: JsonObject
    headers: dict[str, str] = field(default_factory=dict)
    refusal: str | None = None


def refuse(status: int, word: str, detail: str) -> Answer:
    """A refusal that is counted under `word`, which needs a line in `covenq.intake.refusal_hints`."""
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    return Answer(status, {"ok": False, "error": word, "detail": detail}, headers, word)


def unavailable(error: JournalError) -> Answer:
    """The answer if the journal raised: 503, and nothing is claimed (400 for what no journal could ever hold)."""
    match error:
        case EntryRefused():
            return refuse(400, "delivery_unstorable", f"The delivery can't be recorded: {error}.")
        case JournalFull():
            return refuse(503, "journal_full", "There is no space to make the delivery durable.")
        case JournalPoisoned():
            return refuse(
                503, "journal_poisoned", "The journal failed: nothing is made durable until covenq was restarted."
            )
        case JournalClosed():
            return refuse(503, "journal_closed", "The intake is closed.")
        case JournalStandby():
            return refuse(503, STANDBY, f"This node doesn't lead: {error}.")
        case JournalUnanswered():
            return refuse(
                503, "journal_unavailable", "The journal did not answer: whether the delivery is durable isn't known."
            )
        case _:
            return refuse(503, "journal_unavailable", "The delivery can't be made durable now.")
