"""One attempt at one task in this daemon, from its claim to the record that ends it.

Every step is a record of its claim (`covenq.tasks.scheduling.claim`), which is stale once somebody else has moved the task.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from covenq.github.request import content_type_of
from covenq.github.signature import sign_anew
from covenq.model import Category, Kind
from covenq.paths import PHASE_SOCKET_NAME
from covenq.tasks.execution import running
from covenq.tasks.execution.attempt_context import AttemptContext, AttemptResult
from covenq.tasks.execution.attempt_token import brief_for, get_token, token_released
from covenq.tasks.execution.brief import Content
from covenq.tasks.execution.command import Command, StopEvent, not_started, not_watched
from covenq.tasks.execution.forward import answer_of, headers_for, outcome_of, short_answer, target_of
from covenq.tasks.execution.headless_result import judged
from covenq.tasks.execution.held_lease import HeldLease
from covenq.tasks.execution.lease_renewal import Sent
from covenq.tasks.execution.scrub import secrets_of
from covenq.tasks.execution.session_brief import brief_content, contract_environment
from covenq.tasks.execution.shortage import is_shortage
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.scheduling.claim import RETRY_S, Claim, StaleClaim, record_late
from covenq.tasks.scheduling.outcome import RESULT_MAX, Outcome, Task, ending_after
from journal.errors import (
    JournalClosed,
    JournalDamaged,
    JournalError,
    JournalFull,
    JournalGone,
    JournalPoisoned,
    JournalReadOnly,
    JournalUnanswered,
    may_pass,
)
from journal.records import Record

log = logging.getLogger("covenq.worker")

PHASE_S = 2.0
"""Seconds that recording a phase may take: meanwhile nobody watches the command's time. Later it goes with the next record."""

