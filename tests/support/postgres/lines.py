"""The records of a journal's tables as the lines that a file would have, without the product.

They are in covenq-journal(5): the hashed bytes, the sum, and what can be erased.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator

import psycopg

_ROWS = """SELECT r.envelope, r.sum, c.about, c.payload, e.by
  FROM covenq.record r LEFT JOIN covenq.content c USING (seq) LEFT JOIN covenq.erasure e ON e.id = c.erasure ORDER BY r.seq"""


def lines(url: str) -> Iterator[bytes]:
    """Every record, without a newline; none where there are no tables yet."""
    with psycopg.connect(url) as conn:
        if conn.execute("SELECT to_regclass('covenq.erasure')").fetchone() == (None,):
            return
        for envelope, total, about, payload, dropped in conn.execute(_ROWS).fetchall():
            line = envelope + b',"sum":"' + total.encode() + b'"'
            if about is not None:
                line += b',"about":' + about
            if payload is not None:
                line += _content(payload)
            elif dropped is not None:
                line += b',"dropped":%d' % dropped
            yield line + b"}"


def _content(payload: bytes) -> bytes:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return b',"body64":"' + base64.b64encode(payload) + b'"'
    if _is_plain(payload, text):
        return b',"payload":' + payload
    return b',"body":' + json.dumps(text, ensure_ascii=False).encode()


def _is_plain(payload: bytes, text: str) -> bool:
    if not (payload.startswith(b"{") and payload.endswith(b"}")) or min(payload) < 0x20:
        return False
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return _depth(text) <= 128


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _depth(text: str) -> int:
    """Of what is open at once in a JSON text, outside strings."""
    most = now = 0
    for mark in re.findall(r'"(?:[^"\\\\]|\\\\.)*"|[{}\[\]]', text):
        now += (mark in "{[") - (mark in "}]")
        most = max(most, now)
    return most
