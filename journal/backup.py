"""A copy of the log, taken while it is written, that verifies and opens.

A head is taken first; then every segment is copied by its descriptor, the one that holds the head up to the head's end. A
segment that was rewritten meanwhile (another file behind its name) is copied again. Each copy is written under a `.tmp` name,
synced, renamed and the directory synced. `backup.json` says from the first that this is a backup, and only after the last
segment that it is finished, and with which head: an unfinished copy is not opened. Opening a finished one begins a new
epoch, because the original may go on to give the same seqs to other records.

Run again on the same directory, only segments whose file has changed since are copied, and those of which the copy is no
longer there in full.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from journal.errors import JournalError, JournalGone
from journal.files import Files, OsFiles, publish, read_all, write_all
from journal.model import Head, Witness
from journal.segment import SegmentFile, list_segments

BACKUP_NAME = "backup.json"
_CHUNK = 4 << 20


class BackupRefused(JournalError):
    """The target can't take this backup."""

    exit_code = 4
    hint = "Choose an empty directory, or one that holds an earlier backup of this journal."


class BackupUnfinished(JournalError):
    """This directory is a copy in the making, or one that was cut short."""

    exit_code = 4
    hint = "Run `covenq backup` on it again; it goes on from what is there."


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What was done: the head the copy ends at, segments copied and left as they were, bytes copied."""

    head: Head
    copied: int
    kept: int
    bytes: int


def backup(
    source: Path,
    target: Path,
    *,
    journal: str,
    head: Head,
    again: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
    files: Files | None = None,
) -> BackupReport:
    """Copy the journal in `source` up to `head` into directory `target`. Raises BackupRefused, JournalGone, OSError.

    `journal` is the source's id; `again` are names of segments to copy although they didn't change. `progress` is told
    (bytes done, bytes in all).
    """
    files = files or OsFiles()
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    earlier = _earlier(files, target, journal)
    begun = {"journal": journal, "finished": False, "sources": earlier}
    publish(files, target / BACKUP_NAME, orjson.dumps(begun) + b"\n")
    firsts = [first for first in list_segments(files, source) if first <= max(head.seq, 1)]
    total = sum(_size(files, source, first) for first in firsts)
    sources: dict[str, list[int]] = {}
    copied = kept = done = 0
    for number, first in enumerate(firsts):
        last = number == len(firsts) - 1
        while True:
            with SegmentFile(files, source, first) as segment:
                identity = [*files.identity(segment.fd), segment.size()]
                end = _end_of(segment, head.seq) if last else segment.size()
                known = segment.name not in again and earlier.get(segment.name) == [*identity, end]
                if known and _is_there(files, target, segment.name, end):
                    kept += 1
                else:
                    _copy(files, segment, target, end)
                    copied += 1
                    done += end
                sources[segment.name] = [*identity, end]
                if list(files.identity_at(segment.path)) == identity[:2]:
                    break
        if progress is not None:
            progress(min(done, total), total)
    for name in files.listdir(target):
        if name.endswith(".jsonl") and name not in sources:
            files.unlink(target / name)
    files.fsync_dir(target)
    note = {"journal": journal, "finished": True, "seq": head.seq, "sum": head.sum, "sources": sources}
    publish(files, target / BACKUP_NAME, orjson.dumps(note) + b"\n")
    return BackupReport(head, copied, kept, done)


def _is_there(files: Files, target: Path, name: str, size: int) -> bool:
    if name not in files.listdir(target):
        return False
    fd = files.open(target / name, write=False)
    try:
        return files.size(fd) == size
    finally:
        files.close(fd)


def _size(files: Files, source: Path, first: int) -> int:
    with SegmentFile(files, source, first) as segment:
        return segment.size()


def _earlier(files: Files, target: Path, journal: str) -> dict[str, list[int]]:
    """What an earlier backup there copied, by segment. Refuses a directory that holds something else."""
    names = [name for name in files.listdir(target) if not name.endswith(".tmp")]
    if not names:
        return {}
    note = read_backup(files, target)
    if note is None:
        raise BackupRefused(f"{target} holds other files than a backup")
    if note["journal"] != journal:
        raise BackupRefused(f"{target} holds a backup of another journal, {note['journal']}")
    found = note.get("sources", {})
    return found if isinstance(found, dict) else {}


def _end_of(segment: SegmentFile, seq: int) -> int:
    """Where the record `seq` ends in the segment, or where the header does if the segment begins after it."""
    header, _ = segment.header()
    if header is None:
        raise JournalGone(f"the header of {segment.name} can't be read", hint="Run `covenq verify`.")
    end = header.size
    for offset, line in segment.lines(header.size):
        digits = line[7 : line.find(b",", 7, 28)]
        if not digits.isdigit() or int(digits) > seq:
            break
        end = offset + len(line)
    return end


def _copy(files: Files, segment: SegmentFile, target: Path, end: int) -> None:
    temporary = target / (segment.name + ".tmp")
    if temporary.name in files.listdir(target):
        files.unlink(temporary)
    fd = files.create(temporary)
    try:
        at = 0
        while at < end:
            data = read_all(files, segment.fd, at, min(end, at + _CHUNK))
            if not data:
                raise JournalGone(f"{segment.path} became shorter while it was copied")
            write_all(files, fd, data, at)
            at += len(data)
        files.fdatasync(fd)
    finally:
        files.close(fd)
    files.rename(temporary, target / segment.name)
    files.fsync_dir(target)


def read_backup(files: Files, directory: Path) -> dict[str, Any] | None:
    """What `backup.json` says; None if there is none. `finished` is whether the copy may be opened."""
    if BACKUP_NAME not in files.listdir(directory):
        return None
    fd = files.open(directory / BACKUP_NAME, write=False)
    try:
        note = orjson.loads(read_all(files, fd, 0, 64 << 20))
    except orjson.JSONDecodeError as error:
        raise JournalError(
            f"{directory / BACKUP_NAME} can't be read: {error}", hint="Take the backup again."
        ) from error
    finally:
        files.close(fd)
    if not isinstance(note, dict) or not _is_note(note):
        raise JournalError(f"{directory / BACKUP_NAME} is no backup's note", hint="Take the backup again.")
    return note


def _is_note(note: dict[str, Any]) -> bool:
    finished = note.get("finished") is True
    ends = isinstance(note.get("seq"), int) and isinstance(note.get("sum"), str)
    return isinstance(note.get("journal"), str) and (ends or not finished)


def backup_witness(files: Files, directory: Path) -> Witness | None:
    """The head that a finished backup ends at, until it is opened; None for any other directory.

    Caches beside a backup may be those of the journal that it was taken from: that they know of more tells nothing of it.
    """
    note = read_backup(files, directory)
    if note is None or note.get("finished") is not True:
        return None
    return Witness(note["journal"], note["seq"], note["sum"]) if note["seq"] else None


def forget_backup(files: Files, directory: Path) -> None:
    """The copy has begun a life of its own."""
    files.unlink(directory / BACKUP_NAME)
    files.fsync_dir(directory)


def room_for(source: Path, target: Path) -> bool:
    """Whether the target's disk has room for all of the source."""
    size = sum(_size(OsFiles(), source, first) for first in list_segments(OsFiles(), source))
    parent = next(path for path in (target, *target.parents) if path.exists())
    return shutil.disk_usage(parent).free > size
