"""A delivery from elsewhere, to be imported: as `covenq.operate.act.archive` reads it from a file, and as requests have it."""

from __future__ import annotations

import base64
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct, field

from covenq.errors import UsageError
from covenq.model import JsonObject

ORIGIN_KEYS = ("format", "received_at", "seq", "state", "id", "delivered_at", "redelivery")
"""What is kept of a delivery's origin. Keys are covenq's own: what stands in a request must never become a key of a record."""
_ADVICE = "Send headers, body64, and perhaps origin and rebuild."
_KEYS = {"headers", "body64", "origin", "rebuild", "hold", "hold_if_old"}
ORIGIN_TEXT_MAX = 64
"""Characters of a text in it."""


class ImportedDelivery(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One delivery to import: its request, and its origin. `body` is None if its payload was not kept; in JSON it is base64."""

    headers: tuple[tuple[str, str], ...]
    body: bytes | None = field(name="body64", default=None)
    origin: JsonObject = {}
    """Times, ids and short texts by ORIGIN_KEYS, for the record's `data`."""
    rebuild: Annotated[
        bool,
        Meta(
            description="The body is a payload's JSON as GitHub's delivery log gives it. The bytes that were signed are "
            "rebuilt from it where the signature among the headers shows them; else it is recorded without a secret."
        ),
    ] = False
    hold: Annotated[
        str | None,
        Meta(
            description="Why it is recorded and not routed, until `reroute` does it: restored, or late. Null: it is routed."
        ),
    ] = None
    hold_if_old: Annotated[
        bool,
        Meta(
            description="It is held so, as late, where `max_age` of a route that wants it, or of `[reconcile]`, says so of "
            "its origin's `delivered_at`."
        ),
    ] = False


class NotImported(NamedTuple):
    """What stands in a file in the place of a delivery, and can't be imported: its id, and why."""

    id: str
    reason: str


def parse_item(one: object) -> ImportedDelivery:
    """The delivery that a request describes, as its schema says. Raises UsageError."""
    if not isinstance(one, dict) or not set(one) <= _KEYS:
        raise UsageError("an item is no delivery", hint=_ADVICE)
    headers, body, origin, rebuild = one.get("headers"), one.get("body64"), one.get("origin"), one.get("rebuild")
    origin = {} if origin is None else origin
    if not (isinstance(headers, list) and isinstance(origin, dict) and (body is None or isinstance(body, str))):
        raise UsageError("an item is no delivery", hint=_ADVICE)
    hold_if_old = one.get("hold_if_old")
    for name, flag in (("rebuild", rebuild), ("hold_if_old", hold_if_old)):
        if not (flag is None or isinstance(flag, bool)):
            raise UsageError(f"{name} must be true or false", hint=_ADVICE)
    if one.get("hold") not in (None, "restored", "late"):
        raise UsageError("hold must be restored or late", hint=_ADVICE)
    if not all(isinstance(p, list) and len(p) == 2 and all(isinstance(text, str) for text in p) for p in headers):
        raise UsageError("a header is no pair of texts")
    try:
        content = None if body is None else base64.b64decode(body, validate=True)
    except ValueError:
        raise UsageError("body64 is no base64") from None
    told = {name: origin[name] for name in ORIGIN_KEYS if name in origin and _is_word(origin[name])}
    return ImportedDelivery(
        tuple((name, value) for name, value in headers),
        content,
        told,
        rebuild is True,
        one.get("hold"),
        hold_if_old is True,
    )


def _is_word(value: object) -> bool:
    return value is None or isinstance(value, bool | int) or (isinstance(value, str) and len(value) <= ORIGIN_TEXT_MAX)
