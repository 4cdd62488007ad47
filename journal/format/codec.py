"""The codec of format 1's line: an entry to bytes, and bytes to a verified record.

    {"seq":…,"at":…,"synced":…,"subject":…,"kind":…[,"about_sha256":…][,"payload_sha256":…,"payload_bytes":…],"data":{…},
     "prev":"…","sum":"…"[,"about":{…}][,"payload":{…} | ,"body":"…" | ,"body64":"…" | ,"dropped":N]}\n      (one line)

The envelope is everything before the first `,"sum":"`. Its sum is SHA-256 over the segment's salt (its 64 hex digits, as
written in the header) and the envelope's bytes; it holds the sum before it (`prev`) and the hashes of what follows it. So
bytes are hashed, never a canonical form, and what follows the sum can be erased without breaking the chain.

A JSON string can't hold the unescaped `,"sum":"`, so only an object key could bring that marker into the envelope early:
`prepare` refuses an entry that does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

import orjson

from journal.errors import EntryRefused
from journal.payload import is_deeper
from journal.records import KIND, PAYLOAD_MAX, SEQ_MAX, SUBJECT, Entry, Record

SUM_MARK = b',"sum":"'
DEPTH_MAX = 128
"""How deep a payload may nest and still be written in the line as JSON; jq 1.6 reads 256 levels, the record is one of them."""
DATA_MAX = 1 << 20
"""Bytes of `data` and of `about`, each. What GitHub sends is the payload; these are notes about it."""

ENVELOPE = re.compile(
    rb'\{"seq":([1-9]\d{0,18}),"at":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)","synced":(0|[1-9]\d{0,18})'
    rb',"subject":"((?:delivery\.[0-9A-Za-z_-]{1,64}|task|ops)\.[0-9A-Za-z_-]{1,64})","kind":"([a-z]{1,16}\.[a-z_]{1,32})"'
    rb'(?:,"about_sha256":"([0-9a-f]{64})")?(?:,"payload_sha256":"([0-9a-f]{64})","payload_bytes":(0|[1-9]\d{0,11}))?'
    rb',"data":(\{.*\}),"prev":"([0-9a-f]{64})"\Z'
)
"""The hashed part of a line: (seq, at, synced, subject, kind, about_sha256, payload_sha256, payload_bytes, data, prev). Its dots
match no line break: with one it would be a record only for a reader that doesn't split lines first."""
_ENVELOPE_TEXT = re.compile(ENVELOPE.pattern.decode().replace("[0-9a-f]{64}", ".{64}"), re.ASCII)
"""The same of text: a line decoded at once costs less than each of its parts. A hash may be any 64 characters here; whether they
are of _HEX is told of all of a line together, in a third of the time.
"""
_HEX = b"0123456789abcdef"
_DROPPED = re.compile(rb',"dropped":([1-9]\d{0,18})\}\Z')
_SUM = re.compile(rb'[0-9a-f]{64}"')


class LineError(Exception):
    """These bytes are no record of this segment.

    `kind` is the kind of damage: flipped, foreign, truncated, payload, …
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class Salted:
    """SHA-256 already fed with a segment's salt: 64 hex digits are just one block, so each line starts half-way."""

    __slots__ = ("start",)

    def __init__(self, salt: str) -> None:
        self.start = hashlib.sha256(salt.encode())
        """To be copied, never fed."""

    def sum(self, envelope: bytes) -> str:
        state = self.start.copy()
        state.update(envelope)
        return state.hexdigest()


def sha256_hex(data: bytes) -> str:
    """SHA-256 in pieces short enough that hashlib keeps the interpreter's lock.

    For larger pieces it releases the lock, and among many threads getting it back takes longer than the hashing.
    """
    if len(data) > _HASH_AT_ONCE:
        return hashlib.sha256(data).hexdigest()
    view = memoryview(data)
    state = hashlib.sha256(view[:_HASH_PIECE])
    for start in range(_HASH_PIECE, len(data), _HASH_PIECE):
        state.update(view[start : start + _HASH_PIECE])
    return state.hexdigest()


_HASH_PIECE = 2047
_HASH_AT_ONCE = 64 << 10
"""From here on hashing takes long enough to let others run."""


