"""Signed bytes that come for a delivery that is held without its signature.

What was imported without a secret is recorded as it was given: out of GitHub's delivery log that is its JSON, whose hash is not
that of the bytes that GitHub signed. If those come later they are the same delivery, not another body under its id. It counts as
the same where its JSON has the values of what is held (`covenq.github.json_equal`). Then it is noted as `delivery.repeated`,
with the hash of the bytes that were signed and the secret that signed them; nothing else changes, and no task is made.

Where the payload that was held is gone, dropped or erased, its hash still tells: that of the JSON as the import writes it. Where
that says nothing either, it is another body: nobody is told that it is held, and nothing of it is recorded but its hash.

This is told by the first record alone, as every answer to a delivery that came before.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from covenq.errors import BadRequest
from covenq.github import request
from covenq.github.json_equal import canonical, same_json
from covenq.model import DeliveryId, Kind
from journal.interface import Reading
from journal.records import Entry


def has_same_json(
    journal: Reading, seq: int, payload_sha256: str | None, body: bytes, content_type: str | None
) -> bool:
    """Whether an accepted body has the JSON of the delivery that record `seq` holds under that hash. Raises JournalError."""
    try:
        came = request.json_of(body, content_type)
        if hashlib.sha256(canonical(came)).hexdigest() == payload_sha256:
            return True
        record = journal.get(seq)
        if record is None or record.payload is None:
            return False
        held = request.json_of(record.payload, request.content_type_of(record.data.get("headers")))
    except (BadRequest, ValueError):
        return False
    return same_json(held, came)


def signed_later(
    id: DeliveryId, received: int, body: bytes, secret: object, source: Literal["http", "import"]
) -> Entry:
    """The note that the bytes which `secret` signed have come for the delivery of record `received`."""
    return Entry(
        id.subject,
        str(Kind.REPEATED),
        {"received": received, **hash_of(body), "secret": secret, "source": source},
    )


def hash_of(body: bytes) -> dict[str, object]:
    """A body's hash and length, as the notes that a delivery came again have them."""
    return {"payload_sha256": hashlib.sha256(body).hexdigest(), "payload_bytes": len(body)}
