"""Parsing a webhook request: its identity from the headers, and the JSON of its body.

`covenq.github.signature` verifies the signature, `covenq.github.columns` reads the payload.

Values in, values out: nothing here does I/O or knows a journal. Input may come from anyone, so every value is checked, bounded
or dropped before it is passed on.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple, NoReturn

import orjson

from covenq.errors import BadRequest
from covenq.model import TOKEN, DeliveryId, JsonObject
from covenq.text import storable
from journal import payload
from journal.records import ParsedJson

EVENT_NAME = re.compile(r"[0-9A-Za-z_.-]{1,64}\Z")
"""The name of an event: safe in a record's `data`, in an environment variable and in a table."""

CONTENT_TYPE_UNSUPPORTED = "Content-Type is neither application/json nor a form."

LENIENT_DEPTH_MAX = 256
"""Levels of what orjson refuses and the standard library reads, which recurses: so far it can, wherever it is called."""
HEADERS_MAX = 40
HEADER_NAME_MAX = 64
HEADER_VALUE_MAX = 1024

SENT = "send"
SENDER = "GitHub-Hookshot/covenq-sample"
"""The User-Agent of `covenq send`."""
_JSON_TYPE = re.compile(r"application/(?:json|[0-9a-z.!#$&^_-]+\+json)\Z")
FORM_TYPE = "application/x-www-form-urlencoded"
_CODINGS = frozenset({"gzip", "x-gzip", "br", "deflate", "compress", "x-compress", "zstd"})
_RECORDED_PREFIXES = ("x-github-", "x-hub-signature")
_RECORDED_HEADERS = frozenset({"content-type", "user-agent"})
_PAYLOAD_FIELD = re.compile(rb"(?:\A|&)payload=([^&]*)")
_NO_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PIECE = 256 * 1024
"""Bytes of a form that are decoded without giving up the interpreter's lock: a millisecond or two."""
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789abcdefABCDEF", b"0" * 21)
_AS_QUOTED_PRINTABLE = bytes.maketrans(b"%", b"=")
_BOM = b"\xef\xbb\xbf"


class Identity(NamedTuple):
    """What a request claims to be, in headers that no signature covers."""

    delivery: DeliveryId
    event: str


class Parsed(NamedTuple):
    """The JSON object of a body; `form`: it came as the field `payload` of a form.

    `parsed_json` shows the journal that the body itself is JSON, so that it need not be parsed again.
    """

    object: JsonObject
    form: bool
    parsed_json: ParsedJson | None = None


def fold_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The headers by lower-case name. Repeated ones are joined with a comma, as WSGI does; none that covenq reads stays valid."""
    folded: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        folded[lower] = f"{folded[lower]}, {value}" if lower in folded else value
    return folded


def source_of(headers: Mapping[str, str]) -> str:
    """How a delivery came, by its headers (by lower-case name): `http`, or `send` of one that `covenq send` signed.

    Which secret signed that says nothing of the one that GitHub signs with.
    """
    return SENT if headers.get("user-agent") == SENDER else "http"


def recorded_headers(headers: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The headers to record, as [name, value] in the order given, bounded in number and length.

    They are GitHub's own, the signature, and those that describe the body; no cookies, no addresses.
    """
    kept: list[list[str]] = []
    for name, value in headers:
        recorded = _recorded_name(name)
        if recorded is not None:
            kept.append([recorded, storable(value, HEADER_VALUE_MAX)])
            if len(kept) == HEADERS_MAX:
                break
    return kept


@lru_cache(256)
def _recorded_name(name: str) -> str | None:
    """The name as it is recorded; None for a header that isn't. GitHub sends the same dozen with every delivery."""
    lower = name.lower()
    if lower.startswith(_RECORDED_PREFIXES) or lower in _RECORDED_HEADERS:
        return storable(name, HEADER_NAME_MAX)
    return None


