"""The checks of `covenq doctor` on a daemon's status and on the files beside the journal."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from covenq.config.journal import POSTGRES
from covenq.filter.explain import quoted
from covenq.model.ledger import BY_HAND, missing_text
from covenq.model.log_ingress import following_troubles
from covenq.model.notices import trouble
from covenq.model.route_times import RouteMinutes, failing_text
from covenq.model.status import (
    ActivePause,
    Descriptors,
    Overdue,
    ReconcilePass,
    ReconcileStatus,
    StateStatus,
    Status,
    Watchdog,
)
from covenq.model.trouble import unrevoked_text
from covenq.model.uninstall_text import uninstall_lines
from covenq.model.waiting import TONES, WaitingTasks, untold_pauses, waiting_text
from covenq.operate.maintain import backup_list
from covenq.operate.maintain.finding import BAD, GOOD, WARN, DoctorContext, Finding
from covenq.paths import BACKUPS_NAME, JOURNAL_NAME
from covenq.reconcile.result import state_words
from covenq.text import counted, duration, instant
from journal.presence import exists

CONNECTIONS_FEW = 100
"""Fewer connections than this may be held by a few slow clients."""
DESCRIPTORS_WANTED = 65_536
_RESTART = (
    "look at the daemon's log (`journalctl -u covenq`, or its standard error), and restart it: what runs is given back, and "
    "nothing is lost."
)
_REDELIVER = 'See REDELIVERY in covenq-reconcile(7), or set [reconcile] mode = "fetch".'
UNRECOVERABLE_SHOWN = 5
"""GUIDs that one finding names, at most."""
STUCK_SHOWN = 5
"""Stuck tasks that get a finding each, at most."""


def status_findings(context: DoctorContext) -> Iterator[Finding]:
    """What waits, pauses, failing routes, unreadable secrets, what is stuck, the last verification, copies, the watchdog."""
    status = context.status
    if status is not None:
        yield from _of_status(status, context.now)
    for route in context.failing:
        yield _fails(route)
    yield from _copies(context.data)
    if status is not None and status.watchdog is not None:
        yield _watched(status.watchdog)


def _of_status(status: Status, now: float) -> Iterator[Finding]:
    for line in status.waiting:
        yield _waits(line, now)
    for pause in untold_pauses(status.pauses, status.waiting):
        yield _paused(pause)
    for secret in status.secrets:
        yield Finding("secret", BAD, f"the daemon can't read {secret.secret}: {secret.problem}", "covenq secrets")
    for loop in status.overdue:
        yield Finding("daemon", BAD, loop.why, _overdue_next(loop, status.state))
    for one in status.stuck[:STUCK_SHOWN]:
        level = WARN if one.state == "queued" else BAD
        yield Finding("tasks", level, f"{one.task} of {one.route}: {one.why}", f"covenq why {one.task}")
    if status.state.damaged:
        words = "state.db is damaged, which a reader came upon: some of what is asked for can't be answered"
        yield Finding("state", BAD, words, "Restart covenq, and it is made anew: nothing is lost.")
    if status.worker is not None and status.worker.error:
        yield Finding("worker", BAD, f"it stopped: {status.worker.error}", "Restart the daemon.")
    if status.worker is not None and status.worker.standby_problem:
        words = f"this node stands by, and runs no task of the one that leads: {status.worker.standby_problem}"
        yield Finding("worker", WARN, words, "See [worker] on_standby in covenq.toml(5), and `covenq nodes`.")
    if status.worker is not None and status.worker.waits:
        yield Finding("worker", WARN, status.worker.waits, "See what uses them; what the limit allows is told here.")
    if status.descriptors is not None:
        yield _open_files(status.descriptors, 0 if status.worker is None else status.worker.concurrency)
    if status.upkeep is not None and status.upkeep.error:
        yield Finding(
            "upkeep", WARN, f"it failed, and is tried again: {status.upkeep.error}", "covenq compact --dry-run"
        )
    for words, next in uninstall_lines(status.uninstalls, now):
        yield Finding("upkeep", GOOD, words, next or None)
    if status.notify is not None:
        for words in trouble(status.notify, now):
            yield Finding("notify", WARN, f"operators are not told of what they should: {words}", "covenq notify test")
    if status.tokens is not None:
        next = (
            "covenq revokes it as soon as GitHub answers, where it has it: look at the daemon's log for why it doesn't."
        )
        yield Finding("token", WARN, unrevoked_text(status.tokens), next)
    if status.journal.full:
        words = "nothing new is recorded: the last write failed, as on a full disk, or where a database refuses it"
        yield Finding("journal", BAD, words, "covenq status")
    if status.reconcile is not None and status.pid is not None:
        yield from _reconciled(status.reconcile, now)
    verified = status.verified
    if verified is not None and not verified.ok:
        words = f"the last verification, {verified.at[:19]}Z, found damage: {verified.first}"
        yield Finding("journal", BAD, words, "covenq verify" if status.journal.engine == POSTGRES else "covenq salvage")


def _reconciled(passes: ReconcileStatus, now: float) -> Iterator[Finding]:
    """When the logs of GitHub's were compared last, what was found, and what to type."""
    for one in passes.logs:
        last = one.last
        if passes.every_s is None:
            words = f"{one.log}: the daemon makes no passes ([reconcile] every)"
            yield Finding("reconcile", GOOD, words, "covenq reconcile --dry-run")
        elif last is None:
            words = f"{one.log}: not compared since the start; {passes.waits or 'a pass is under way'}"
            yield Finding("reconcile", WARN if passes.waits else GOOD, words)
        elif last.error is not None:
            known = "not compared yet" if last.finished_at is None else f"compared at {last.finished_at[:19]}Z"
            words = f"{one.log}: {known}; the pass of {last.ended_at[:19]}Z did not reach its end: {last.error}"
            yield Finding("reconcile", WARN, words, last.hint)
        else:
            found = ", ".join(f"{number:,} {state_words(state)}" for state, number in last.states.items())
            listed = counted(last.listed, "attempt")
            words = f"{one.log}: compared at {last.ended_at[:19]}Z, {listed} listed; {found or 'nothing is missing'}"
            yield Finding("reconcile", GOOD, words)
        for told, next in () if one.following is None else following_troubles(one.following):
            yield Finding("reconcile", WARN, f"{one.log}: {told}", next)
        if last is not None and last.not_asked is not None:
            words = f"{one.log}: redelivery is not asked for, and what is missing is fetched: {last.not_asked}"
            yield Finding("reconcile", WARN, words, _REDELIVER)
        if last is not None and last.unrecoverable:
            yield _unrecoverable(one.log, last)
    if passes.missing is not None:
        text, _, command = missing_text(passes.missing, now).rpartition(": ")
        yield Finding("reconcile", WARN, text, command)
    if passes.waiting:
        waiting = counted(passes.waiting, "delivery", "deliveries")
        words = f"{waiting} fetched and held back: GitHub sent them before this journal was restored, or too long ago"
        next = (
            "See them: `covenq deliveries state:received reason:held`. Those that were not worked on: `covenq reroute ID`, "
            "or all: `covenq reroute state:received reason:held`. With `--ignore` those that were are held back no more."
        )
        yield Finding("reconcile", WARN, words, next)


