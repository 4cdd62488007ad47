"""Opening a journal: the lock, the examination, the recovery, the index, and only then a `FileJournal`.

Why everything it serves is durable: each record is either proven by the witness, or was rewritten and synced here, before
anything was served or folded (`journal.file.recovery` has the argument).
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from journal.errors import (
    BackupIncomplete,
    ErasureFailed,
    JournalDamaged,
    JournalError,
    JournalFull,
    JournalUnaccepted,
)
from journal.file.backup import backup_witness, read_backup, remove_backup_note
from journal.file.catalogue import Catalogue
from journal.file.committer import Tail
from journal.file.engine import FileJournal, Recovery
from journal.file.examine import Examination, belongs, examine
from journal.file.files import Files, OsFiles, journal_error
from journal.file.index import INDEX_NAME, Index, Position, Row, open_index, remove_index
from journal.file.lock import DirectoryLock, check_filesystem
from journal.file.recovery import remove_drafts, repair_end
from journal.file.reserve import Reserve
from journal.file.scan import find_record
from journal.file.segment import list_segments, name_of, read_mark, write_header
from journal.file.settings import DEFAULTS, WriteSettings
from journal.format.codec import Envelope
from journal.format.header import GENESIS
from journal.presence import exists
from journal.private_database import is_full
from journal.records import OWN_SUBJECT, Damage, Entry, Witness

NEWLINES_MAX = 1000
"""Offsets that one `journal.mended` record names. A batch may have lost more newlines than a record can hold."""


def open_journal(
    directory: Path,
    *,
    witnesses: Sequence[Witness] = (),
    files: Files | None = None,
    settings: WriteSettings = DEFAULTS,
    force_filesystem: bool | None = None,
    accept_head: int | None = None,
    use_reserve: bool = False,
) -> FileJournal:
    """The journal in `directory`, created if there is none, recovered if it was not closed.

    `witnesses` are the positions of other caches: the log may not be shorter. `accept_head` is an operator's decision that a
    log which was longer, as its caches prove, is to go on from this seq, which must be the last that links; what the caches
    knew beyond it is given up, and a new epoch begins. With `use_reserve` a disk that has no room for that is given the
    space that was set aside (`journal.file.reserve`), as for the end of work that runs: `Recovery.used_reserve` says so.
    Raises JournalLocked, JournalUnsafe, JournalDamaged (nothing was changed), FormatUnknown, BackupIncomplete,
    JournalUnaccepted, and for errors of the disk JournalFull, JournalReadOnly, JournalGone or JournalWriteFailed.
    """
    files = files or OsFiles()
    if force_filesystem is None:
        force_filesystem = forced()
    _make_directory(files, directory)
    warning = check_filesystem(directory, force=force_filesystem)

    def opened(*, used_reserve: bool = False) -> FileJournal:
        lock = DirectoryLock(directory)
        try:
            if used_reserve:
                Reserve(directory, files=files).release()
            return _open_locked(
                directory,
                files,
                lock,
                witnesses,
                settings=settings,
                warning=warning,
                accept_head=accept_head,
                used_reserve=used_reserve,
            )
        except OSError as error:
            lock.release()
            raise _opening_error(journal_error(error, directory)) from error
        except sqlite3.OperationalError as error:
            lock.release()
            if is_full(error, directory / INDEX_NAME):
                raise _opening_error(JournalFull(f"no room for the journal in {directory}: {error}")) from error
            raise
        except JournalError as error:
            lock.release()
            raise _opening_error(error) from error.__cause__
        except BaseException:
            lock.release()
            raise

    try:
        return opened()
    except JournalFull:
        if not use_reserve or not Reserve(directory, files=files).allocated():
            raise
    return opened(used_reserve=True)


def forced() -> bool:
    """Whether the environment has a filesystem used that can't be relied on."""
    return os.environ.get("COVENQ_UNSAFE_FILESYSTEM") == "1"


def _opening_error(error: JournalError) -> JournalError:
    """The error; nothing goes on by itself where the journal isn't open yet."""
    if isinstance(error, JournalFull):
        error.hint = "Free space on the data directory's disk, and try again."
    return error


def _make_directory(files: Files, directory: Path) -> None:
    try:
        missing = [path for path in (directory, *directory.parents) if not exists(path)]
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in missing:
            files.fsync_dir(path.parent)
    except OSError as error:
        raise journal_error(error, directory) from error


def _open_locked(
    directory: Path,
    files: Files,
    lock: DirectoryLock,
    witnesses: Sequence[Witness],
    *,
    settings: WriteSettings,
    warning: str | None,
    accept_head: int | None,
    used_reserve: bool,
) -> FileJournal:
    remove_drafts(files, directory)
    restoring = read_backup(files, directory)
    if restoring is not None and restoring.get("finished") is not True:
        raise BackupIncomplete(f"{directory} is a backup that was not finished")
    ends = backup_witness(files, directory)
    witnesses = witnesses if ends is None else [*witnesses, ends]
    index = open_index(directory / INDEX_NAME)
    try:
        try:
            found, created = _recover(files, directory, index, witnesses, settings.token, accept_head)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            # A broken index is a lost cache. The log is untouched, or repaired, which may be done again.
            index.close()
            remove_index(directory / INDEX_NAME)
            index = open_index(directory / INDEX_NAME)
            found, created = _recover(files, directory, index, witnesses, settings.token, accept_head)
        header = found.header
        assert header is not None
        fd = files.open(directory / name_of(header.first), write=True)
    except BaseException:
        index.close()
        raise
    catalogue = Catalogue(index)
    empty = found.end == header.size
    tail = Tail(
        header,
        fd,
        files.identity(fd),
        found.end,
        found.seq,
        header.prev if empty else found.sum,
        found.last_kind,
    )
    journal = FileJournal(
        directory,
        files=files,
        lock=lock,
        catalogue=catalogue,
        tail=tail,
        recovery=Recovery(created, found.torn, len(found.newlines), found.visited, warning, used_reserve),
        settings=settings,
    )
    try:
        _record_recovery(journal, found)
        if accept_head is not None:
            journal.begin_epoch(settings.token(8))
            journal.append([Entry(OWN_SUBJECT, "journal.accepted", {"head": accept_head})])
            journal.write_close_mark()  # the old mark still says that the log was longer
        if restoring is not None:
            journal.begin_epoch(settings.token(8))
            remove_backup_note(files, directory)
        _resume_erasure(journal)
    except BaseException:
        journal.close()
        raise
    return journal


