"""`covenq worker`: claims tasks of pull routes from a daemon, here or elsewhere, and runs a command for each.

A command gets what the daemon's own commands get (covenq.toml(5)). Its lease is renewed while it runs; when the task turns
out to be somebody else's, or the lease ran out without an answer, the command and all that it started are ended, and its
outcome is dropped. A stop gives back what runs; that burns no retry.

The token stays in this process: a command says its phases on a socket of the worker's own, which passes on nothing else.
"""

from __future__ import annotations

import logging
import random
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from covenq.config.resources import OUTPUT_LIMIT
from covenq.errors import CovenqError, DaemonUnreachable, NotDurable, NotFound, Refused, StaleFence
from covenq.model import Category, JsonObject
from covenq.tasks.execution.brief import Brief
from covenq.tasks.execution.command import Command, Stop, not_started
from covenq.tasks.execution.phase_proxy import PhaseProxy
from covenq.tasks.execution.process_tree import mark_of, reap, write_mark
from covenq.tasks.execution.scrub import Scrubber, secrets_of
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.remote.client import ClaimsClient, Granted
from covenq.tasks.remote.work_directory import kill_earlier_leftovers, prune_failed
from covenq.tasks.scheduling.outcome import RESULT_MAX, Outcome
from journal.errors import JournalError

log = logging.getLogger("covenq.worker")

POLL_S = 20.0
"""How long a claim waits at the daemon for a task to come."""
BACKOFF_S = (0.5, 30.0)
LAST_WORDS_S = 10.0
"""How long a stop waits for the daemon to hear what became of the tasks."""
_LOOK_S = 0.2
_PASSING = (DaemonUnreachable, NotDurable, JournalError)
"""What a daemon that is down, stopping, or out of space answers: worth asking again."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is to do, and how."""

    name: str
    run: tuple[str, ...]
    routes: tuple[str, ...] = ()
    lease_s: float = 60.0
    env: tuple[str, ...] = ()
    keep: str = "failed"
    grace_s: float = 5.0
    concurrency: int = 1
    environ: Mapping[str, str] = field(default_factory=dict)


