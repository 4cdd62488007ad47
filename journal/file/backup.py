"""Online backup: a copy of the log, taken while it is written, that verifies and opens.

A head is taken first; then every segment is copied by its descriptor, the one that holds the head up to the head's end. A
segment that an erasure rewrote meanwhile may name a record after that head as the one that erased content. So if a segment
was rewritten (its name means another file), or names such a record, a newer head is taken and the changed segments are copied
again, before any copy counts. Each copy is written as a draft (`.tmp`), read back and proven, line by line and against the end
of the segment before it, and synced. So damage in the source never replaces a copy that is whole: at the first damage the
drafts are removed, and an earlier backup stays as it was.

Only when every draft is proven are they renamed, and the directory synced. `backup.json` states whether the backup is
finished, and with which head: a new one is unfinished from the start, an earlier one from before the first rename, and either
is finished only after the last. An unfinished copy is not opened. Opening a finished one begins a new epoch, because the
original may go on to give the same seqs to other records.

A later run on the same directory is incremental: it copies the segments whose file has changed since, and those whose copy is
no longer there in full.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import orjson

from journal.errors import BackupOutrun, BackupRefused, JournalDamaged, JournalError
from journal.file.files import Files, OsFiles, publish, read_all, write_all
from journal.file.recovery import remove_drafts
from journal.file.segment import SUFFIX, SegmentFile, draft_of, list_segments, name_of, segment_size
from journal.file.segment_check import check_segment
from journal.format.check import SegmentReport, continuity_damage
from journal.presence import exists
from journal.records import SEQ_MAX, Damage, Head, Witness
from journal.reports import BackupReport

BACKUP_NAME = "backup.json"
DAMAGED_HINT = (
    "No earlier copy was touched. `covenq verify` lists the damage, `covenq salvage` shows what can be kept; a copy of a "
    "damaged journal is a matter for `cp -a`."
)
MISREAD_HINT = "Check the disk there (dmesg), or choose another; no earlier copy was touched."
ATTEMPTS_MAX = 10
"""Heads taken while segments are rewritten; at each but the first only the changed segments are copied."""
_CHUNK = 4 << 20


@dataclass(frozen=True, slots=True)
class Copy:
    """One segment's copy: the source file and its size, the bytes copied of it, and the newest record in the copy.

    `erased_by` is the newest record that is named in it as having erased content; 0 if none is.
    """

    device: int
    inode: int
    size: int
    bytes: int
    seq: int
    sum: str
    erased_by: int

    @property
    def end(self) -> Head:
        return Head(self.seq, self.sum)


_FIELD_TYPES = get_type_hints(Copy)


def backup(
    source: Path,
    target: Path,
    *,
    journal: str,
    head: Callable[[], Head],
    recopy: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
    files: Files | None = None,
) -> BackupReport:
    """Copy the journal in `source` up to its head into directory `target`.

    `journal` is the source's id; `head()` is the newest durable record; `recopy` are names of segments to copy although they
    didn't change. `progress` is called with (bytes done, bytes in all). Raises BackupRefused, and, with no earlier copy touched,
    JournalDamaged, BackupOutrun, JournalGone, OSError.
    """
    files = files or OsFiles()
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    note = _earlier(files, target, journal)
    earlier = _copies(note)
    begun = orjson.dumps({"journal": journal, "finished": False, "sources": earlier}) + b"\n"
    if note is None or note.get("finished") is not True:
        publish(files, target / BACKUP_NAME, begun)
    else:
        remove_drafts(files, target)
    stage = _Staging(files, source, target, journal, earlier, recopy)
    try:
        ends = _copy_until_stable(stage, head, progress)
    except BaseException:
        with suppress(OSError):  # drafts of a failed backup are useless, and take room
            remove_drafts(files, target)
        raise
    names = {name_of(first) for first in stage.copies}
    stale = [name for name in files.listdir(target) if name.endswith(SUFFIX) and name not in names]
    if stage.drafts or stale:
        publish(files, target / BACKUP_NAME, begun)
        for first in sorted(stage.drafts):
            files.rename(target / draft_of(first), target / name_of(first))
        for name in stale:
            files.unlink(target / name)
        files.fsync_dir(target)
    sources = {name_of(first): copy for first, copy in stage.copies.items()}
    done = {"journal": journal, "finished": True, "seq": ends.seq, "sum": ends.sum, "sources": sources}
    publish(files, target / BACKUP_NAME, orjson.dumps(done) + b"\n")
    copied = sum(stage.copies[first].bytes for first in stage.drafts)
    return BackupReport(ends, len(stage.drafts), len(stage.copies) - len(stage.drafts), copied)


def _copy_until_stable(stage: _Staging, head: Callable[[], Head], progress: Callable[[int, int], None] | None) -> Head:
    """Fill the staging area until no segment was rewritten meanwhile. → the head it ends at. Raises BackupOutrun."""
    for _ in range(ATTEMPTS_MAX):
        ends = head()
        stage.fill(ends, progress)
        if stage.is_stable(ends):
            return ends
    raise BackupOutrun("content is erased from the journal as fast as it is copied")


class _Staging:
    """Staging area: each segment up to the head, as an earlier copy that can stay or as a proven draft.

    Nothing of an earlier backup is changed here.
    """

    def __init__(
        self,
        files: Files,
        source: Path,
        target: Path,
        journal: str,
        earlier: Mapping[str, Copy],
        recopy: Collection[str],
    ) -> None:
        self.copies: dict[int, Copy] = {}
        """By the segment's first seq, in order."""
        self.drafts: set[int] = set()
        self._files, self._source, self._target = files, source, target
        self._journal = journal
        self._earlier, self._recopy = earlier, recopy

    def fill(self, head: Head, progress: Callable[[int, int], None] | None) -> None:
        files = self._files
        firsts = [first for first in list_segments(files, self._source) if first <= max(head.seq, 1)]
        if not firsts:
            detail = f"no segment is left, but seq {head.seq} had been seen"
            raise JournalDamaged([Damage("gone", name_of(1), 0, head.seq, None, detail)], hint=DAMAGED_HINT)
        total = sum(segment_size(files, self._source, first) for first in firsts)
        before: Head | None = None
        done = 0
        for first in firsts:
            with SegmentFile(files, self._source, first) as segment:
                self.copies[first] = self._copy(segment, before, head if first == firsts[-1] else None)
            before = self.copies[first].end
            done += self.copies[first].size
            if progress is not None:
                progress(min(done, total), total)

    def is_stable(self, head: Head) -> bool:
        """Whether each copy is still of the file with the segment's name, and no erasure in it is newer than the head."""
        return all(
            copy.erased_by <= head.seq
            and self._files.identity_at(self._source / name_of(first)) == (copy.device, copy.inode)
            for first, copy in self.copies.items()
        )

    def _copy(self, segment: SegmentFile, before: Head | None, head: Head | None) -> Copy:
        """`head` is given for the segment that holds it."""
        device, inode = self._files.identity(segment.fd)
        size, first = segment.size(), segment.first
        known = self._known(first)
        if known is not None and (known.device, known.inode, known.size) == (device, inode, size):
            name = draft_of(first) if first in self.drafts else name_of(first)
            ends = known.bytes == size if head is None else known.end == head
            if ends and _has_copy(self._files, self._target, name, known.bytes):
                self._check_kept(first, before)
                return known
        report = self._draft(segment, size, before, head)
        newest = max(report.dropped, default=0)
        return Copy(device, inode, size, report.size, report.end.seq, report.end.sum, newest)

    def _known(self, first: int) -> Copy | None:
        if first in self.drafts:
            return self.copies[first]
        return None if name_of(first) in self._recopy else self._earlier.get(name_of(first))

    def _check_kept(self, first: int, before: Head | None) -> None:
        """Check that a copy that stays continues the segment before it, which may be new. Raises JournalDamaged."""
        with SegmentFile(self._files, self._target, first, draft=first in self.drafts) as copy:
            header, _ = copy.header()
        damage = [] if header is None else continuity_damage(name_of(first), header, self._journal, before)
        if damage:
            raise JournalDamaged(damage, hint=DAMAGED_HINT)

    def _draft(self, segment: SegmentFile, size: int, before: Head | None, head: Head | None) -> SegmentReport:
        """Copy a segment as a proven and synced draft. Bytes after the head are in flight, so the draft ends with the head."""
        files, path = self._files, self._target / draft_of(segment.first)
        if path.name in files.listdir(self._target):
            files.unlink(path)
        fd = files.create(path)
        self.drafts.add(segment.first)
        try:
            for at in range(0, size, _CHUNK):
                write_all(files, fd, read_all(files, segment.fd, at, min(size, at + _CHUNK)), at)
            report, damage = self._prove(self._target, segment.first, before, head, draft=True)
            if damage:
                _, damage = self._prove(self._source, segment.first, before, head)
                if damage:
                    raise JournalDamaged(damage, hint=DAMAGED_HINT)
                raise JournalError(f"{path} does not read back as written", hint=MISREAD_HINT)
            if report.size < files.size(fd):
                files.truncate(fd, report.size)
            files.fdatasync(fd)
        finally:
            files.close(fd)
        return report

    def _prove(
        self, directory: Path, first: int, before: Head | None, head: Head | None, *, draft: bool = False
    ) -> tuple[SegmentReport, list[Damage]]:
        upto = None if head is None else head.seq
        report = check_segment(self._files, directory, first, upto=upto, draft=draft)
        if report.header is None:
            return report, report.damage
        damage = report.damage + continuity_damage(name_of(first), report.header, self._journal, before)
        if head is not None and not damage and report.end != head:
            damage = [_other_end(name_of(first), report, head)]
        return report, damage


