"""Reports of pull workers on the tasks that they hold: renewal, phase, completion, failure.

Each names its claim by the fencing token (`covenq.tasks.scheduling.claim`). A report of a claim that is no longer the task's
raises StaleFence, and is recorded as late (`ops.late`); it has no other effect.

Ends of one task are reported one after another (`task_locks`), from the look at what was recorded to the record: so of several at
once the first is recorded, with its own files, and each of the others finds that record before it has written anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TypedDict

from covenq.errors import CovenqError, NotDurable, NotFound, Refused, StaleFence, UsageError, WorkTokenRefused
from covenq.model import PR_MAX, TOKEN, Category, JsonObject, Kind, State, task_subject
from covenq.model.rows import Count, TaskState, Time
from covenq.state.progress import FoldProgress
from covenq.state.readers import Readers
from covenq.tasks.execution.scrub import scrub_text
from covenq.tasks.remote.report_files import NO_OUTPUTS, Outputs, ReportFiles
from covenq.tasks.remote.result import judged_report, result_text
from covenq.tasks.remote.task_locks import TaskLocks
from covenq.tasks.scheduling.attempt_times import AttemptTimes
from covenq.tasks.scheduling.claim import Claim, StaleClaim, record_late
from covenq.tasks.scheduling.leases import Leases, check_lease
from covenq.tasks.scheduling.outcome import (
    RESULT_MAX,
    EndRecord,
    Outcome,
    Task,
    Usage,
    ending_after,
)
from covenq.tasks.tokens.holding import WorkTokenGiven
from covenq.tasks.tokens.keeper import TokenKeeper
from journal.append import append_known
from journal.errors import JournalError, JournalFull, JournalStandby
from journal.interface import Journal
from journal.records import Appended, Entry, Record

PHASE_MAX = 100
"""Characters of a phase's name. It is recorded forever."""
DETAIL_MAX = 300

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")
_REPORTABLE = frozenset(Category) - {Category.LEASE_LOST}
"""The categories that a worker may report for a failure."""


@dataclass(frozen=True, slots=True)
class Completion:
    """The report of a task that completed without a result."""

    task: str
    fence: str
    exit_code: int | None = None
    usage: Usage | None = None


class Renewed(TypedDict):
    """The answer to a renewal."""

    lease_until: Time


class PhaseRecorded(TypedDict):
    """The answer to a phase: as it is recorded, and the record's seq."""

    phase: str
    seq: Count


class Completed(TypedDict):
    """The answer to a completion. `result` is the path of the result in the data directory; `duplicate`: it was known."""

    state: TaskState
    result: str | None
    duplicate: bool


class Failed(TypedDict):
    """The answer to a failure: failed, or queued again and not before that time. `duplicate`: it was known."""

    state: TaskState
    not_before: Time | None
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """The report of an attempt that failed, as the worker gave it: `ClaimReports.fail` checks it."""

    category: str
    detail: str | None = None
    retry: bool = True
    retry_after_s: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    usage: Usage | None = None
    outputs: Outputs = NO_OUTPUTS


@dataclass(frozen=True, slots=True)
class Measures:
    """The time and the randomness that reports go by, and where how long attempts ran is counted."""

    clock: Callable[[], float]
    random: Callable[[], float]
    times: AttemptTimes
    shared: bool = False
    """Whether other nodes have the journal, which then has results, too."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What else it depends on whether a report is recorded."""

    on_full: Callable[[], bool] = lambda: False
    """Makes room for the end of an attempt when the disk is full, and returns whether it could."""
    require_appends: Callable[[], None] = lambda: None
    """Raises where another node appends: that one knows whose a task is, and this one may know it later."""
    tokens: TokenKeeper | None = None
    """Gets the tokens that routes want for their work."""