@lru_cache(64)
def is_form(content_type: str | None) -> bool | None:
    """True for a form, False for JSON (parameters such as a charset aside), None for anything else."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind == FORM_TYPE:
        return True
    return False if _JSON_TYPE.match(kind) else None


def is_coded(coding: str) -> bool:
    """Whether a Content-Encoding says that the body is coded, as a compressed one is: GitHub signs what it sends, uncoded."""
    return coding.strip().lower() not in ("", "identity")


def coding_unsupported(coding: str) -> str:
    """The sentence about a body that is coded. It names the codings that are known, and nothing else of what the header holds."""
    named = ", ".join(word for word in re.split(r"[,\s]+", coding[:100].lower()) if word in _CODINGS)
    return f"The body came with Content-Encoding{named and f' {named}'}, and must come as GitHub signed it."


def identity(headers: Mapping[str, str]) -> Identity:
    """The delivery and the event that these headers (by lower-case name) name. Raises BadRequest.

    The hook is `X-GitHub-Hook-ID`, else the installation target's id, else `-`: the GUID identifies an event, which several
    hooks may deliver.
    """
    event = headers.get("x-github-event")
    if event is None:
        raise BadRequest("event_missing", "There is no X-GitHub-Event header.")
    if not EVENT_NAME.match(event):
        raise BadRequest("event_malformed", "X-GitHub-Event is not a name of 1 to 64 letters, digits, _ . or -.")
    guid = headers.get("x-github-delivery")
    if guid is None:
        raise BadRequest("delivery_missing", "There is no X-GitHub-Delivery header.")
    if not TOKEN.match(guid):
        raise BadRequest("delivery_malformed", "X-GitHub-Delivery is not 1 to 64 letters, digits, _ or -.")
    source = "X-GitHub-Hook-ID"
    hook = headers.get("x-github-hook-id")
    if hook is None:
        source = "X-GitHub-Hook-Installation-Target-ID"
        hook = headers.get("x-github-hook-installation-target-id", "-")
    if not TOKEN.match(hook):
        raise BadRequest("hook_malformed", f"{source} is not 1 to 64 letters, digits, _ or -.")
    return Identity(DeliveryId(hook, guid), event)


def parse(body: bytes, content_type: str | None) -> Parsed:
    """The JSON object in `body`. Raises BadRequest, and no other error for any bytes.

    A charset parameter changes nothing: JSON is UTF-8 (RFC 8259), and a form's fields are percent-encoded UTF-8.
    """
    form = is_form(content_type)
    if form is None:
        raise BadRequest("content_type_unsupported", CONTENT_TYPE_UNSUPPORTED)
    parsed_json: ParsedJson | None = None
    try:
        value, parsed_json = (load(_form_payload(body)), None) if form else payload.parse(body)
    except orjson.JSONDecodeError:
        value = load(body)
    if not isinstance(value, dict):
        raise BadRequest("body_not_object", "The body is JSON, but not an object.")
    return Parsed(value, form, parsed_json)


def decode(body: bytes | None) -> object:
    """The JSON of a stored body, which may be a form; None where there is none. Raises nothing."""
    if body is None:
        return None
    try:
        return load(body)
    except BadRequest:
        pass  # not JSON, so a form
    try:
        return load(_form_payload(body))
    except BadRequest:
        return None


def content_type_of(headers: object) -> str | None:
    """The Content-Type among recorded headers; None where there is none."""
    pairs = headers if isinstance(headers, list) else ()
    found = (
        one[1] for one in pairs if isinstance(one, list) and len(one) == 2 and str(one[0]).lower() == "content-type"
    )
    return next((value for value in found if isinstance(value, str)), None)


def json_of(body: bytes, content_type: str | None) -> bytes:
    """The JSON of an accepted body as bytes: of a form its decoded field `payload`, else the body itself. Raises BadRequest."""
    return _form_payload(body) if is_form(content_type) else body


def is_form_with_json(body: bytes) -> bool:
    """Whether a body that came without a content type is a form of GitHub's, and no JSON."""
    try:
        load(body)
    except BadRequest:
        return decode(body) is not None
    return False


def load(text: bytes) -> object:
    """The JSON value of `text`. Raises BadRequest.

    orjson first. What it refuses is parsed again by the standard library, because orjson is stricter than RFC 8259 (no escapes
    of lone surrogates, no byte order mark, no number beyond a double), and what GitHub signed is JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _load_leniently(text)


def _load_leniently(text: bytes) -> object:
    if payload.is_deeper(text, LENIENT_DEPTH_MAX):
        raise BadRequest("body_too_deep", "The JSON is nested too deeply.")
    try:
        return json.loads(text.removeprefix(_BOM).decode("utf-8"), parse_int=_integer, parse_constant=_refuse_constant)
    except RecursionError:
        raise BadRequest("body_too_deep", "The JSON is nested too deeply.") from None
    except UnicodeDecodeError as error:
        raise BadRequest("body_not_json", f"The body is not UTF-8 at byte {error.start}.") from None
    except json.JSONDecodeError as error:
        raise BadRequest("body_not_json", f"The body is not JSON at character {error.pos}.") from None


def _integer(digits: str) -> int | float:
    """An int, or a float for very many digits: by default Python makes no int of over 4300, and covenq reads no such number."""
    return int(digits) if len(digits) <= 4000 else float(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest("body_not_json", f"The body holds {name}, which is not JSON.")


def _form_payload(body: bytes) -> bytes:
    found = _PAYLOAD_FIELD.finditer(body)
    first = next(found, None)
    if first is None:
        raise BadRequest("form_without_payload", "The form has no field `payload`.")
    if next(found, None) is not None:
        raise BadRequest("form_payload_repeated", "The form has several fields `payload`.")
    return _unquote(first[1].replace(b"+", b" "))


def _unquote(text: bytes) -> bytes:
    """As `unquote_to_bytes`, in C and in one pass, whatever the escapes; in pieces, between which other threads run.

    A large form has millions of escapes, and `unquote_to_bytes` takes a step of the interpreter for each: ten seconds.
    """
    if len(text) <= _PIECE:
        return _unquote_piece(text)
    pieces = []
    at = 0
    while at < len(text):
        end = at + _PIECE
        cut = text.rfind(b"%", end - 2, end)
        end = end if cut < 0 else cut  # the escape is the next piece's
        pieces.append(_unquote_piece(text[at:end]))
        at = end
    return b"".join(pieces)


def _unquote_piece(text: bytes) -> bytes:
    """Percent-encoding with `=` in the place of `%` is quoted-printable, which the standard library decodes in C.

    What would be special there is escaped first: a `=`, and a `%` that begins no escape, for that stays what it is.
    """
    if b"=" in text:
        text = text.replace(b"=", b"%3D")
    if text.translate(_DIGITS_TO_ZERO).count(b"%00") != text.count(b"%"):
        text = _NO_ESCAPE.sub(b"%25", text)
    return binascii.a2b_qp(text.translate(_AS_QUOTED_PRINTABLE))