def _unrecoverable(log: str, last: ReconcilePass) -> Finding:
    lost, number = last.unrecoverable, last.states.get("unrecoverable", len(last.unrecoverable))
    shown = "; ".join(f"{one.guid}: {one.reason}" for one in lost[:UNRECOVERABLE_SHOWN])
    more = f"; and {number - UNRECOVERABLE_SHOWN:,} more" if number > UNRECOVERABLE_SHOWN else ""
    words = f"{log}: {counted(number, 'delivery', 'deliveries')} can't be fetched: {shown}{more}"
    return Finding("reconcile", WARN, words, BY_HAND)


def _overdue_next(loop: Overdue, state: StateStatus) -> str:
    if loop.loop == "fold" and state.follower is not None and state.still_since is not None:
        return (
            f"`kill -KILL {state.follower.pid}`, and another process folds, as by itself after two minutes of silence; "
            f"if that changes nothing: {_RESTART}"
        )
    return f"{_RESTART[0].upper()}{_RESTART[1:]}"


def _open_files(found: Descriptors, concurrency: int) -> Finding:
    limit = "no limit of" if found.limit is None else f"a limit of {found.limit}"
    words = f"{limit} open files: {found.connections} connections of each listener, {found.commands} commands at a time"
    if found.commands >= concurrency and found.connections >= CONNECTIONS_FEW:
        return Finding("open files", GOOD, words)
    next = f"Raise the hard limit: LimitNOFILE={DESCRIPTORS_WANTED} in the unit, or `ulimit -Hn`."
    return Finding("open files", WARN, f"{words}; {concurrency} are configured", next)


