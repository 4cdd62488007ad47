"""The archive format of `covenq export` and `covenq import`: deliveries in one file; and GitHub's own delivery objects.

A slice is JSON Lines: a header, a line for each delivery (its fields, its headers, its exact bytes, its tasks), and a last
line that counts them, so that a truncated file is noticed. Values in, values out; the caller opens the files.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

import orjson

from covenq.errors import UsageError
from covenq.json_text import json_text
from covenq.model import JsonObject
from covenq.operate.imported import ImportedDelivery

FORMAT = "covenq-slice"
VERSION = 1
LINE_MAX = 64 * 1024 * 1024
"""Bytes of one line, and of a document that is not a slice."""
_WHOLE = "Give the file whole and as it is, as `covenq export` wrote it or GitHub's API gave it."
_SIGNATURES = frozenset({"x-hub-signature", "x-hub-signature-256"})


# ---- writing


def header(version: str, at: str, filter: str) -> JsonObject:
    """The first line."""
    return {"format": FORMAT, "version": VERSION, "covenq": version, "exported_at": at, "filter": filter}


def line(delivery: bytes, body: bytes | None, tasks: bytes) -> bytes:
    """The line of a delivery: the JSON of its object, which has its headers, and of its tasks', which have their attempts."""
    if body is None:
        name, value = b"body", b"null"
    else:
        try:
            name, value = b"body", orjson.dumps(body.decode("utf-8"))
        except UnicodeDecodeError:
            name, value = b"body64", b'"%b"' % base64.b64encode(body)
    return b'{"delivery":%b,"tasks":%b,"%b":%b}' % (delivery, tasks, name, value)


def end(deliveries: int) -> JsonObject:
    """The last line."""
    return {"end": True, "deliveries": deliveries}


# ---- reading


def has_deliveries(content: bytes) -> bool:
    """Whether it begins like what `read` takes, and not like a payload alone."""
    if content.startswith(b'{"format":"covenq-slice"'):
        return True
    value = _value(content)
    if value is None:
        value = _value(content.split(b"\n", 1)[0])
    one = value[0] if isinstance(value, list) and value else value
    if not isinstance(one, dict):
        return False
    request = one.get("request")
    return one.get("format") == FORMAT or (isinstance(request, dict) and "headers" in request and "payload" in request)


def is_without_head(content: bytes) -> bool:
    """Whether it begins with a delivery's line of a slice: the head, which says what the file is, is not there."""
    one = _value(content.split(b"\n", 1)[0])
    return isinstance(one, dict) and isinstance(one.get("delivery"), dict) and not {"body", "body64"}.isdisjoint(one)


def headless(name: str) -> UsageError:
    return UsageError(
        f"{name}: has lines of a slice without its first, which says what it is",
        hint="Give the file whole, as `covenq export` wrote it; a filter chooses what it writes.",
    )


def read(file: IO[bytes], name: str) -> Iterator[ImportedDelivery]:
    """The deliveries of a slice, or of GitHub's delivery objects: one, a list of them, or one a line.

    Raises UsageError, which names the file and line, for anything else; and for a slice without its last line, after it
    gave every delivery that is there.
    """
    first = file.readline(LINE_MAX + 1)
    if not first:
        raise UsageError(
            f"{name}: is empty", hint="Give what `covenq export` wrote, or deliveries as GitHub's API gives them."
        )
    if len(first) > LINE_MAX:
        raise UsageError(f"{name}: line 1 is longer than {LINE_MAX >> 20} MiB", hint=_WHOLE)
    value = _value(first)
    if isinstance(value, dict) and value.get("format") == FORMAT:
        if value.get("version") != VERSION:
            raise UsageError(
                f"{name}: a slice of version {value.get('version')}, which this covenq can't read",
                hint="Import it with the covenq that wrote it, or a newer one than this.",
            )
        yield from _slice(file, name)
        return
    if value is None and first.startswith(b'{"format":"covenq-slice"') and not first.endswith(b"\n"):
        raise _cut_short(name)
    if isinstance(value, dict) and "request" in value:
        yield _github(value, f"{name}, line 1")
        for number, text in _lines(file, name):
            yield _github(_value(text), f"{name}, line {number}")
        return
    if is_without_head(first):
        raise headless(name)
    rest = file.read(LINE_MAX + 1)
    whole = _value(first + rest) if len(first) + len(rest) <= LINE_MAX else None
    for number, one in enumerate(whole if isinstance(whole, list) else [whole], 1):
        yield _github(one, f"{name}, delivery {number}")