def _recover(
    files: Files,
    directory: Path,
    index: Index,
    witnesses: Sequence[Witness],
    token: Callable[[int], str],
    accept_head: int | None,
) -> tuple[Examination, bool]:
    """Examine, repair the end, bring the index up to date; or create the journal. → (examination, whether it was created).

    The index commits only what is durable after the repair.
    """
    if accept_head is not None:
        witnesses = ()
    first = list_segments(files, directory)[:1]
    position = index.position()
    known = position is not None or bool(witnesses) or read_mark(files, directory) is not None
    if not first and (accept_head == 0 or not known):
        index.begin()
        index.clear()
        index.db.execute("COMMIT")
        header = write_header(
            files, directory, journal=token(16), epoch=token(8), first=1, after=0, prev=GENESIS, salt=token(32)
        )
        return Examination(header=header, segment=1, end=header.size, sum=header.sum), True
    index.begin()
    try:
        foreign = position is not None and first and not belongs(files, directory, first[0], position)
        if foreign or accept_head is not None:
            index.clear()
            position = None
        rows = _RowCollector(index)
        found = examine(
            files,
            directory,
            position=position,
            witnesses=witnesses,
            visit=rows.visit,
            use_mark=accept_head is None,
        )
        _check_older_witnesses(files, directory, found, index, witnesses)
        if found.damage:
            raise JournalDamaged(found.damage)
        if accept_head is not None and accept_head != found.seq:
            hint = f"Give --accept-head {found.seq} if that is what you mean."
            raise JournalUnaccepted(f"the log ends at seq {found.seq}, not at {accept_head}", hint=hint)
        repair_end(files, directory, found)
        rows.flush()
        if rows.last is not None and found.header is not None:
            index.commit(rows.position(found.header.journal))
        elif foreign or accept_head is not None:
            index.db.execute("COMMIT")  # another journal's rows are gone, and this one has no record yet
        else:
            index.rollback()
    except BaseException:
        index.rollback()
        raise
    return found, False


def _check_older_witnesses(
    files: Files, directory: Path, found: Examination, index: Index, witnesses: Sequence[Witness]
) -> None:
    """The scan did not reach witnesses before the index's position: look their records up one by one."""
    if found.damage or found.header is None:
        return
    for witness in witnesses:
        if witness.journal != found.header.journal or not 0 < witness.seq <= found.seq - found.visited:
            continue
        record = find_record(files, directory, witness.seq, index.offset_of(witness.seq))
        if record is None or record.sum != witness.sum:
            detail = "a cache had seen another record at this seq"
            found.damage.append(
                Damage("shorter than caches", name_of(found.segment), found.end, witness.seq, None, detail)
            )


def _resume_erasure(journal: FileJournal) -> None:
    """Finish an erasure that a crash cut short.

    Without room for a segment, or with a damaged segment to rewrite, the log opens all the same, and the erasure stays
    unfinished until `resume_erasure` is called, which raises the reason.
    """
    try:
        journal.resume_erasure()
    except JournalDamaged:
        pass
    except ErasureFailed as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise cause from None


class _RowCollector:
    """Collects index rows while the log is examined, and adds them 10,000 at a time, so that a rebuild has bounded memory."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._rows: list[Row] = []
        self.last: tuple[Envelope, int, int, int] | None = None

    def visit(self, envelope: Envelope, segment: int, offset: int, end: int) -> None:
        self._rows.append((envelope.subject, envelope.seq, offset))
        self.last = (envelope, segment, offset, end)
        if len(self._rows) >= 10_000:
            self.flush()

    def flush(self) -> None:
        self._index.add(self._rows)
        self._rows.clear()

    def position(self, journal: str) -> Position:
        assert self.last is not None
        envelope, segment, offset, end = self.last
        return Position(journal, envelope.seq, envelope.sum, segment, offset, end)


def _record_recovery(journal: FileJournal, found: Examination) -> None:
    """Append records of what was cut or mended, so that the log itself shows it."""
    if found.torn is not None:
        torn = found.torn
        data = {
            "segment": name_of(torn.segment),
            "offset": torn.offset,
            "bytes": torn.length,
            "sha256": torn.sha256,
            "possibly": list(torn.possibly),
        }
        journal.append([Entry(OWN_SUBJECT, "journal.torn", data)])
    if found.newlines:
        data = {"segment": name_of(found.segment), "newlines": found.newlines[:NEWLINES_MAX]}
        if (more := len(found.newlines) - NEWLINES_MAX) > 0:
            data["more"] = more
        journal.append([Entry(OWN_SUBJECT, "journal.mended", data)])


def drop_index(directory: Path) -> None:
    """Forget the index: the next opening rebuilds it from the log."""
    remove_index(directory / INDEX_NAME)
