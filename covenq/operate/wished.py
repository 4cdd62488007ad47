"""A delivery whose redelivery GitHub is about to be asked for, as a request names it."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from covenq.errors import UsageError
from covenq.model import TOKEN
from covenq.model.rows import Time
from covenq.text import instant


class WishedDelivery(Struct, frozen=True, forbid_unknown_fields=True):
    """Its GUID, the id of the newest attempt that GitHub lists of it, and when GitHub first sent it."""

    guid: str
    attempt: str
    first_at: Time


def parse_wished(one: object) -> WishedDelivery:
    """Raises UsageError."""
    hint = "An item has a guid, an attempt (the id, a text) and first_at (a time)."
    try:
        found = msgspec.convert(one, WishedDelivery)
    except msgspec.ValidationError:
        raise UsageError("an item is no delivery", hint=hint) from None
    if not (TOKEN.match(found.guid) and TOKEN.match(found.attempt)) or instant(found.first_at) is None:
        raise UsageError("an item is no delivery", hint=hint)
    return found
