"""The Overview page, as pure functions from the status, the last hour's throughput, the time and the width to lines.

It serves the decision whether to look anywhere else. Alarms come first, in words; then what waits, and why; then throughput,
counts by state, the worker and what it runs, and the health of the disk.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from covenq.model import NOT_RUNNING
from covenq.model.palette import STATE_TONES
from covenq.model.waiting import untold_pauses
from covenq.text import counted
from covenq.tui import text
from covenq.tui.panes import alarms
from covenq.tui.panes.alarms import Alarm
from covenq.tui.panes.waiting import waiting_lines
from covenq.tui.widgets.lines import Line, labelled

if TYPE_CHECKING:
    from covenq.model.answers import Throughput
    from covenq.model.status import JournalStatus, Status

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
RUNNING_MAX = 12
"""Running tasks that are listed."""
SERIES = (("accepted", "good"), ("refused", "warning"), ("completed", "active"), ("failed", "bad"))


def sparkline(values: Sequence[int], most: int) -> str:
    """A cell for each value: a dot for zero, else at least the lowest block, the full one for `most`."""
    if most <= 0:
        return ZERO * len(values)
    last = len(BLOCKS) - 1
    return "".join(ZERO if value <= 0 else BLOCKS[min(last, value * last // most)] for value in values)


def overview(
    status: Status,
    throughput: Throughput | None,
    now: float,
    width: int,
    *,
    problem: BaseException | None = None,
    writable: bool = True,
    seen: Container[Alarm] = (),
) -> list[Line]:
    """The page. `throughput` is the result of `Source.throughput`, None until it is read; `problem` is why it can't be.

    `seen` are the alarms that were acknowledged: they are listed all the same, without their colour.
    """
    told = replace(status, pauses=untold_pauses(status.pauses, status.waiting))  # the others stand in what waits
    lines = _alarm_lines(alarms.of_status(told, now, writable=writable), seen, width)
    if waits := waiting_lines(status.waiting, now, width - 3):
        lines += [*waits, []]
    if throughput is not None or problem is None:
        lines += _throughput_lines(throughput, width)
    else:
        lines.append([("A minute", "bold")])
    if problem is not None:
        before = "what was counted before is shown" if throughput is not None else "nothing is counted"
        for part in _wrapped(f"✗ {before}: {text.clean(problem)}", width - 3):
            lines.append([(f"  {part}", "bad")])
    lines.append([])
    tasks, deliveries = (
        _state_counts("Tasks", status.tasks, status.oldest.tasks, now),
        _state_counts("Deliveries", status.deliveries, status.oldest.deliveries, now),
    )
    worker, health, where = _worker(status, now), _health(status), _locations(status, now)
    if width >= TWO_COLUMNS_MIN:
        return lines + two_columns([*tasks, [], *deliveries], [*worker, [], *health, [], *where], width // 2)
    return [*lines, *tasks, [], *worker, [], *health, [], *deliveries, [], *where]


def _alarm_lines(found: Sequence[Alarm], seen: Container[Alarm], width: int) -> list[Line]:
    """Every alarm whole: the bar above the other pages has room for one."""
    lines: list[Line] = []
    for alarm in found:
        mark, tone = ("·", "muted") if alarm in seen else ("!", alarm.tone)
        for number, part in enumerate(_wrapped(alarm.words, width - 3)):
            lines.append([(f"{' ' if number else mark} {part}", tone)])
    return [*lines, []] if lines else []


# ---- throughput


def _throughput_lines(throughput: Throughput | None, width: int) -> list[Line]:
    if throughput is None:
        return [[("A minute", "bold"), ("   … counting", "muted")]]
    room = max(8, min(GRAPH_MAX, throughput.minutes, width - _LABEL - _NUMBERS - 3))
    head = f"{'full min':>9}{'peak':>8}{'in all':>10}"
    lines: list[Line] = [[("A minute", "bold"), (f"{'':<{_LABEL + room - 6}}{head}", "muted")]]
    all_series = (throughput.accepted, throughput.refused, throughput.completed, throughput.failed)
    shown = [series[-room:] for series in all_series]
    most = max((value for values in shown for value in values), default=0)
    for (name, style), values in zip(SERIES, shown, strict=True):
        full = values[-2] if len(values) > 1 else 0
        figures = f"{text.number(full):>9}{text.number(max(values, default=0)):>8}{text.number(sum(values)):>10}"
        lines.append([(f"  {name:<{_LABEL - 2}}", ""), (sparkline(values, most), style), (f" {figures}", "")])
    ticks = f"{'':<{_LABEL}}{f'{room} minutes ago':<{room - 3}}now"
    scale = f"  one scale: █ is {text.number(most)}" if most else ""
    lines.append([(ticks + scale, "muted")])
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
        style = STATE_TONES.get(word, "")
        bar = "█" * max(1, count * _BAR // most)
        line = [(f"  {text.state(word):<14}", style), (f"{text.number(count):>11}  ", ""), (f"{bar:<{_BAR}}", style)]
        if word in oldest:
            line.append((f"  oldest {text.age(oldest[word], now)}", "warning" if word == "queued" else ""))
        lines.append(line)
    if not total:
        lines.append([("  none yet", "muted")])
    return lines


# ---- the worker


def _worker(status: Status, now: float) -> list[Line]:
    worker = status.worker
    running = status.running
    if not worker:
        where = NOT_RUNNING if NOT_RUNNING in status.reasons else "no daemon answers"
        return [[("Worker", "bold"), (f"  {where}", "muted")]]
    slots, busy = worker.concurrency, len(worker.running)
    graph = "■" * min(busy, 40) + "□" * min(max(slots - busy, 0), 40)
    lines: list[Line] = [[("Worker", "bold"), (f"  {busy} of {slots} slots busy  ", ""), (graph, "active")]]
    for one in running[:RUNNING_MAX]:
        limit = one.timeout_s
        until = f" of {text.duration(limit)}" if limit else ""
        number = f"#{one.number}" if one.number is not None else ""
        target = f"{text.clean(one.repo or '')}{number}"
        who = f"  {text.clean(one.worker)}" if one.lease_until else ""
        took = f"{text.age(one.since, now)}{until}"
        lines.append(
            [
                (f"  ◐ {took:<10} ", "active"),
                (f"{text.clean(one.route or text.ABSENT)}  {target}{who}", ""),
                (f"  {text.clean(one.task)}", "muted"),
            ]
        )
    if len(running) > RUNNING_MAX:
        lines.append([(f"  and {len(running) - RUNNING_MAX} more: 3 /state:running", "muted")])
    return lines


# ---- health, and locations


def _health(status: Status) -> list[Line]:
    log, state = status.journal, status.state
    lines: list[Line] = [[("Durability", "bold")], labelled("fsync", fsync(log))]
    disk = status.disk
    if disk:
        share = disk.free * 100 // max(1, disk.total)
        lines.append(
            labelled("disk", f"{text.size(disk.free)} free of {text.size(disk.total)}", "bad" if share < 5 else "")
        )
    lag = state.lag
    lines.append(labelled("fold lag", counted(lag, "record") if lag else "none"))
    doing = status.upkeep.doing if status.upkeep else None
    if doing:
        lines.append(labelled("upkeep", f"{doing.what}: {doing.done} of {doing.total} segments", "warning"))
    refused = status.refused
    if refused:
        by_count = sorted(refused.items(), key=lambda one: -one[1])
        lines += [[], [("Refused since the start", "bold"), (f"  {text.number(sum(refused.values()))}", "")]]
        lines += [labelled(text.number(count), word) for word, count in by_count[:8]]
        lines.append([("  covenq refused says of each what to do", "muted")])
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