def _lines(file: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    number = 1
    while text := file.readline(LINE_MAX + 1):
        number += 1
        if len(text) > LINE_MAX:
            raise UsageError(f"{name}: line {number} is longer than {LINE_MAX >> 20} MiB", hint=_WHOLE)
        if text.strip():
            yield number, text


def _slice(file: IO[bytes], name: str) -> Iterator[ImportedDelivery]:
    given, ended = 0, False
    for number, text in _lines(file, name):
        value = _value(text)
        where = f"{name}, line {number}"
        if value is None and not text.endswith(b"\n"):
            raise _cut_short(name)
        if not isinstance(value, dict) or ended:
            raise UsageError(f"{where}: is no line of a slice", hint=_WHOLE)
        if value.get("end"):
            ended = True
            if value.get("deliveries") != given:
                raise UsageError(f"{name}: has {given} deliveries and says {value.get('deliveries')}", hint=_WHOLE)
            continue
        given += 1
        yield _of_line(value, where)
    if not ended:
        raise _cut_short(name)


def _cut_short(name: str) -> UsageError:
    return UsageError(
        f"{name}: is cut short: its end is missing", hint="The file is not whole: export it again, or copy it again."
    )


def _of_line(value: Mapping[str, Any], where: str) -> ImportedDelivery:
    delivery = value.get("delivery")
    if not isinstance(delivery, dict):
        raise UsageError(f"{where}: has no delivery", hint=_WHOLE)
    headers = _pairs(delivery.get("headers"), where)
    origin = {
        "format": FORMAT,
        "received_at": _word(delivery.get("received_at")),
        "seq": delivery.get("seq") if isinstance(delivery.get("seq"), int) else None,
        "state": _word(delivery.get("state")),
    }
    if isinstance(value.get("body64"), str):
        try:
            body: bytes | None = base64.b64decode(value["body64"], validate=True)
        except (binascii.Error, ValueError):
            raise UsageError(f"{where}: body64 is no base64", hint=_WHOLE) from None
    else:
        text = value.get("body")
        body = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else None
    return ImportedDelivery(headers, body, origin)


def _github(value: Any, where: str) -> ImportedDelivery:
    """GitHub's object of `GET …/hook/deliveries/{id}`.

    It has the payload as an object, not the bytes that were signed. They are serialized again, so the signature, which would
    not match them, is left out.
    """
    request = value.get("request") if isinstance(value, dict) else None
    if not isinstance(request, dict) or not isinstance(request.get("payload"), dict):
        raise UsageError(
            f"{where}: is neither a slice nor a delivery as GitHub's API gives it",
            hint="`gh api /app/hook/deliveries/ID` prints one; the list of deliveries has no payloads.",
        )
    given = request.get("headers")
    headers = _pairs(list(given.items()) if isinstance(given, dict) else given, where)
    kept = tuple(pair for pair in headers if pair[0].lower() not in (*_SIGNATURES, "content-type"))
    names = {name.lower() for name, _ in kept}
    for name, known in (("X-GitHub-Event", value.get("event")), ("X-GitHub-Delivery", value.get("guid"))):
        if name.lower() not in names and isinstance(known, str):
            kept = (*kept, (name, known))
    try:
        body = json_text(request["payload"]).encode()
    except (ValueError, UnicodeEncodeError):
        raise UsageError(
            f"{where}: its payload holds what is no JSON",
            hint="`gh api /app/hook/deliveries/ID` prints it as GitHub has it.",
        ) from None
    id = value.get("id")
    origin = {
        "format": "github",
        "received_at": _word(value.get("delivered_at")),
        "id": id if isinstance(id, int) else None,
        "redelivery": value.get("redelivery") is True,
    }
    return ImportedDelivery((("Content-Type", "application/json"), *kept), body, origin)


def _pairs(given: Any, where: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(given, list):
        raise UsageError(f"{where}: has no headers", hint=_WHOLE)
    pairs = []
    for pair in given:
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(one, str) for one in pair)):
            raise UsageError(f"{where}: a header is no pair of texts", hint=_WHOLE)
        pairs.append((pair[0], pair[1]))
    return tuple(pairs)


def _word(value: Any) -> str | None:
    return value[:40] if isinstance(value, str) and value.isascii() and value.isprintable() else None


def _value(text: bytes) -> Any:
    """The parsed JSON; None if it isn't JSON."""
    try:
        return json.loads(text)
    except RecursionError:
        pass  # orjson reads it deeper, but whole numbers of over 64 bits as others
    except ValueError:
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        return None
