"""Parameters of requests to the API: path segments, query parameters and JSON bodies, checked and bounded.

Everything here raises UsageError for what it can't read, and for a filter FilterError.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import falcon
import orjson

from covenq.errors import BodyTooLarge, UsageError
from covenq.filter.grammar import Filter, parse
from covenq.http.guard import token_of
from covenq.operate.operations import BODY_MAX

LIMIT = 50
"""Items of a page, if the request names no limit."""
LIMIT_MAX = 1000
"""Items of a page at most."""
SECONDS_MAX = 1e9


def id_of(one: str, two: str | None) -> str:
    """A delivery's id out of a path's segments: GUID, or hook and GUID."""
    return one if two is None else f"{one}/{two}"


# ---- query parameters


def limit_of(text: str | None) -> int:
    if text is None:
        return LIMIT
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise UsageError(f"{text[:40]!r} is no limit", hint=f"It is a whole number up to {LIMIT_MAX}.")
    return min(int(text) or LIMIT_MAX, LIMIT_MAX)


def filter_of(req: falcon.Request) -> Filter:
    """`filter=`; without it, everything matches."""
    return parse(req.get_param("filter") or "")


def integer_of(req: falcon.Request, name: str) -> int | None:
    """A parameter that is a whole number; None if it isn't there."""
    text = req.get_param(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise UsageError(f"{text[:40]!r} is no {name}", hint="It is a whole number of 18 digits at most.")
    return int(text)


def flag_of(req: falcon.Request, name: str) -> bool:
    """A parameter that is 1 or 0; False if it isn't there."""
    text = req.get_param(name) or "0"
    if text not in ("0", "1"):
        raise UsageError(f"{text[:40]!r} is no {name}", hint=f"Write {name}=1, or leave it out.")
    return text == "1"


# ---- JSON bodies


class Body:
    """The values of a JSON object, each read with the type that it must have. Null is the same as not there."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def get(self, key: str) -> Any:
        """The value as it is."""
        return self._values.get(key)

    def typed(self, key: str, kind: type, noun: str, default: Any) -> Any:
        value = self._values.get(key)
        if value is None:
            return default
        if type(value) is not kind:
            raise UsageError(f"{key} must be {noun}")
        return value

    def text(self, key: str, default: str | None = None) -> str | None:
        text: str | None = self.typed(key, str, "a text", default)
        return text

    def required_text(self, key: str) -> str:
        text = self.text(key)
        if text is None:
            raise UsageError(f"{key} is missing")
        return text

    def flag(self, key: str, default: bool = False) -> bool:
        flag: bool = self.typed(key, bool, "true or false", default)
        return flag

    def integer(self, key: str) -> int | None:
        number: int | None = self.typed(key, int, "a whole number", None)
        return number

    def int32(self, key: str) -> int | None:
        """A whole number of at most 2^31, either way."""
        number = self.integer(key)
        if number is not None and abs(number) > 1 << 31:
            raise UsageError(f"{key} is too large")
        return number

    def seconds(self, key: str) -> float | None:
        """A number of seconds from 0 to SECONDS_MAX."""
        value = self._values.get(key)
        if value is None:
            return None
        if type(value) not in (int, float) or not 0 <= value <= SECONDS_MAX:
            raise UsageError(f"{key} must be a number of seconds")
        seconds: float = value
        return seconds

    def texts(self, key: str, noun: str) -> list[str] | None:
        """A list of texts, which `noun` describes."""
        texts: list[str] | None = self.typed(key, list, noun, None)
        if texts is not None and not all(isinstance(text, str) for text in texts):
            raise UsageError(f"{key} must be {noun}")
        return texts


def body_of(
    req: falcon.Request, known: Collection[str], most: int = BODY_MAX, *, shorten: str = "Send it in parts."
) -> Body:
    """The JSON object of a request, of at most `most` bytes, which has none but the known keys; `shorten` says how to send less.

    Where `by` is known it is filled in: see `_actor`.
    """
    raw = req.bounded_stream.read(most + 1)
    if len(raw) > most:
        raise BodyTooLarge(f"the body is over the limit of {most} bytes", hint=shorten)
    try:
        values = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        why = f"{error.msg}, at character {error.pos + 1}"
        raise UsageError(f"the body is no JSON: {why}", hint="Send JSON in UTF-8, each surrogate in a pair.") from None
    if not isinstance(values, dict):
        raise UsageError("the body is no JSON object", hint=f"Send an object; its keys are {', '.join(sorted(known))}.")
    for key in values:
        if key not in known:
            raise UsageError(f"unknown key {key[:40]!r}", hint=f"Known are {', '.join(sorted(known))}.")
    body = Body(values)
    if "by" in known:
        values["by"] = _actor(req, body.text("by"))
    return body


def _actor(req: falcon.Request, claimed: str | None) -> str:
    """Who acts, for the record: over TCP the token's name, followed by the name that its bearer claims."""
    token = token_of(req)
    if token is None:
        return claimed or "api"
    return f"token:{token.name} ({claimed})" if claimed else f"token:{token.name}"
