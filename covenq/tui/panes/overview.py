"""The Overview page, as pure functions from the status, the last hour's throughput, the time and the width to lines.

It serves the decision whether to look anywhere else, and where. A person who has never seen it finds three answers on it, at
80×24 without scrolling: *is anything wrong?* is the first line, by its word and by how many things are wrong, and below it the
alarms say which; *what waits, and why?* is the section Waiting, a line for each cause; *what do I type?* stands in bold at the
end of those lines, and for what is wrong at the end of the first. Then come the routes, what runs, durability, and counts.
Sections are always there, in this order, so that the eye finds them again; a line that opens a list is one to stop at.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from covenq.client.suggestion import suggested
from covenq.model import NOT_RUNNING, State
from covenq.model.palette import STATE_TONES, Tone
from covenq.model.readiness import NOT_READY, READY, STANDBY, WELL, readiness
from covenq.model.route_times import failing
from covenq.model.waiting import TONES, untold_pauses
from covenq.text import counted, shorten_middle
from covenq.tui import text
from covenq.tui.panes import alarms
from covenq.tui.panes.alarms import Alarm
from covenq.tui.panes.durability import durability
from covenq.tui.panes.route_table import failing_lines, route_lines, sparkline
from covenq.tui.panes.waiting import waiting_lines
from covenq.tui.widgets.lines import Line, Link, LinkedLine, labelled, link_of

if TYPE_CHECKING:
    from covenq.model.answers import Throughput
    from covenq.model.route_times import RouteMinutes
    from covenq.model.status import Status

_LABEL = 12
_NUMBERS = 28
"""Cells beside a graph: its name, and its three numbers."""
GRAPH_MAX = 60
"""Cells of the widest graph."""
TWO_COLUMNS_MIN = 132
"""Cells of width from which the lower half has two columns."""
ALARMS_FIRST = 4
"""Alarms that stand before what waits, the worst; of more the others stand below the routes, so that what waits is in view."""
RUNNING_MAX = 8
"""Running tasks that are listed."""
_ROUTE_MAX, _TARGET_MIN = 24, 20
"""Cells of a running task's route, at most, and of what it is about, at least."""
SERIES = (("accepted", "good"), ("refused", "warning"), ("completed", "active"), ("failed", "bad"))


def overview(
    status: Status,
    throughput: Throughput | None,
    now: float,
    width: int,
    *,
    problem: BaseException | None = None,
    writable: bool = True,
    here: bool = True,
    seen: Container[Alarm] = (),
) -> list[Line]:
    """The page. `throughput` is the result of `Source.throughput`, None until it is read; `problem` is why it can't be.

    `seen` are the alarms that were acknowledged: they are listed all the same, without their colour. `here`: the daemon's files
    are on this machine.
    """
    told = replace(status, pauses=untold_pauses(status.pauses, status.waiting))  # the others stand in what waits
    found = alarms.of_status(told, now, writable=writable)
    failed = _failing(status, throughput)
    lines = _verdict(status, len(found) + len(failed), width, here=here)
    first, others = found[:ALARMS_FIRST], found[ALARMS_FIRST:]
    lines += [*_alarm_lines(first, seen, width), *failing_lines(failed, width, sampled=_is_sampled(throughput))]
    lines += [[(f"  and {len(others)} more, below the routes", "muted")], []] if others else [[]]
    lines += waiting_lines(status.waiting, now, width - 1) or _waiting_untold(status)
    lines.append([])
    if problem is None or throughput is not None:
        lines += route_lines(throughput, status.routes, width)
    else:
        lines.append([("Routes", "bold")])
    if problem is not None:
        before = "what was counted before is shown" if throughput is not None else "nothing is counted"
        for part in _wrapped(f"✗ {before}: {text.clean(problem)}", width - 3):
            lines.append([(f"  {part}", "bad")])
    lines += [[], [("Also wrong", "bold")], *_alarm_lines(others, seen, width), []] if others else [[]]
    tasks, deliveries = (
        _state_counts("Tasks", status.tasks, status.oldest.tasks, now),
        _state_counts("Deliveries", status.deliveries, status.oldest.deliveries, now),
    )
    minutes = [] if throughput is None else [[], *_throughput_lines(throughput, width)]
    half = width // 2 if width >= TWO_COLUMNS_MIN else width
    worker, disk, refused, where = (
        _worker(status, now, half),
        durability(status, now),
        _refused(status),
        _locations(status, now),
    )
    if half < width:
        left, right = [*worker, [], *tasks, [], *deliveries], [*disk, *refused, [], *where]
        return [*lines, *two_columns(left, right, half), *minutes]
    return [*lines, *worker, [], *disk, [], *tasks, [], *deliveries, *minutes, *refused, [], *where]


_SENTENCES = {READY: "accepts deliveries", NOT_READY: "receives nothing", STANDBY: "passes deliveries on"}


def _failing(status: Status, throughput: Throughput | None) -> list[RouteMinutes]:
    return [] if throughput is None else failing(throughput.routes, status.waiting)


def _is_sampled(throughput: Throughput | None) -> bool:
    return throughput is not None and throughput.sampled