class LeasedTask:
    """One task in hand. `lost` is set when it no longer is."""

    def __init__(self, granted: Granted, lease_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.granted = granted
        self.lost = Stop()
        self._lease_s = lease_s
        self._monotonic = monotonic
        self._ends = monotonic() + lease_s

    def renewed(self, asked_at: float) -> None:
        """A renewal was granted; the lease counts from when it was asked for, which is never too long."""
        self._ends = asked_at + self._lease_s

    @property
    def over(self) -> bool:
        return self._monotonic() >= self._ends


class Worker:
    """`line` makes a connection to the daemon, one a thread. One `run`."""

    def __init__(self, line: Callable[[], ClaimsClient], job: Job, work: Path) -> None:
        """`work` is this worker's alone (see `work_directory`)."""
        self._line = line
        self._job = job
        self._work = work
        self._stop = Stop()
        self._lock = threading.Lock()
        self._held: dict[str, LeasedTask] = {}
        self._error: Exception | None = None
        self._asked = False
        self._socket = work / "phase.sock"

    def stop(self) -> None:
        """End what runs, give it back, and let `run` return soon. Safe in a signal's handler: it takes no lock."""
        self._asked = True

    def run(self) -> None:
        """Until `stop`. Raises what the daemon refuses for good: a wrong token, a route it can't have."""
        kill_earlier_leftovers(self._work)
        with ExitStack() as cleanup:
            proxy = PhaseProxy(self._socket, self._say_phase)
            cleanup.callback(proxy.close)
            renewer = threading.Thread(target=self._renew, name="renewer", daemon=True)
            slots = [
                threading.Thread(target=self._work_on, name=f"slot-{n}", daemon=True)
                for n in range(1, self._job.concurrency + 1)
            ]
            for thread in (renewer, *slots):
                thread.start()
            while not self._stop.is_set():
                time.sleep(_LOOK_S)
                reap()
                if self._asked:
                    self._stop.set(self._job.grace_s)
            deadline = time.monotonic() + self._job.grace_s + LAST_WORDS_S
            for thread in slots:
                # A slot that waits for a task waits in the daemon's answer; it has nothing to give back.
                while thread.is_alive() and self._busy() and time.monotonic() < deadline:
                    thread.join(0.1)
        if self._error is not None:
            raise self._error

    def _busy(self) -> bool:
        with self._lock:
            return bool(self._held)

    # ---- one slot

    def _work_on(self) -> None:
        line = self._line()
        waits = _Backoff()
        while not self._stop.is_set():
            asked = time.monotonic()
            try:
                granted = line.claim(self._job.name, self._job.lease_s, routes=self._job.routes or None, wait_s=POLL_S)
            except _PASSING as error:
                log.warning("%s", error)
                self._stop.wait(waits.next())
                continue
            except CovenqError as error:
                self._error = error
                self._stop.set(self._job.grace_s)
                return
            waits.well()
            if granted is not None:
                self._do(line, LeasedTask(granted, self._job.lease_s))
            elif time.monotonic() - asked < 1.0:
                self._stop.wait(1.0)  # as many wait as may: later

    def _do(self, line: ClaimsClient, held: LeasedTask) -> None:
        granted = held.granted
        with self._lock:
            self._held[granted.id] = held
        place = AttemptDirectory.of(self._work, granted.id, granted.attempt)
        try:
            outcome = self._attempt(line, held, place)
            if held.lost.is_set():
                log.warning("task %s attempt %d was lost: its outcome is dropped", granted.id, granted.attempt)
                return
            self._tell(line, held, place, outcome)
        except StaleFence:
            log.warning("task %s attempt %d is somebody else's by now", granted.id, granted.attempt)
        except Exception:
            # One task's trouble must not stop the others: its lease runs out, and another worker gets it.
            log.exception("attempt %d of task %s broke", granted.attempt, granted.id)
        finally:
            with self._lock:
                del self._held[granted.id]
            held.lost.close()

    def _attempt(self, line: ClaimsClient, held: LeasedTask, place: AttemptDirectory) -> Outcome:
        granted, job = held.granted, self._job
        try:
            payload = self._insist(held, lambda: line.payload(granted))
        except (NotFound, Refused) as error:
            return Outcome(Category.POLICY, detail=f"the payload can't be had: {error}"[:200])
        if payload is None:
            return _given_back()
        brief = _brief(granted)
        try:
            place.prepare(payload, brief.as_json(place))
        except OSError as error:
            return not_started(error)
        self._phase(line, held, "prepared")
        env = brief.environment(job.environ, job.env, place, str(self._socket))
        secrets = secrets_of({name: value for name, value in job.environ.items() if name in (*job.env, "COVENQ_TOKEN")})
        if self._stop.is_set():
            return _given_back()
        try:
            argv = brief.argv(job.run, place)
            command = Command(argv, env, place, OUTPUT_LIMIT, scrubber=Scrubber((), secrets))
        except (OSError, ValueError) as error:
            return not_started(error)
        try:
            mark = mark_of(command.pid)
            if mark is not None:
                write_mark(place.process, mark)
            self._phase(line, held, "started")
            return command.wait(_timeout(granted), job.grace_s, self._stop, held.lost)
        except BaseException:
            command.abandon()
            raise

    def _tell(self, line: ClaimsClient, held: LeasedTask, place: AttemptDirectory, outcome: Outcome) -> None:
        """Say how it ended, until the daemon has heard it."""
        result: Any = None
        if outcome.category is None:
            try:
                result = _result(place)
            except ValueError as error:
                outcome = Outcome(Category.RESULT_INVALID, 0, None, str(error), usage=outcome.usage)
        self._phase(line, held, "collected")
        said: JsonObject = {"exit_code": outcome.exit_code}
        if outcome.usage is not None:
            said["usage"] = outcome.usage.as_json()
        if outcome.category is None:
            done = self._insist(held, lambda: line.say(held.granted, "complete", result=result, **said))
        else:
            said |= {"category": outcome.category.value, "detail": outcome.detail, "signal": outcome.signal}
            if outcome.category is Category.INTERRUPTED:
                said["detail"] = "the worker was stopped"
            done = self._insist(held, lambda: line.say(held.granted, "fail", **said))
        if done is None:
            log.error(
                "task %s attempt %d ended, and the daemon could not be told", held.granted.id, held.granted.attempt
            )
        keep = self._job.keep == "all" or (self._job.keep == "failed" and outcome.category is not None)
        if not keep:
            shutil.rmtree(place.directory.parent, ignore_errors=True)
        prune_failed(self._work)

    def _insist(self, held: LeasedTask, ask: Callable[[], Any]) -> Any:
        """Ask until there is an answer; None when the lease ran out before, or some time after the stop."""
        waits = _Backoff()
        last: float | None = None
        while True:
            try:
                return ask()
            except _PASSING as error:
                log.warning("%s", error)
            if self._stop.is_set():
                last = last or time.monotonic() + LAST_WORDS_S
                if time.monotonic() > last:
                    return None
                time.sleep(0.2)
            else:
                self._stop.wait(min(waits.next(), 5.0))
            if held.over:
                return None

    def _phase(self, line: ClaimsClient, held: LeasedTask, name: str) -> None:
        """Phases are for people: one that the daemon can't take now is left out. Raises StaleFence."""
        try:
            line.say(held.granted, "phase", phase=name)
        except _PASSING as error:
            log.warning("%s", error)

    def _say_phase(self, task: str, fence: str, name: str) -> JsonObject:
        """What a command says on the worker's own socket. Raises StaleFence, and as Client does."""
        with self._lock:
            held = self._held.get(task)
        if held is None or held.granted.fence != fence:
            raise StaleFence(f"task {task[:80]} is not held here by this token")
        line = self._line()
        try:
            return line.say(held.granted, "phase", phase=name)
        finally:
            line.close()

    # ---- the renewals' thread

    def _renew(self) -> None:
        line = self._line()
        every = self._job.lease_s / 3
        due: dict[str, float] = {}
        while True:
            with self._lock:
                held = dict(self._held)
            now = time.monotonic()
            due = {id: due.get(id, now + every) for id in held}
            for id, one in held.items():
                if one.over and not one.lost.is_set():
                    log.warning("task %s: its lease ran out without an answer", id)
                    one.lost.set(self._job.grace_s)
                if now >= due[id] and not one.lost.is_set():
                    due[id] = now + (every if self._renew_one(line, one) else min(every, 2.0))
            time.sleep(min(every, 0.25))

    def _renew_one(self, line: ClaimsClient, held: LeasedTask) -> bool:
        asked = time.monotonic()
        try:
            line.say(held.granted, "renew", lease_s=self._job.lease_s)
            held.renewed(asked)
        except _PASSING as error:
            log.warning("%s", error)
            return False
        except CovenqError as error:
            log.warning("task %s is ended: %s", held.granted.id, error)
            held.lost.set(self._job.grace_s)
        return True


class _Backoff:
    def __init__(self) -> None:
        self._next = BACKOFF_S[0]

    def next(self) -> float:
        wait = self._next * (0.5 + random.random() / 2)  # noqa: S311 - not for secrets
        self._next = min(self._next * 2, BACKOFF_S[1])
        return wait

    def well(self) -> None:
        self._next = BACKOFF_S[0]


def _brief(granted: Granted) -> Brief:
    task = granted.task
    return Brief(
        task=granted.id,
        attempt=granted.attempt,
        fence=granted.fence,
        route=task.get("route"),
        hook=task.get("hook"),
        guid=task.get("guid"),
        seq=task.get("delivery_seq"),
        event=task.get("event"),
        action=task.get("action"),
        repo=task.get("repo"),
        installation=task.get("installation"),
        number=task.get("number"),
        head_sha=task.get("head_sha"),
    )


def _timeout(granted: Granted) -> float:
    policy = granted.task.get("policy")
    found = policy.get("timeout_s") if isinstance(policy, dict) else None
    return float(found) if isinstance(found, int | float) and found > 0 else 600.0


def _result(place: AttemptDirectory) -> Any:
    """The command's result as JSON: what it wrote if that is JSON, else its text. Raises ValueError."""
    if not place.collect():
        return None
    content = place.result.read_bytes()
    if len(content) > RESULT_MAX:
        raise ValueError(f"its result has {len(content)} bytes, more than {RESULT_MAX}")
    try:
        return orjson.loads(content)
    except ValueError:
        pass
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("its result is neither JSON nor text") from None


def _given_back() -> Outcome:
    return Outcome(Category.INTERRUPTED, detail="the worker was stopped before it began")


def check(run: Sequence[str]) -> tuple[str, ...]:
    """A command's words, as a route's `run` has them. Raises Refused."""
    if not run or not run[0] or any("\0" in word for word in run):
        raise Refused("there is no command to run", hint="covenq worker [options] -- program argument…")
    return tuple(run)
