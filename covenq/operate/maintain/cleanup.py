"""What an erasure leaves to do outside the log: the files of attempts, and older pages of state.db.

All of it follows from the rows, which follow from the log: `redacted` and `payload_dropped` say by which record. A note,
DATA/upkeep.json, says up to which record everything has been done. It is written last, so whatever a crash cut short is
done (again) at the next start; without the note everything is looked at again, which finds most of it gone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from covenq.model import TOKEN
from covenq.paths import ATTEMPTS_NAME, UPKEEP_NAME
from journal.file.files import OsFiles, publish

_PAGE = 2000


@dataclass(frozen=True, slots=True)
class Note:
    """Up to which record of which journal it is done, and when retention last ran (seconds since 1970)."""

    journal: str = ""
    done: int = 0
    retained_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Cleanup:
    """What was removed: the directories of whole tasks, and single payload files. `left` could not be."""

    attempts: int = 0
    payloads: int = 0
    left: tuple[str, ...] = ()


def read_note(data: Path, journal: str) -> Note:
    """The note, or an empty one if there is none that is this journal's."""
    try:
        found = orjson.loads((data / UPKEEP_NAME).read_bytes())
        note = Note(str(found["journal"]), int(found["done"]), float(found["retained_at"]))
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        note = Note()
    return note if note.journal == journal else Note(journal)


def write_note(data: Path, note: Note) -> None:
    """Durable on return. Raises OSError."""
    content = {"journal": note.journal, "done": note.done, "retained_at": note.retained_at}
    publish(OsFiles(), data / UPKEEP_NAME, orjson.dumps(content) + b"\n")


def finish(conn: sqlite3.Connection, data: Path, journal: str, folded: int, scrub: Callable[[], bool]) -> Cleanup:
    """Carry out what records up to `folded`, which `conn` has, say of files. Raises OSError, sqlite3.Error.

    Where something could not be removed, or readers kept older pages of state.db in use, the note stays as it was.
    """
    note = read_note(data, journal)
    newest = conn.execute(
        "SELECT max(coalesce((SELECT max(redacted) FROM webhook_deliveries WHERE redacted IS NOT NULL), 0),"
        " coalesce((SELECT max(payload_dropped) FROM webhook_deliveries WHERE payload_dropped IS NOT NULL), 0))"
    ).fetchone()[0]
    if newest <= note.done:
        return Cleanup()
    attempts = payloads = 0
    left: list[str] = []
    for task in _tasks(conn, "redacted", note.done):
        gone, failed = remove_attempts(data, task)
        attempts += gone
        left += failed
    for task in _tasks(conn, "payload_dropped", note.done):
        gone, failed = _remove_payloads(data, task)
        payloads += gone
        left += failed
    if attempts or payloads:
        _sync(data / ATTEMPTS_NAME)
    if scrub() and not left:
        write_note(data, replace(note, done=max(folded, newest)))
    return Cleanup(attempts, payloads, tuple(left))


def _tasks(conn: sqlite3.Connection, column: str, after: int) -> Iterator[str]:
    """The tasks of the deliveries that records after `after` concern, by either column."""
    place = (after + 1, 0, 0)
    while True:
        rows = conn.execute(
            f"""SELECT d.{column} AS by, d.seq, t.created_seq, t.id FROM webhook_deliveries d
                JOIN tasks t ON t.delivery_seq = d.seq
                WHERE d.{column} >= ? AND (d.{column}, d.seq, t.created_seq) > (?, ?, ?)
                ORDER BY d.{column}, d.seq, t.created_seq LIMIT ?""",  # noqa: S608 - constants
            (place[0], *place, _PAGE),
        ).fetchall()
        for row in rows:
            yield str(row["id"])
        if len(rows) < _PAGE:
            return
        place = (rows[-1]["by"], rows[-1]["seq"], rows[-1]["created_seq"])


def remove_attempts(data: Path, task: str) -> tuple[int, list[str]]:
    """Remove the directories of a task's attempts: (1 or 0, what could not be removed)."""
    directory = data / ATTEMPTS_NAME / task
    if not TOKEN.match(task) or not os.path.lexists(directory):
        return 0, []
    failed: list[str] = []
    for _ in range(2):
        failed.clear()
        shutil.rmtree(directory, onerror=lambda _call, path, _error: failed.append(str(path)))
        if not failed:
            return 1, []
        _make_removable(directory)  # a command may have taken its directories' write permission away
    return 0, failed


def _make_removable(directory: Path) -> None:
    for parent, names, _ in os.walk(directory):
        for one in (Path(parent), *(Path(parent, name) for name in names)):
            if not one.is_symlink():
                with contextlib.suppress(OSError):  # not ours: what stays is told
                    one.chmod(0o700)


def _remove_payloads(data: Path, task: str) -> tuple[int, list[str]]:
    directory = data / ATTEMPTS_NAME / task
    if not TOKEN.match(task) or not directory.is_dir():
        return 0, []
    gone, failed = 0, []
    for path in directory.glob("*/payload"):
        try:
            path.unlink()
            gone += 1
        except FileNotFoundError:
            continue
        except OSError:
            failed.append(str(path))
    return gone, failed


def _sync(directory: Path) -> None:
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