def _paused(one: ActivePause) -> Finding:
    what = " ".join(str(word) for word in (one.what, one.repo or one.name) if word)
    why = f": {one.reason}" if one.reason else ""
    words = f"{what} is paused since {str(one.since)[:19]}Z by {one.by or 'somebody'}{why}"
    intake = one.what == "intake"
    return Finding("pauses", BAD if intake else WARN, words, f"covenq resume {what}")


def _waits(one: WaitingTasks, now: float) -> Finding:
    """A line of what waits. A warning is what may last, and what somebody can do something about."""
    what = f"{counted(one.count, 'task')} {'waits' if one.count == 1 else 'wait'}"
    age = instant(one.oldest)
    oldest = "" if age is None else f"; oldest {duration(max(0.0, now - age))}"
    words = f"{what}, {one.scope or 'of several'}: {waiting_text(one, now)}{oldest}"
    if one.cause not in TONES:
        return Finding("waiting", GOOD, words)
    return Finding("waiting", WARN, words, one.command or (None if one.task is None else f"covenq why {one.task}"))


def _fails(one: RouteMinutes) -> Finding:
    if one.name is None:
        return Finding("routes", WARN, failing_text(one), "covenq stats")
    return Finding(
        "routes",
        WARN,
        f"{one.name}: {failing_text(one)}",
        f"covenq tasks {shlex.join([f'route:{quoted(one.name)}', 'state:failed'])}",
    )


def _copies(data: Path) -> Iterator[Finding]:
    for one in backup_list.backups(data):
        path = Path(str(one["path"]))
        try:
            cut_short = exists(path / JOURNAL_NAME) and any(
                one.suffix == ".tmp" for one in (path / JOURNAL_NAME).iterdir()
            )
        except OSError as error:
            words = f"the one in {path} can't be looked at: {error.strerror}"
            yield Finding("backups", WARN, words, f"Run doctor as a user who may read it, or mend {path}.")
        else:
            if cut_short:
                yield Finding("backups", WARN, f"the one in {path} was cut short", f"covenq backup {path}")
    for words in backup_list.unreadable_entries(data):
        yield Finding("backups", WARN, words, f"Correct {data / BACKUPS_NAME}: what is erased is named by it.")
    for aside in backup_list.salvaged(data):
        words = f"{aside} was salvaged, and is not in place"
        yield Finding("journal", WARN, words, f"Put it in the place of {data / JOURNAL_NAME}, or remove it.")


def _watched(watchdog: Watchdog) -> Finding:
    """Whether systemd's watchdog is set for a daemon that it started."""
    if watchdog.every_s:
        return Finding("systemd", GOOD, f"it watches the daemon, every {watchdog.every_s:g} s")
    return Finding("systemd", WARN, "it started the daemon, and doesn't watch it", "covenq init --systemd")
