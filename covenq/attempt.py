"""One attempt at one task, from its claim to the record that ends it.

Every step is a record of its claim (`covenq.fencing`), so whoever moved the task meanwhile wins, and this attempt learns
that it is stale.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import orjson

from covenq.executor import Command, Stop, command_line, environment, not_started
from covenq.fencing import AGAIN_S, Claim, Stale
from covenq.leftovers import mark_of, write_mark
from covenq.model import Category, JsonObject, Kind
from covenq.place import Place
from covenq.scheduler import Outcome, Task, after
from journal.errors import JournalDamaged, JournalFull, JournalWriteFailed
from journal.model import Journal

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
class Surroundings:
    """What all attempts of a pool share. `payload_of` gives a task's delivery: its seq and its bytes, if still kept."""

    journal: Journal
    data: Path
    worker: str
    stop: Stop
    environ: Mapping[str, str]
    clock: Callable[[], float]
    random: Callable[[], float]
    grace_s: float
    output_limit: int
    payload_of: Callable[[Task], tuple[int | None, bytes | None]]
    on_full: Callable[[], bool] = lambda: False
    """Called when the end of an attempt finds no space: whether it made some, so that trying again at once is worth it."""


@dataclass
class Attempt:
    """Runs one picked task. `since` and `attempt` are for whoever shows what is running."""

    task: Task
    around: Surroundings
    since: float = 0.0
    last: int = 0
    """The seq of the newest record this attempt knows of: what the fold must reach to know as much."""
    _held: list[tuple[Kind, JsonObject]] = field(default_factory=list)
    """Phases that a full disk refused: they go in with the next record."""

    @property
    def number(self) -> int:
        return self.task.attempts + 1

    def run(self) -> Ended:
        """Claim, prepare, start, wait, collect, record. Raises the journal's errors, except that it is full."""
        around = self.around
        self.since = around.clock()
        try:
            claim = Claim.take(around.journal, self.task, around.worker)
        except NOT_NOW:
            return Ended.FULL
        if claim is None:
            newest = around.journal.last(self.task.subject)
            self.last = newest.seq if newest is not None else 0
            return Ended.LOST
        self.last = claim.last
        try:
            return self._held_run(claim)
        except Stale:
            log.warning(
                "task %s attempt %d lost its claim %d: its outcome is dropped", self.task.id, self.number, claim.seq
            )
            return Ended.LOST
        finally:
            self.last = claim.last

    def _held_run(self, claim: Claim) -> Ended:
        place = Place.of(self.around.data, self.task.id, claim.attempt)
        outcome = self._prepare(claim, place)
        if outcome is None:
            self._phase(claim, "prepared")
            outcome = self._execute(claim, place)
        return self._finish(claim, place, outcome)

    def _prepare(self, claim: Claim, place: Place) -> Outcome | None:
        """Make the attempt's directory; an outcome if it can't be."""
        try:
            seq, payload = self.around.payload_of(self.task)
        except JournalDamaged as error:
            return Outcome(Category.POLICY, detail=f"the delivery can't be read: {error}"[:500])
        if payload is None:
            return Outcome(Category.POLICY, detail="the delivery's payload is no longer kept")
        brief = orjson.dumps(self._brief(claim, place, seq), option=orjson.OPT_INDENT_2)
        while True:
            try:
                place.prepare(payload, brief)
                return None
            except OSError as error:
                if error.errno not in _NO_SPACE:
                    return not_started(error)
            if self.around.stop.wait(AGAIN_S):
                return Outcome(Category.INTERRUPTED, detail="the daemon was stopped before it began: no space")

    def _brief(self, claim: Claim, place: Place, seq: int | None) -> JsonObject:
        task = self.task
        return {
            "task": task.id,
            "attempt": claim.attempt,
            "fence": claim.fence,
            "route": task.route,
            "hook": task.hook,
            "guid": task.guid,
            "seq": seq,
            "event": task.event,
            "action": task.action,
            "repo": task.repo,
            "installation": task.installation,
            "number": task.number,
            "head_sha": task.head_sha,
            "payload": str(place.payload),
            "result": str(place.result),
        }

    def _execute(self, claim: Claim, place: Place) -> Outcome:
        around, task, policy = self.around, self.task, self.task.policy
        values = {
            "brief": str(place.brief),
            "result": str(place.result),
            "payload": str(place.payload),
            "task": task.id,
            "attempt": str(claim.attempt),
        }
        own: dict[str, str | int | None] = {
            "TASK": task.id,
            "ATTEMPT": claim.attempt,
            "FENCE": claim.fence,
            "HOOK": task.hook,
            "GUID": task.guid,
            "EVENT": task.event,
            "ACTION": task.action,
            "REPO": task.repo,
            "PAYLOAD": str(place.payload),
            "RESULT": str(place.result),
            "SOCKET": str(around.data / "covenq.sock"),
        }
        if not policy.run:
            return Outcome(Category.POLICY, detail="the task says no command")
        if around.stop.is_set():
            return Outcome(Category.INTERRUPTED, detail="the daemon was stopped before it began")
        try:
            argv = command_line(policy.run, values)
            command = Command(argv, environment(around.environ, policy.env, own), place, around.output_limit)
        except (OSError, ValueError) as error:
            return not_started(error)
        try:
            mark = mark_of(command.pid)
            if mark is not None:
                write_mark(place.process, mark)
            self._phase(claim, "started")
            return command.wait(policy.timeout_s, around.grace_s, around.stop)
        except OSError as error:  # of this process: no descriptors left, for one
            command.abandon()
            return Outcome(Category.SPAWN, detail=f"it could not be watched, and was ended: {error.strerror}")
        except BaseException:
            command.abandon()
            raise

    def _phase(self, claim: Claim, name: str) -> None:
        """Record a phase; on a full disk it waits for the next record, since the work itself needs no space here."""
        self._held.append((Kind.PHASE, {"attempt": claim.attempt, "claim": claim.seq, "phase": name}))
        try:
            claim.record(self._held)
        except NOT_NOW:
            return
        self._held.clear()

    def _finish(self, claim: Claim, place: Place, outcome: Outcome) -> Ended:
        """Record the end, in one append with the phase `collected`. While the disk is full it is held, until the stop."""
        around = self.around
        result: str | None = None
        try:
            if place.collect():
                result = str(place.result.relative_to(around.data))
        except OSError as error:
            if outcome.category is None:
                outcome = Outcome(Category.RESULT_INVALID, 0, None, f"its result could not be kept: {error.strerror}")
        ending = after(
            self.task, claim.attempt, claim.seq, outcome, result=result, now=around.clock(), random=around.random
        )
        collected: JsonObject = {"attempt": claim.attempt, "claim": claim.seq, "phase": "collected"}
        notes = [*self._held, (Kind.PHASE, collected), (ending.kind, ending.data)]
        while True:
            stopping = around.stop.is_set()
            try:
                claim.record(notes)
                return Ended.DONE
            except NOT_NOW as error:
                if isinstance(error, JournalFull) and around.on_full():
                    continue  # room was kept for just this
                if stopping:
                    log.error(
                        "task %s attempt %d ended and could not be recorded: %s", self.task.id, self.number, error
                    )
                    return Ended.UNRECORDED
            around.stop.wait(AGAIN_S)