def _verdict(status: Status, alarmed: int, width: int, *, here: bool) -> list[Line]:
    """Whether anything is wrong, in a word and a sentence; what waits, in a number; and what to type of what is wrong."""
    ready = readiness(status)
    bad = alarmed + sum(TONES.get(one.cause) == "bad" for one in status.waiting)
    waits = _waits(status)
    tone: Tone = "bad" if ready.word not in WELL else "warning" if bad else "good"
    # Shorter than it is elsewhere; and that it is read from the files stands above.
    sentence = _SENTENCES.get(ready.word) or ready.sentence.partition(";")[0]
    wrong = f"{counted(bad, 'thing')} {'is' if bad == 1 else 'are'} wrong" if bad else "nothing is wrong"
    if ready.word not in WELL and not bad:
        wrong = ""
    waiting = f"{text.number(waits)} {'waits' if waits == 1 else 'wait'}" if waits else "nothing waits"
    words = "; ".join(filter(None, (sentence, wrong, waiting)))
    mark = "✓" if tone == "good" else "✗" if tone == "bad" else "!"
    command = "" if tone == "good" else text.clean(suggested("covenq doctor" if here else "covenq status"))
    first = f"{mark} {ready.word}"
    indent = text.cells(first) + 2
    parts = _wrapped(words, width - indent)
    shown: list[Line] = [[(first, f"{tone} bold"), (f"  {parts[0]}", "")]]
    shown += [[(" " * indent + part, "")] for part in parts[1:]]
    if command and indent + text.cells(parts[-1]) + 2 + text.cells(command) <= width:
        shown[-1].append((f"  {command}", "bold"))
    elif command:
        shown.append([(" " * max(0, min(indent, width - text.cells(command))), ""), (command, "bold")])
    return shown


def _waits(status: Status) -> int:
    return sum(one.count for one in status.waiting) or status.tasks.get(State.QUEUED, 0)


def _waiting_untold(status: Status) -> list[Line]:
    waits = _waits(status)
    told = f"  {text.number(waits)}, and the daemon doesn't say for what" if waits else "  nothing"
    return [[("Waiting", "bold"), (told, "")]]


def _alarm_lines(found: Sequence[Alarm], seen: Container[Alarm], width: int) -> list[Line]:
    """Every alarm whole: the bar above the other pages has room for one."""
    lines: list[Line] = []
    for alarm in found:
        mark, tone = ("·", "muted") if alarm in seen else ("!", alarm.tone)
        for number, part in enumerate(_wrapped(alarm.words, width - 3)):
            lines.append([(f"{' ' if number else mark} {part}", tone)])
    return lines


# ---- throughput


def _throughput_lines(throughput: Throughput, width: int) -> list[Line]:
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
        lines.append(LinkedLine(line, Link(title.lower(), f"state:{word}")))
    if not total:
        lines.append([("  none yet", "muted")])
    return lines


# ---- the worker


def _worker(status: Status, now: float, width: int) -> list[Line]:
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
        name, task = shorten_middle(text.clean(one.route or text.ABSENT), _ROUTE_MAX), text.clean(one.task)
        room = width - 17 - text.cells(name) - text.cells(who)
        if room - text.cells(task) - 2 >= _TARGET_MIN:
            room -= text.cells(task) + 2
        else:
            task = ""  # the route and what it is about say more
        line = [
            (f"  ◐ {took:<10} ", "active"),
            (f"{name}  {shorten_middle(target, max(_TARGET_MIN, room))}{who}", ""),
            (f"  {task}".rstrip(), "muted"),
        ]
        lines.append(LinkedLine(line, Link("tasks", f"id:{one.task}")))
    if len(running) > RUNNING_MAX:
        more = [(f"  and {len(running) - RUNNING_MAX} more: 3 /state:running", "muted")]
        lines.append(LinkedLine(more, Link("tasks", "state:running")))
    return lines


# ---- refusals, and locations


def _refused(status: Status) -> list[Line]:
    refused = status.refused
    if not refused:
        return []
    by_count = sorted(refused.items(), key=lambda one: -one[1])
    return [
        [],
        [("Refused since the start", "bold"), (f"  {text.number(sum(refused.values()))}", "")],
        *(labelled(text.number(count), word) for word, count in by_count[:8]),
        [("  covenq refused says of each what to do", "muted")],
    ]


def _webhook(status: Status) -> str | None:
    followed = status.reconcile is not None and status.reconcile.follows
    return "none: GitHub's log is followed" if followed else status.webhook_url


def _locations(status: Status, now: float) -> list[Line]:
    lines: list[Line] = [[("Where", "bold")], labelled("webhook", _webhook(status))]
    if status.api_url:
        lines.append(labelled("api", status.api_url))
    lines.append(labelled("data", status.data))
    lines.append(
        labelled("routes", ", ".join(status.routes) or f"none: `{text.clean(suggested('covenq init'))}` writes some")
    )
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
        link = (link_of(left[number]) if number < len(left) else None) or (
            link_of(right[number]) if number < len(right) else None
        )
        found.append(LinkedLine([*one, *other], link))
    return found
