"""Whether two JSON texts have the same values, however each is written.

The order of keys, escapes, blanks and the spelling of numbers (1.0, 1, 10e-1) may differ. Nothing is rounded: a number is
compared as it is written and not as a double, and `true` is no 1, as it is to Python's own comparison.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

from covenq.github.request import LENIENT_DEPTH_MAX
from covenq.github.signed_body import plain
from journal.payload import is_deeper

VALUES_MAX = 4 << 20
"""Bytes of a text whose values are compared: as objects they take many times as much. Longer ones are the same only where their
canonical texts are.
"""
EXPONENT_DIGITS_MAX = 18
"""Of a number that is compared by its value; one with more is the same only where it is written the same."""

_BOM = b"\xef\xbb\xbf"
_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?\Z")


def canonical(text: bytes) -> bytes:
    """The JSON, compact and with the fewest escapes; keys and numbers stay as they are written. Only of what is JSON."""
    return plain(text.removeprefix(_BOM))


def same_json(one: bytes, other: bytes) -> bool:
    """Whether the texts have the same values.

    False too where that can't be told: what is too long or too deep to compare is the same only where its canonical text is.
    """
    try:
        return canonical(one) == canonical(other) or _values(one) == _values(other)
    except (ValueError, RecursionError):
        return False


def _values(text: bytes) -> object:
    """The value, with numbers as tuples, which no other JSON value is. Raises ValueError, RecursionError."""
    if len(text) > VALUES_MAX or is_deeper(text, LENIENT_DEPTH_MAX):
        raise ValueError("too much to compare")
    return json.loads(
        text.removeprefix(_BOM).decode(), parse_int=_number, parse_float=_number, parse_constant=_refuse_constant
    )


def _number(text: str) -> tuple[str, int]:
    """(digits with a sign, power of ten), the same for all ways to write the number."""
    found = _NUMBER.match(text)
    if found is None or len(found[4] or "") > EXPONENT_DIGITS_MAX:
        return text, 0
    fraction = found[3] or ""
    digits = (found[2] + fraction).lstrip("0")
    kept = digits.rstrip("0")
    if not kept:
        return "0", 0
    return found[1] + kept, int(found[4] or 0) - len(fraction) + len(digits) - len(kept)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
