"""What else names a repository: deliveries of others, whose payloads list it, fork it, or tell of its old name.

An erasure of a repository takes its own deliveries. Those of others stay, and are counted here, so that nobody takes them for
erased too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Sequence

from covenq.errors import BadRequest
from covenq.github.request import content_type_of, json_of
from covenq.model import Kind
from covenq.operate.answers import Mentions
from journal.errors import JournalError
from journal.interface import Reading
from journal.records import Record

SCAN_S = 20.0
"""Seconds that payloads are looked through: what is found until then is a lower bound, and said to be one."""
EXAMPLES = 5


def mentions(
    journal: Reading, names: Sequence[str], own: Collection[str], monotonic: Callable[[], float] = time.monotonic
) -> Mentions:
    """The deliveries, but for `own` (hook/GUID), whose payload has one of the names (OWNER/NAME), in any case.

    Reads them all. Where that can't be done, as behind damage, it is not complete: no erasure depends on this count.
    """
    found = 0
    examples: list[str] = []
    until = monotonic() + SCAN_S
    pattern = _pattern(names)
    try:
        for record in journal.read(0):
            if monotonic() > until:
                return Mentions(found, examples, complete=False)
            if record.kind != Kind.RECEIVED or pattern.search(_json(record)) is None:
                continue
            id = f"{record.data.get('hook')}/{record.data.get('guid')}"
            if id not in own:
                found += 1
                if len(examples) < EXAMPLES:
                    examples.append(id)
    except JournalError:
        return Mentions(found, examples, complete=False)
    return Mentions(found, examples)


def _pattern(names: Sequence[str]) -> re.Pattern[bytes]:
    """One of the names, and no part of a longer one: `.git` and the end of a sentence may follow. JSON may escape the slash."""
    escaped = b"|".join(rb"\\?/".join(re.escape(part.encode()) for part in name.split("/")) for name in names)
    after = rb"(?:\.git)?(?![0-9A-Za-z_-]|\.[0-9A-Za-z_-])"
    return re.compile(rb"(?<![0-9A-Za-z_.-])(?:" + escaped + rb")" + after, re.IGNORECASE)


def _json(record: Record) -> bytes:
    """The payload's JSON, also of a form; nothing where it is gone."""
    if record.payload is None:
        return b""
    try:
        return json_of(record.payload, content_type_of(record.data.get("headers")))
    except BadRequest:
        return record.payload
