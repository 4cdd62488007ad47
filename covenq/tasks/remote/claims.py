"""Claims by workers elsewhere: taken for a time, kept by renewals, ended by their word, or by their silence.

A claim is the same append as the pool's, with `lease_until` in it. Its token (`covenq.tasks.scheduling.claim`) is all
that a worker has to show afterwards; whoever's it no longer is gets StaleFence, and the word is recorded as late. When
a lease runs out is `covenq.tasks.scheduling.leases`' to know.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from covenq.errors import NotDurable, NotFound, Refused, StaleFence, UsageError
from covenq.model import TOKEN, Category, JsonObject, Kind, State, at_text, task_subject
from covenq.state import query
from covenq.state.follow import Folder
from covenq.state.store import StateStore
from covenq.tasks.execution.scrub import scrub_text
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.scheduling.claim import AGAIN_S, Claim, Stale, record_late
from covenq.tasks.scheduling.dispatcher import Dispatcher
from covenq.tasks.scheduling.fairness import PULL
from covenq.tasks.scheduling.interruption import lapse
from covenq.tasks.scheduling.leases import LEASE_MAX_S, Leases
from covenq.tasks.scheduling.outcome import Outcome, Task, Usage, after
from journal.errors import JournalError, JournalFull, JournalWriteFailed
from journal.interface import Journal
from journal.records import Appended, Conflict, Entry, Record, Unknown

log = logging.getLogger("covenq.claims")

WAIT_MAX_S = 60.0
WAITERS = 32
"""Claims that may wait at a time: each holds a thread of the API's. One more is answered at once."""
AT_ONCE = 64
"""Tasks that one request may claim or complete."""
PHASE_MAX = 100
"""Characters of a phase's name. It is recorded for ever."""
DETAIL_MAX = 300
RESULT_MAX = 1 << 20
"""Bytes of a result as JSON."""

_TICK_S = 0.5
_TRIES = 8
_ROUTES_MAX = 100
_WORKER = re.compile(r"[0-9A-Za-z._@:/-]{1,64}\Z")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")
_PUSHED = frozenset(Category) - {Category.LEASE_LOST}
"""What a worker may give as the category of a failure."""


@dataclass(frozen=True, slots=True)
class Done:
    """A claim that came to its end well, without a result to keep."""

    task: str
    fence: str
    exit_code: int | None = None
    usage: Usage | None = None


@dataclass(slots=True, eq=False)
class _Waiter:
    """One long poll. `task` is what it was given; `ready` says that it was, or that it is to look for itself."""

    routes: frozenset[str] | None
    ready: threading.Event = field(default_factory=threading.Event)
    task: Task | None = None


