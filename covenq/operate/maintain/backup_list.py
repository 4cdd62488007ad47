"""The list of a journal's copies: the backups that were taken, and journals that were put aside beside it.

An erasure reaches only the files that covenq owns, so it names the copies to the operator, who can reach them. Backups are
recorded in DATA/backups.json, each with the head it ended at; one taken by other means isn't in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NotRequired, TypedDict, TypeGuard

from covenq import atomic_file
from covenq.errors import BackupListUnreadable
from covenq.paths import BACKUPS_NAME, JOURNAL_NAME
from journal.presence import is_directory
from journal.records import Head


class BackupEntry(TypedDict):
    """A backup: its directory, when it was taken, and the head that it ends at. Only the directory is checked."""

    path: str
    at: NotRequired[str]
    seq: NotRequired[int]
    sum: NotRequired[str]


def backups(data: Path) -> list[BackupEntry]:
    """The entries that can be read, the newest last."""
    try:
        return [one for one in _entries(data) if _is_entry(one)]
    except BackupListUnreadable:
        return []


def unreadable_entries(data: Path) -> list[str]:
    """A sentence for each part of the file that can't be read: any of them may have been a backup."""
    try:
        found = _entries(data)
    except BackupListUnreadable as error:
        return [str(error)]
    return [
        f"{data / BACKUPS_NAME}: entry {number} names no directory: {json.dumps(one)[:200]}"
        for number, one in enumerate(found, 1)
        if not _is_entry(one)
    ]


def _entries(data: Path) -> list[object]:
    """All entries, unchecked. Raises BackupListUnreadable."""
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


def _is_entry(one: object) -> TypeGuard[BackupEntry]:
    return isinstance(one, dict) and isinstance(one.get("path"), str) and "\0" not in one["path"]


def record_backup(data: Path, target: Path, at: str, head: Head) -> None:
    """Record a backup, in place of an earlier one in the same directory. Durable on return.

    Entries that can't be read stay unchanged. Raises OSError, BackupListUnreadable.
    """
    path = str(target.resolve())
    kept = [one for one in _entries(data) if not (_is_entry(one) and one["path"] == path)]
    kept.append({"path": path, "at": at, "seq": head.seq, "sum": head.sum})
    # orjson would refuse a name that is not UTF-8; json keeps it as it was.
    atomic_file.replace(data / BACKUPS_NAME, json.dumps({"backups": kept}, indent=2).encode() + b"\n")


def copies(data: Path) -> list[str]:
    """Directories outside the journal that may hold its content.

    They are backups, whether they can be seen from here or not, and journals that were put aside in the data directory.
    `unreadable` has in words what of these can't be read.
    """
    try:
        aside = sorted(str(path) for path in _put_aside(data, "") if _may_be_directory(path))
    except OSError:
        aside = []
    return [one["path"] for one in backups(data)] + aside


def unreadable(data: Path) -> list[str]:
    """`unreadable_entries`, and that journals that were put aside can't be seen, if so."""
    try:
        _put_aside(data, "")
    except OSError as error:
        return [*unreadable_entries(data), f"{data} can't be searched for journals put aside: {error.strerror}"]
    return unreadable_entries(data)


def salvaged(data: Path) -> list[Path]:
    """What `covenq salvage` wrote and nobody put in place. Raises OSError."""
    return _put_aside(data, ".salvaged-")


def _put_aside(data: Path, suffix: str) -> list[Path]:
    """What is beside the journal under its name and more, in order. Raises OSError, but for a data directory that isn't there."""
    prefix = JOURNAL_NAME + suffix
    try:
        return sorted(path for path in data.iterdir() if path.name.startswith(prefix) and path.name != JOURNAL_NAME)
    except FileNotFoundError:
        return []


def _may_be_directory(path: Path) -> bool:
    try:
        return is_directory(path)
    except OSError:
        return True
