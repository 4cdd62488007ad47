"""Backup of a data directory's journal, also while a daemon writes it: a copy up to a durable head, then its verification."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from covenq.errors import BackupListUnreadable, CovenqError, Refused, UsageError
from covenq.model import now_text
from covenq.model.journal_status import JournalStatus
from covenq.operate.maintain import backup_list
from covenq.operate.maintain.state_witness import state_witness
from covenq.paths import BACKUPS_NAME, JOURNAL_NAME
from journal.errors import JournalDamaged, JournalLocked
from journal.file.backup import DAMAGED_HINT, has_space_for
from journal.file.backup import backup as take
from journal.file.files import OsFiles
from journal.file.reader import open_reader
from journal.file.segment import list_segments, name_of
from journal.file.verify import verify as prove
from journal.presence import exists
from journal.records import Damage, Head
from journal.reports import BackupReport

ProgressCallback = Callable[[int, int], None]
Progress = Callable[[str], AbstractContextManager[ProgressCallback | None]]
"""For the phase "backup" or "verify": what to call with (bytes done, bytes in all) during it."""
DaemonJournal = Callable[[], JournalStatus | None]
"""The `journal` of a running daemon's status; None without one."""


def target_in(data: Path, directory: str) -> Path:
    """Where the copy goes: `directory`/journal. Raises UsageError for the journal itself."""
    target = Path(directory).expanduser().absolute() / JOURNAL_NAME
    own = (data / JOURNAL_NAME).resolve()
    if own in (target.resolve(), *target.resolve().parents):
        raise UsageError(f"{target} is the journal itself", hint="Give another directory, best on another disk.")
    return target


def copy(
    data: Path, target: Path, live: DaemonJournal, *, verify: bool, progress: Progress
) -> tuple[BackupReport, list[Damage], str | None]:
    """Copy the journal, verify the copy, and record where it is, so that an erasure names it as a copy that it can't reach.

    → what was copied, what is damaged in the copy, and why it could not be recorded, if so. Raises Refused, JournalDamaged,
    BackupRefused, BackupOutrun, JournalGone, OSError, and CovenqError for one without a file's name.
    """
    journal = data / JOURNAL_NAME
    if not exists(target) and not has_space_for(journal, target):
        raise Refused(f"there is not room enough for the journal at {target}", hint="Choose another disk.")
    report = _copy(journal, target, live, progress)
    damage = _verify(target, report.head, progress) if verify else []
    if damage and report.kept:
        # The copy may have rotted since it was made. Where the journal is damaged as well, the copy stays as it is.
        with suppress(JournalDamaged):
            first, report = report, _copy(journal, target, live, progress, again={one.segment for one in damage})
            segments = report.copied + report.kept
            copied = min(segments, first.copied + report.copied)
            report = replace(report, copied=copied, kept=segments - copied, bytes=first.bytes + report.bytes)
            damage = _verify(target, report.head, progress)
    try:
        backup_list.record_backup(data, target.parent, now_text(), report.head)
    except BackupListUnreadable as error:
        return report, damage, f"this backup can't be remembered: {error}. {error.hint}"
    except OSError as error:
        return report, damage, f"this backup can't be remembered in {data / BACKUPS_NAME}: {error.strerror}"
    return report, damage, None


def _copy(
    journal: Path, target: Path, live: DaemonJournal, progress: Progress, *, again: Collection[str] = ()
) -> BackupReport:
    try:
        with _head(journal.parent, live) as (id, head), progress("backup") as report:
            return take(journal, target, journal=id, head=head, recopy=again, progress=report)
    except OSError as error:
        if error.filename is not None:
            raise
        raise CovenqError(
            f"the backup to {target} failed: {error.strerror}",
            hint="No earlier copy was touched. Free space there, or give a directory on another disk; then run it again.",
        ) from error  # a write names no file


def _verify(target: Path, head: Head, progress: Progress) -> list[Damage]:
    with progress("verify") as report:
        proof = prove(target, progress=report)
    found = list(proof.damage)
    if not found and (proof.head.seq, proof.head.sum) != (head.seq, head.sum):
        last = list_segments(OsFiles(), target)[-1]
        found.append(Damage("other history", name_of(last), 0, head.seq, None, "the copy does not end with this head"))
    return found


@contextmanager
def _head(data: Path, live: DaemonJournal) -> Iterator[tuple[str, Callable[[], Head]]]:
    """The journal's id, and a function that gives its head. Raises JournalDamaged.

    The head is the daemon's at each call, or the files', with the lock held meanwhile.
    """
    status = live()
    if status is not None:

        def newest() -> Head:
            head = (live() or status).head
            return Head(head.seq, head.sum)

        yield status.id, newest
        return
    witness = state_witness(data)
    witnesses = [witness] if witness else []
    try:
        reader = open_reader(data / JOURNAL_NAME, witnesses=witnesses, adopt=True)
    except JournalLocked:
        reader = open_reader(data / JOURNAL_NAME, witnesses=witnesses)
    with reader:
        if reader.damage:
            raise JournalDamaged(reader.damage, hint=DAMAGED_HINT)
        yield reader.id, reader.head