@dataclass(slots=True)
class Prepared:
    """An entry as bytes, without what depends on its position in the log: seq, time, watermark, prev, sum."""

    entry: Entry
    data: bytes
    about: bytes | None
    middle: bytes
    tail: tuple[bytes, ...]
    """The line after the sum, in pieces; one is the payload itself, not a copy, since it stays in memory for a while."""
    payload_sha256: str | None
    size: int
    """An upper bound of the finished line's length in bytes."""


def prepare(entry: Entry) -> Prepared:
    """The part of encoding that costs time and needs no order, done in the caller's thread. Raises EntryRefused."""
    if not SUBJECT.match(entry.subject):
        raise EntryRefused(f"{entry.subject[:100]!r} is no subject")
    if not _is_kind(entry.kind):
        raise EntryRefused(f"{entry.kind[:100]!r} is no record kind")
    data = _dump(entry.data, "data")
    hashes = b""
    tail: tuple[bytes, ...] = (b'"',)
    about = None
    if entry.about is not None:
        about = _dump(entry.about, "about")
        hashes += b',"about_sha256":"' + hashlib.sha256(about).hexdigest().encode() + b'"'
        tail = (b'","about":', about)
    payload_sha256 = None
    if entry.payload is not None:
        if len(entry.payload) > PAYLOAD_MAX:
            raise EntryRefused(f"a payload of {len(entry.payload)} bytes is over {PAYLOAD_MAX}")
        payload_sha256 = sha256_hex(entry.payload)
        hashes += b',"payload_sha256":"%s","payload_bytes":%d' % (payload_sha256.encode(), len(entry.payload))
        proven = entry.parsed_json is not None and entry.parsed_json.payload is entry.payload
        tail += _form(entry.payload, proven=proven)
    tail += (b"}\n",)
    middle = b'"subject":"%s","kind":"%s"%s,"data":%s' % (entry.subject.encode(), entry.kind.encode(), hashes, data)
    if SUM_MARK in middle:
        raise EntryRefused("data holds a key that would stand in the way of the sum")
    size = len(middle) + sum(map(len, tail)) + 256
    return Prepared(entry, data, about, middle, tail, payload_sha256, size)


@lru_cache(256)
def _is_kind(text: str) -> bool:
    """Kept: a product has a few dozen kinds."""
    return KIND.match(text) is not None


def encode_line(prepared: Prepared, *, seq: int, at: str, synced: int, prev: str, salted: Salted) -> tuple[bytes, str]:
    """The whole line, newline included, and its sum."""
    envelope = b'{"seq":%d,"at":"%s","synced":%d,%s,"prev":"%s"' % (
        seq,
        at.encode(),
        synced,
        prepared.middle,
        prev.encode(),
    )
    total = salted.sum(envelope)
    return b"".join((envelope, SUM_MARK, total.encode(), *prepared.tail)), total


def _dump(value: object, name: str) -> bytes:
    try:
        found = orjson.dumps(value)
    except TypeError as error:
        raise EntryRefused(f"{name} can't be written as JSON: {error}") from error
    if not found.startswith(b"{"):
        raise EntryRefused(f"{name} is no object")
    if len(found) > DATA_MAX:
        raise EntryRefused(f"{name} of {len(found)} bytes is over {DATA_MAX}")
    return found


# ---- the payload in its line


def payload_form(payload: bytes) -> bytes:
    """A payload as written in its line. A function of the bytes alone, so that no other spelling can pass."""
    return b"".join(_form(payload, proven=False))


def _form(payload: bytes, *, proven: bool) -> tuple[bytes, ...]:
    """The pieces of `payload_form`; `proven` says that orjson has read the payload before."""
    if is_plain_object(payload, proven=proven):
        return b',"payload":', payload
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return b',"body64":"', base64.b64encode(payload), b'"'
    return b',"body":', orjson.dumps(text)


def is_plain_object(payload: bytes, *, proven: bool = False) -> bool:
    """A strict RFC 8259 object in valid UTF-8, from `{` to `}`, no byte below 0x20, at most DEPTH_MAX deep."""
    if not (payload.startswith(b"{") and payload.endswith(b"}")):
        return False
    if b"\n" in payload or b"\r" in payload or b"\t" in payload:
        return False
    if is_deeper(payload, DEPTH_MAX):
        return False
    if proven:
        return True
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError:
        # The grammar allows what orjson can't make a value of: a lone surrogate's escape, a number out of range.
        return _matches_grammar(payload)
    return True


