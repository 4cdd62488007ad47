"""One attempt at one task, from its claim to the record that ends it.

Every step is a record of its claim (`covenq.tasks.scheduling.claim`), so whoever moved the task meanwhile wins, and
this attempt learns that it is stale.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from covenq.model import Category, JsonObject, Kind
from covenq.paths import SOCKET_NAME
from covenq.tasks.execution.breaker import Breakers
from covenq.tasks.execution.brief import Brief
from covenq.tasks.execution.command import Command, Stop, not_started
from covenq.tasks.execution.forward import headers_for, outcome_of, post, target_of
from covenq.tasks.execution.process_tree import mark_of, write_mark
from covenq.tasks.execution.scrub import Scrubber, secrets_of
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.scheduling.claim import AGAIN_S, Claim, Stale, record_late
from covenq.tasks.scheduling.outcome import Outcome, Task, after
from journal.errors import JournalDamaged, JournalFull, JournalWriteFailed
from journal.interface import Journal
from journal.records import Record

log = logging.getLogger("covenq.worker")

NOT_NOW = (JournalFull, JournalWriteFailed)
"""Nothing was recorded, and the same may be tried again."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Ended(Enum):
    """What became of picking a task up."""

    DONE = "done"
    """The attempt's end is recorded."""
    LOST = "lost"
    """Somebody else has the task, or moved it: nothing of this attempt counts."""
    UNRECORDED = "unrecorded"
    """It ended, or never began, and the journal could not take that before the stop: recovery will see it."""
    FULL = "full"
    """The claim could not be written: the task is queued as before."""


@dataclass(frozen=True, slots=True)
class AttemptContext:
    """What all attempts of a pool share. `delivery_of` gives the record of a task's delivery; `scrubber` what to take out of
    the output of a command with these secrets; `breakers` know whom to leave alone."""

    journal: Journal
    data: Path
    worker: str
    stop: Stop
    environ: Mapping[str, str]
    clock: Callable[[], float]
    random: Callable[[], float]
    grace_s: float
    output_limit: int
    delivery_of: Callable[[Task], Record | None]
    scrubber: Callable[[Sequence[bytes]], Scrubber] = lambda secrets: Scrubber((), secrets)
    breakers: Breakers = field(default_factory=Breakers)
    on_full: Callable[[], bool] = lambda: False
    """Called when the end of an attempt finds no space: whether it made some, so that trying again at once is worth it."""


