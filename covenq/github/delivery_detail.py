"""One delivery as GitHub's API gives it out of its delivery log: `GET …/deliveries/{id}`, what the log calls an attempt.

It has the request's headers, and its payload as an object. `from_detail` reads such a text; `recover` makes the request of it
that a delivery is recorded from: the bytes that were signed where they can be rebuilt, else the same JSON without a signature.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from covenq.config.secret_keys import Key
from covenq.errors import BadRequest
from covenq.github import request
from covenq.github.json_spans import Span, compact, members
from covenq.github.signed_body import plain, rebuild

Headers = tuple[tuple[str, str], ...]
Problem = Literal["not_json", "no_detail", "no_headers", "no_payload"]

_BOM = b"\xef\xbb\xbf"
_ID = re.compile(r'"?([0-9]{1,40})"?\Z')
_WORD = re.compile(r"[ -~]{1,64}\Z")
_SIGNATURES = frozenset({"x-hub-signature", "x-hub-signature-256"})


@dataclass(frozen=True, slots=True)
class DeliveryDetail:
    """A delivery out of GitHub's log. All of it is as GitHub said it, and nothing of it is verified yet."""

    headers: Headers
    """Of the request, in the order given, with the event and the GUID in any case."""
    payload: bytes
    """Compact JSON, with keys, numbers and escapes as they are spelled in the detail."""
    id: str | None
    """Of the attempt, in digits: it is larger than numbers are exact in most of what reads JSON."""
    delivered_at: str | None
    redelivery: bool


@dataclass(frozen=True, slots=True)
class NoDelivery:
    """Why there is no delivery in it. `not_json` and `no_detail` say that it is another thing, the others what a detail lacks."""

    problem: Problem
    reason: str
    """Half a sentence: "GitHub kept no payload of its request"."""
    id: str | None = None
    """The GUID, or else the attempt's id."""

    @property
    def is_detail(self) -> bool:
        return self.problem not in ("not_json", "no_detail")


class Recovered(NamedTuple):
    """The request to record. `signers` are the keys that signed exactly these bytes; without any, it has no signature."""

    headers: Headers
    body: bytes
    signers: list[Key]


def from_detail(text: bytes) -> DeliveryDetail | NoDelivery:
    """The delivery that GitHub's JSON of it holds, or why there is none. Raises nothing, whatever the text is."""
    text = text.removeprefix(_BOM)
    try:
        fields = members(text) or {}
        asked = members(text, fields["request"].start) if "request" in fields else None
        span = (asked or {}).get("payload")
        # The payload by itself: it may be as deep as one that comes to the webhook.
        request.load(text if span is None else b"%bnull%b" % (text[: span.start], text[span.end :]))
        payload = None if span is None else request.load(span.of(text))
    except BadRequest as error:
        return NoDelivery("not_json", _reason(error, text))
    guid, id = _value(text, fields, "guid"), _attempt_id(text, fields)
    named = guid if isinstance(guid, str) else id
    if "guid" not in fields or asked is None:
        return NoDelivery("no_detail", "it has no request with headers and payload", named)
    headers = _headers(_value(text, asked, "headers"))
    if not headers:
        return NoDelivery("no_headers", "GitHub kept no headers of its request, which name its hook", named)
    folded = request.fold_headers(headers)
    if span is None or not isinstance(payload, dict):
        return NoDelivery("no_payload", "GitHub kept no payload of its request", named)
    for name, known in (("X-GitHub-Event", _value(text, fields, "event")), ("X-GitHub-Delivery", guid)):
        if name.lower() not in folded and isinstance(known, str):
            headers = (*headers, (name, known))
    delivered = _value(text, fields, "delivered_at")
    return DeliveryDetail(
        headers,
        compact(span.of(text)),
        id,
        delivered if isinstance(delivered, str) and _WORD.match(delivered) else None,
        _value(text, fields, "redelivery") is True,
    )


def recover(headers: Headers, payload: bytes, keys: Sequence[Key]) -> Recovered:
    """The request that GitHub sent, byte for byte, if its signature shows which bytes those were; else its JSON, unsigned.

    `headers` and `payload` are those of a detail. Raises BadRequest where the payload is no JSON.
    """
    request.load(payload)
    folded = request.fold_headers(headers)
    form = request.is_form(folded.get("content-type"))
    found = rebuild(payload, folded.get("x-hub-signature-256"), keys, form=bool(form))
    if found is None:
        kept = (one for one in headers if one[0].lower() not in _SIGNATURES)
        return Recovered(_as_json(kept), plain(payload), [])
    return Recovered(headers if form is not None else _as_json(headers), found.body, found.signers)


def _reason(error: BadRequest, text: bytes) -> str:
    if error.word == "body_too_deep":
        return "it is nested too deeply"
    try:
        text.decode()
    except UnicodeDecodeError:
        return "it is not UTF-8"
    return "it is not JSON"


def _as_json(headers: Iterable[tuple[str, str]]) -> Headers:
    """The headers of a body that is JSON, whatever it was sent as."""
    return (("Content-Type", "application/json"), *(one for one in headers if one[0].lower() != "content-type"))


def _headers(given: object) -> Headers:
    """The headers, which GitHub has as an object; one that is no text or number is left out."""
    if not isinstance(given, dict):
        return ()
    return tuple(
        (name, value if isinstance(value, str) else str(value))
        for name, value in given.items()
        if isinstance(value, str | int) and not isinstance(value, bool)
    )


def _attempt_id(text: bytes, fields: Mapping[str, Span]) -> str | None:
    found = _ID.match(fields["id"].of(text).decode("ascii", "replace")) if "id" in fields else None
    return None if found is None else found[1]


def _value(text: bytes, fields: Mapping[str, Span], name: str) -> object:
    """A field's value; None where there is none, or none that can be read."""
    if name not in fields:
        return None
    try:
        return request.load(fields[name].of(text))
    except BadRequest:
        return None
