"""Payloads that are JSON: parsing one once, with the proof for the journal that its bytes are JSON; and how deep one is.

A journal keeps a payload that is JSON as JSON, and has to know that it is. Whoever had to parse it anyway hands the proof on with
the entry (`Entry.parsed_json`), and the journal doesn't parse it again.
"""

from __future__ import annotations

from typing import Any

import orjson

from journal.records import ParsedJson


def parse(payload: bytes) -> tuple[Any, ParsedJson]:
    """The JSON value of these bytes, and the proof for an entry that carries them. Raises orjson.JSONDecodeError."""
    return orjson.loads(payload), ParsedJson(payload)


def is_deeper(payload: bytes, limit: int) -> bool:
    """Whether more than `limit` brackets are open at once outside strings; either may be said of what is no JSON.

    By the fast methods of bytes alone: remove the escapes, then everything but brackets and quotes, then the strings; then each
    pass removes the innermost level.
    """
    if _opens_at_most(payload, limit):
        return False
    if b"\\" in payload:
        payload = payload.replace(b"\\\\", b"").replace(b'\\"', b"")
    small = payload.translate(_TO_BRACES, _NO_BRACKETS)
    if small.count(b"{") <= limit:
        return False
    # Two adjacent quotes change nothing outside strings, so most can be removed before the costly split.
    brackets = b"".join(small.replace(b'""', b"").replace(b'""', b"").split(b'"')[::2])
    for _ in range(limit):
        smaller = brackets.replace(b"{}", b"")
        if len(smaller) == len(brackets):
            break  # none is left; or they are unbalanced, which is no JSON
        brackets = smaller
    return bool(brackets)


def _opens_at_most(payload: bytes, limit: int) -> bool:
    """Whether it has at most `limit` opening brackets, in strings or out, so that it can't be deeper.

    By bounded removals: `bytes.count` looks at each byte, while `replace` skips to the next bracket, and it stops at the limit.
    """
    rest = payload.replace(b"{", b"", limit + 1).replace(b"[", b"", limit + 1)
    return len(payload) - len(rest) <= limit


_TO_BRACES = bytes.maketrans(b"[]", b"{}")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b'{}[]"')
