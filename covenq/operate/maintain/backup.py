"""Backing up a data directory's journal, also while a daemon writes it: a copy up to a head that is durable, then its proof."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from covenq.errors import BackupListUnreadable, Refused, UsageError
from covenq.model import JsonObject, now_text
from covenq.operate.maintain import backup_list
from covenq.paths import BACKUPS_NAME, JOURNAL_NAME, STATE_NAME
from covenq.state.store import read_witness
from journal.errors import JournalDamaged, JournalLocked
from journal.file.backup import DAMAGED_HINT, BackupReport, room_for
from journal.file.backup import backup as take
from journal.file.files import OsFiles
from journal.file.reader import open_reader
from journal.file.segment import list_segments, name_of
from journal.file.verify import verify as prove
from journal.records import Damage, Head

Tell = Callable[[int, int], None]
Progress = Callable[[str], AbstractContextManager[Tell | None]]
"""Given "backup" or "verify": where to tell (bytes done, bytes in all) while that goes on."""
Live = Callable[[], JsonObject | None]
"""The `journal` of a running daemon's status; None without one."""


def target_in(data: Path, directory: str) -> Path:
    """Where the copy goes: `directory`/journal. Raises UsageError for the journal itself."""
    target = Path(directory).expanduser().absolute() / JOURNAL_NAME
    own = (data / JOURNAL_NAME).resolve()
    if own in (target.resolve(), *target.resolve().parents):
        raise UsageError(f"{target} is the journal itself", hint="Give another directory, best on another disk.")
    return target


def copy(
    data: Path, target: Path, live: Live, *, verify: bool, progress: Progress
) -> tuple[BackupReport, list[Damage], str | None]:
    """Copy it, prove the copy, and remember where it is, so that whoever erases something is told of it.

    → what was done, what is damaged in the copy, and why it could not be remembered, if so. Raises Refused, JournalDamaged,
    BackupRefused, BackupOutrun, JournalGone, OSError.
    """
    journal = data / JOURNAL_NAME
    if not target.exists() and not room_for(journal, target):
        raise Refused(f"there is not room enough for the journal at {target}", hint="Choose another disk.")
    report = _take(journal, target, live, progress)
    damage = _verify(target, report.head, progress) if verify else []
    if damage and report.kept:
        # The copy may have rotted since it was made. Where the journal is damaged as well, the copy stays as it is.
        with suppress(JournalDamaged):
            first, report = report, _take(journal, target, live, progress, again={one.segment for one in damage})
            segments = report.copied + report.kept
            copied = min(segments, first.copied + report.copied)
            report = replace(report, copied=copied, kept=segments - copied, bytes=first.bytes + report.bytes)
            damage = _verify(target, report.head, progress)
    try:
        backup_list.remember(data, target.parent, now_text(), report.head)
    except BackupListUnreadable as error:
        return report, damage, f"this backup can't be remembered: {error}. {error.hint}"
    except OSError as error:
        return report, damage, f"this backup can't be remembered in {data / BACKUPS_NAME}: {error.strerror}"
    return report, damage, None


def _take(journal: Path, target: Path, live: Live, progress: Progress, *, again: Collection[str] = ()) -> BackupReport:
    with _head(journal.parent, live) as (id, head), progress("backup") as tell:
        return take(journal, target, journal=id, head=head, again=again, progress=tell)


def _verify(target: Path, head: Head, progress: Progress) -> list[Damage]:
    with progress("verify") as tell:
        proof = prove(target, progress=tell)
    found = list(proof.damage)
    if not found and (proof.head.seq, proof.head.sum) != (head.seq, head.sum):
        last = list_segments(OsFiles(), target)[-1]
        found.append(Damage("other history", name_of(last), 0, head.seq, None, "the copy does not end with this head"))
    return found


@contextmanager
def _head(data: Path, live: Live) -> Iterator[tuple[str, Callable[[], Head]]]:
    """The journal's id, and what gives its head: the daemon's at each call, or, with the lock held meanwhile, the files'.
    Raises JournalDamaged."""
    told = live()
    if told is not None:

        def newest() -> Head:
            head = (live() or told)["head"]
            return Head(int(head["seq"]), str(head["sum"]))

        yield str(told["id"]), newest
        return
    seen = read_witness(data / STATE_NAME)
    witnesses = [seen] if seen else []
    try:
        reader = open_reader(data / JOURNAL_NAME, witnesses=witnesses, adopt=True)
    except JournalLocked:
        reader = open_reader(data / JOURNAL_NAME, witnesses=witnesses)
    with reader:
        if reader.damage:
            raise JournalDamaged(reader.damage, hint=DAMAGED_HINT)
        yield reader.id, reader.head
