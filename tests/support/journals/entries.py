"""Entries for tests of any journal, and what must come back of each."""

from __future__ import annotations

import hashlib

import orjson

from journal.records import Entry, Record

PAYLOADS = [
    b'{"action":"opened","issue":{"number":7,"title":"caf\xc3\xa9 \\ud83d"}}',
    b"payload=%7B%22a%22%3A1%7D&x=\n",
    bytes(range(256)) * 3,
    b"",
    b'{"seq":1,"at":"2026-01-01T00:00:00.000000Z","synced":900,"subject":"delivery.h.x","data":{},"sum":"' + b"0" * 64,
    b"{" + b'"k":"' + b"v" * 900 + b'"}',
    None,
]


def delivery(number: int, **more: object) -> Entry:
    """The nth delivery; the payloads take turns through all the forms."""
    payload = PAYLOADS[number % len(PAYLOADS)]
    about = {"repo": "octo/hello", "title": "t" * (number * 7 % 50)} if number % 3 else None
    return Entry(f"delivery.h.g{number}", "delivery.received", {"n": number, **more}, about, payload, 0)


def task(number: int, expect: int | None = 0) -> Entry:
    return Entry(f"task.t{number}", "task.queued", {"route": "fix"}, {"key": None}, None, expect)


def digest(entry: Entry | Record) -> bytes:
    """What must come back of an entry: everything but its place."""
    payload = entry.payload
    if isinstance(entry, Record):
        size, sha256 = entry.payload_bytes, entry.payload_sha256
    else:
        size = None if payload is None else len(payload)
        sha256 = None if payload is None else hashlib.sha256(payload).hexdigest()
    about = None if entry.about is None else dict(entry.about)
    return orjson.dumps([entry.subject, entry.kind, dict(entry.data), about, size, sha256])
