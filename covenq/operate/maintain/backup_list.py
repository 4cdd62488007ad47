"""Where else content of this journal may be: the backups that were taken, and what stands beside it.

An erasure reaches what covenq owns. Copies are named to the operator, who alone can reach them. Backups are remembered in
DATA/backups.json, each with the head it ended at; one taken by other means isn't known here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from covenq.errors import BackupListUnreadable
from covenq.model import JsonObject
from covenq.paths import BACKUPS_NAME
from journal.file.files import OsFiles, publish
from journal.records import Head


def known(data: Path) -> list[JsonObject]:
    """[{"path", "at", "seq", "sum"}…], the newest last: of the note, what can be read."""
    try:
        return [one for one in _entries(data) if _is_entry(one)]
    except BackupListUnreadable:
        return []


def unreadable(data: Path) -> list[str]:
    """What of the note can't be read, in words: any of it may be a backup's."""
    try:
        found = _entries(data)
    except BackupListUnreadable as error:
        return [str(error)]
    return [
        f"{data / BACKUPS_NAME}: entry {number} names no directory: {json.dumps(one)[:200]}"
        for number, one in enumerate(found, 1)
        if not _is_entry(one)
    ]


def _entries(data: Path) -> list[Any]:
    """All entries, whatever they are. Raises BackupListUnreadable."""
    path = data / BACKUPS_NAME
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BackupListUnreadable(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BackupListUnreadable(f"{path} is no JSON") from error
    entries = found.get("backups") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise BackupListUnreadable(f"{path} has no list of backups")
    return entries


def _is_entry(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("path"), str) and "\0" not in one["path"]


def remember(data: Path, target: Path, at: str, head: Head) -> None:
    """Note a backup, in place of an earlier one in the same directory. Durable on return.

    Entries that can't be read stay as they are. Raises OSError, BackupListUnreadable.
    """
    path = str(target.resolve())
    kept = [one for one in _entries(data) if not (_is_entry(one) and one["path"] == path)]
    kept.append({"path": path, "at": at, "seq": head.seq, "sum": head.sum})
    # orjson would refuse a name that is not UTF-8; here it comes back as it was.
    publish(OsFiles(), data / BACKUPS_NAME, json.dumps({"backups": kept}, indent=2).encode() + b"\n")


def copies(data: Path) -> list[str]:
    """Directories outside the journal that may hold content of it: backups that are still there or can't be seen from
    here, and journals that were put aside in the data directory. What of the list can't be read, `unreadable` has."""
    aside = sorted(str(path) for path in data.glob("journal?*") if path.is_dir())
    return [one["path"] for one in known(data)] + aside