class Claims:
    """What workers elsewhere say and get. Methods may be called from any thread; `start` begins the leases' own."""

    def __init__(
        self,
        journal: Journal,
        store: StateStore,
        folder: Folder,
        data: Path,
        *,
        dispatcher: Dispatcher | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
        room: Callable[[], bool] = lambda: True,
        on_full: Callable[[], bool] = lambda: False,
    ) -> None:
        """`dispatcher` is shared with the pool. Nothing is handed out while `room` says that the disk is low."""
        self._journal = journal
        self._store = store
        self._folder = folder
        self._data = data.absolute()
        self._clock = clock
        self._monotonic = monotonic
        self._random = random
        self._room = room
        self._on_full = on_full
        self._dispatcher = dispatcher or Dispatcher(journal, lambda: folder.folded)
        self._waiters: list[_Waiter] = []
        self._waiting = threading.Lock()
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._leases = Leases(clock, monotonic)
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        self._folder.subscribe(lambda seq: self._news.set() if self._waiters else None)
        self._thread.start()

    def stop(self) -> None:
        """Let no claim wait any longer, and end no more leases. Leases stay what they are."""
        self._stopping.set()
        self._news.set()
        with self._waiting:
            for waiter in self._waiters:
                waiter.ready.set()
        if self._thread.ident is not None:
            self._thread.join(5.0)

    # ---- claiming

    def claim(
        self,
        worker: str,
        lease_s: float,
        *,
        routes: Collection[str] | None = None,
        wait_s: float = 0.0,
        gone: Callable[[], bool] = lambda: False,
    ) -> JsonObject | None:
        """One of `claim_all`, or None: there is nothing, or not within `wait_s`."""
        found = self.claim_all(worker, lease_s, 1, routes=routes, wait_s=wait_s, gone=gone)
        return found[0] if found else None

    def claim_all(
        self,
        worker: str,
        lease_s: float,
        limit: int,
        *,
        routes: Collection[str] | None = None,
        wait_s: float = 0.0,
        gone: Callable[[], bool] = lambda: False,
    ) -> list[JsonObject]:
        """Up to `limit` of {"task", "attempt", "fence", "lease_until", "payload_url"}, in one append; what there is at once,
        or the one that comes within `wait_s`.

        `gone` says that whoever asked is no longer there. Raises UsageError, and the journal's errors.
        """
        wanted = _checked(worker, lease_s, limit, routes, wait_s)
        deadline = self._monotonic() + min(wait_s, WAIT_MAX_S)
        found = self._now(worker, lease_s, limit, wanted)
        while not found and (left := deadline - self._monotonic()) > 0 and not self._stopping.is_set():
            waiter = _Waiter(wanted)
            with self._waiting:
                if len(self._waiters) >= WAITERS:
                    return []
                self._waiters.append(waiter)
            self._news.set()
            while not waiter.ready.wait(min(left, 0.5)):
                left = deadline - self._monotonic()
                if left <= 0 or gone():
                    break
            with self._waiting:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
            if waiter.task is not None and gone():
                self._dispatcher.release(waiter.task, 0)
                return []
            if waiter.task is not None:
                found = self._take([waiter.task], worker, lease_s)
            elif not waiter.ready.is_set():
                return []
        return found

    def _now(self, worker: str, lease_s: float, limit: int, routes: frozenset[str] | None) -> list[JsonObject]:
        """What can be had at once. A task that was acknowledged before this was called is seen."""
        head = self._journal.head().seq
        behind = self._folder.folded < head
        for _ in range(_TRIES):
            picked = self._pick(limit, routes)
            if picked:
                found = self._take(picked, worker, lease_s)
                if found:
                    return found
            elif behind and self._folder.wait_for(head, 10.0):
                behind = False
            else:
                return []
        return []

    def _pick(self, limit: int, routes: frozenset[str] | None) -> list[Task]:
        if not self._room() or self._stopping.is_set():
            return []
        return self._dispatcher.pick(self._store.reader(), self._clock(), limit, kinds=PULL, routes=routes)

    def _take(self, tasks: Sequence[Task], worker: str, lease_s: float) -> list[JsonObject]:
        """Claim what was picked; the answers for those that nobody else has moved meanwhile."""
        last = {task.id: 0 for task in tasks}
        try:
            until = at_text(self._clock() + lease_s)
            claims = Claim.take_all(self._journal, tasks, worker, until)
            for claim in claims:
                last[claim.task] = claim.seq
                self._leases.grant(claim.task, until, lease_s)
        finally:
            for task in tasks:
                # Some may have been claimed before an error came: in hand until the state knows it, or caps would not count them.
                newest = None if last[task.id] else self._journal.last(task.subject)
                self._dispatcher.release(task, last[task.id] if newest is None else newest.seq)
        rows = query.tasks_with(self._store.reader(), [claim.task for claim in claims])
        return [self._granted(claim, rows[claim.task], until) for claim in claims]

    def _granted(self, claim: Claim, row: JsonObject, until: str) -> JsonObject:
        """The answer to a claim: the task as it is from now on, which the fold may not have reached yet."""
        record = self._journal.get(claim.seq)
        row |= {
            "state": State.RUNNING.value,
            "reason": None,
            "category": None,
            "detail": None,
            "attempts": claim.attempt,
            "worker": claim.worker,
            "lease_until": until,
            "claim_seq": claim.seq,
            "last_seq": claim.seq,
            "not_before": None,
            "updated_at": row["updated_at"] if record is None else record.at,
        }
        return {
            "task": row,
            "attempt": claim.attempt,
            "fence": claim.fence,
            "lease_until": until,
            "payload_url": f"/api/v1/deliveries/{row['hook']}/{row['guid']}/payload",
        }

    # ---- what a claim may say

    def renew(self, task: str, token: str, lease_s: float) -> JsonObject:
        """{"lease_until"}. Raises StaleFence, Refused, NotFound, UsageError, and the journal's errors."""
        _check_lease(lease_s)
        claim = self._held(task, token, "renew")
        until = at_text(self._clock() + lease_s)
        self._say(claim, "renew", Kind.RENEWED, claim.note(lease_until=until))
        self._leases.grant(task, until, lease_s)
        return {"lease_until": until}

    def phase(self, task: str, token: str, name: str) -> JsonObject:
        """{"phase", "seq"}. The daemon's own commands may say it as well. Raises as `renew` does."""
        word = scrub_text(_UNPRINTABLE.sub(" ", name)).strip()[:PHASE_MAX]
        if not word:
            raise UsageError("a phase needs a name", hint=f"A few words, {PHASE_MAX} characters at most.")
        claim = self._held(task, token, "phase", leased=False)
        self._say(claim, "phase", Kind.PHASE, claim.note(phase=word))
        return {"phase": word, "seq": claim.last}

    def complete(
        self, task: str, token: str, *, result: Any = None, exit_code: int | None = None, usage: Usage | None = None
    ) -> JsonObject:
        """{"state", "result"}: the attempt came to its end. `result` is kept as JSON. Raises as `renew` does.

        Saying the same again, because the answer was lost, is no late word: it is answered as it was.
        """
        text = None if result is None else orjson.dumps(result)
        if text is not None and len(text) > RESULT_MAX:
            raise UsageError(
                f"a result of {len(text)} bytes", hint=f"It may have {RESULT_MAX}; keep the rest elsewhere."
            )
        if (said := self._said(task, token)) is not None and said.kind == Kind.COMPLETED:
            return {"state": State.COMPLETED.value, "result": said.data.get("result"), "duplicate": True}
        claim = self._held(task, token, "complete")
        path: str | None = None
        if text is not None:
            place = AttemptDirectory.of(self._data, task, claim.attempt)
            try:
                place.keep(text)
            except OSError as error:
                raise NotDurable(f"the result can't be kept: {error.strerror}") from error
            path = str(place.result.relative_to(self._data))
        data = claim.note(exit_code=exit_code, result=path, **_usage(usage))
        self._say(claim, "complete", Kind.COMPLETED, data)
        return {"state": State.COMPLETED.value, "result": path, "duplicate": False}

    def complete_all(self, done: Sequence[Done]) -> list[JsonObject]:
        """`complete` for several, in one append; in their order {"task", "ok": true, …} or {"task", "ok": false, "error": word,
        "detail"}: each stands for itself. Raises the journal's errors.
        """
        claims = {one.task: Claim.of(self._journal, one.task, one.fence) for one in done}
        together = [(one, claim) for one in done if (claim := claims[one.task]) is not None and claim.leased]
        if len(done) == len(claims) and len(together) > 1:
            entries = [
                Entry(
                    task_subject(one.task),
                    Kind.COMPLETED,
                    claim.note(exit_code=one.exit_code, result=None, **_usage(one.usage)),
                    expect=claim.last,
                )
                for one, claim in together
            ]
            if isinstance(self._journal.append(entries), Appended):
                well = {"ok": True, "state": State.COMPLETED.value, "result": None, "duplicate": False}
                recorded = {one.task for one, _ in together}
                return [{"task": o.task, **(well if o.task in recorded else self._complete_one(o))} for o in done]
        return [{"task": one.task, **self._complete_one(one)} for one in done]

    def _complete_one(self, one: Done) -> JsonObject:
        try:
            return {"ok": True, **self.complete(one.task, one.fence, exit_code=one.exit_code, usage=one.usage)}
        except (StaleFence, Refused, NotFound) as error:
            word = "stale_fence" if isinstance(error, StaleFence) else "refused" if isinstance(error, Refused) else None
            return {"ok": False, "error": word or "not_found", "detail": str(error)}

    def fail(
        self,
        task: str,
        token: str,
        *,
        category: str,
        detail: str | None = None,
        retry: bool = True,
        retry_after_s: float | None = None,
        exit_code: int | None = None,
        signal: int | None = None,
        usage: Usage | None = None,
    ) -> JsonObject:
        """{"state", "not_before"}: failed, or queued again, as the task's policy has it; never again without `retry`.

        `interrupted` gives the task back: it burns no retry. Raises as `renew` does.
        """
        if category not in _PUSHED:
            raise UsageError(f"{category[:40]!r} is no category", hint=f"One of {', '.join(sorted(_PUSHED))}.")
        said = self._said(task, token)
        if said is not None and said.kind != Kind.COMPLETED and said.data.get("category") == category:
            return {**_failed(Kind(said.kind), said.data), "duplicate": True}
        claim = self._held(task, token, "fail")
        row = self._row(claim)
        words = None if detail is None else scrub_text(_UNPRINTABLE.sub(" ", detail))[:DETAIL_MAX]
        outcome = Outcome(Category(category), exit_code, signal, words, retry_after_s=retry_after_s, final=not retry)
        ending = after(row, claim.attempt, claim.seq, outcome, result=None, now=self._clock(), random=self._random)
        self._say(claim, "fail", ending.kind, {**ending.data, **_usage(usage)})
        return {**_failed(ending.kind, ending.data), "duplicate": False}

    def _held(self, task: str, token: str, what: str, *, leased: bool = True) -> Claim:
        """The task's current claim, if the token is its. Raises NotFound, StaleFence (and records it), Refused."""
        claim = Claim.of(self._journal, task, token)
        if claim is None:
            late = Claim.once(self._journal, task, token)
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

    def _said(self, task: str, token: str) -> Record | None:
        """The end that this very claim has recorded, if it is the newest of the task. A lease that lapsed is no word."""
        claim = Claim.once(self._journal, task, token)
        newest = None if claim is None else self._journal.last(task_subject(task))
        if claim is None or newest is None or newest.kind not in (Kind.COMPLETED, Kind.FAILED, Kind.RETRY):
            return None
        if newest.data.get("claim") != claim.seq or newest.data.get("category") == Category.LEASE_LOST:
            return None
        return newest

    def _say(self, claim: Claim, what: str, kind: Kind, data: JsonObject) -> None:
        """Record it for the claim. Raises StaleFence (and records the late word), and the journal's errors."""
        try:
            claim.record([(kind, data)])
        except Stale:
            record_late(self._journal, claim, what)
            raise StaleFence(f"task {claim.task} is not held by this token any more") from None
        except JournalFull:
            if kind in (Kind.PHASE, Kind.RENEWED) or not self._on_full():
                raise
            claim.record([(kind, data)])  # room was kept for just this

    def _row(self, claim: Claim) -> Task:
        """The task as the state has it, once that has folded the claim."""
        if not self._folder.wait_for(claim.last, 10.0):
            raise NotDurable("the state is too far behind the journal", hint="Say it again in a moment.")
        row = self._store.reader().execute("SELECT * FROM tasks WHERE id = ?", (claim.task,)).fetchone()
        if row is None:
            raise NotFound(f"no task {claim.task}")
        return Task.of(row)

    # ---- the leases' thread

    def _run(self) -> None:
        looked = 0.0
        while not self._stopping.is_set():
            self._news.wait(_TICK_S)
            self._news.clear()
            try:
                self._give()
                if time.monotonic() - looked >= _TICK_S / 2:
                    self._end_lapsed()
                    looked = time.monotonic()
            except (JournalFull, JournalWriteFailed) as error:
                log.warning("leases that ran out wait to be recorded so: %s", error)
                self._stopping.wait(AGAIN_S)
            except JournalError as error:
                log.error("no lease is looked after any more: %s", error)
                return
            except Exception:
                # Whatever it was, leases must not live for ever because of it.
                log.exception("the leases could not be looked at; it is tried again")
                self._stopping.wait(AGAIN_S)

    def _give(self) -> None:
        """Hand what is ready to the claims that wait: those that want the same routes share a pick."""
        with self._waiting:
            groups: dict[frozenset[str] | None, list[_Waiter]] = {}
            for waiter in self._waiters:
                groups.setdefault(waiter.routes, []).append(waiter)
        for routes, waiters in groups.items():
            for task in self._pick(len(waiters), routes):
                with self._waiting:
                    given = next((one for one in waiters if one in self._waiters), None)
                    if given is not None:
                        self._waiters.remove(given)
                        given.task = task
                        given.ready.set()
                if given is None:
                    self._dispatcher.release(task, 0)

    def _end_lapsed(self) -> None:
        """Record the end of each lease that has run out, against the task's newest record: whoever spoke first wins."""
        for task in self._leases.lapsed(self._store.reader()):
            if not isinstance(self._journal.append([lapse(task, self._clock())]), Conflict | Unknown):
                log.warning("task %s attempt %d: its lease ran out", task.id, task.attempts)


