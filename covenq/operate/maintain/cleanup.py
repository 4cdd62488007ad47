"""Cleanup after an erasure, outside the log: the files of attempts, and older pages of state.db.

All of it follows from the rows, which follow from the log: `redacted` and `payload_dropped` hold the record that erased
or dropped the content. The watermark, DATA/upkeep.json, is the record up to which the cleanup is complete. It is written
last, so what a crash interrupted is repeated at the next start; without it all of the cleanup is repeated, and finds most
files gone.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from covenq import atomic_file
from covenq.model import TOKEN
from covenq.paths import ATTEMPTS_NAME, UPKEEP_NAME
from covenq.tasks.execution.removal import LEFT_MAX, remove_named, remove_tree
from covenq.text import escape
from journal.presence import is_named

_PAGE = 2000


@dataclass(frozen=True, slots=True)
class Watermark:
    """The record of a journal up to which the cleanup is done, and when retention last ran (seconds since 1970)."""

    journal: str = ""
    done: int = 0
    retained_at: float = 0.0


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """What was removed: the directories of whole tasks, and single payload files. `left` are paths that could not be.

    Of these there are LEFT_MAX at most. Not `complete`: something is left, or older pages of state.db are still in use.
    """

    attempts: int = 0
    payloads: int = 0
    left: tuple[str, ...] = ()
    complete: bool = True


def read_watermark(data: Path, journal: str) -> Watermark:
    """The watermark, or an empty one if there is none of this journal."""
    try:
        found = orjson.loads((data / UPKEEP_NAME).read_bytes())
        watermark = Watermark(str(found["journal"]), int(found["done"]), float(found["retained_at"]))
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        watermark = Watermark()
    return watermark if watermark.journal == journal else Watermark(journal)


def write_watermark(data: Path, watermark: Watermark) -> None:
    """Durable on return. Raises OSError."""
    content = {"journal": watermark.journal, "done": watermark.done, "retained_at": watermark.retained_at}
    atomic_file.replace(data / UPKEEP_NAME, orjson.dumps(content) + b"\n")


def finish(
    conn: sqlite3.Connection,
    data: Path,
    journal: str,
    folded: int,
    truncate_wal: Callable[[], bool],
    *,
    step: Callable[[], None] = lambda: None,
) -> CleanupResult:
    """Remove the files of deliveries that were erased or dropped by records up to `folded`, which `conn` has folded.

    `step` is called before each task's directory.

    Where something could not be removed, or readers kept older pages of state.db in use, the watermark stays. Raises
    OSError, sqlite3.Error.
    """
    watermark = read_watermark(data, journal)
    newest = conn.execute(
        "SELECT max(coalesce((SELECT max(redacted) FROM webhook_deliveries WHERE redacted IS NOT NULL), 0),"
        " coalesce((SELECT max(payload_dropped) FROM webhook_deliveries WHERE payload_dropped IS NOT NULL), 0))"
    ).fetchone()[0]
    if newest <= watermark.done:
        return CleanupResult()
    attempts = payloads = 0
    left: list[str] = []
    for task in _tasks(conn, "redacted", watermark.done):
        step()
        gone, failed = remove_attempts(data, task)
        attempts += gone
        left += failed[: LEFT_MAX - len(left)]
    for task in _tasks(conn, "payload_dropped", watermark.done):
        step()
        gone, failed = _remove_payloads(data, task)
        payloads += gone
        left += failed[: LEFT_MAX - len(left)]
    if attempts or payloads:
        with contextlib.suppress(FileNotFoundError):
            atomic_file.sync_directory(data / ATTEMPTS_NAME)
    complete = truncate_wal() and not left
    if complete:
        write_watermark(data, replace(watermark, done=max(folded, newest)))
    return CleanupResult(attempts, payloads, tuple(left), complete)


def _tasks(conn: sqlite3.Connection, column: str, after: int) -> Iterator[str]:
    """The tasks of the deliveries whose `column` names a record after `after`, a page of them in memory at a time."""
    position = (after + 1, 0, 0)
    while True:
        rows = conn.execute(
            f"""SELECT d.{column} AS by, d.seq, t.created_seq, t.id FROM webhook_deliveries d
                JOIN tasks t ON t.delivery_seq = d.seq
                WHERE d.{column} >= ? AND (d.{column}, d.seq, t.created_seq) > (?, ?, ?)
                ORDER BY d.{column}, d.seq, t.created_seq LIMIT ?""",  # noqa: S608 - constants
            (position[0], *position, _PAGE),
        ).fetchall()
        for row in rows:
            yield str(row["id"])
        if len(rows) < _PAGE:
            return
        position = (rows[-1]["by"], rows[-1]["seq"], rows[-1]["created_seq"])


def remove_attempts(data: Path, task: str) -> tuple[int, list[str]]:
    """Remove the directories of a task's attempts: (1 or 0, what could not be removed)."""
    directory = data / ATTEMPTS_NAME / task
    if not TOKEN.match(task):
        return 0, []
    try:
        if not is_named(directory):
            return 0, []
    except OSError:
        return 0, [escape(str(directory))]
    failed = remove_tree(directory)
    return (0 if failed else 1), failed


def _remove_payloads(data: Path, task: str) -> tuple[int, list[str]]:
    if not TOKEN.match(task):
        return 0, []
    gone, left = remove_named(data / ATTEMPTS_NAME, task, "payload")
    _, more = remove_named(data / ATTEMPTS_NAME, task, "body")  # the same as it was received, a form for one
    return gone, left + more
