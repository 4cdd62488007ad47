"""Every error that a journal raises: the message says what happened, the hint what to type next.

`exit_code` follows the command line's table (1 failed, 2 usage, 4 refused by a precondition, 5 integrity damage);
`hint` is one sentence for an operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every command imports this module, and the dataclasses over there cost it milliseconds
    from journal.records import Damage


class JournalError(Exception):
    """Base class. The message is one sentence; `hint` says what to do about it."""

    exit_code = 1
    hint = "Look at `covenq status`, and run `covenq verify` if the disk is suspected."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class EntryRefused(JournalError):
    """An entry that the format can't hold: a bad subject, a key that looks like the sum's, a value that is no JSON."""

    exit_code = 2
    hint = "Nothing was written; correct the entry."


class JournalLocked(JournalError):
    """Another process owns the data directory."""

    exit_code = 4
    hint = "Stop the other `covenq serve`, or choose another directory with --data."


class JournalUnsafe(JournalError):
    """The directory is on a filesystem whose locks or syncs can't be relied on."""

    exit_code = 4
    hint = "Put the data directory on a local disk, or force it with COVENQ_UNSAFE_FILESYSTEM=1."


class JournalReadOnly(JournalError):
    """The filesystem refuses writes (EROFS) or the permissions do (EACCES, EPERM)."""

    exit_code = 4
    hint = "Remount it writable, or give this user write permission on the data directory."


class JournalGone(JournalError):
    """The directory, or a segment in it, vanished while the journal was open."""

    hint = "Something removed or replaced the data directory; put it back and start again."


class JournalFull(JournalError):
    """No space (ENOSPC) or no quota (EDQUOT). Nothing of the append is in the log; try again when there is space."""

    hint = "Free space on the data directory's disk; intake opens again by itself."


class JournalWriteFailed(JournalError):
    """A write failed for another reason than space, and was cut back. Nothing of the append is in the log."""

    hint = "Check the disk (dmesg); the append may be tried again."


class JournalPoisoned(JournalError):
    """A sync failed. Nothing more is written by this process: the page cache can no longer be believed."""

    hint = "Check the disk (dmesg), then start covenq again: it recovers what is proven."


class JournalTaken(JournalPoisoned):
    """Another process appends to this journal now: nothing more is written by this one."""

    hint = "Look at `covenq status` there; started again, this one stands by."


class JournalClosed(JournalError):
    """The journal was closed; the append never began."""

    hint = "The daemon is stopping; try again when it is back."


class JournalUnanswered(JournalError):
    """No answer came in time: whether the entries were recorded is not known, and the same append may be tried again."""

    hint = "Look at `covenq status`: the journal's engine does not answer; try again when it does."


class JournalUnavailable(JournalError):
    """The engine can't be reached; nothing of the append is in the log. The same may be tried again."""

    hint = "Look at `covenq status`: the connection to the journal's engine was lost; it is tried again."


class JournalStandby(JournalUnavailable):
    """Another node appends to this journal, and this one stands by; nothing of the append is in the log."""

    exit_code = 4
    hint = "Do it on the node that leads: `covenq nodes` shows which. This one takes over when that is gone."


class ErasureFailed(JournalError):
    """The disk refused a part of an erasure; the message is its reason alone.

    `recorded`: the records that name what is erased are durable. So it can't be undone, and `Erasing.resume_erasure` goes on
    with it. Otherwise nothing was recorded, and nothing erased.
    """

    hint = "Free space on the data directory's disk, and look at `covenq status`."

    def __init__(self, reason: str, *, recorded: bool) -> None:
        super().__init__(reason)
        self.recorded = recorded


class JournalUnaccepted(JournalError):
    """The log does not end at the head that an operator accepts."""

    exit_code = 4


class BackupRefused(JournalError):
    """The target can't take this backup."""

    exit_code = 4
    hint = "Choose an empty directory, or one that holds an earlier backup of this journal."


class BackupIncomplete(JournalError):
    """This directory is a copy in the making, or one that was cut short."""

    exit_code = 4
    hint = "Run `covenq backup` on it again; it goes on from what is there."


class BackupOutrun(JournalError):
    """Content was erased from the journal as fast as it was copied."""

    exit_code = 4
    hint = "Run `covenq backup` again when that is done: `covenq status` shows it. No earlier copy was touched."


class SalvageRefused(JournalError):
    """There is nothing to salvage, or the target exists already."""

    exit_code = 4
    hint = "Give another directory."


class SalvageFailed(JournalError):
    """The new journal could not be written: it was removed."""

    hint = "Nothing of it was left, and the old journal was not touched. Another disk may take it: --to DIR."


class EngineUnknown(JournalError):
    """The address of a journal is of no engine that is there."""

    exit_code = 2
    hint = "Give the journal's directory, as a path or a file: URL."


class JournalSealed(JournalError):
    """A journal that was moved elsewhere, or one that is not all here yet: nothing may be appended."""

    exit_code = 4
    hint = "Use the journal that it was moved to, or finish the move with `covenq migrate`."


class MigrationRefused(JournalError):
    """A journal that can't be copied into that target."""

    exit_code = 4
    hint = "Give a target that holds no journal, or an unfinished copy of this one."


class EngineNotInstalled(JournalError):
    """An engine that needs a package which is not there."""

    exit_code = 4
    hint = "Install the extra covenq[postgres]: pip install 'SOURCE[postgres]', as covenq was installed."


class FormatUnknown(JournalError):
    """The journal was written in a format this version doesn't know."""

    exit_code = 4
    hint = "Use the covenq version that wrote it, or a newer one."


RESTORE = (
    "Run `covenq verify` for the whole list, and put the tables back from a backup of the database: covenq-postgres(7)."
)
"""What to do about a damaged journal in a database: `covenq salvage` is for files."""


class JournalDamaged(JournalError):
    """Bytes that had been proven durable no longer verify, or records are missing. Nothing is written."""

    exit_code = 5
    hint = "Run `covenq verify` for the whole list, then `covenq salvage` to see what can be kept."

    def __init__(self, damage: Sequence[Damage], *, hint: str | None = None) -> None:
        self.damage = tuple(damage)
        first = self.damage[0]
        more = f" (and {len(self.damage) - 1} more)" if len(self.damage) > 1 else ""
        if hint is None and first.in_database:
            hint = RESTORE
        super().__init__(f"the journal is damaged: {first}{more}", hint=hint)


_FATAL = (
    EntryRefused,
    FormatUnknown,
    JournalClosed,
    JournalDamaged,
    JournalGone,
    JournalPoisoned,
    JournalReadOnly,
    JournalSealed,
)


def may_pass(error: JournalError) -> bool:
    """Whether the same call may succeed later in this process: a disk that is full, an engine that can't be reached."""
    return not isinstance(error, _FATAL)


def copy_of(error: JournalError) -> JournalError:
    """A fresh exception that says the same: one object raised in many threads would mix their tracebacks."""
    if isinstance(error, JournalDamaged):
        return JournalDamaged(error.damage, hint=error.hint)
    if isinstance(error, ErasureFailed):
        return ErasureFailed(str(error), recorded=error.recorded)
    return type(error)(str(error), hint=error.hint)
