"""What came first under a delivery's id: the answer to one that comes again rests on it.

The journal said that the id is durable, so that answer needs no more than the first one's record. What became of it since is
told as far as it is known: by the state, if that is there in time, else as it was decided when it came. So a fold that is slow,
stopped or broken refuses no redelivery.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from covenq.errors import CovenqError
from covenq.model import DeliveryId, Kind, State
from covenq.model.rows import Delivery, is_unsigned
from journal.interface import Reading
from journal.records import Record

log = logging.getLogger("covenq.intake")

Lookup = Callable[[DeliveryId, int], Delivery | None]
"""The delivery's row, of a state that has folded at least that seq if it does so soon; None where it has no such row."""

_STEPS = 4
"""Records that are looked at for the first: what removed its content, and that it is ignored since, may come between."""


@dataclass(frozen=True, slots=True)
class FirstDelivery:
    """The delivery that came first under an id: its seq, its body's hash, and its state and tasks as far as they are known."""

    seq: int
    payload_sha256: str | None
    state: str
    tasks: list[str]
    unsigned: bool
    """It is held without the signature that it came with."""


def first_delivery(id: DeliveryId, last: int, journal: Reading, lookup: Lookup) -> FirstDelivery | None:
    """The first delivery under an id whose newest record is `last`; None if it can't be told now. Raises JournalError."""
    try:
        row = lookup(id, last)
    except (CovenqError, OSError, sqlite3.Error) as error:
        log.error("%s came again, and its state can't be read: %s", id, type(error).__name__)
        row = None
    if row is not None:
        return FirstDelivery(row.seq, row.payload_sha256, row.state, row.tasks, is_unsigned(row.secret, row.source))
    record = _received(id, last, journal)
    if record is None:
        return None
    decided = record.data.get("tasks")
    tasks = [one for one in decided if isinstance(one, str)] if isinstance(decided, list) else []
    state = State.RECEIVED if decided is None else State.QUEUED if tasks else State.IGNORED
    unsigned = is_unsigned(record.data.get("secret"), record.data.get("source"))
    return FirstDelivery(record.seq, record.payload_sha256, str(state), tasks, unsigned)


def _received(id: DeliveryId, last: int, journal: Reading) -> Record | None:
    """The record of its coming: `last`, or the one that names it, or that stands before it in the same append."""
    seq = last
    for _ in range(_STEPS):
        record = journal.get(seq)
        if record is None or record.subject != id.subject:
            return None
        if record.kind == Kind.RECEIVED:
            return record
        named = record.data.get("received")
        seq = named if isinstance(named, int) and 0 < named < record.seq else record.seq - 1
    return None
