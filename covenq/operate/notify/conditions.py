"""Conditions: what holds now that operators are to be told of, found in what the status says and little else.

So a notice says what `covenq status` and the dashboard say, in their words, but for the names of repositories: those came with
payloads, and what is erased here would stay wherever notices go. Values in, values out.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from covenq.config.notify import Notify
from covenq.model.ledger import missing_text
from covenq.model.notices import TEXT_MAX
from covenq.model.status import Status
from covenq.model.uninstall_text import stop_command
from covenq.model.waiting import Cause, WaitingTasks, cause_name, waiting_text
from covenq.state.fold_pauses import PauseTarget
from covenq.text import byte_size, counted, duration, instant, one_line

SCOPE_MAX = 200
ROUTES_MAX = 50
"""Routes whose failures are told of one by one, those with the most."""
RESERVES = 2
"""How many times what is kept free for running tasks is little: as the alert rule of `covenq init --prometheus` has it."""
_CHOSEN = (Cause.NOT_BEFORE,)
"""What waits until a time that the configuration chose is told of by nobody."""

Key = tuple[str, str]
"""Kind and scope: what is told of once until it ends."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that holds, in one sentence, and what to type, where a command helps."""

    kind: str
    scope: str
    text: str
    command: str | None = None

    @property
    def key(self) -> Key:
        return self.kind, self.scope


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """A receiver that failed again and again: nothing is sent there but a probe, until it answers."""

    target: str
    why: str
    routes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """Attempts of a route that ended within [notify] failures within, and how many of them failed."""

    finished: int
    failed: int


@dataclass(frozen=True, slots=True)
class Observed:
    """What conditions are found in. `reserve` is what is kept free for running tasks, None where that isn't known."""

    status: Status
    now: float
    receivers: Sequence[LeftAlone] = ()
    unknown: Collection[str] = ()
    """Receivers in use that have not answered since the start of the daemon, or not since they failed."""
    ended: Mapping[str, Ended] = field(default_factory=dict)
    reserve: int | None = None


def conditions(seen: Observed, notify: Notify, told: Mapping[Key, Condition]) -> list[Condition]:
    """What holds, of the kinds that are told of, the gravest first.

    `told` are those whose beginning was told, and whose end was not yet. Some of those go on where nothing shows that they are
    over: a route of which no attempt has ended since, a receiver that has not answered since, and what waits in the lines that
    are not told one by one.
    """
    found = [
        *_damage(seen.status),
        *_intake(seen.status),
        *_overdue(seen.status),
        *_disk(seen, notify),
        *_ledger(seen),
        *_receivers(seen, told),
        *_failures(seen, notify, told),
        *_waiting(seen, notify, told),
        *_uninstalled(seen.status),
    ]
    return [_cleaned(one) for one in found if one.kind in notify.on]


def _cleaned(one: Condition) -> Condition:
    """Bounded, and one line."""
    return Condition(one.kind, one_line(one.scope, SCOPE_MAX), one_line(one.text, TEXT_MAX), one.command)


def _damage(status: Status) -> Iterator[Condition]:
    verified = status.verified
    if status.damaged or (verified is not None and not verified.ok):
        where = next((reason for reason in status.reasons if "damaged" in reason), "a part of it can't be read")
        words = where if verified is None or verified.ok else f"the last verification found {verified.first}"
        yield Condition("damage", "journal", f"The journal is damaged: {words}", "covenq verify")
    if status.state.damaged:
        words = "state.db is damaged: some of what is asked for can't be answered. A restart makes it anew"
        yield Condition("damage", "state.db", words, "covenq doctor")


def _intake(status: Status) -> Iterator[Condition]:
    if not status.ready and not status.standby:
        paused = any(one.what == PauseTarget.INTAKE for one in status.pauses)
        command = "covenq resume intake" if paused else "covenq doctor"
        yield Condition("intake", "intake", f"Nothing is received: {' '.join(status.reasons)}", command)


def _overdue(status: Status) -> Iterator[Condition]:
    for loop in status.overdue:
        yield Condition("overdue", loop.loop, f"A part of the daemon stands still: {loop.why}", "covenq doctor")
    if status.worker is not None and status.worker.error and all(one.loop != "worker" for one in status.overdue):
        yield Condition("overdue", "worker", f"Nothing more is run: {status.worker.error}", "covenq doctor")


def _disk(seen: Observed, notify: Notify) -> Iterator[Condition]:
    disk, reserve = seen.status.disk, seen.reserve
    least = notify.disk if notify.disk is not None else None if reserve is None else RESERVES * reserve
    if disk is None or least is None or disk.free >= least:
        return
    free, total = byte_size(disk.free, "TiB"), byte_size(disk.total, "TiB")
    closes = "" if reserve is None else f"; with less than {byte_size(reserve, 'TiB')} nothing is received"
    words = f"{free} of {total} are free on the data directory's disk{closes}"
    yield Condition("disk", "disk", words, "covenq compact --dry-run")


