"""`covenq worker`: claims tasks of pull routes from a daemon, here or elsewhere, and runs a command for each.

A command gets what the daemon's own commands get (covenq.toml(5)). Its lease is renewed while it runs; when the claim turns out
to be stale, or before the lease runs out without an answer, the command and all that it started are killed, and its outcome is
dropped. A process beside the command sees to that too, whatever has become of the worker (`covenq.tasks.execution.lease_guard`).
A stop gives back the tasks that run, which uses up no retry.

Where several nodes share a journal, a claim goes on at whichever leads: its token is known to all of them (`nodes`).

The token stays in this process: a command reports its phases on a socket of the worker's own, which passes on nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from covenq.config.resources import OUTPUT_LIMIT
from covenq.errors import (
    CovenqError,
    DaemonUnreachable,
    NotDurable,
    NotFound,
    Refused,
    StaleFence,
    StateBehind,
    StateUnreadable,
)
from covenq.model import Category, JsonObject
from covenq.tasks.execution import running
from covenq.tasks.execution.brief import Content
from covenq.tasks.execution.command import Command, StopEvent, not_started, not_watched
from covenq.tasks.execution.lease_guard import now as boottime
from covenq.tasks.execution.phase_proxy import PhaseProxy
from covenq.tasks.execution.process_tree import reap
from covenq.tasks.execution.scrub import secrets_of
from covenq.tasks.execution.session_brief import contract_environment
from covenq.tasks.execution.shortage import is_shortage
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.remote.backoff import Backoff
from covenq.tasks.remote.client import ClaimGrant, ClaimsClient
from covenq.tasks.remote.granted import brief_of, content_of_brief, contract_of, timeout_of
from covenq.tasks.remote.leased_task import LeasedTask, claim_wait
from covenq.tasks.remote.missing_routes import MissingRoutes
from covenq.tasks.remote.options import WorkerOptions
from covenq.tasks.remote.output_end import read_outputs
from covenq.tasks.remote.program import interrupted, missing, not_started_here, words_of
from covenq.tasks.remote.result import read_result, with_result
from covenq.tasks.remote.work_directory import kill_earlier_leftovers, remove_if_not_kept
from covenq.tasks.remote.work_token import WorkerTokens
from covenq.tasks.scheduling.outcome import Outcome
from journal.errors import JournalError

T = TypeVar("T")

log = logging.getLogger("covenq.worker")

REPORT_AFTER_STOP_S = 10.0
"""How long a stop tries to report the outcomes of tasks to the daemon."""
_TICK_S = 0.2
_TRANSIENT = (DaemonUnreachable, NotDurable, StateBehind, StateUnreadable, JournalError)
"""Errors of a daemon that is down, stopping, out of space, or can't read its state until its restart: to be retried."""