@dataclass
class Attempt:
    """Runs one picked task. `since` and `attempt` are for whoever shows what is running."""

    task: Task
    context: AttemptContext
    since: float = 0.0
    last: int = 0
    """The seq of the newest record this attempt knows of: what the fold must reach to know as much."""
    claim_seq: int = 0
    """The seq of its claim, once it has one: while the state names another, the task is no longer this attempt's."""
    lost: Stop = field(default_factory=Stop)
    """Set by whoever sees that somebody took the task away (`lose`)."""
    over: bool = False
    """It has ended, and its end is being recorded: that record too makes the state name no claim of this attempt."""
    _asked: bool = False
    """Whether the receiver of a forward was asked."""
    _held: list[tuple[Kind, JsonObject]] = field(default_factory=list)
    """Phases that a full disk refused: they go in with the next record."""

    @property
    def number(self) -> int:
        return self.task.attempts + 1

    def run(self) -> Ended:
        """Claim, prepare, start, wait, collect, record. Raises the journal's errors, except that it is full."""
        context = self.context
        self.since = context.clock()
        try:
            claim = Claim.take(context.journal, self.task, context.worker)
        except NOT_NOW:
            return Ended.FULL
        if claim is None:
            newest = context.journal.last(self.task.subject)
            self.last = newest.seq if newest is not None else 0
            return Ended.LOST
        self.last = self.claim_seq = claim.seq
        try:
            return self._held_run(claim)
        except Stale:
            log.warning(
                "task %s attempt %d lost its claim %d: its outcome is dropped", self.task.id, self.number, claim.seq
            )
            return Ended.LOST
        finally:
            self.last = claim.last

    def lose(self) -> None:
        """Somebody took the task away: end what runs, and let nothing of it count."""
        self.lost.set(self.context.grace_s)

    def close(self) -> None:
        """When it is over, or will never be run."""
        self.lost.close()
        if self.task.policy.forward and not self._asked:
            self.context.breakers.undone(target_of(self.task.policy.forward))

    def _held_run(self, claim: Claim) -> Ended:
        place = AttemptDirectory.of(self.context.data, self.task.id, claim.attempt)
        found = self._delivery()
        outcome = found if isinstance(found, Outcome) else self._prepare(claim, place, found)
        if outcome is None and isinstance(found, Record):
            # Recorded together with the next: the command's start waits for no sync but the claim's.
            self._held.append((Kind.PHASE, claim.note(phase="prepared")))
            run = self._forward if self.task.kind == "forward" else self._execute
            outcome = run(claim, place, found)
        assert outcome is not None
        if self.lost.is_set():
            raise Stale  # known already: nothing is said, so nothing is refused
        return self._finish(claim, place, outcome)

    def _delivery(self) -> Record | Outcome:
        """What the task is about, with its payload; an outcome if that can't be had any more."""
        try:
            record = self.context.delivery_of(self.task)
        except JournalDamaged as error:
            return Outcome(Category.POLICY, detail=f"the delivery can't be read: {error}"[:500])
        if record is None or record.payload is None:
            return Outcome(Category.POLICY, detail="the delivery's payload is no longer kept")
        return record

    def _prepare(self, claim: Claim, place: AttemptDirectory, delivery: Record) -> Outcome | None:
        """Make the attempt's directory; an outcome if it can't be."""
        payload: bytes | None = None
        brief: JsonObject | None = None
        if self.task.kind != "forward":
            payload = delivery.payload
            brief = self._brief(claim, delivery).as_json(place)
        while True:
            try:
                place.prepare(payload, brief)
                return None
            except OSError as error:
                if error.errno not in _NO_SPACE:
                    return not_started(error)
            if self.context.stop.wait(AGAIN_S):
                return Outcome(Category.INTERRUPTED, detail="the daemon was stopped before it began: no space")

    def _brief(self, claim: Claim, delivery: Record) -> Brief:
        task = self.task
        return Brief(
            task=task.id,
            attempt=claim.attempt,
            fence=claim.fence,
            route=task.route,
            hook=task.hook,
            guid=task.guid,
            seq=delivery.seq,
            event=task.event,
            action=task.action,
            repo=task.repo,
            installation=task.installation,
            number=task.number,
            head_sha=task.head_sha,
        )

    def _execute(self, claim: Claim, place: AttemptDirectory, delivery: Record) -> Outcome:
        context, policy = self.context, self.task.policy
        if not policy.run:
            return Outcome(Category.POLICY, detail="the task says no command")
        if context.stop.is_set():
            return Outcome(Category.INTERRUPTED, detail="the daemon was stopped before it began")
        try:
            brief = self._brief(claim, delivery)
            env = brief.environment(context.environ, policy.env, place, str(context.data / SOCKET_NAME))
            command = Command(
                brief.argv(policy.run, place),
                env,
                place,
                context.output_limit,
                limits=policy.limits,
                scrubber=context.scrubber(secrets_of({name: env[name] for name in policy.env if name in env})),
            )
        except (OSError, ValueError) as error:
            return not_started(error)
        try:
            mark = mark_of(command.pid)
            if mark is not None:
                write_mark(place.process, mark)
            self._phase(claim, "started")
            return command.wait(policy.timeout_s, context.grace_s, context.stop, self.lost)
        except OSError as error:  # of this process: no descriptors left, for one
            command.abandon()
            return Outcome(Category.SPAWN, detail=f"it could not be watched, and was ended: {error.strerror}")
        except BaseException:
            command.abandon()
            raise

    def _forward(self, claim: Claim, place: AttemptDirectory, delivery: Record) -> Outcome:
        context, url = self.context, self.task.policy.forward
        if not url:
            return Outcome(Category.POLICY, detail="the task says no address")
        if context.stop.is_set():
            return Outcome(Category.INTERRUPTED, detail="the daemon was stopped before it began")
        original = delivery.data.get("headers")
        more = [("X-Covenq-Task", self.task.id), ("X-Covenq-Attempt", str(claim.attempt))]
        headers = headers_for(original if isinstance(original, list) else [], more)
        self._phase(claim, "started")
        signs = [context.stop, self.lost]
        reply = post(url, headers, delivery.payload or b"", self.task.policy.timeout_s, signs)
        if reply.status is None and any(sign.is_set() for sign in signs):
            return Outcome(Category.INTERRUPTED, detail="the daemon was stopped")
        self._asked = True
        if context.breakers.told(target_of(url), well=not reply.ill):
            log.warning("%s is left alone for a while: it failed again and again", target_of(url))
        if reply.status is not None:
            place.say(context.scrubber(()).scrub(b"HTTP %d\n\n%b" % (reply.status, reply.body)))
        return outcome_of(reply, context.clock())

    def _phase(self, claim: Claim, name: str) -> None:
        """Record a phase; on a full disk it waits for the next record, since the work itself needs no space here."""
        self._held.append((Kind.PHASE, claim.note(phase=name)))
        try:
            self._record(claim, self._held, "phase")
        except NOT_NOW:
            return
        self._held.clear()

    def _record(self, claim: Claim, notes: Sequence[tuple[Kind, JsonObject]], what: str) -> None:
        """Raises Stale, when the late word is recorded, and what append raises."""
        try:
            claim.record(notes)
        except Stale:
            if not self.lost.is_set():
                record_late(self.context.journal, claim, what)
            raise

    def _finish(self, claim: Claim, place: AttemptDirectory, outcome: Outcome) -> Ended:
        """Record the end, in one append with the phase `collected`. While the disk is full it is held, until the stop."""
        context = self.context
        result: str | None = None
        try:
            if place.collect():
                result = str(place.result.relative_to(context.data))
        except OSError as error:
            if outcome.category is None:
                outcome = Outcome(Category.RESULT_INVALID, 0, None, f"its result could not be kept: {error.strerror}")
        if self.task.policy.keep == "logs" or (self.task.policy.keep == "failed" and outcome.category is None):
            place.clean()
        ending = after(
            self.task, claim.attempt, claim.seq, outcome, result=result, now=context.clock(), random=context.random
        )
        end: JsonObject = dict(ending.data)
        if outcome.usage is not None:
            end["usage"] = outcome.usage.as_json()
        if outcome.http_status is not None:
            end["http_status"] = outcome.http_status
        notes = [*self._held, (Kind.PHASE, claim.note(phase="collected")), (ending.kind, end)]
        what = "complete" if ending.kind is Kind.COMPLETED else "fail"
        self.over = True
        while True:
            stopping = context.stop.is_set()
            try:
                self._record(claim, notes, what)
                return Ended.DONE
            except NOT_NOW as error:
                if isinstance(error, JournalFull) and context.on_full():
                    continue  # room was kept for just this
                if stopping:
                    log.error(
                        "task %s attempt %d ended and could not be recorded: %s", self.task.id, self.number, error
                    )
                    return Ended.UNRECORDED
            context.stop.wait(AGAIN_S)