def _ledger(seen: Observed) -> Iterator[Condition]:
    reconcile = seen.status.reconcile
    if reconcile is not None and reconcile.missing is not None:
        text, _, command = missing_text(reconcile.missing, seen.now).rpartition(": ")
        yield Condition("ledger", "ledger", text, command)


def _receivers(seen: Observed, told: Mapping[Key, Condition]) -> Iterator[Condition]:
    """Also one that was told of before a restart, which forgets what failed, until it has answered."""
    for one in seen.receivers:
        names = ", ".join(one.routes)
        routes = f"route {names} waits" if len(one.routes) == 1 else f"routes {names} wait"
        yield Condition(
            "receiver", one.target, f"{one.why}: it is left alone until it answers; {routes}", "covenq status"
        )
    known = {one.target for one in seen.receivers}
    for (kind, scope), before in told.items():
        if kind == "receiver" and scope in seen.unknown and scope not in known:
            yield before


def _failures(seen: Observed, notify: Notify, told: Mapping[Key, Condition]) -> Iterator[Condition]:
    """Also of a route that was told of and of which too few have ended since to say that it is better."""
    wanted = notify.failures
    routes = set(seen.status.routes)
    ordered = sorted(seen.ended.items(), key=lambda one: (-one[1].failed, one[0]))
    for route, ended in ordered[:ROUTES_MAX]:
        key = ("failures", f"route {route}")
        enough = ended.finished >= wanted.least or key in told
        if ended.finished and enough and ended.failed >= wanted.share * ended.finished:
            words = (
                f"{ended.failed:,} of {counted(ended.finished, 'attempt')} of route {route} failed "
                f"within {duration(wanted.within_s)}"
            )
            yield Condition(*key, words, shlex.join(["covenq", "stats", f"route:{route}"]))
    for (kind, scope), before in told.items():
        route = scope.removeprefix("route ")
        if kind == "failures" and route in routes and not (route in seen.ended and seen.ended[route].finished):
            yield before


def _uninstalled(status: Status) -> Iterator[Condition]:
    """That content is going to be erased, while it can still be stopped."""
    for one in status.uninstalls:
        words = f"Installation {one.installation} was uninstalled, and its content is erased"
        at = ", now" if one.due_at is None else f" from {one.due_at[:19]}Z on"
        yield Condition("uninstall", f"installation {one.installation}", f"{words}{at}", stop_command(one))


def _waiting(seen: Observed, notify: Notify, told: Mapping[Key, Condition]) -> Iterator[Condition]:
    """What a receiver holds is told of by that, if it is told at all."""
    left_out = {*_CHOSEN, *([Cause.RECEIVER] if "receiver" in notify.on else [])}
    late = [one for one in seen.status.waiting if one.cause not in left_out and _age(one, seen.now) > notify.waiting_s]
    found = set()
    for one in (*(line for line in late if not _is_of_repository(line)), *_of_repositories(late)):
        if one.scope is None:
            continue
        scope = f"{one.scope} {one.cause}"
        found.add(one_line(scope, SCOPE_MAX))
        what = f"{counted(one.count, 'task')} {'waits' if one.count == 1 else 'wait'}"
        words = f"{what}, {one.scope}: {waiting_text(one, seen.now)}; the oldest for {duration(_age(one, seen.now))}"
        command = one.command or (None if one.task is None else f"covenq why {one.task}")
        yield Condition("waiting", scope, words, command)
    together = {one.cause for one in late if one.scope is None}
    for (kind, scope), before in told.items():
        if kind == "waiting" and scope not in found and scope.rpartition(" ")[2] in together:
            yield before


def _is_of_repository(one: WaitingTasks) -> bool:
    return one.scope is not None and one.scope.startswith(f"{PauseTarget.REPO} ")


def _of_repositories(late: Sequence[WaitingTasks]) -> Iterator[WaitingTasks]:
    """The lines of repositories as one for each cause, which names none of them."""
    for cause in {one.cause: None for one in late if _is_of_repository(one)}:
        lines = [one for one in late if one.cause == cause and _is_of_repository(one)]
        oldest = min((one.oldest for one in lines if one.oldest is not None), default=None)
        until = min((one.until for one in lines if one.until is not None), default=None)
        why = f"{cause_name(cause)}, {len(lines):,} of them"
        count = sum(one.count for one in lines)
        yield WaitingTasks(cause, "repositories", count, oldest, until, "covenq status", why)


def _age(one: WaitingTasks, now: float) -> float:
    oldest = instant(one.oldest)
    return 0.0 if oldest is None else max(0.0, now - oldest)
