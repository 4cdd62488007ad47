"""Renewal of the leases that a pool's attempts hold, where another machine may take the journal over.

A lease ends by the journal's clock, at the `lease_until` of the newest record of its claim; what is done under it is ended by
this machine's CLOCK_BOOTTIME (`held_lease`). How the two relate is learnt from each claim and renewal: a record that was sent at
S was stamped then or later. So, stamped A and lasting until U, its lease lasts here until S + (U - A) at least, however far this
machine's time of day is off.

All leases are renewed by one append, when a third of the oldest is over. While the journal is away that is tried again and again,
so a failover that is shorter than what is left gives up nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from covenq.model import Kind, at_text, seconds_or, task_subject
from covenq.tasks.execution.held_lease import HeldLease, times_before
from covenq.tasks.execution.lease_guard import now as boottime
from covenq.tasks.scheduling.claim import RETRY_S, Claim, StaleClaim
from covenq.tasks.scheduling.outcome import Task
from journal.append import REQUEST_S, append_known
from journal.errors import JournalError, may_pass
from journal.interface import Journal
from journal.records import Conflict, Entry

log = logging.getLogger("covenq.worker")

RENEWED_AFTER = 3
"""A lease is renewed after this part of it."""
CHECK_S = 0.5
"""Seconds between two looks for leases that are over."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What is sent at `at`, by CLOCK_BOOTTIME, and says that a lease lasts until `until`."""

    at: float
    until: str


@dataclass(slots=True, eq=False)
class _Held:
    claim: Claim
    lease: HeldLease
    granted_at: float
    """When the claim, or the last renewal, was sent; by CLOCK_BOOTTIME."""


class LeaseRenewal:
    """`hold` may be called from any thread, between `start` and `stop`."""

    def __init__(
        self,
        journal: Journal,
        pool: str,
        lease_s: float,
        grace_s: float,
        *,
        clock: Callable[[], float] = time.time,
        boottime: Callable[[], float] = boottime,
        failed: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        """`pool` is what claims have of whose they are, this node's id. `clock` is this machine's time of day.

        `failed` is told of an error after which nothing is renewed any more.
        """
        self.pool = pool
        self._journal = journal
        self._lease_s = lease_s
        self._grace_s = grace_s
        self._clock = clock
        self._boottime = boottime
        self._failed = failed
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._held: list[_Held] = []
        self._threads = [
            threading.Thread(target=self._renew, name="leases-renew", daemon=True),
            threading.Thread(target=self._check, name="leases-check", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Renew nothing more. What is still held ends by itself."""
        self._stopping.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(REQUEST_S)

    def is_own(self, task: Task) -> bool:
        """Whether the current claim of a task is of a pool of this node, a former one too. Raises JournalError."""
        record = None if task.claim_seq is None else self._journal.get(task.claim_seq)
        return record is not None and bool(self.pool) and record.data.get("pool") == self.pool

    def sent_now(self) -> Sent:
        """What a claim or a renewal that is sent now says."""
        return Sent(self._boottime(), at_text(self._clock() + self._lease_s))

    @contextmanager
    def holding(self, claim: Claim, sent: Sent, lost: Callable[[float], None]) -> Iterator[HeldLease]:
        """The lease of a claim that was recorded just now, renewed meanwhile.

        `lost` is called once when it is over, or the claim is somebody else's, with the seconds that are left to end what is
        done. Raises JournalError that can't pass.
        """
        lease = HeldLease(times_before(self._end(claim.seq, sent), self._lease_s, self._grace_s), lost, self._boottime)
        held = _Held(claim, lease, sent.at)
        with self._lock:
            self._held.append(held)
        try:
            yield lease
        finally:
            with self._lock:
                self._held.remove(held)

    def _end(self, seq: int, sent: Sent) -> float:
        """When a lease that the record `seq` grants ends here; at once where it can't be read, which is never too late."""
        while True:
            try:
                record = self._journal.get(seq)
                break
            except JournalError as error:
                if not may_pass(error):
                    raise
            if self._boottime() >= sent.at + self._lease_s or self._stopping.wait(RETRY_S):
                return sent.at
        stamped = None if record is None else seconds_or(record.at, 0.0)
        return sent.at if not stamped else sent.at + seconds_or(sent.until, stamped) - stamped

    # ---- the threads

    def _check(self) -> None:
        while not self._stopping.wait(CHECK_S):
            for held in self._snapshot():
                held.lease.check()

    def _renew(self) -> None:
        every = self._lease_s / RENEWED_AFTER
        while not self._stopping.wait(min(every / 4, CHECK_S)):
            try:
                if due := self._due(every):
                    self._renew_all(due)
            except JournalError as error:
                if not may_pass(error):
                    log.error("no lease is renewed any more: %s", error)
                    self._failed(error)
                    return
                log.warning("leases wait to be renewed: %s", error)
                self._stopping.wait(RETRY_S)
            except Exception:
                # No error may end the renewals of the others.
                log.exception("leases could not be renewed; it is tried again")
                self._stopping.wait(RETRY_S)

    def _snapshot(self) -> list[_Held]:
        with self._lock:
            return [held for held in self._held if not held.lease.over]

    def _due(self, every: float) -> list[_Held]:
        """All that are held, where one has to be renewed."""
        held = self._snapshot()
        return held if any(self._boottime() >= one.granted_at + every for one in held) else []

    def _renew_all(self, due: list[_Held]) -> None:
        """In one append; each by itself where one of the claims has moved."""
        sent = self.sent_now()
        entries = [
            Entry(
                task_subject(one.claim.task),
                Kind.RENEWED,
                one.claim.record_data(lease_until=sent.until),
                expect=one.claim.last,
            )
            for one in due
        ]
        answer = append_known(self._journal, entries, self._deadline(), stopped=self._stopping.is_set)
        if isinstance(answer, Conflict):
            for one in due:
                self._renew_one(one)
            return
        for one, seq in zip(due, answer.seqs, strict=True):
            one.claim.last = max(one.claim.last, seq)
        end = self._end(answer.seqs[-1], sent)
        for one in due:
            self._extend(one, sent, end)

    def _renew_one(self, one: _Held) -> None:
        sent = self.sent_now()
        note = (Kind.RENEWED, one.claim.record_data(lease_until=sent.until))
        try:
            one.claim.record([note], deadline=self._deadline(), stopped=self._stopping.is_set)
        except StaleClaim:  # it has ended, or is somebody else's
            one.lease.lose(self._grace_s)
            return
        self._extend(one, sent, self._end(one.claim.last, sent))

    def _extend(self, one: _Held, sent: Sent, end: float) -> None:
        if one.lease.extend(times_before(end, self._lease_s, self._grace_s)):
            one.granted_at = sent.at

    def _deadline(self) -> float:
        return time.monotonic() + min(REQUEST_S, self._lease_s / RENEWED_AFTER)
