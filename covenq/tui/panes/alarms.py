"""What an operator must know, one entry for each route and reason, and which of them were acknowledged.

They serve one decision: is anything wrong, and is it mine. The bar above every page tells the worst in one line; the Overview
lists all of them. Pure functions from the status to values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from covenq.client.suggestion import suggested
from covenq.model import INTAKE_PAUSED, NOT_RUNNING
from covenq.model.drift import drift_text
from covenq.model.ledger import missing_text
from covenq.model.notices import trouble
from covenq.model.palette import Tone
from covenq.model.readiness import STANDBY, readiness
from covenq.model.trouble import MENDED_LATER
from covenq.model.uninstall_text import LINES_MAX, stop_command, uninstall_text
from covenq.model.waiting import Cause, command_for
from covenq.text import counted, duration
from covenq.tui import text

if TYPE_CHECKING:
    from covenq.client.interface import Source
    from covenq.model.pending_status import Uninstall
    from covenq.model.status import ActivePause, Status, Stuck

LAG_LONG = 10_000
"""Records that the state may be behind the journal without an alarm."""
DRIFT_MAX = 3
"""Things that drifted on GitHub which are told whole."""

_AGE = re.compile(r"\b\d+(?:ms|[smhd])\b|\bjust now\b")
_NUMBERED = re.compile(r"\w*\d\w*")


class Alarm(NamedTuple):
    """One thing in words. `subject` is what is acknowledged: it stays the same while nothing but ages and counts changes."""

    words: str
    subject: str
    tone: Tone = "bad"
    damage: bool = False
    """The journal is damaged."""


def _alarm(words: str, tone: Tone = "bad", subject: str | None = None) -> Alarm:
    return Alarm(words, _AGE.sub("#", words) if subject is None else subject, tone)


# ---- of the source


def of_source(
    source: Source | None, status: Status | None, error: BaseException | None, *, age: float = 0.0
) -> list[Alarm]:
    """Of reading itself: which every page tells. `error` is why the last read failed, None if it did not.

    `age` is how many seconds ago the status was read, if that is too long.
    """
    found = []
    if error is not None:
        found.append(_alarm(text.clean(error)))
    if source is not None and not source.live:
        holder, _ = _holder_and_damage(status)
        if holder == NOT_RUNNING:
            start = text.clean(suggested("covenq serve"))
            words = f"no daemon is running: this reads the files, and nothing new arrives. Start it: {start}"
        else:
            words = f"{text.clean(holder)}: this reads the files"
        found.append(_alarm(words))
    if age:
        found.append(_alarm(f"what is shown of the status was read {text.duration(age)} ago", "warning", "old"))
    return found


def _holder_and_damage(status: Status | None) -> tuple[str, list[str]]:
    """Of files: why there is no daemon, and what of the journal is damaged."""
    reasons = list(status.reasons) if status is not None and status.pid is None else []
    return (reasons[0], reasons[1:]) if reasons else (NOT_RUNNING, [])


# ---- of the status


def of_status(status: Status, now: float, *, writable: bool = True) -> list[Alarm]:
    """All that the status tells, the worst first. `writable`: the dashboard may act."""
    return _reasons(status) + _warnings(status, now, writable=writable)


def _reasons(status: Status) -> list[Alarm]:
    """Why nothing is received; without a daemon also what is damaged.

    Not that there is no daemon, which stands above every page, nor that the intake is paused, which its pause says better.
    """
    if status.pid is None:
        return [_alarm(text.clean(one)) for one in _holder_and_damage(status)[1]]
    if readiness(status).word == STANDBY:
        return []  # it is as it should be
    told = {NOT_RUNNING} | ({INTAKE_PAUSED} if any(one.what == "intake" for one in status.pauses) else set())
    return [_alarm(text.clean(reason)) for reason in status.reasons if reason not in told]


def _warnings(status: Status, now: float, *, writable: bool) -> list[Alarm]:
    # A paused intake refuses what GitHub does not send again: it comes first.
    found = [_pause(one, now, writable) for one in status.pauses if one.what == "intake"]
    found += _of_journal(status, now)
    found += [_alarm(f"secret {text.clean(one.secret)}: {text.clean(one.problem)}") for one in status.secrets]
    reload = status.reload
    if reload and not reload.ok:
        words = f"the configuration on disk was refused {text.ago(reload.at, now)}, and the one before stays: "
        found.append(_alarm(words + text.clean(reload.error), subject=f"reload {reload.at}"))
    worker = status.worker
    if worker and worker.error:
        found.append(_alarm(f"nothing more is run: {text.clean(worker.error)}"))
    if worker and worker.waits:
        found.append(_alarm(f"tasks wait: {text.clean(worker.waits)}", "warning"))
    if status.reconcile is not None and status.reconcile.missing is not None:
        missing = status.reconcile.missing
        found.append(_alarm(missing_text(missing, now), subject=f"missing {missing.deliveries}"))
    if status.reconcile is not None and status.reconcile.drift is not None:
        drifted = status.reconcile.drift.warnings
        found += [_alarm(f"on GitHub: {text.clean(drift_text(one))}", "warning") for one in drifted[:DRIFT_MAX]]
        if len(drifted) > DRIFT_MAX:
            found.append(_alarm(f"on GitHub: {len(drifted) - DRIFT_MAX} more: covenq doctor", "warning"))
    found += [_alarm(text.clean(loop.why), subject=f"overdue {loop.loop}") for loop in status.overdue]
    found += _stuck(status.stuck, now)
    found += [_pause(one, now, writable) for one in status.pauses if one.what != "intake"]
    if status.notify is not None:
        found += [_alarm(text.clean(words), "warning", "notify") for words in trouble(status.notify, now)]
    upkeep = status.upkeep
    if upkeep and upkeep.error:
        found.append(_alarm(f"upkeep waits: {text.clean(upkeep.error)}", "warning"))
    found += [_uninstalled(one, now) for one in status.uninstalls[:LINES_MAX]]
    return found


def _uninstalled(one: Uninstall, now: float) -> Alarm:
    command = stop_command(one)
    stops = "" if command is None else f": {command} stops that"
    return _alarm(
        f"{text.clean(uninstall_text(one, now))}{stops}", "warning", f"uninstalled {one.installation} {one.since}"
    )


def _of_journal(status: Status, now: float) -> list[Alarm]:
    found = []
    seen = status.verified
    if seen and not seen.ok:
        more = "" if seen.findings == 1 else f" and {text.number(seen.findings - 1)} more"
        words = f"damage was found {text.ago(seen.at, now)}: {text.clean(seen.first or '')}{more}"
        found.append(Alarm(words, f"damage {seen.at}", damage=True))
    if status.journal.database is not None:
        from covenq.model.database_text import database_troubles

        for word, words, _ in database_troubles(status.journal.database, ready=status.ready or status.standby):
            tone: Tone = "warning" if word in MENDED_LATER else "bad"
            found.append(_alarm(text.clean(words), tone, f"database {word}"))
    if len(status.nodes) > 1:
        from covenq.model.nodes_text import node_troubles

        found += [_alarm(text.clean(words), "warning") for _, words, _ in node_troubles(status.nodes, now)]
    state = status.state
    if state.damaged:
        found.append(_alarm("state.db is damaged, which a reader came upon: restart covenq, and it is made anew"))
    if state.error:
        found.append(_alarm(f"the state lags: {text.clean(state.error)}"))
    elif state.still_since is not None:
        since = text.clean(state.still_since)[11:19]
        behind = f"the state is {counted(state.lag, 'record')} behind the journal"
        found.append(_alarm(f"{behind}, and nothing was folded since {since}Z", subject=f"still {since}"))
    elif state.lag > LAG_LONG:
        left = "" if state.left_s is None else f" for about {duration(state.left_s)} more"
        behind = f"the state is {counted(state.lag, 'record')} behind the journal{left}"
        found.append(_alarm(f"{behind}: what is listed here is old", "warning", "lag"))
    return found


def _stuck(stuck: Sequence[Stuck], now: float) -> list[Alarm]:
    """An entry for each route and reason, with how many tasks and the oldest: the daemon tells of few at a time."""
    groups: dict[tuple[str, str, str], list[Stuck]] = {}
    for one in stuck:
        reason = _NUMBERED.sub("#", one.why)  # the same for another task, a second later
        groups.setdefault((one.route or "", one.state, reason), []).append(one)
    found = []
    for (route, state, reason), tasks in groups.items():
        first = min(tasks, key=lambda one: one.since or "")
        why, since = text.clean(first.why), text.age(first.since, now)
        if len(tasks) == 1:
            words = f"task {text.clean(first.task)}{_route_and_repo(first)} is {state} for {since}: {why}"
        else:
            of = f" of {text.clean(route)}" if route else ""
            words = f"{len(tasks)} tasks or more{of} are {state}, the oldest for {since}: {why}"
        found.append(Alarm(words, f"stuck {route} {state} {reason}", "warning"))
    return found


def _route_and_repo(one: Stuck) -> str:
    names = [text.clean(name) for name in (one.route, one.repo) if name]
    return f" ({', '.join(names)})" if names else ""


def _pause(one: ActivePause, now: float, writable: bool) -> Alarm:
    name = one.repo or one.name
    of = text.clean(one.what) + (f" {text.clean(name)}" if name else "")
    by = f" by {text.clean(one.by)}" if one.by else ""
    why = f": {text.clean(one.reason)}" if one.reason else ""
    command = command_for(Cause.PAUSED, (one.what, name or ""), "")
    how = "p resumes it" if writable else f"{text.clean(suggested(command or ''))} ends it"
    words = f"{of} is paused for {text.age(one.since, now)}{by}{why} ({how})"
    return Alarm(words, f"pause {one.what} {one.name} {one.since}", "bad" if one.what == "intake" else "warning")


# ---- acknowledging


class Acknowledged:
    """The alarms that somebody has seen: each stays out of the bar until it changes, or ends and comes again."""

    def __init__(self) -> None:
        self._subjects: frozenset[str] = frozenset()

    def add(self, alarms: Iterable[Alarm]) -> None:
        self._subjects |= {one.subject for one in alarms}

    def keep(self, present: Iterable[Alarm]) -> None:
        """Forget what there is no alarm of any more."""
        self._subjects &= {one.subject for one in present}

    def __contains__(self, alarm: object) -> bool:
        return isinstance(alarm, Alarm) and alarm.subject in self._subjects


def in_bar(of_source: Sequence[Alarm], of_status: Sequence[Alarm], status: Status | None) -> list[Alarm]:
    """What the bar tells, the worst first: damage, which is one entry with the key that lists it, and warnings last."""
    _, damage = _holder_and_damage(status)
    others = [*of_source, *of_status[len(damage) :]]
    if damage:
        count = f" {len(damage)} so far" if damage[1:] else " it"
        words = f"damaged (v lists{count}): {text.clean(damage[0])}"
        others.insert(0, Alarm(words, of_status[len(damage) - 1].subject, damage=True))
    return sorted(others, key=lambda one: (not one.damage, one.tone != "bad"))


def bar(found: Sequence[Alarm], width: int) -> str:
    """One line: the worst alarms, as many as fit whole and at least one; the keys that list the others and acknowledge all."""
    if not found:
        return ""
    words, told = f"! {found[0].words}", 1
    while told < len(found):
        longer = f"{words}  ! {found[told].words}"
        if text.cells(longer) + text.cells(_keys(len(found) - told - 1)) > width:
            break
        words, told = longer, told + 1
    keys = _keys(len(found) - told)
    room = max(10, width - text.cells(keys))
    return text.fit(_shortened(words, room), room) + keys


def _shortened(words: str, room: int) -> str:
    """Cut between two words, with what is in parentheses at the end kept: that is what to do about it."""
    if text.cells(words) <= room:
        return words
    at = words.rfind(" (") if words.endswith(")") else -1
    head, end = (words[:at], words[at:]) if at > 0 and text.cells(words[at:]) <= room // 2 else (words, "")
    return f"{text.wrap(head, max(1, room - text.cells(end) - 2))[0]} …{end}"


def _keys(others: int) -> str:
    return f"  +{others} on 1, a hides" if others else "  a hides"