def _failed(kind: Kind, data: Mapping[str, Any]) -> JsonObject:
    state = State.FAILED if kind is Kind.FAILED else State.QUEUED
    return {"state": state.value, "not_before": data.get("not_before")}


def _usage(usage: Usage | None) -> JsonObject:
    return {} if usage is None else {"usage": usage.as_json()}


def _check_lease(lease_s: float) -> None:
    if not 1 <= lease_s <= LEASE_MAX_S:
        raise UsageError(f"a lease of {lease_s:g} s", hint=f"lease_s is between 1 and {LEASE_MAX_S}.")


def _checked(
    worker: str, lease_s: float, limit: int, routes: Collection[str] | None, wait_s: float
) -> frozenset[str] | None:
    if not _WORKER.match(worker):
        raise UsageError("worker is no name", hint="1 to 64 letters, digits, or one of . _ @ : / -")
    _check_lease(lease_s)
    if not 1 <= limit <= AT_ONCE:
        raise UsageError(f"{limit} tasks at once", hint=f"max is between 1 and {AT_ONCE}.")
    if not 0 <= wait_s <= WAIT_MAX_S:
        raise UsageError(f"a wait of {wait_s:g} s", hint=f"wait_s is between 0 and {WAIT_MAX_S:g}.")
    if routes is None:
        return None
    if not routes or len(routes) > _ROUTES_MAX or not all(TOKEN.match(route) for route in routes):
        raise UsageError("routes must be names of routes", hint=f"At most {_ROUTES_MAX}; leave it out for all.")
    return frozenset(routes)