def _matches_grammar(payload: bytes) -> bool:
    try:
        text = payload.decode()
        found = json.loads(text, parse_int=len, parse_float=len, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and min(payload) >= 0x20


def _refuse(word: str) -> NoReturn:
    raise ValueError(word)


def line_of(envelope: bytes, total: str, about: bytes | None, payload: bytes | None, dropped: int | None) -> bytes:
    """The line of a record that is kept in parts, newline included."""
    parts = [envelope, SUM_MARK, total.encode(), b'"']
    if about is not None:
        parts += [b',"about":', about]
    if dropped is not None:
        parts.append(b',"dropped":%d' % dropped)
    elif payload is not None:
        parts += _form(payload, proven=False)
    parts.append(b"}\n")
    return b"".join(parts)


# ---- from bytes to a record


@dataclass(slots=True)
class Envelope:
    """The hashed part of a line. Its sum has been checked; the bytes after it have not."""

    seq: int
    synced: int
    prev: str
    sum: str
    match: re.Match[bytes]
    tail_at: int

    @property
    def subject(self) -> str:
        return self.match[4].decode()

    @property
    def kind(self) -> str:
        return self.match[5].decode()

    @property
    def delivery(self) -> str | None:
        """`hook/guid` of a delivery's record, else None."""
        subject = self.subject
        return "/".join(subject.split(".")[1:]) if subject.startswith("delivery.") else None


def open_envelope(line: bytes, salted: Salted) -> Envelope:
    """The envelope of a line whose sum verifies under this salt. Raises LineError (flipped or foreign)."""
    cut = line.find(SUM_MARK)
    if cut < 0 or not line.startswith(b'{"seq":'):
        raise _no_line()
    envelope = line[:cut]
    total = salted.sum(envelope)
    if line[cut + 8 : cut + 73] != total.encode() + b'"':
        raise _flipped()
    match = ENVELOPE.match(envelope)
    if match is None:
        raise _of_no_form()
    seq, synced = int(match[1]), int(match[3])
    _check_numbers(seq, synced)
    return Envelope(seq, synced, match[10].decode(), total, match, cut + 73)


Fields = tuple[int, str, int, str, str, str | None, str | None, int | None, str, str, str]
"""What an envelope says: the groups of ENVELOPE, with its numbers as such, and the line's sum."""


def fields_at(text: bytes, start: int, cut: int, salted: Salted) -> Fields:
    """What the envelope says of the line that starts at `start` of `text`; the mark of its sum stands at `cut`.

    Verified as by `open_envelope`, in as few steps as can be: it is done for each record that the fold reads. Raises LineError.
    """
    if not text.startswith(b'{"seq":', start):
        raise _no_line()
    envelope = text[start:cut]
    state = salted.start.copy()
    state.update(envelope)
    total = state.hexdigest()
    if text[cut + 8 : cut + 73] != b'%s"' % total.encode():
        raise _flipped()
    try:
        match = _ENVELOPE_TEXT.match(envelope.decode())
    except UnicodeDecodeError:
        match = None
    if match is None:
        raise _of_no_form()
    seq, at, synced, subject, kind, about_sha256, payload_sha256, size, data, prev = match.groups()
    if (prev + (about_sha256 or "") + (payload_sha256 or "")).encode().translate(None, _HEX):
        raise _of_no_form()
    number, before = int(seq), int(synced)
    if before >= number or number > SEQ_MAX:
        _check_numbers(number, before)
    payload_bytes = None if size is None else int(size)
    return number, at, before, subject, kind, about_sha256, payload_sha256, payload_bytes, data, prev, total


def _no_line() -> LineError:
    return LineError("foreign", "no line of this journal")


def _flipped() -> LineError:
    return LineError("flipped", "its sum does not match its bytes")


def _of_no_form() -> LineError:
    return LineError("foreign", "its sum matches, but the record is of no known form")


def _check_numbers(seq: int, synced: int) -> None:
    if synced >= seq:
        raise LineError("foreign", "its sum matches, but it claims to be synced before it was written")
    if seq > SEQ_MAX:
        raise LineError("foreign", f"its sum matches, but no record can have a seq over {SEQ_MAX}")


def check_tail(line: bytes, envelope: Envelope) -> tuple[bytes | None, bytes | None, int | None]:
    """The part of a line after the sum, verified: (about as JSON bytes, payload, seq of the record that dropped it).

    Everything is compared as bytes with what the writer would have written, so that no change of it passes, however
    harmless to a JSON parser. Raises LineError(payload).
    """
    if not line.endswith(b"}\n"):
        raise LineError("truncated", "the line has no end")
    tail = line[envelope.tail_at : -1]
    match = envelope.match
    about_sha256, payload_sha256 = match[6], match[7]
    payload: bytes | None = None
    dropped: int | None = None
    rest = len(tail) - 1
    found = _DROPPED.search(tail, max(0, len(tail) - 32))
    if found is not None and (payload_sha256 is not None or about_sha256 is not None):
        dropped = int(found[1])
        rest = found.start()
        if payload_sha256 is None and rest:
            raise LineError("payload", "it says that content was dropped, and lacks none")
        if dropped <= envelope.seq:
            raise LineError("payload", f"it says that it was dropped by record {dropped}, which came before it")
        if dropped > SEQ_MAX:
            raise LineError("payload", f"it says that it was dropped by record {dropped}, which there can't be")
    elif payload_sha256 is not None:
        payload, rest = _payload(tail, int(match[8]))
        if hashlib.sha256(payload).hexdigest().encode() != payload_sha256:
            raise LineError("payload", "the payload's hash does not match")
        if payload_form(payload) != tail[rest:-1]:
            raise LineError("payload", "the payload is not written as this journal writes it")
    about: bytes | None = None
    if rest:
        if about_sha256 is None or not tail.startswith(b',"about":'):
            raise LineError("payload", "bytes after the sum that the record does not account for")
        about = tail[9:rest]
        if hashlib.sha256(about).hexdigest().encode() != about_sha256:
            raise LineError("payload", "the hash of what it is about does not match")
    elif about_sha256 is not None and dropped is None:
        raise LineError("payload", "what it is about is missing")
    return about, payload, dropped


def _payload(tail: bytes, size: int) -> tuple[bytes, int]:
    """(payload, where its form starts). The forms hold no unescaped quote, so the last marker is the one that counts."""
    start = len(tail) - 1 - size
    if start >= 11 and tail[start - 11 : start] == b',"payload":':
        return tail[start:-1], start - 11
    start, coded = tail.rfind(b',"body":"'), tail.rfind(b',"body64":"')
    try:
        if coded > start:
            return base64.b64decode(tail[coded + 11 : -2], validate=True), coded
        if start >= 0:
            text = orjson.loads(tail[start + 8 : -1])
            if isinstance(text, str):
                return text.encode(), start
    except (binascii.Error, orjson.JSONDecodeError) as error:
        raise LineError("payload", f"the payload can't be read: {error}") from error
    raise LineError("payload", "the payload is missing")


def decode(line: bytes, salted: Salted, epoch: str) -> Record:
    """The record of a line, with every byte verified but its link (`prev`, `seq`) and whether a drop was legitimate.

    Raises LineError.
    """
    envelope = open_envelope(line, salted)
    about, payload, dropped = check_tail(line, envelope)
    _, at, _, subject, kind, _, payload_sha256, payload_bytes, data, _ = envelope.match.groups()
    return Record(
        seq=envelope.seq,
        at=at.decode(),
        synced=envelope.synced,
        subject=subject.decode(),
        kind=kind.decode(),
        data=loaded(data),
        about=None if about is None else loaded(about),
        payload=payload,
        payload_sha256=None if payload_sha256 is None else payload_sha256.decode(),
        payload_bytes=None if payload_bytes is None else int(payload_bytes),
        dropped=dropped,
        prev=envelope.prev,
        sum=envelope.sum,
        epoch=epoch,
    )


def loaded(written: bytes | str) -> dict[str, object]:
    """`data` or `about`. Raises LineError if it is no object, though the sums match: a forger of the directory can make any."""
    try:
        found: dict[str, object] = orjson.loads(written)
    except orjson.JSONDecodeError as error:
        raise LineError("foreign", f"its sum matches, but it holds what is no JSON: {error}") from error
    if type(found) is not dict:
        raise LineError("foreign", "its sum matches, but what it is about is no object")
    return found
