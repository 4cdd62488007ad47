"""Claims: the record that makes a task one worker's, its fencing token, and the one way to append for that task.

Every step of an attempt is a record appended against the task's newest one. So when somebody else has moved the task, that
record is first, and the attempt learns that its claim is stale. The claim's seq is the fencing token: every record of the
attempt has it, and it stays the same through the attempt's phases and renewals.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from covenq.model import TOKEN, Kind, fence, task_subject
from journal.append import REQUEST_S, append_known
from journal.errors import JournalError
from journal.interface import Journal
from journal.records import Appended, Conflict, Entry, Record

if TYPE_CHECKING:
    from covenq.tasks.scheduling.outcome import Task

log = logging.getLogger("covenq.worker")

RETRY_S = 0.5
"""Seconds before the next try with a journal that did not answer."""

LATE = "ops.late"
"""Subject and kind of the record of a report that was refused because its claim was no longer the task's."""

_FENCE = re.compile(r"([0-9A-Za-z]{1,64})\.([0-9]{1,18})\Z")


class StaleClaim(Exception):
    """The claim is no longer the task's: its records are refused, and its outcome is dropped."""


class Claim:
    """A claim of a task. `seq` is that of its record, `last` that of the newest record of the task known to belong to it."""

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
        pool: str | None = None,
    ) -> None:
        """`task` is an id. `lease_until` is the time in the claim's own record; renewals may have moved it since.

        `pool` is the id of the node whose own pool holds the lease; None for a pull worker's, and where there is no lease.
        """
        self.task = task
        self.attempt = attempt
        self.seq = seq
        self.last = seq if last is None else last
        self.worker = worker
        self.lease_until = lease_until
        self.pool = pool
        self.contract: str | None = None
        """How what it leaves is judged, as its record says: covenq.config.contract."""
        self._journal = journal

    @property
    def fence(self) -> str:
        return fence(self._journal.epoch, self.seq)

    @property
    def leased(self) -> bool:
        """Whether it is a pull worker's, for the time of a lease, and not a daemon's own pool's."""
        return self.lease_until is not None and self.pool is None

    @classmethod
    def acquire(
        cls,
        journal: Journal,
        task: Task,
        worker: str,
        lease_until: str | None = None,
        *,
        node: str | None = None,
        pool: str | None = None,
        deadline: float | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Claim | None:
        """Claim the task; None if it has moved since it was read. `node` is the name of the one that gives it.

        `deadline`, `stopped` and what is raised: `append_known`.
        """
        attempt = task.attempts + 1
        data = _claim_data(task, worker, lease_until, node)
        if pool is not None:
            data["pool"] = pool
        entry = Entry(task.subject, Kind.CLAIMED, data, expect=task.last_seq)
        answer = append_known(journal, [entry], deadline, stopped=stopped)
        if isinstance(answer, Conflict):
            return None
        claim = cls(journal, task.id, attempt, answer.seqs[0], worker=worker, lease_until=lease_until, pool=pool)
        claim.contract = task.policy.contract
        return claim

    @classmethod
    def acquire_all(
        cls, journal: Journal, tasks: Sequence[Task], worker: str, lease_until: str | None, *, node: str | None = None
    ) -> list[Claim]:
        """Claim several tasks in one append, and so one sync. Where one of them has moved, claim each by itself, without it.

        Claims that are recorded are returned whatever the journal says of the next: nobody else could hold them. Raises as
        `append_known` where there is none.
        """
        deadline = time.monotonic() + REQUEST_S
        if len(tasks) > 1:
            notes = [_claim_data(task, worker, lease_until, node) for task in tasks]
            answer = append_known(
                journal,
                [Entry(t.subject, Kind.CLAIMED, note, expect=t.last_seq) for t, note in zip(tasks, notes, strict=True)],
                deadline,
            )
            if isinstance(answer, Appended):
                return [
                    cls(journal, task.id, task.attempts + 1, seq, worker=worker, lease_until=lease_until)
                    for task, seq in zip(tasks, answer.seqs, strict=True)
                ]
        claims: list[Claim] = []
        for task in tasks:
            try:
                claim = cls.acquire(journal, task, worker, lease_until, node=node, deadline=deadline)
            except JournalError:
                if claims:
                    break
                raise
            claims += [] if claim is None else [claim]
        return claims

    @classmethod
    def current(cls, journal: Journal, task: str, token: str) -> Claim | None:
        """The claim that a fencing token names, if it is the task's current one. None: it is stale, or is no token.

        The journal's index decides, not the fold: everything that was durable when this was called is seen.
        """
        seq = _claim_seq(journal, token)
        newest = journal.last(task_subject(task)) if TOKEN.match(task) else None
        if seq is None or newest is None or not _belongs_to(newest, seq):
            return None
        record = newest if newest.seq == seq else journal.get(seq)
        return None if record is None else cls._from_record(journal, task, record, newest.seq)

    @classmethod
    def issued(cls, journal: Journal, task: str, token: str) -> Claim | None:
        """The claim that a token names, current or not; None if this journal never issued that token for the task."""
        seq = _claim_seq(journal, token)
        if seq is None or not TOKEN.match(task):
            return None
        record = journal.get(seq)
        if record is None or record.kind != Kind.CLAIMED or record.subject != task_subject(task):
            return None
        return cls._from_record(journal, task, record, seq)

    @staticmethod
    def is_ahead(journal: Journal, token: str) -> bool:
        """Whether a token of this epoch names a record that this journal has not shown: another node appended it, or nobody."""
        seq = _claim_seq(journal, token)
        return seq is not None and seq > journal.head().seq

    @classmethod
    def _from_record(cls, journal: Journal, task: str, record: Record, last: int) -> Claim | None:
        data = record.data
        if record.kind != Kind.CLAIMED or not isinstance(data.get("attempt"), int):
            return None
        worker, until, pool = data.get("worker"), data.get("lease_until"), data.get("pool")
        claim = cls(journal, task, data["attempt"], record.seq, last=last, worker=worker, lease_until=until, pool=pool)
        claim.contract = data.get("contract")
        return claim

    def record_data(self, **more: object) -> dict[str, object]:
        """The data of a record of this claim."""
        return {"attempt": self.attempt, "claim": self.seq, **more}

    def record(
        self,
        notes: Sequence[tuple[Kind, Mapping[str, object]]],
        *,
        deadline: float | None = None,
        stopped: Callable[[], bool] = lambda: False,
        payload: bytes | None = None,
        about: Mapping[str, object] | None = None,
    ) -> None:
        """Append these, all or none, if the task is still this claim's; `payload` and `about` are the last one's.

        Raises StaleClaim, and what `append_known` raises.

        A phase or a renewal that another thread recorded for this claim meanwhile moves the newest record and not the claim: then
        it is tried again.
        """
        subject = task_subject(self.task)
        while True:
            # The engine takes all or none, so the others follow the first directly, and need no `expect` of their own.
            entries = [Entry(subject, kind, data) for kind, data in notes]
            entries[0] = entries[0]._replace(expect=self.last)
            entries[-1] = entries[-1]._replace(payload=payload, about=about)
            answer = append_known(self._journal, entries, deadline, stopped=stopped)
            if isinstance(answer, Appended):
                self.last = answer.seqs[-1]
                return
            newest = self._journal.last(subject)
            if newest is not None and newest.kind == notes[-1][0] and newest.data == notes[-1][1]:
                self.last = newest.seq  # the same report was recorded before, and its sender did not hear so
                return
            if newest is None or not _belongs_to(newest, self.seq):
                raise StaleClaim
            self.last = newest.seq


def record_late(journal: Journal, claim: Claim, what: str) -> None:
    """Record that a report of a claim that is no longer the task's was refused. A failure to record it is logged only."""
    data = {"task": claim.task, "attempt": claim.attempt, "fence": claim.fence, "what": what, "worker": claim.worker}
    log.warning("task %s attempt %d: a late %r was refused", claim.task, claim.attempt, what)
    try:
        append_known(journal, [Entry(LATE, LATE, data)])
    except JournalError as error:
        log.warning("a late word could not be recorded: %s", error)


def _claim_data(task: Task, worker: str, lease_until: str | None, node: str | None) -> dict[str, object]:
    """Its contract is in it so that a report on it can be judged without a look at the task."""
    data = {"attempt": task.attempts + 1, "worker": worker, "lease_until": lease_until, "node": node}
    return data if task.policy.contract is None else {**data, "contract": task.policy.contract}


def _claim_seq(journal: Journal, token: str) -> int | None:
    found = _FENCE.match(token)
    return int(found[2]) if found and found[1] == journal.epoch else None


def _belongs_to(newest: Record, claim: int) -> bool:
    return newest.seq == claim or (newest.kind in (Kind.PHASE, Kind.RENEWED) and newest.data.get("claim") == claim)