FATAL = (JournalClosed, JournalGone, JournalPoisoned, JournalReadOnly)
"""Errors of a journal that records nothing more in this process: the pool ends."""
RECORD_RETRY_MAX_S = 30.0
"""The longest wait between two tries to record the end of an attempt that covenq itself broke."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass
class Attempt:
    """Runs one picked task. `since` and `number` serve the list of what is running."""

    task: Task
    context: AttemptContext
    since: float = 0.0
    last: int = 0
    """The seq of the newest record that this attempt knows of: once the fold has reached it, the task's row is up to date."""
    claim_seq: int = 0
    """The seq of its claim, once it has one: while the state names another, the task is no longer this attempt's."""
    lost: StopEvent = field(default_factory=StopEvent)
    """Set when the task is no longer this attempt's (`revoke`)."""
    ending: bool = False
    """Its work has ended, and its end is being recorded: after that record, too, the state names no claim of this attempt."""
    _lease: HeldLease | None = None
    _request_sent: bool = False
    """Whether the request of a forward was made."""
    _unrecorded: list[tuple[Kind, Mapping[str, object]]] = field(default_factory=list)
    """Phases that are appended together with the next record; also those that a full disk refused."""

    @property
    def number(self) -> int:
        return self.task.attempts + 1

    def run(self) -> AttemptResult:
        """Claim, prepare, start, wait, collect, record. Raises FATAL, and what came up before there was a claim.

        Whatever else is raised once the claim is recorded ends the attempt with a record of its own (`_end_broken`): no task
        stays running that nobody runs.
        """
        context = self.context
        self.since = context.clock()
        sent = None if context.leases is None else context.leases.sent_now()
        try:
            # Without a deadline: a claim that may be recorded must not be left with nobody to run it.
            claim = Claim.acquire(
                context.journal,
                self.task,
                context.worker,
                None if sent is None else sent.until,
                node=context.node,
                pool=None if context.leases is None else context.leases.pool,
                deadline=math.inf,
                stopped=context.stop.is_set,
            )
            newest = context.journal.last(self.task.subject) if claim is None else None
        except JournalUnanswered:
            return AttemptResult.UNRECORDED
        except JournalError as error:
            if not may_pass(error):
                raise
            return AttemptResult.NOT_CLAIMED
        except Exception as error:
            claim = self._recorded_claim()
            if claim is None:
                raise
            return self._hold(claim, error)
        if claim is None:
            self.last = newest.seq if newest is not None else 0
            return AttemptResult.LOST
        return self._hold(claim, sent=sent)

    def _recorded_claim(self) -> Claim | None:
        """The claim of this attempt, where it was recorded before an error. Raises JournalError."""
        newest = self.context.journal.last(self.task.subject)
        if newest is None or newest.seq <= self.task.last_seq or newest.kind != Kind.CLAIMED:
            return None
        if newest.data.get("worker") != self.context.worker:
            return None
        return Claim(self.context.journal, self.task.id, self.number, newest.seq, worker=self.context.worker)

    def _hold(self, claim: Claim, broken: Exception | None = None, sent: Sent | None = None) -> AttemptResult:
        """The attempt from its claim on; with `broken`, what was raised when it was claimed, its end alone."""
        self.last = self.claim_seq = claim.seq
        self.context.times.began(self.task, claim.seq, self.context.clock())
        try:
            if broken is None:
                try:
                    return self._run_leased(claim, sent)
                except (StaleClaim, *FATAL):
                    raise
                except Exception as error:  # noqa: BLE001 - whatever it is, the attempt ends with a record
                    broken = error
            return self._end_broken(claim, broken)
        except StaleClaim:
            log.warning(
                "task %s attempt %d lost its claim %d: its outcome is dropped", self.task.id, self.number, claim.seq
            )
            return AttemptResult.LOST
        finally:
            self.last = claim.last
            self.context.times.forget(claim.seq)  # where no end of its own was recorded

    def _end_broken(self, claim: Claim, error: Exception) -> AttemptResult:
        """Record that covenq itself failed, once nothing of the attempt runs any more. Retry whatever may pass, until the stop.

        Nothing is in the record that could be why the attempt broke: no result, no word of the command or of the error.
        Raises StaleClaim, and FATAL.
        """
        log.error("attempt %d of task %s broke", self.number, self.task.id, exc_info=error)
        if self.lost.is_set():
            raise StaleClaim
        context = self.context
        detail = f"covenq itself failed ({type(error).__name__[:80]}); its log has the traceback"
        outcome = Outcome(Category.INTERNAL, detail=detail)
        record = ending_after(
            self.task, claim.attempt, claim.seq, outcome, result=None, now=context.clock(), random=context.random
        )
        wait = RETRY_S
        while True:
            try:
                return self._record_end(claim, [*self._unrecorded, (record.kind, record.data)])
            except (StaleClaim, *FATAL):
                raise
            except Exception:
                log.exception("the end of attempt %d of task %s is not recorded yet", self.number, self.task.id)
            if context.stop.wait(wait):
                return AttemptResult.UNRECORDED
            wait = min(2 * wait, RECORD_RETRY_MAX_S)

    def revoke(self, grace_s: float | None = None) -> None:
        """The task is no longer this attempt's: end what runs, and drop its outcome. One that ends is told by its record."""
        if not self.ending:
            self.lost.set(self.context.grace_s if grace_s is None else grace_s)

    def close(self) -> None:
        """Release what it holds, after its run or instead of it."""
        self.lost.close()
        if self.task.policy.forward and not self._request_sent:
            self.context.breakers.cancel(target_of(self.task.policy.forward))

    def _run_leased(self, claim: Claim, sent: Sent | None) -> AttemptResult:
        """`_run_claimed`, under a lease if the claim has one: once that is over, another process records the attempt's end."""
        if self.context.leases is None or sent is None:
            return self._run_claimed(claim)
        with self.context.leases.holding(claim, sent, self.revoke) as self._lease:
            return self._run_claimed(claim)

    def _is_lost(self) -> bool:
        """Whether the task is no longer this attempt's, by its lease too: then nothing is begun, and no error counts."""
        if self._lease is not None:
            self._lease.check()
        return self.lost.is_set()

    def _run_claimed(self, claim: Claim) -> AttemptResult:
        directory = AttemptDirectory.for_attempt(self.context.data, self.task.id, claim.attempt)
        found = self._delivery()
        outcome = found if isinstance(found, Outcome) else self._prepare(claim, directory, found)
        if outcome is None and isinstance(found, Record):
            # Recorded together with the next phase: the command's start waits for no sync but the claim's.
            self._unrecorded.append((Kind.PHASE, claim.record_data(phase="prepared")))
            run = self._forward if self.task.kind == "forward" else self._execute
            with token_released(self.context.tokens, self.task, claim):
                outcome = run(claim, directory, found)
        assert outcome is not None
        if self._is_lost():
            raise StaleClaim  # known already: no record is tried, so none is refused and recorded as late
        return self._finish(claim, directory, outcome)

    def _delivery(self) -> Record | Outcome:
        """The record of the task's delivery, with its payload; an outcome if it can't be read any more."""
        while True:
            try:
                record = self.context.delivery_of(self.task)
                break
            except JournalDamaged as error:
                return Outcome(Category.POLICY, detail=f"the delivery can't be read: {error}"[:500])
            except JournalError as error:
                if not may_pass(error):
                    raise
            if self.context.stop.wait(RETRY_S):
                return Outcome(Category.INTERRUPTED, detail="the daemon was stopped before it began")
        if record is None or record.payload is None:
            return Outcome(Category.POLICY, detail="the delivery's payload is no longer kept")
        return record

    def _prepare(self, claim: Claim, directory: AttemptDirectory, delivery: Record) -> Outcome | None:
        """Make the attempt's directory; an outcome if it can't be made."""
        content: Content | None = None
        brief: dict[str, object] | None = None
        if self.task.kind != "forward":
            content = Content.of(delivery.payload or b"", content_type_of(delivery.data.get("headers")))
            policy = self.task.policy
            told = brief_for(self.context.tokens, self.task, claim, delivery)
            brief = brief_content(told, policy.contract, policy.agent, content.payload, directory)
        while True:
            try:
                directory.prepare(*(() if content is None else (content.payload, brief, content.body)))
                return None
            except OSError as error:
                if error.errno not in _NO_SPACE:
                    return self._not_started(error)
            if self.context.stop.wait(RETRY_S):
                return Outcome(Category.INTERRUPTED, detail="the daemon was stopped before it began: no space")

    def _execute(self, claim: Claim, directory: AttemptDirectory, delivery: Record) -> Outcome:
        context, policy = self.context, self.task.policy
        if not policy.run:
            return Outcome(Category.POLICY, detail="the task says no command")
        if context.stop.is_set():
            return Outcome(Category.INTERRUPTED, detail="the daemon was stopped before it began")
        scrubber = context.scrubber(secrets_of({n: context.environ[n] for n in policy.env if n in context.environ}))
        if (no_token := get_token(context.tokens, self.task, claim, scrubber.learn)) is not None:
            return no_token
        if self._is_lost():
            raise StaleClaim
        try:
            brief = brief_for(self.context.tokens, self.task, claim, delivery)
            env = brief.environment(context.environ, policy.env, directory, str(context.data / PHASE_SOCKET_NAME))
            command = Command(
                brief.argv(policy.run, directory),
                env | contract_environment(policy.contract, brief),
                directory,
                context.output_limit,
                limits=policy.limits,
                scrubber=scrubber,
                lease=self._lease,
            )
        except (OSError, ValueError) as error:
            return self._not_started(error, policy.run[0])
        try:
            with context.starts.running():
                # If there is no space for it, a later daemon knows the process by its fencing token alone.
                with contextlib.suppress(OSError):
                    running.note(context.data, claim.task, claim.attempt, claim.fence, command.pid)
                self._phase(claim, "started")
                return command.wait(policy.timeout_s, context.grace_s, context.stop, self.lost)
        except OSError as error:  # an error of this process: no descriptors left, for one
            command.kill()
            return self._given_back_if_short(not_watched(error), error)
        except BaseException:
            command.kill()
            raise
        finally:
            running.remove(context.data, claim.task, claim.attempt)

    def _not_started(self, error: OSError | ValueError, program: str = "it") -> Outcome:
        """The outcome of an attempt that could not be started: given back, if that is for no fault of its own."""
        return self._given_back_if_short(not_started(error, program), error)

    def _given_back_if_short(self, outcome: Outcome, error: OSError | ValueError) -> Outcome:
        """The outcome; where it is given back, the pool runs fewer at a time from now on."""
        if (
            isinstance(error, OSError)
            and outcome.category is Category.INTERRUPTED
            and self.context.starts.failed(error)
        ):
            log.warning("task %s attempt %d: %s", self.task.id, self.number, outcome.detail)
        return outcome

    def _forward(self, claim: Claim, directory: AttemptDirectory, delivery: Record) -> Outcome:
        context, url = self.context, self.task.policy.forward
        if not url:
            return Outcome(Category.POLICY, detail="the task says no address")
        if context.stop.is_set():
            return Outcome(Category.INTERRUPTED, detail="the daemon was stopped before it began")
        original = delivery.data.get("headers")
        more = [("X-Covenq-Task", self.task.id), ("X-Covenq-Attempt", str(claim.attempt))]
        headers = headers_for(original if isinstance(original, list) else [], more)
        body, name, stops = delivery.payload or b"", self.task.policy.sign, (context.stop, self.lost)
        if name is not None:
            secret = context.secret_of(name)
            if secret is None:
                return Outcome(
                    Category.POLICY, detail=f"there is no secret {name!r} any more, with which it was to be signed anew"
                )
            headers = sign_anew(headers, secret, body)
        self._phase(claim, "started")
        try:
            from covenq.tasks.execution.post import post  # imports urllib3

            if self._is_lost():
                raise StaleClaim
            with context.starts.running():
                reply = post(url, headers, body, self.task.policy.timeout_s, stops, context.environ)
        except OSError as error:
            return self._not_started(error)
        except ValueError:  # a route's is checked; an odd record may hold another
            return Outcome(Category.POLICY, detail="the task's address is none")
        if reply.status is None and any(one.is_set() for one in stops):
            return Outcome(Category.INTERRUPTED, detail="the daemon was stopped")
        self._request_sent = True
        if context.breakers.report(target_of(url), ok=not reply.receiver_failed, answer=short_answer(reply)):
            log.warning("%s is left alone for a while: it failed again and again", target_of(url))
        if reply.status is not None:
            directory.write_output(context.scrubber(()).scrub(answer_of(reply)))
        return outcome_of(reply, url, context.clock())

    def _phase(self, claim: Claim, name: str) -> None:
        """Record a phase; if that can't be done now, keep it for the next record, since the work itself needs no journal."""
        self._unrecorded.append((Kind.PHASE, claim.record_data(phase=name)))
        try:
            self._record(claim, self._unrecorded, "phase", time.monotonic() + PHASE_S)
        except JournalError as error:
            if not may_pass(error):
                raise
            return
        self._unrecorded.clear()

    def _record(
        self,
        claim: Claim,
        notes: Sequence[tuple[Kind, Mapping[str, object]]],
        what: str,
        deadline: float = math.inf,
        *,
        result: bytes | None = None,
        about: Mapping[str, object] | None = None,
    ) -> None:
        """Raises StaleClaim, once the late report is recorded, and what append raises."""
        try:
            claim.record(notes, deadline=deadline, stopped=self.context.stop.is_set, payload=result, about=about)
        except StaleClaim:
            if not self.lost.is_set():
                record_late(self.context.journal, claim, what)
            raise

    def _collect(self, directory: AttemptDirectory) -> bool:
        """`AttemptDirectory.collect`, which waits for what this process is short of, until the stop. Raises OSError."""
        while True:
            try:
                return directory.collect()
            except OSError as error:
                if not is_shortage(error) or self.context.stop.wait(RETRY_S):
                    raise

    def _finish(self, claim: Claim, directory: AttemptDirectory, outcome: Outcome) -> AttemptResult:
        """Record the end, in one append with the phase `collected`. Retry what may pass, until the stop."""
        context = self.context
        result: str | None = None
        content: bytes | None = None
        try:
            if self._collect(directory):
                result = str(directory.result.relative_to(context.data))
                content = context.shared_result(directory)
        except OSError as error:
            if outcome.category is None:
                outcome = Outcome(Category.RESULT_INVALID, 0, None, f"its result could not be kept: {error.strerror}")
        else:
            if self.task.policy.contract is not None:
                outcome = judged(outcome, directory.read_result(RESULT_MAX) if result is not None else None)
        if self.task.policy.keep == "logs" or (self.task.policy.keep == "failed" and outcome.category is None):
            directory.remove_scratch()
        record = ending_after(
            self.task, claim.attempt, claim.seq, outcome, result=result, now=context.clock(), random=context.random
        )
        end: dict[str, object] = dict(record.data)
        if outcome.usage is not None:
            end["usage"] = outcome.usage.as_json()
        if outcome.http_status is not None:
            end["http_status"] = outcome.http_status
        notes = [*self._unrecorded, (Kind.PHASE, claim.record_data(phase="collected")), (record.kind, end)]
        kept = record.kind is Kind.COMPLETED or outcome.reported is not None
        return self._record_end(claim, notes, content if kept else None, record.about)

    def _record_end(
        self,
        claim: Claim,
        notes: Sequence[tuple[Kind, Mapping[str, object]]],
        result: bytes | None = None,
        about: Mapping[str, object] | None = None,
    ) -> AttemptResult:
        """Append the records of the end, retrying what may pass until the stop. Raises StaleClaim, and what can't pass."""
        context = self.context
        self.ending = True
        while True:
            stopping = context.stop.is_set()
            try:
                what = "complete" if notes[-1][0] is Kind.COMPLETED else "fail"
                self._record(claim, notes, what, result=result, about=about)
                context.times.ended(claim.seq, notes[-1][0], context.clock())
                return AttemptResult.DONE
            except JournalError as error:
                if not may_pass(error):
                    raise
                if isinstance(error, JournalFull) and context.on_full():
                    continue  # the space that was reserved for this
                if stopping:
                    log.error(
                        "task %s attempt %d ended and could not be recorded: %s", self.task.id, self.number, error
                    )
                    return AttemptResult.UNRECORDED
            context.stop.wait(RETRY_S)
