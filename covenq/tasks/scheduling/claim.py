"""Who holds a task: a claim, its fencing token, and the one way to speak for it.

Every step of an attempt is a record appended against the task's newest one, so whoever moved the task meanwhile wins, and
the attempt learns that it is stale. The claim's seq is the fencing token: it stands in every record of the attempt, and
stays the same through its phases and renewals.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from covenq.model import TOKEN, JsonObject, Kind, fence, task_subject
from journal.errors import JournalError, JournalFull, JournalWriteFailed
from journal.interface import Journal
from journal.records import Appended, Conflict, Entry, Record, Unknown

if TYPE_CHECKING:
    from covenq.tasks.scheduling.outcome import Task

log = logging.getLogger("covenq.worker")

AGAIN_S = 0.5
"""How long to wait before asking a journal that did not answer again."""

LATE = "ops.late"
"""Subject and kind of the record that says: somebody spoke for a task that was no longer theirs, and was refused."""

_FENCE = re.compile(r"([0-9A-Za-z]{1,64})\.([0-9]{1,18})\Z")


class Stale(Exception):
    """The task is no longer this claim's: its records are refused, its outcome is nobody's."""


class Claim:
    """A task in hand. `seq` is the claim's, `last` that of the newest record of the task known to belong to it."""

    def __init__(
        self,
        journal: Journal,
        task: str,
        attempt: int,
        seq: int,
        *,
        last: int | None = None,
        worker: str | None = None,
        lease_until: str | None = None,
    ) -> None:
        """`task` is its id. `lease_until` is the time the claim itself named; renewals may have moved it since."""
        self.task = task
        self.attempt = attempt
        self.seq = seq
        self.last = seq if last is None else last
        self.worker = worker
        self.lease_until = lease_until
        self._journal = journal

    @property
    def fence(self) -> str:
        return fence(self._journal.epoch, self.seq)

    @property
    def leased(self) -> bool:
        """Whether a worker elsewhere holds it for a time, not the daemon's own pool for as long as it lives."""
        return self.lease_until is not None

    @classmethod
    def take(
        cls, journal: Journal, task: Task, worker: str, lease_until: str | None = None, *, unanswered: bool = False
    ) -> Claim | None:
        """Claim it, or None: something happened to the task since it was read. Raises what append raises.

        `unanswered`: the same was asked for before, and no answer came.
        `worker` and the attempt's number tell a claim whose answer was lost from another's: of one worker, only one
        thread asks for a given task at a time.
        """
        attempt = task.attempts + 1
        data: JsonObject = {"attempt": attempt, "worker": worker, "lease_until": lease_until}
        entry = Entry(task.subject, Kind.CLAIMED, data, expect=task.last_seq)
        while True:
            try:
                answer = journal.append([entry])
            except (JournalFull, JournalWriteFailed):
                if not unanswered:
                    raise
                # What was sent before may have been taken: to give up now could leave the task claimed and nobody's.
                answer = Unknown()
            if isinstance(answer, Appended):
                return cls(journal, task.id, attempt, answer.seqs[0], worker=worker, lease_until=lease_until)
            if isinstance(answer, Conflict):
                newest = journal.last(task.subject) if unanswered else None
                if newest is not None and newest.kind == Kind.CLAIMED and newest.data == data:
                    return cls(journal, task.id, attempt, newest.seq, worker=worker, lease_until=lease_until)
                return None
            unanswered = True
            time.sleep(AGAIN_S)

    @classmethod
    def take_all(cls, journal: Journal, tasks: Sequence[Task], worker: str, lease_until: str | None) -> list[Claim]:
        """Claim them in one append, and so one sync; where one of them has moved, each by itself, without that one."""
        answer: object = None
        if len(tasks) > 1:
            notes = [{"attempt": task.attempts + 1, "worker": worker, "lease_until": lease_until} for task in tasks]
            answer = journal.append(
                [Entry(t.subject, Kind.CLAIMED, note, expect=t.last_seq) for t, note in zip(tasks, notes, strict=True)]
            )
            if isinstance(answer, Appended):
                return [
                    cls(journal, task.id, task.attempts + 1, seq, worker=worker, lease_until=lease_until)
                    for task, seq in zip(tasks, answer.seqs, strict=True)
                ]
        lost = isinstance(answer, Unknown)
        each = (cls.take(journal, task, worker, lease_until, unanswered=lost) for task in tasks)
        return [claim for claim in each if claim is not None]

    @classmethod
    def of(cls, journal: Journal, task: str, token: str) -> Claim | None:
        """The claim that a fencing token speaks of, if it is the task's current one. None: it is stale, or is no token.

        The journal's index decides, not the fold: what was durable when this was called is seen.
        """
        seq = _seq_of(journal, token)
        newest = journal.last(task_subject(task)) if TOKEN.match(task) else None
        if seq is None or newest is None or not _holds(newest, seq):
            return None
        record = newest if newest.seq == seq else journal.get(seq)
        return None if record is None else cls._read(journal, task, record, newest.seq)

    @classmethod
    def once(cls, journal: Journal, task: str, token: str) -> Claim | None:
        """The claim that a token speaks of, current or not; None if this journal never gave that token for the task."""
        seq = _seq_of(journal, token)
        if seq is None or not TOKEN.match(task):
            return None
        record = journal.get(seq)
        if record is None or record.kind != Kind.CLAIMED or record.subject != task_subject(task):
            return None
        return cls._read(journal, task, record, seq)

    @classmethod
    def _read(cls, journal: Journal, task: str, record: Record, last: int) -> Claim | None:
        data = record.data
        if record.kind != Kind.CLAIMED or not isinstance(data.get("attempt"), int):
            return None
        worker, until = data.get("worker"), data.get("lease_until")
        return cls(journal, task, data["attempt"], record.seq, last=last, worker=worker, lease_until=until)

    def note(self, **more: object) -> JsonObject:
        """The data of a record of this claim."""
        return {"attempt": self.attempt, "claim": self.seq, **more}

    def record(self, notes: Sequence[tuple[Kind, JsonObject]]) -> None:
        """Append these, all or none, while the task is still this claim's. Raises Stale, and what append raises.

        A phase or a renewal that somebody else recorded for this claim meanwhile moves the newest record, not the claim:
        then once more.
        """
        subject = task_subject(self.task)
        while True:
            first, *others = notes
            entries = [Entry(subject, first[0], first[1], expect=self.last)]
            # Bound to the first: the engine takes all or none, so these follow it directly.
            entries += [Entry(subject, kind, data) for kind, data in others]
            answer = self._journal.append(entries)
            if isinstance(answer, Appended):
                self.last = answer.seqs[-1]
                return
            if isinstance(answer, Conflict):
                newest = self._journal.last(subject)
                if newest is not None and newest.kind == notes[-1][0] and newest.data == notes[-1][1]:
                    self.last = newest.seq  # it had arrived, and only the answer was lost
                    return
                if newest is None or not _holds(newest, self.seq):
                    raise Stale
                self.last = newest.seq
            else:
                time.sleep(AGAIN_S)


def record_late(journal: Journal, claim: Claim, what: str) -> None:
    """Record that a word of a claim that is no longer the task's was refused. Failing at that is told in the log alone."""
    data = {"task": claim.task, "attempt": claim.attempt, "fence": claim.fence, "what": what, "worker": claim.worker}
    log.warning("task %s attempt %d: a late %r was refused", claim.task, claim.attempt, what)
    try:
        journal.append([Entry(LATE, LATE, data)])
    except JournalError as error:
        log.warning("a late word could not be recorded: %s", error)


def _seq_of(journal: Journal, token: str) -> int | None:
    found = _FENCE.match(token)
    return int(found[2]) if found and found[1] == journal.epoch else None


def _holds(newest: Record, claim: int) -> bool:
    return newest.seq == claim or (newest.kind in (Kind.PHASE, Kind.RENEWED) and newest.data.get("claim") == claim)
