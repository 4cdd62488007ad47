"""The journal read as plain JSON Lines, without the product: a test's oracle is not the code under test.

Also one in tables, where this run of the tests keeps it there.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support import chosen_engine

FINAL_KINDS = ("task.completed", "task.failed", "task.cancelled", "task.superseded")
QUEUED_KINDS = ("task.queued", "task.requeued")
_TURN = re.compile(rb'"kind":"task\.(?:queued|requeued|completed|failed|cancelled|superseded)"')


def segments(data: Path) -> list[Path]:
    return sorted((data / "journal").glob("*.jsonl"))


def journal_lines(data: Path) -> Iterator[bytes]:
    """Every whole line of the journal, without its newline. A tail still being written is left out.

    Of a journal in tables the records alone, as they would stand in a file.
    """
    url = chosen_engine.url_of(data)
    if url is not None:
        from tests.support.postgres.lines import lines

        yield from lines(url)
        return
    for path in segments(data):
        content = path.read_bytes()
        yield from content.split(b"\n")[:-1]


def records(data: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The journal's records as plain JSON objects, headers left out; of one kind only, if given."""
    found = []
    for line in journal_lines(data):
        record = json.loads(line)
        if "kind" in record and "subject" in record and kind in (None, record["kind"]):
            found.append(record)
    return found


def turns(data: Path) -> list[dict[str, Any]]:
    """The records by which a task is queued or ends. Whoever waits for the end of many asks often, and reads no payload."""
    found = (json.loads(line) for line in journal_lines(data) if _TURN.search(line))
    return [record for record in found if record.get("kind") in (*QUEUED_KINDS, *FINAL_KINDS)]


def payload_of(line: bytes) -> bytes | None:
    """The received bytes that a journal line holds, cut from the raw line as the format says."""
    record = json.loads(line)
    if "payload" in record:
        start = len(line) - 1 - int(record["payload_bytes"])
        assert line[:start].endswith(b',"payload":')
        return line[start:-1]
    if "body" in record:
        return str(record["body"]).encode()
    if "body64" in record:
        return base64.b64decode(record["body64"])
    return None