def _other_end(name: str, report: SegmentReport, head: Head) -> Damage:
    if report.end.seq < head.seq:
        detail = (
            f"seq {head.seq} had been seen, the log ends at {report.end.seq}: the journal is shorter than its caches"
        )
        return Damage("shorter than caches", name, report.size, report.end.seq + 1, None, detail)
    return Damage("other history", name, report.size, head.seq, None, "another record had been seen at this seq")


def _has_copy(files: Files, target: Path, name: str, size: int) -> bool:
    if name not in files.listdir(target):
        return False
    fd = files.open(target / name, write=False)
    try:
        return files.size(fd) == size
    finally:
        files.close(fd)


def _earlier(files: Files, target: Path, journal: str) -> dict[str, Any] | None:
    """The note of an earlier backup there; None for an empty directory. Refuses one that holds something else."""
    names = [name for name in files.listdir(target) if not name.endswith(".tmp")]
    if not names:
        return None
    note = read_backup(files, target)
    if note is None:
        raise BackupRefused(f"{target} holds other files than a backup")
    if note["journal"] != journal:
        raise BackupRefused(f"{target} holds a backup of another journal, {note['journal']}")
    return note


def _copies(note: dict[str, Any] | None) -> dict[str, Copy]:
    """The copies of an earlier backup, by segment. One whose note is incomplete is left out, and so copied again."""
    found = note.get("sources") if note is not None else None
    if not isinstance(found, dict):
        return {}
    return {
        name: Copy(**one)
        for name, one in found.items()
        if isinstance(one, dict) and {key: type(value) for key, value in one.items()} == _FIELD_TYPES
    }