class Worker:
    """A pull worker. `connect` makes a client of the daemon, one for each thread. One `run`."""

    def __init__(self, connect: Callable[[], ClaimsClient], options: WorkerOptions, work: Path) -> None:
        """`work` is this worker's alone (see `locked_work_directory`)."""
        self._connect = connect
        self._options = options
        self._work = work
        self._stop = StopEvent()
        self._lock = threading.Lock()
        self._leased: dict[str, LeasedTask] = {}
        self._error: Exception | None = None
        self._stop_requested = False
        self._grace_s = options.grace_s
        self._finishing = threading.Event()
        self._ended = threading.Event()
        self._missing = MissingRoutes()
        self.unreported: set[str] = set()
        """Tasks whose end the daemon was not told at the stop: it gave no answer, and their leases run out."""
        self._socket = work / "phase.sock"
        self._tokens = WorkerTokens(work)

    def stop(self, grace_s: float | None = None) -> None:
        """End what runs, give it back, and let `run` return soon. Safe in a signal handler: it takes no lock."""
        self._grace_s = self._options.grace_s if grace_s is None else grace_s
        self._stop_requested = True

    def finish(self) -> None:
        """Claim nothing more, and let `run` return when what runs has ended."""
        self._finishing.set()

    def held(self) -> list[LeasedTask]:
        """The tasks that it has in hand."""
        with self._lock:
            return list(self._leased.values())

    def run(self) -> None:
        """Run until `stop`, or `finish`.

        Raises what the daemon refuses for good: a wrong token, a route that this worker may not have.
        """
        kill_earlier_leftovers(self._work)
        with ExitStack() as cleanup:
            proxy = PhaseProxy(self._socket, self._relay_phase)
            cleanup.callback(proxy.close)
            cleanup.enter_context(self._tokens.renewing(self._connect))
            renewer = threading.Thread(target=self._renew_leases, name="renewer", daemon=True)
            slots = [
                threading.Thread(target=self._run_slot, name=f"slot-{n}", daemon=True)
                for n in range(1, self._options.concurrency + 1)
            ]
            for thread in (renewer, *slots):
                thread.start()
            while not self._stop.is_set() and any(thread.is_alive() for thread in slots):
                time.sleep(_TICK_S)
                reap()
                if self._stop_requested:
                    self._stop.set(self._grace_s)
            deadline = time.monotonic() + self._options.grace_s + REPORT_AFTER_STOP_S
            for thread in slots:
                # A slot without a task waits for the daemon's answer; it has nothing to give back.
                while thread.is_alive() and self._busy() and time.monotonic() < deadline:
                    thread.join(0.1)
            with self._lock:
                self.unreported.update(self._leased)
            self._ended.set()
            if not any(thread.is_alive() for thread in slots):
                self._stop.close()
        if self._error is not None:
            raise self._error

    def _busy(self) -> bool:
        with self._lock:
            return bool(self._leased)

    # ---- one slot

    def _run_slot(self) -> None:
        client = self._connect()
        try:
            self._claim_and_run(client)
        finally:
            client.close()

    def _claim_and_run(self, client: ClaimsClient) -> None:
        waits, short, longest = Backoff(), Backoff(), claim_wait(self._options.lease_s)
        wait_s = 0.0  # the first answer comes at once, and says what will never come
        while not self._stop.is_set() and not self._finishing.is_set():
            if self._options.run and (found := missing(self._options.run[0])) is not None:
                log.error("no task is claimed: %s", found.words)
                self._stop.wait(short.next())
                continue
            asked = boottime()
            try:
                grant = client.claim(
                    self._options.name, self._options.lease_s, routes=self._options.routes or None, wait_s=wait_s
                )
            except _TRANSIENT as error:
                log.warning("%s", error)
                self._stop.wait(waits.next())
                continue
            except CovenqError as error:
                self._error = error
                self._stop.set(self._options.grace_s)
                return
            except Exception:
                # No error may end a slot: the worker would live on, and do less.
                log.exception("no task could be claimed; it is tried again")
                self._stop.wait(waits.next())
                continue
            waits.reset()
            first, wait_s = not wait_s, longest
            if grant is None:
                self._missing.note(client.not_pulled)
            if grant is not None:
                if self._run_task(client, grant, asked):
                    short.reset()
                else:
                    self._stop.wait(short.next())
            elif not first and boottime() - asked < min(1.0, longest / 2):
                self._stop.wait(1.0)  # the daemon has as many waiting claims as it allows: later

    def _run_task(self, client: ClaimsClient, grant: ClaimGrant, asked_at: float) -> bool:
        """Run a task that was asked for at `asked_at`, and report its end.

        False if it was given back, for this machine is short of something.
        """
        try:
            leased = LeasedTask(grant, self._options.lease_s, self._options.grace_s, asked_at)
        except OSError as error:  # no descriptors for its stop
            log.warning("task %s attempt %d: %s", grant.id, grant.attempt, error.strerror)
            with contextlib.suppress(CovenqError, JournalError):  # else its lease runs out
                client.report(grant, "fail", category=Category.INTERRUPTED.value, detail=not_started(error).detail)
            return False
        with self._lock:
            self._leased[grant.id] = leased
        directory: AttemptDirectory | None = None
        try:
            directory = AttemptDirectory.for_attempt(self._options.attempts or self._work, grant.id, grant.attempt)
            outcome = self._attempt(client, leased, directory)
            if not leased.lease.check():
                log.warning("task %s attempt %d was lost: its outcome is dropped", grant.id, grant.attempt)
                return True
            self._report_outcome(client, leased, directory, outcome)
            return outcome.category is not Category.INTERRUPTED
        except StaleFence:
            log.warning("task %s attempt %d is somebody else's by now", grant.id, grant.attempt)
        except Exception as error:
            # An error in one task must not stop the others. Nothing of it runs any more.
            log.exception("attempt %d of task %s broke", grant.attempt, grant.id)
            self._report_broken(client, leased, error)
        finally:
            if directory is not None:  # else its id is none that a path may be made from
                running.remove(self._work, grant.id, grant.attempt)
            self._tokens.remove(grant)
            with self._lock:
                del self._leased[grant.id]
            leased.lost.close()
        return True

    def _report_broken(self, client: ClaimsClient, leased: LeasedTask, error: Exception) -> None:
        """Report that covenq itself failed, until the daemon has answered. Where it can't be told, the lease runs out."""
        if leased.reported or not leased.lease.check():
            return
        grant = leased.grant
        detail = f"covenq worker itself failed ({type(error).__name__[:80]}); its log has the traceback"
        said: dict[str, object] = {"category": Category.INTERNAL.value, "detail": detail}
        try:
            if self._ask_while_leased(leased, lambda: client.report(grant, "fail", **said)) is not None:
                return
        except StaleFence:
            log.warning("task %s attempt %d is somebody else's by now", grant.id, grant.attempt)
            return
        except Exception as second:  # noqa: BLE001 - whatever it is, the lease ends it
            log.error("the end of attempt %d of task %s is refused: %s", grant.attempt, grant.id, second)
        log.error("task %s attempt %d broke, and the daemon could not be told", grant.id, grant.attempt)

    def _attempt(self, client: ClaimsClient, leased: LeasedTask, directory: AttemptDirectory) -> Outcome:
        grant, options = leased.grant, self._options
        wanted = options.command_of(grant)
        if wanted is None:  # the configuration was changed meanwhile
            return Outcome(Category.INTERRUPTED, detail="there is no command for its route here")
        try:
            found = self._payload(client, leased)
        except (NotFound, Refused) as error:
            return Outcome(Category.POLICY, detail=f"the payload can't be had: {error}"[:200])
        if found is None:
            return interrupted()
        body, content_type = found
        content = Content.of(body, content_type)
        brief = brief_of(grant, content_type, content.payload, self._tokens.path_for(grant))
        try:
            directory.prepare(content.payload, content_of_brief(grant, brief, content.payload, directory), content.body)
            running.note(self._work, grant.id, grant.attempt, grant.fence)
        except OSError as error:
            return not_started_here(error)
        self._phase(client, leased, "prepared")
        env = brief.environment(options.environ, wanted.env, directory, str(self._socket))
        secrets = secrets_of(
            {name: value for name, value in options.environ.items() if name in (*wanted.env, "COVENQ_TOKEN")}
        )
        scrubber = options.scrubber(secrets)
        got = self._ask_while_leased(leased, lambda: self._tokens.get(client, grant, scrubber.learn))
        if got is None or self._stop.is_set():
            return interrupted()
        if got.outcome is not None:
            return got.outcome
        try:
            command = Command(
                brief.argv(wanted.run, directory),
                env | contract_environment(contract_of(grant), brief),
                directory,
                OUTPUT_LIMIT,
                limits=wanted.limits,
                scrubber=scrubber,
                lease=leased.lease,
            )
        except (OSError, ValueError) as error:
            return not_started_here(error, wanted.run[0])
        try:
            with contextlib.suppress(OSError):  # its token is noted
                running.note(self._work, grant.id, grant.attempt, grant.fence, command.pid)
            self._phase(client, leased, "started")
            outcome = command.wait(timeout_of(grant), options.grace_s, self._stop, leased.lost)
            stopped = outcome.category is Category.INTERRUPTED
            return replace(outcome, detail="the worker was stopped") if stopped else outcome
        except OSError as error:  # an error of this process: no descriptors left, for one
            command.kill()
            return not_watched(error)
        except BaseException:
            command.kill()
            raise

    def _payload(self, client: ClaimsClient, leased: LeasedTask) -> tuple[bytes, str | None] | None:
        """The payload, and its content type; None as `_ask_while_leased`. Raises what a daemon refuses for good.

        A node that stands by may not have heard of the claim yet, and then neither of its delivery, or that this worker may have
        it. The one that renews the lease has.
        """
        try:
            return self._ask_while_leased(leased, lambda: client.payload(leased.grant))
        except StaleFence:
            raise
        except CovenqError:
            if self._ask_while_leased(leased, lambda: self._renew(client, leased)) is None:
                return None
        return self._ask_while_leased(leased, lambda: client.payload(leased.grant))

    def _report_outcome(
        self, client: ClaimsClient, leased: LeasedTask, directory: AttemptDirectory, outcome: Outcome
    ) -> None:
        """Report how it ended, until the daemon has answered."""
        outcome, result = with_result(outcome, contract_of(leased.grant), lambda: self._result(leased, directory))
        if outcome.category is not None:
            log.warning("task %s attempt %d: %s", leased.grant.id, leased.grant.attempt, words_of(outcome))
        self._phase(client, leased, "collected")
        said: dict[str, object] = {"exit_code": outcome.exit_code}
        if outcome.usage is not None:
            said["usage"] = outcome.usage.as_json()
        if outcome.category is None or outcome.reported is not None:
            action, more = "complete", {"result": result}
        else:
            action = "fail"
            more = {"category": outcome.category.value, "detail": outcome.detail, "signal": outcome.signal}
            more |= {"retry": False} if outcome.final else {}
        said |= more
        outputs = read_outputs(directory) if self._options.attempts is None else {}
        done = self._ask_while_leased(leased, lambda: client.report_end(leased.grant, action, said, outputs))
        leased.reported = done is not None
        if done is None:
            log.error(
                "task %s attempt %d ended, and the daemon could not be told", leased.grant.id, leased.grant.attempt
            )
        if self._options.attempts is None:
            remove_if_not_kept(self._work, directory, self._options.keep, failed=outcome.category is not None)
        elif self._options.keeps_logs_alone(leased.grant, failed=outcome.category is not None):
            directory.remove_scratch()

    def _result(self, leased: LeasedTask, directory: AttemptDirectory) -> object:
        """`read_result`, which waits for what this machine is short of, while the lease lasts. Raises ValueError, OSError."""
        while True:
            try:
                return read_result(directory)
            except OSError as error:
                if not is_shortage(error) or leased.expired or self._stop.wait(1.0):
                    raise

    def _ask_while_leased(self, leased: LeasedTask, ask: Callable[[], T]) -> T | None:
        """Retry until there is an answer; None if the lease runs out before, or some time after the stop."""
        waits = Backoff()
        last: float | None = None
        while True:
            try:
                return ask()
            except _TRANSIENT as error:
                log.warning("%s", error)
            if self._stop.is_set():
                last = last or time.monotonic() + REPORT_AFTER_STOP_S
                if time.monotonic() > last:
                    self.unreported.add(leased.grant.id)
                    return None
                time.sleep(0.2)
            else:
                self._stop.wait(min(waits.next(), 5.0))
            if leased.expired:
                return None

    def _phase(self, client: ClaimsClient, leased: LeasedTask, name: str) -> None:
        """Report a phase. Phases are for people: one that the daemon can't record now is left out. Raises StaleFence."""
        try:
            client.report(leased.grant, "phase", phase=name)
        except _TRANSIENT as error:
            log.warning("%s", error)

    def _relay_phase(self, task: str, fence: str, name: str, pr: int | None) -> JsonObject:
        """Pass on the phase that a command reports on the worker's socket. Raises StaleFence, and as Client does."""
        with self._lock:
            leased = self._leased.get(task)
        if leased is None or leased.grant.fence != fence:
            raise StaleFence(f"task {task[:80]} is not held here by this token")
        client = self._connect()
        try:
            return client.report(leased.grant, "phase", phase=name, **({} if pr is None else {"pr": pr}))
        finally:
            client.close()

    # ---- the thread that renews leases

    def _renew_leases(self) -> None:
        client = self._connect()
        pause = min(self._options.lease_s / 3, 2.0)
        again: dict[str, float] = {}
        while not self._ended.wait(min(pause, 0.25)):
            with self._lock:
                leased = dict(self._leased)
            again = {id: at for id, at in again.items() if id in leased}
            for id, one in leased.items():
                if one.lease.over:
                    continue
                if not one.lease.check():
                    log.warning("task %s: its lease runs out without an answer", id)
                elif boottime() >= max(one.renewal_due_at, again.get(id, 0.0)) and not self._renew_one(client, one):
                    again[id] = boottime() + pause
        client.close()

    def _renew(self, client: ClaimsClient, leased: LeasedTask) -> JsonObject:
        asked = boottime()
        answer = client.report(leased.grant, "renew", lease_s=self._options.lease_s)
        leased.extend(asked)
        return answer

    def _renew_one(self, client: ClaimsClient, leased: LeasedTask) -> bool:
        """Whether it needn't be tried again soon."""
        try:
            self._renew(client, leased)
        except _TRANSIENT as error:
            log.warning("%s", error)
            return False
        except CovenqError as error:
            log.warning("task %s is ended: %s", leased.grant.id, error)
            leased.lease.lose(self._options.grace_s)
        except Exception:
            # No error may end the renewals of the others.
            log.exception("task %s could not be renewed", leased.grant.id)
            return False
        return True
