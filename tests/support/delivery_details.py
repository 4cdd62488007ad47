"""JSON written in any of the ways that serializers have, and GitHub's objects of its delivery log around it.

It writes character by character, and shares nothing with the product, so that a test's oracle is not the code under test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.requests import SECRET, sign

SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
GUID = "0b989ba4-242f-11e5-81e1-c7b6966d2516"
ATTEMPT = 3812345678901234567


class Number(str):
    """A number as it is spelled."""


@dataclass(frozen=True)
class Style:
    """How strings are written, and what stands between tokens."""

    escaped: str = ""
    """Characters that are escaped though JSON needn't."""
    ascii: bool = False
    """All that is not ASCII is escaped."""
    upper: bool = False
    blank: str = ""

    def character(self, one: str) -> str:
        if one in SHORT:
            return SHORT[one]
        code = ord(one)
        if code < 0x20 or 0xD800 <= code < 0xE000 or one in self.escaped or (self.ascii and code > 0x7F):
            units = [code] if code < 0x10000 else [0xD800 + (code - 0x10000 >> 10), 0xDC00 + (code - 0x10000 & 0x3FF)]
            return "".join(f"\\u{unit:04X}" if self.upper else f"\\u{unit:04x}" for unit in units)
        return one

    def write(self, value: Any) -> str:
        """The value as JSON. A lone surrogate before another is no pair: what is given is text that some JSON could have."""
        gap = self.blank
        if isinstance(value, Number):
            return str(value)
        if isinstance(value, str):
            return '"' + "".join(map(self.character, value)) + '"'
        if isinstance(value, Mapping):
            inner = (f"{self.write(name)}{gap}:{gap}{self.write(one)}" for name, one in value.items())
            return "{" + gap + f"{gap},{gap}".join(inner) + gap + "}"
        if isinstance(value, list):
            return "[" + gap + f"{gap},{gap}".join(map(self.write, value)) + gap + "]"
        return (
            {True: "true", False: "false", None: "null"}[value]
            if value is None or isinstance(value, bool)
            else str(value)
        )


PLAIN = Style()
HTML, SEPARATORS = "<>&", "\u2028\u2029"
STYLES = [
    Style(html + more, ascii, upper)
    for html in ("", HTML)
    for more, ascii in (("", False), (SEPARATORS, False), ("", True), ("\x7f", True))
    for upper in (False, True)
]
"""Every way in which signed bytes must come back."""


def detail(
    payload: str,
    signed: bytes | None = None,
    *,
    headers: Mapping[str, Any] | None = None,
    secret: str | bytes = SECRET,
    guid: str = GUID,
    event: str = "issues",
    style: Style = PLAIN,
    **more: Any,
) -> bytes:
    """GitHub's object of a delivery with that JSON as its payload, and the signature of the bytes that were sent."""
    request = {
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": guid,
        "X-GitHub-Hook-ID": "30",
        "content-type": "application/json",
        **({} if signed is None else {"X-Hub-Signature-256": sign(signed, secret)}),
        **(headers or {}),
    }
    whole = {
        "id": ATTEMPT,
        "guid": guid,
        "delivered_at": "2026-11-20T00:57:16Z",
        "redelivery": False,
        "duration": 0.27,
        "status": "OK",
        "status_code": 200,
        "event": event,
        "action": None,
        "url": "https://example.org/\u00fc",
        "request": {"headers": request, "payload": Number(payload)},
        "response": {"headers": {}, "payload": '{"request":{"payload":{}}}'},
        **more,
    }
    return style.write(whole).encode()