def read_backup(files: Files, directory: Path) -> dict[str, Any] | None:
    """The content of `backup.json`; None if there is none. `finished` is whether the copy may be opened."""
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
    ends = _is_seq(note.get("seq")) and isinstance(note.get("sum"), str)
    return isinstance(note.get("journal"), str) and (ends or not finished)


def _is_seq(value: Any) -> bool:
    return type(value) is int and 0 <= value <= SEQ_MAX


def backup_witness(files: Files, directory: Path) -> Witness | None:
    """The head that a finished backup ends at, until it is opened; None for any other directory.

    Caches beside a backup may be those of the journal that it was taken from: that they are ahead proves nothing about it.
    """
    note = read_backup(files, directory)
    if note is None or note.get("finished") is not True:
        return None
    return Witness(note["journal"], note["seq"], note["sum"]) if note["seq"] else None


def remove_backup_note(files: Files, directory: Path) -> None:
    """Remove the note: from now on the directory is a journal of its own. Durable on return."""
    files.unlink(directory / BACKUP_NAME)
    files.fsync_dir(directory)


def has_space_for(source: Path, target: Path) -> bool:
    """Whether the target's disk has room for all of the source."""
    size = sum(segment_size(OsFiles(), source, first) for first in list_segments(OsFiles(), source))
    parent = next(path for path in (target, *target.parents) if exists(path))
    return shutil.disk_usage(parent).free > size
