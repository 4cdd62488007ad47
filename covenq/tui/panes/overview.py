"""The Overview page, as pure functions from the status, the last hour's throughput, the time and the width to lines.

Alarms come first, in words; then throughput, counts by state, the worker and what it runs, and the health of the disk.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from covenq.model import INTAKE_PAUSED, NOT_RUNNING
from covenq.model.drift import drift_text
from covenq.model.ledger import missing_text
from covenq.text import counted, duration
from covenq.tui import text
from covenq.tui.widgets.lines import Line, labelled

if TYPE_CHECKING:
    from covenq.model.answers import Throughput
    from covenq.model.status import ActivePause, JournalStatus, Status, Stuck

BLOCKS = "▁▂▃▄▅▆▇█"
"""Eighths of a cell, for a graph of one row."""
ZERO = "·"
_LABEL = 12
_NUMBERS = 28
"""Cells beside a graph: its name, and its three numbers."""
GRAPH_MAX = 60
"""Cells of the widest graph."""
TWO_COLUMNS_MIN = 132
"""Cells of width from which the lower half has two columns."""
LAG_LONG = 10_000
"""Records that the state may be behind the journal without an alarm."""
RUNNING_MAX = 12
"""Running tasks that are listed."""
DRIFT_MAX = 3
"""Things that drifted on GitHub which are told whole."""
SERIES = (("accepted", "green"), ("refused", "yellow"), ("completed", "cyan"), ("failed", "red"))


def sparkline(values: Sequence[int], most: int | None = None) -> str:
    """A cell for each value: a dot for zero, else at least the lowest block, the full one for `most` (or the largest value)."""
    top = max(values, default=0) if most is None else most
    if top <= 0:
        return ZERO * len(values)
    last = len(BLOCKS) - 1
    return "".join(ZERO if value <= 0 else BLOCKS[min(last, value * last // top)] for value in values)


def alarms(status: Status, now: float, *, writable: bool = True) -> list[str]:
    """What an operator must know, in words, the worst first. `writable`: the dashboard may act."""
    return reasons(status) + warnings(status, now, writable=writable)


def reasons(status: Status) -> list[str]:
    """Why nothing is received; without a daemon also what is damaged.

    Not that there is no daemon, which stands above every page, nor that the intake is paused, which `warnings` says better.
    """
    told = {NOT_RUNNING} | ({INTAKE_PAUSED} if any(one.what == "intake" for one in status.pauses) else set())
    return [text.clean(reason) for reason in status.reasons if reason not in told]


def warnings(status: Status, now: float, *, writable: bool) -> list[str]:
    """What else an operator must know."""
    found = _journal_alarms(status, now)
    found += [f"secret {text.clean(one.secret)}: {text.clean(one.problem)}" for one in status.secrets]
    reload = status.reload
    if reload and not reload.ok:
        found.append(
            f"the configuration on disk was refused {text.ago(reload.at, now)}, and the one before stays: "
            f"{text.clean(reload.error)}"
        )
    worker = status.worker
    if worker and worker.error:
        found.append(f"nothing more is run: {text.clean(worker.error)}")
    if worker and worker.waits:
        found.append(f"tasks wait: {text.clean(worker.waits)}")
    if status.reconcile is not None and status.reconcile.missing is not None:
        found.append(missing_text(status.reconcile.missing, now))
    if status.reconcile is not None and status.reconcile.drift is not None:
        drifted = status.reconcile.drift.warnings
        found += [f"on GitHub: {text.clean(drift_text(one))}" for one in drifted[:DRIFT_MAX]]
        if len(drifted) > DRIFT_MAX:
            found.append(f"on GitHub: {len(drifted) - DRIFT_MAX} more: covenq doctor")
    found += [text.clean(loop.why) for loop in status.overdue]
    for one in status.stuck:
        since = text.age(one.since, now)
        found.append(
            f"task {text.clean(one.task)}{_route_and_repo(one)} is {one.state} for {since}: {text.clean(one.why)}"
        )
    # A paused intake refuses what GitHub does not send again: it comes first.
    pauses = sorted(status.pauses, key=lambda one: one.what != "intake")
    found[:0] = [_pause_alarm(one, now, writable) for one in pauses if one.what == "intake"]
    found += [_pause_alarm(one, now, writable) for one in pauses if one.what != "intake"]
    upkeep = status.upkeep
    if upkeep and upkeep.error:
        found.append(f"upkeep waits: {text.clean(upkeep.error)}")
    return found


def _journal_alarms(status: Status, now: float) -> list[str]:
    found = []
    seen = status.verified
    if seen and not seen.ok:
        more = "" if seen.findings == 1 else f" and {text.number(seen.findings - 1)} more"
        found.append(f"damage was found {text.ago(seen.at, now)}: {text.clean(seen.first or '')}{more}")
    state = status.state
    if state.damaged:
        found.append("state.db is damaged, which a reader came upon: restart covenq, and it is made anew")
    if state.error:
        found.append(f"the state lags: {text.clean(state.error)}")
    elif state.still_since is not None:
        since = text.clean(state.still_since)[11:19]
        found.append(
            f"the state is {counted(state.lag, 'record')} behind the journal, and nothing was folded since {since}Z"
        )
    elif state.lag > LAG_LONG:
        left = "" if state.left_s is None else f" for about {duration(state.left_s)} more"
        found.append(
            f"the state is {counted(state.lag, 'record')} behind the journal{left}: what is listed here is old"
        )
    return found


def _route_and_repo(one: Stuck) -> str:
    names = [text.clean(name) for name in (one.route, one.repo) if name]
    return f" ({', '.join(names)})" if names else ""


def _pause_alarm(one: ActivePause, now: float, writable: bool) -> str:
    name = one.repo or one.name
    of = text.clean(one.what) + (f" {text.clean(name)}" if name else "")
    by = f" by {text.clean(one.by)}" if one.by else ""
    why = f": {text.clean(one.reason)}" if one.reason else ""
    command = shlex.join(["covenq", "resume", one.what, *([name] if name else [])])
    how = "p resumes it" if writable else f"{text.clean(command)} ends it"
    return f"{of} is paused for {text.age(one.since, now)}{by}{why} ({how})"


def overview(
    status: Status,
    throughput: Throughput | None,
    now: float,
    width: int,
    *,
    problem: BaseException | None = None,
    writable: bool = True,
) -> list[Line]:
    """The page. `throughput` is the result of `Source.throughput`, None until it is read; `problem` is why it can't be."""
    lines: list[Line] = []
    for alarm in alarms(status, now, writable=writable):
        for number, part in enumerate(_wrapped(alarm, width - 3)):
            lines.append([(f"{'!' if not number else ' '} {part}", "red")])
    if lines:
        lines.append([])
    if throughput is not None or problem is None:
        lines += _throughput_lines(throughput, width)
    else:
        lines.append([("A minute", "bold")])
    if problem is not None:
        before = "what was counted before is shown" if throughput is not None else "nothing is counted"
        for part in _wrapped(f"✗ {before}: {text.clean(problem)}", width - 3):
            lines.append([(f"  {part}", "red")])
    lines.append([])
    tasks, deliveries = (
        _state_counts("Tasks", status.tasks, status.oldest.tasks, now),
        _state_counts("Deliveries", status.deliveries, status.oldest.deliveries, now),
    )
    worker, health, where = _worker(status, now), _health(status), _locations(status, now)
    if width >= TWO_COLUMNS_MIN:
        return lines + two_columns([*tasks, [], *deliveries], [*worker, [], *health, [], *where], width // 2)
    return [*lines, *tasks, [], *worker, [], *health, [], *deliveries, [], *where]


# ---- throughput


def _throughput_lines(throughput: Throughput | None, width: int) -> list[Line]:
    if throughput is None:
        return [[("A minute", "bold"), ("   … counting", "dim")]]
    room = max(8, min(GRAPH_MAX, throughput.minutes, width - _LABEL - _NUMBERS - 3))
    head = f"{'full min':>9}{'peak':>8}{'in all':>10}"
    lines: list[Line] = [[("A minute", "bold"), (f"{'':<{_LABEL + room - 6}}{head}", "dim")]]
    all_series = (throughput.accepted, throughput.refused, throughput.completed, throughput.failed)
    for (name, style), series in zip(SERIES, all_series, strict=True):
        values = series[-room:]
        full = values[-2] if len(values) > 1 else 0
        figures = f"{text.number(full):>9}{text.number(max(values, default=0)):>8}{text.number(sum(values)):>10}"
        lines.append([(f"  {name:<{_LABEL - 2}}", ""), (sparkline(values), style), (f" {figures}", "")])
    ticks = f"{'':<{_LABEL}}{f'{room} minutes ago':<{room - 3}}now"
    lines.append([(ticks, "dim")])
    return lines


# ---- counts by state


_BAR = 18
"""Cells of the longest bar."""


def _state_counts(title: str, counts: Mapping[str, int], oldest: Mapping[str, str], now: float) -> list[Line]:
    total = sum(counts.values())
    lines: list[Line] = [[(title, "bold"), (f"  {text.number(total)}", "")]]
    most = max(counts.values(), default=0)
    for word in (*text.GLYPHS, *(extra for extra in counts if extra not in text.GLYPHS)):
        count = counts.get(word, 0)
        if not count:
            continue
        style = text.STYLES.get(word, "")
        line = [(f"  {text.state(word):<14}", style), (f"{text.number(count):>11}  ", "")]
        if word in oldest:
            line.append((f"the oldest for {text.age(oldest[word], now)}", "yellow" if word == "queued" else ""))
        else:
            line.append(("█" * max(1, count * _BAR // most), style))
        lines.append(line)
    if not total:
        lines.append([("  none yet", "dim")])
    return lines


# ---- the worker


def _worker(status: Status, now: float) -> list[Line]:
    worker = status.worker
    running = status.running
    if not worker:
        where = NOT_RUNNING if NOT_RUNNING in status.reasons else "no daemon answers"
        return [[("Worker", "bold"), (f"  {where}", "dim")]]
    slots, busy = worker.concurrency, len(worker.running)
    graph = "■" * min(busy, 40) + "□" * min(max(slots - busy, 0), 40)
    lines: list[Line] = [[("Worker", "bold"), (f"  {busy} of {slots} slots busy  ", ""), (graph, "yellow")]]
    for one in running[:RUNNING_MAX]:
        limit = one.timeout_s
        until = f" of {text.duration(limit)}" if limit else ""
        number = f"#{one.number}" if one.number is not None else ""
        target = f"{text.clean(one.repo or '')}{number}"
        who = f"  {text.clean(one.worker)}" if one.lease_until else ""
        took = f"{text.age(one.since, now)}{until}"
        lines.append(
            [
                (f"  ◐ {took:<10} ", "yellow"),
                (f"{text.clean(one.route or text.ABSENT)}  {target}{who}", ""),
                (f"  {text.clean(one.task)}", "dim"),
            ]
        )
    if len(running) > RUNNING_MAX:
        lines.append([(f"  and {len(running) - RUNNING_MAX} more: 3 /state:running", "dim")])
    return lines


# ---- health, and locations


def _health(status: Status) -> list[Line]:
    log, state = status.journal, status.state
    lines: list[Line] = [[("Durability", "bold")], labelled("fsync", fsync(log))]
    disk = status.disk
    if disk:
        share = disk.free * 100 // max(1, disk.total)
        lines.append(
            labelled("disk", f"{text.size(disk.free)} free of {text.size(disk.total)}", "red" if share < 5 else "")
        )
    lag = state.lag
    lines.append(labelled("fold lag", counted(lag, "record") if lag else "none"))
    doing = status.upkeep.doing if status.upkeep else None
    if doing:
        lines.append(labelled("upkeep", f"{doing.what}: {doing.done} of {doing.total} segments", "yellow"))
    refused = status.refused
    if refused:
        by_count = sorted(refused.items(), key=lambda one: -one[1])
        lines += [[], [("Refused since the start", "bold"), (f"  {text.number(sum(refused.values()))}", "")]]
        lines += [labelled(text.number(count), word) for word, count in by_count[:8]]
        lines.append([("  covenq refused says of each what to do", "dim")])
    return lines


def fsync(log: JournalStatus) -> str | None:
    """Latency of the newest fsyncs, None before the first."""
    recent = log.recent_syncs_ms
    if not recent:
        last = log.last_sync_ms
        return None if last is None else f"{last:.1f} ms"
    return f"p50 {recent.median:.1f} ms, p99 {recent.p99:.1f} ms, of the last {text.number(recent.count)}"


def _webhook(status: Status) -> str | None:
    followed = status.reconcile is not None and status.reconcile.follows
    return "none: GitHub's log is followed" if followed else status.webhook_url


def _locations(status: Status, now: float) -> list[Line]:
    lines: list[Line] = [[("Where", "bold")], labelled("webhook", _webhook(status))]
    if status.api_url:
        lines.append(labelled("api", status.api_url))
    lines.append(labelled("data", status.data))
    lines.append(labelled("routes", ", ".join(status.routes) or "none: `covenq init` writes some"))
    if status.started_at:
        lines.append(labelled("up", f"{text.age(status.started_at, now)}, process {status.pid}"))
    lines.append(labelled("version", status.version))
    return lines


# ---- layout


def _wrapped(words: str, width: int) -> list[str]:
    """`words` in lines of at most `width` cells; a longer word is not broken."""
    import textwrap

    return textwrap.wrap(words, max(20, width), break_long_words=False, break_on_hyphens=False) or [""]


def two_columns(left: Sequence[Line], right: Sequence[Line], at: int) -> list[Line]:
    """Two columns of lines, the right one beginning at the cell `at`."""
    found: list[Line] = []
    for number in range(max(len(left), len(right))):
        one = list(left[number]) if number < len(left) else []
        other = list(right[number]) if number < len(right) else []
        if other:
            cells = sum(text.cells(run) for run, _ in one)
            one.append((" " * max(2, at - cells), ""))
        found.append([*one, *other])
    return found