class ClaimReports:
    """Records what pull workers report. Methods may be called from any thread."""

    def __init__(
        self,
        journal: Journal,
        readers: Readers,
        fold: FoldProgress,
        files: ReportFiles,
        leases: Leases,
        measures: Measures,
        conditions: Conditions,
    ) -> None:
        self._journal = journal
        self._readers = readers
        self._fold = fold
        self._files = files
        self._leases = leases
        self._clock = measures.clock
        self._random = measures.random
        self._shared = measures.shared
        self._times = measures.times
        self._on_full = conditions.on_full
        self._require_appends = conditions.require_appends
        self._tokens = conditions.tokens
        self._locks = TaskLocks()

    def renew(self, task: str, token: str, lease_s: float) -> Renewed:
        """A longer lease. Raises StaleFence, Refused, NotFound, UsageError, and the journal's errors."""
        check_lease(lease_s)
        claim = self._current_claim(task, token, "renew")
        until = self._leases.until(lease_s)
        self._record(claim, "renew", Kind.RENEWED, claim.record_data(lease_until=until))
        self._leases.grant(task, until, lease_s)
        return {"lease_until": until}

    def phase(self, task: str, token: str, name: str, pr: int | None = None) -> PhaseRecorded:
        """A phase of the attempt, with the number of the pull request that it made. The daemon's own commands may report phases
        as well. Raises as `renew` does."""
        if pr is not None and not 1 <= pr <= PR_MAX:
            raise UsageError(f"{str(pr)[:20]} is no pull request's number", hint="It is a whole number from 1 on.")
        word = scrub_text(_UNPRINTABLE.sub(" ", name)).strip()[:PHASE_MAX]
        if not word:
            raise UsageError("a phase needs a name", hint=f"A few words, {PHASE_MAX} characters at most.")
        claim = self._current_claim(task, token, "phase", leased=False)
        self._record(claim, "phase", Kind.PHASE, claim.record_data(phase=word, **({} if pr is None else {"pr": pr})))
        return {"phase": word, "seq": claim.last}

    def token(self, task: str, token: str) -> WorkTokenGiven:
        """The installation token for the attempt's work. Raises as `renew` does, WorkTokenRefused and WorkTokenUnavailable.

        Of a claim that ends while GitHub is asked, the keeper revokes what came: nobody gets it.
        """
        claim = self._current_claim(task, token, "token")
        if self._tokens is None:
            raise WorkTokenRefused("no token can be got here")
        given = self._tokens.token_for(self._task(claim), claim)
        self._current_claim(task, token, "token")
        return given.as_answer()

    def complete(
        self,
        task: str,
        token: str,
        *,
        result: object = None,
        exit_code: int | None = None,
        usage: Usage | None = None,
        outputs: Outputs = NO_OUTPUTS,
    ) -> Completed:
        """The attempt completed. `result` is stored as JSON. Raises as `renew` does.

        The same report again, because its answer was lost, is not late: it gets the same answer.
        """
        text = None if result is None else result_text(result)
        if text is not None and len(text) > RESULT_MAX:
            raise UsageError(
                f"a result of {len(text)} bytes", hint=f"It may have {RESULT_MAX}; keep the rest elsewhere."
            )
        with self._locks.held(task):
            return self._complete(task, token, text, exit_code, usage, outputs)

    def _complete(
        self,
        task: str,
        token: str,
        text: bytes | None,
        exit_code: int | None,
        usage: Usage | None,
        outputs: Outputs = NO_OUTPUTS,
    ) -> Completed:
        """With the task's lock held."""
        said = self._recorded_end(task, token)
        if said is not None and (said.kind == Kind.COMPLETED or said.data.get("result_status") is not None):
            return _completed(Kind(said.kind), said.data, duplicate=True)
        claim = self._current_claim(task, token, "complete")
        outcome = None if claim.contract is None else judged_report(text, exit_code)
        path: str | None = None
        if text is not None:
            try:
                path = self._files.keep_result(claim, text)
            except OSError as error:
                raise NotDurable(f"the result can't be kept: {error.strerror}") from error
        end = EndRecord(Kind.COMPLETED, claim.record_data(exit_code=exit_code, result=path))
        if outcome is not None:
            row, now = self._task(claim), self._clock()
            end = ending_after(row, claim.attempt, claim.seq, outcome, result=path, now=now, random=self._random)
        end = replace(end, data={**end.data, **_usage(usage)})
        self._record_end(claim, "complete", end, outputs, text if self._shared else None)
        return _completed(end.kind, end.data, duplicate=False)

    def complete_all(self, done: Sequence[Completion]) -> list[Completed | CovenqError | JournalError]:
        """`complete` for several, in one append where that can be: what each answers or raises, in their order.

        Each is answered by itself. One whose task another report is on is tried after the others, so that it holds up none of
        them. An error of the journal, which is everybody's, is that of each that has no answer by then; it is raised where none
        was completed.
        """
        answers: dict[int, Completed | CovenqError] = {}
        try:
            self._complete_all(done, answers)
        except JournalError as error:
            if not any(isinstance(one, dict) for one in answers.values()):
                raise
            return [answers.get(place, error) for place in range(len(done))]
        return [answers[place] for place in range(len(done))]

    def _complete_all(self, done: Sequence[Completion], answers: dict[int, Completed | CovenqError]) -> None:
        """Add the answer to each, by its place. Raises the journal's errors."""
        until = self._locks.deadline()
        with self._locks.free(one.task for one in done) as free:
            at_once = {place: one for place, one in enumerate(done) if one.task in free}
            answers.update(self._complete_together(at_once))
            for place, one in at_once.items():
                if place not in answers:
                    answers[place] = self._complete_one(one, nullcontext())
        for place, one in enumerate(done):
            if place not in answers:
                answers[place] = self._complete_one(one, self._locks.held(one.task, until))

    def _complete_together(self, done: Mapping[int, Completion]) -> dict[int, Completed]:
        """One append for those whose claims are current; none where that fails for one of them. With their tasks' locks held."""
        if len({one.task for one in done.values()}) < len(done):
            return {}
        claims = {place: Claim.current(self._journal, one.task, one.fence) for place, one in done.items()}
        current = {at: one for at, one in claims.items() if one is not None and one.leased and one.contract is None}
        if len(current) < 2:
            return {}
        entries = [
            Entry(
                task_subject(claim.task),
                Kind.COMPLETED,
                claim.record_data(exit_code=done[place].exit_code, result=None, **_usage(done[place].usage)),
                expect=claim.last,
            )
            for place, claim in current.items()
        ]
        try:
            said = append_known(self._journal, entries)
        except JournalFull:
            if not self._on_full():
                raise
            said = append_known(self._journal, entries)  # into the space that was reserved for this
        if not isinstance(said, Appended):
            return {}
        for claim in current.values():
            self._times.ended(claim.seq, Kind.COMPLETED, self._clock())
        return {place: {"state": State.COMPLETED.value, "result": None, "duplicate": False} for place in current}

    def _complete_one(self, one: Completion, lock: AbstractContextManager[None]) -> Completed | CovenqError:
        """Raises the journal's errors."""
        try:
            with lock:
                return self._complete(one.task, one.fence, None, one.exit_code, one.usage)
        except CovenqError as error:
            return error

    def fail(self, task: str, token: str, failure: Failure) -> Failed:
        """The attempt failed: the task failed, or is queued again, by its policy; without `failure.retry` it is not queued again.

        The category `interrupted` gives the task back, and uses up no retry. Raises as `renew` does.
        """
        category = failure.category
        if category not in _REPORTABLE:
            raise UsageError(f"{category[:40]!r} is no category", hint=f"One of {', '.join(sorted(_REPORTABLE))}.")
        with self._locks.held(task):
            return self._fail(task, token, failure)

    def _fail(self, task: str, token: str, failure: Failure) -> Failed:
        """With the task's lock held."""
        category, detail = failure.category, failure.detail
        said = self._recorded_end(task, token)
        if said is not None and said.kind != Kind.COMPLETED and said.data.get("category") == category:
            return _ended(Kind(said.kind), said.data, duplicate=True)
        claim = self._current_claim(task, token, "fail")
        row = self._task(claim)
        words = None if detail is None else scrub_text(_UNPRINTABLE.sub(" ", detail))[:DETAIL_MAX]
        outcome = Outcome(
            Category(category),
            failure.exit_code,
            failure.signal,
            words,
            retry_after_s=failure.retry_after_s,
            final=not failure.retry,
        )
        ending = ending_after(
            row, claim.attempt, claim.seq, outcome, result=None, now=self._clock(), random=self._random
        )
        end = replace(ending, data={**ending.data, **_usage(failure.usage)})
        self._record_end(claim, "fail", end, failure.outputs)
        return _ended(ending.kind, ending.data, duplicate=False)

    def _current_claim(self, task: str, token: str, what: str, *, leased: bool = True) -> Claim:
        """The task's current claim, if the token names it. Raises NotFound, StaleFence (and records the late report), Refused.

        Where another node appends, none of these: it may have given this very claim, and this node not have heard of it yet,
        nor of having lost the lead, if it was frozen meanwhile. Then JournalStandby.
        """
        self._require_appends()
        claim = Claim.current(self._journal, task, token)
        if claim is None:
            late = Claim.issued(self._journal, task, token)
            if self._shared and Claim.is_ahead(self._journal, token):
                raise JournalStandby("another node gave this claim, and leads: this one has not heard of it yet")
            if late is not None:
                record_late(self._journal, late, what)
            elif not TOKEN.match(task) or self._journal.last(task_subject(task)) is None:
                raise NotFound(f"no task {task[:80]}")
            raise StaleFence(f"task {task} is not held by this token (any more)")
        if leased and not claim.leased:
            raise Refused(
                f"task {task} is run by the daemon itself", hint="Only its phases can be said from elsewhere."
            )
        return claim

    def _recorded_end(self, task: str, token: str) -> Record | None:
        """The task's newest record, if it is the end that this very claim reported. The end of a lease is not a report."""
        claim = Claim.issued(self._journal, task, token)
        newest = None if claim is None else self._journal.last(task_subject(task))
        if claim is None or newest is None or newest.kind not in (Kind.COMPLETED, Kind.FAILED, Kind.RETRY):
            return None
        if newest.data.get("claim") != claim.seq or newest.data.get("category") == Category.LEASE_LOST:
            return None
        return newest

    def _record_end(
        self,
        claim: Claim,
        what: str,
        end: EndRecord,
        outputs: Outputs,
        result: bytes | None = None,
    ) -> None:
        """Keep the outputs, and append the record of the end. Raises as `_record`.

        The files of a report that turns out late are removed, unless its claim reported an end before: then they are that one's.
        """
        self._files.keep_outputs(claim, outputs)
        try:
            self._record(claim, what, end.kind, end.data, result, end.about)
            self._times.ended(claim.seq, end.kind, self._clock())
        except StaleFence:
            self._times.forget(claim.seq)
            if (outputs != NO_OUTPUTS or end.data.get("result")) and self._recorded_end(
                claim.task, claim.fence
            ) is None:
                self._files.discard(claim)
            raise

    def _record(
        self,
        claim: Claim,
        what: str,
        kind: Kind,
        data: Mapping[str, object],
        payload: bytes | None = None,
        about: Mapping[str, object] | None = None,
    ) -> None:
        """Append a record of the claim. Raises StaleFence (and records the late report), and the journal's errors."""
        try:
            try:
                claim.record([(kind, data)], payload=payload, about=about)
            except JournalFull:
                if kind in (Kind.PHASE, Kind.RENEWED) or not self._on_full():
                    raise
                claim.record([(kind, data)], payload=payload, about=about)  # into the space that was reserved for this
        except StaleClaim:
            record_late(self._journal, claim, what)
            raise StaleFence(f"task {claim.task} is not held by this token any more") from None

    def _task(self, claim: Claim) -> Task:
        """The task's row, once the state has folded the claim."""
        if not self._fold.wait_for(claim.last, 10.0):
            raise NotDurable("the state is too far behind the journal", hint="Say it again in a moment.")
        row = self._readers.reader().execute("SELECT * FROM tasks WHERE id = ?", (claim.task,)).fetchone()
        if row is None:
            raise NotFound(f"no task {claim.task}")
        return Task.from_row(row)


def _completed(kind: Kind, data: JsonObject, *, duplicate: bool) -> Completed:
    """By its contract a result may say that the work failed: then that is the task's state."""
    state = State.COMPLETED if kind is Kind.COMPLETED else State.FAILED
    return {"state": state.value, "result": data.get("result"), "duplicate": duplicate}


def _ended(kind: Kind, data: JsonObject, *, duplicate: bool) -> Failed:
    state = State.FAILED if kind is Kind.FAILED else State.QUEUED
    return {"state": state.value, "not_before": data.get("not_before"), "duplicate": duplicate}


def _usage(usage: Usage | None) -> dict[str, object]:
    return {} if usage is None else {"usage": usage.as_json()}
