"""The Overview's table of routes: of each what came in the last hour, how it ended, how long it waited and ran, what waits now.

It serves one decision: which route to look at first. Each row opens the route's tasks. All graphs have one scale, which is said,
so that a route with ten times the load looks like one; and the columns of numbers stand in the same place at every width.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from covenq.client.suggestion import suggested
from covenq.filter.explain import quoted
from covenq.model.palette import Tone
from covenq.model.route_times import (
    NO_TIMES,
    RouteMinutes,
    categories_text,
    failing_text,
    fails,
    share_text,
    times_text,
)
from covenq.text import shorten_middle
from covenq.tui import text
from covenq.tui.widgets.lines import Line, Link, LinkedLine

if TYPE_CHECKING:
    from covenq.model.answers import Throughput

BLOCKS = "▁▂▃▄▅▆▇█"
"""Eighths of a cell, for a graph of one row."""
ZERO = "·"
ROUTES_MAX = 12
"""Routes that are shown; of more, those with the most to say."""
FAILING_MAX = 3
"""Routes that fail which are told one by one."""
GOOD_SHARE = 0.9
"""With a lesser share of attempts that completed, the share is a warning."""

_NAME_MIN, _NAME_MAX = 12, 28
_NUMBERS = " {tasks:>7}{ok:>6} {w50:>6}{w95:>6} {r50:>6}{r95:>6}{queued:>9}"
_NUMBERS_WIDTH = 48
_WHY_MIN, _WHY_WIDE = 16, 32
"""Cells from which there is a column for why attempts failed, and that it has before the graph has a cell for each minute."""
_CELLS = (60, 30, 20, 15, 12)
"""Cells that the graph of an hour may have, so that each is of as many minutes."""


def sparkline(values: Sequence[int], most: int) -> str:
    """A cell for each value: a dot for zero, else at least the lowest block, the full one for `most`."""
    if most <= 0:
        return ZERO * len(values)
    last = len(BLOCKS) - 1
    return "".join(ZERO if value <= 0 else BLOCKS[min(last, value * last // most)] for value in values)


def failing_lines(found: Sequence[RouteMinutes], width: int, *, sampled: bool = False) -> list[Line]:
    """Of each that fails how many attempts did, and why, and the command that lists them."""
    lines: list[Line] = []
    for one in found[:FAILING_MAX]:
        terms = [] if one.name is None else [f"route:{quoted(one.name)}", "state:failed"]
        link = Link("tasks", " ".join(terms)) if terms else None
        words = f"route {_name(one)}: {text.clean(failing_text(one, sampled=sampled))}"
        parts = text.wrap(words, max(20, width - 4))
        command = text.clean(suggested(f"covenq tasks {shlex.join(terms)}" if terms else "covenq stats"))
        lines += [LinkedLine([(f"  {' ' if n else '✗'} {part}", "bad")], link) for n, part in enumerate(parts)]
        if text.cells(parts[-1]) + text.cells(command) + 6 <= width:
            lines[-1].append((f"  {command}", "bold"))
        else:
            lines.append(LinkedLine([(f"    {command}", "bold")], link))
    if len(found) > FAILING_MAX:
        lines.append([(f"  ✗ {len(found) - FAILING_MAX} more routes fail: covenq stats", "bad")])
    return lines


def route_lines(throughput: Throughput | None, configured: Sequence[str], width: int) -> list[Line]:
    """The section. `configured` are the routes in the configuration's order; `throughput` is None until it is read."""
    if throughput is None:  # as many lines as there will be, so that nothing below moves
        names = [LinkedLine([(f"  {text.clean(one)}", "")], _link(one)) for one in configured[:ROUTES_MAX]]
        return [[("Routes", "bold"), ("  … counting", "muted")], [], *names]
    shown, others = _shown(throughput, configured)
    if not shown:
        return [[("Routes", "bold"), (f"  none: `{text.clean(suggested('covenq init'))}` writes some", "muted")]]
    name = max(_NAME_MIN, min(_NAME_MAX, max(text.cells(_name(one)) for one in shown), (width - _NUMBERS_WIDTH) // 2))
    room = width - 2 - name - 1 - _NUMBERS_WIDTH
    cells = next((one for one in _CELLS if one <= room), _CELLS[-1])
    if cells == _CELLS[0] and room - cells < _WHY_WIDE + 2:
        cells = _CELLS[1]  # why it failed is worth more than a finer graph
    each = max(1, -(-throughput.minutes // cells))
    graphs = {one.name: _by(one.tasks, each)[-cells:] for one in shown}
    most = max((value for values in graphs.values() for value in values), default=0)
    why = room - cells - 2
    title = f"  tasks of {throughput.minutes} min, {each} min a cell"
    if most:
        title += f"; one scale: █ is {text.number(most)}"
    if throughput.sampled:
        title += "; estimated from a sample"
    head = _NUMBERS.format(tasks="tasks", ok="ok", w50="waited", w95="p95", r50="ran", r95="p95", queued="wait now")
    heading = f"{'':<{2 + name + 1 + cells}}{head}{'  failed by' if why >= _WHY_MIN else ''}"
    lines: list[Line] = [[("Routes", "bold"), (title, "muted")], [(heading, "muted")]]
    lines += [_row(one, graphs[one.name], most, name, cells, why) for one in shown]
    if others:
        lines.append([(f"  and {text.number(others)} more: covenq stats", "muted")])
    return lines


def _row(one: RouteMinutes, graph: Sequence[int], most: int, name: int, cells: int, why: int) -> Line:
    times = one.times or NO_TIMES
    waited, ran = times_text(times.waited), times_text(times.ran)
    before = _NUMBERS.partition("{ok")[0].format(tasks=_number(sum(one.tasks)))
    after = _NUMBERS.partition("{ok:>6}")[2].format(w50=waited[0], w95=waited[1], r50=ran[0], r95=ran[1], queued="")
    tone = _tone(one)
    fitted = text.fit(shorten_middle(_name(one), name), name)
    runs = [
        (f"  {fitted} ", tone if tone == "bad" else ""),
        (f"{sparkline(graph, most):<{cells}}", "active"),
        (before, ""),
        (f"{share_text(times.ok):>6}", tone),
        (after[:-9], ""),
        (f"{_number(one.queued) if one.queued else '–':>9}", "warning" if one.queued else "muted"),
    ]
    if why >= _WHY_MIN and times.categories:
        runs.append((f"  {text.fit(text.clean(categories_text(times.categories)), why).rstrip()}", tone))
    return LinkedLine(runs, _link(one.name))


def _link(name: str | None) -> Link | None:
    return None if name is None else Link("tasks", f"route:{quoted(name)}")


def _number(value: int) -> str:
    """In at most six cells: `99,999`, `833k`, `1.2M`."""
    if value < 100_000:
        return text.number(value)
    if value < 1_000_000:
        return f"{value // 1000}k"
    return f"{value / 1_000_000:.1f}M" if value < 10_000_000 else f"{value // 1_000_000:,}M"


def _tone(one: RouteMinutes) -> Tone | str:
    if fails(one):
        return "bad"
    ok = None if one.times is None else one.times.ok
    return "warning" if ok is not None and ok < GOOD_SHARE else ""


def _name(one: RouteMinutes) -> str:
    return text.ABSENT if one.name is None else text.clean(one.name)


def _by(values: Sequence[int], each: int) -> list[int]:
    """The sums of so many at a time, the last of them whole."""
    first = len(values) % each
    return [
        *([sum(values[:first])] if first else []),
        *(sum(values[n : n + each]) for n in range(first, len(values), each)),
    ]


def _shown(throughput: Throughput, configured: Sequence[str]) -> tuple[list[RouteMinutes], int]:
    """The routes to show in the configuration's order, others after them, and how many are left out."""
    found = {one.name: one for one in throughput.routes}
    quiet = [RouteMinutes(name=name, tasks=[0] * throughput.minutes) for name in configured if name not in found]
    chosen: Iterable[RouteMinutes] = [*throughput.routes, *quiet][:ROUTES_MAX]
    place = {name: n for n, name in enumerate(configured)}
    ordered = sorted(chosen, key=lambda one: (place.get(one.name or "", len(place)), str(one.name)))
    return ordered, max(0, len(found) + len(quiet) - ROUTES_MAX) + throughput.more_routes
