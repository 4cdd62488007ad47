"""Signed bytes that came later for a delivery that is held without its signature, by its notes.

A record is checked, not trusted: a note that lacks something says nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Protocol

from covenq.model import DeliveryId, Kind
from covenq.model.rows import Delivery, SignedLater, is_unsigned
from covenq.state.fold_history import notes
from journal.records import Record

NOTES_MAX = 1000
"""Notes of a delivery that are looked at, the newest."""


class Records(Protocol):
    """What has records by their seqs: a journal, or what reads one."""

    def get(self, seq: int) -> Record | None: ...


def find_signed_later(conn: sqlite3.Connection, records: Records, delivery: Delivery) -> SignedLater | None:
    """When the bytes that were signed first came, and which secret signed them; None if they didn't."""
    if not delivery.duplicates or not is_unsigned(delivery.secret, delivery.source):
        return None
    found = (parse_note(one) for one in notes_of(conn, records, DeliveryId(delivery.hook, delivery.guid)))
    return next((one for one in found if one is not None), None)


def parse_note(record: Record) -> SignedLater | None:
    """What a note says of signed bytes that came; None if that is not what it says."""
    if record.kind != Kind.REPEATED:
        return None
    secret, sha256, size = (record.data.get(name) for name in ("secret", "payload_sha256", "payload_bytes"))
    if not (isinstance(secret, str) and isinstance(sha256, str) and type(size) is int):
        return None
    return SignedLater(record.seq, record.at, secret, sha256, size)


def has_conflict(conn: sqlite3.Connection, records: Records, id: DeliveryId, sha256: str) -> bool:
    """Whether a note says that a body with this hash came, and was another."""
    return any(
        one.kind == Kind.CONFLICTED and one.data.get("payload_sha256") == sha256 for one in notes_of(conn, records, id)
    )


def notes_of(conn: sqlite3.Connection, records: Records, id: DeliveryId) -> Iterator[Record]:
    """The rarer records of a delivery, oldest first."""
    for seq in notes(conn, id.subject, NOTES_MAX)[1]:
        record = records.get(seq)
        if record is not None:
            yield record
