"""The archive format of `covenq export` and `covenq import`: deliveries in one file; and GitHub's own delivery objects.

A slice is JSON Lines: a header, a line for each delivery (its fields, its headers, its exact bytes, its tasks), and a last
line that counts them, so that a truncated file is noticed. Values in, values out; the caller opens the files.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

import orjson

from covenq.errors import BadRequest, UsageError
from covenq.github.delivery_detail import DeliveryDetail, from_detail
from covenq.github.json_spans import members
from covenq.model import JsonObject
from covenq.operate.act.detail_file import no_delivery, objects
from covenq.operate.imported import ImportedDelivery, NotImported

FORMAT = "covenq-slice"
VERSION = 1
LINE_MAX = 64 * 1024 * 1024
"""Bytes of one line."""
_WHOLE = "Give the file whole and as it is, as `covenq export` wrote it or GitHub's API gave it."


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
    one = _value(content.split(b"\n", 1)[0])
    if isinstance(one, dict) and one.get("format") == FORMAT:
        return True
    try:
        _, text = next(objects(content, io.BytesIO(), ""), ("", b""))
        request = (members(text) or {}).get("request")
        asked = None if request is None else members(text, request.start)
    except (UsageError, BadRequest):
        return False
    return asked is not None and "headers" in asked and "payload" in asked


def is_without_head(content: bytes) -> bool:
    """Whether it begins with a delivery's line of a slice: the head, which says what the file is, is not there."""
    one = _value(content.split(b"\n", 1)[0])
    return isinstance(one, dict) and isinstance(one.get("delivery"), dict) and not {"body", "body64"}.isdisjoint(one)


def headless(name: str) -> UsageError:
    return UsageError(
        f"{name}: has lines of a slice without its first, which says what it is",
        hint="Give the file whole, as `covenq export` wrote it; a filter chooses what it writes.",
    )


def read(file: IO[bytes], name: str) -> Iterator[ImportedDelivery | NotImported]:
    """The deliveries of a slice, or of GitHub's delivery objects: one, lists of them, or one after another.

    Raises UsageError, which names the file and line, for anything else; and for a slice without its last line, after it
    gave every delivery that is there.
    """
    first = file.readline(LINE_MAX + 1)
    if not first:
        raise UsageError(
            f"{name}: is empty", hint="Give what `covenq export` wrote, or deliveries as GitHub's API gives them."
        )
    value = _value(first) if b'"format"' in first or b'"delivery"' in first else None
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
    if value is not None and is_without_head(first):
        raise headless(name)
    given = 0
    for position, text in objects(first, file, name):
        given += 1
        yield _of_detail(text, position)
    if not given:
        raise no_delivery(f"{name}, line 1")


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


def _of_detail(text: bytes, position: str) -> ImportedDelivery | NotImported:
    """The delivery of GitHub's object of it, whose body is rebuilt where the secrets are. Raises UsageError where it is none."""
    found = from_detail(text)
    if isinstance(found, DeliveryDetail):
        origin = {
            "format": "github",
            "id": found.id,
            "delivered_at": found.delivered_at,
            "redelivery": found.redelivery,
        }
        return ImportedDelivery(found.headers, found.payload, origin, rebuild=True)
    if found.is_detail:
        return NotImported(found.id or position, found.reason)
    if found.problem == "no_detail":
        raise no_delivery(position)
    raise UsageError(f"{position}: {found.reason}", hint="`gh api /app/hook/deliveries/ID` prints it as GitHub has it.")


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
