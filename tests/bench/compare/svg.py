"""Plots as SVG: bars, and lines over a logarithmic axis.

Written here, for two forms of plot are fewer lines than matplotlib's settings would be, and it would draw for one background
alone: these follow the reader's, light or dark. The same figures make the same bytes. Text is text, in the reader's own font, and
a series is told by its mark, its dashes and its name, not by its colour alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from tests.bench.figures import Spread

WIDTH = 720
COLOURS = {
    # name: (light, dark), each of 4.5:1 or more on its background
    "bg": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#f0f6fc"),
    "faint": ("#59636e", "#9198a1"),
    "grid": ("#d1d9e0", "#3d444d"),
    "s0": ("#0550ae", "#79c0ff"),
    "s1": ("#953800", "#ffa657"),
    "s2": ("#116329", "#7ee787"),
    "s3": ("#59636e", "#9198a1"),
}
DASHES = ("", "7 4", "2 4", "9 3 2 3")


class Bar(NamedTuple):
    label: str
    value: Spread
    notes: tuple[str, ...]
    """Written behind the bar, each a line."""
    ours: bool = False


class Line(NamedTuple):
    label: str
    points: Sequence[tuple[float, Spread]]


def bars(title: str, question: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars of rates, each with its spread as a whisker, and what is written behind it."""
    left, right, top = 150, 280, 76
    step = 26 + 15 * max(len(row.notes) for row in rows)
    most = max(row.value.high for row in rows)
    scale = (WIDTH - left - right) / most
    parts = []
    for number, row in enumerate(rows):
        y = top + number * step
        kind = "s0" if row.ours else "s3"
        weight = ' font-weight="600"' if row.ours else ""
        low, middle, high = (row.value.low * scale, row.value.middle * scale, row.value.high * scale)
        behind = _n(left + high + 10)
        parts += [
            f'<text class="ink" x="{left - 12}" y="{y + 16}" text-anchor="end"{weight}>{escape(row.label)}</text>',
            f'<rect class="{kind}" x="{left}" y="{y}" width="{_n(middle)}" height="22" rx="2"/>',
            f'<path class="casing" d="M{_n(left + low)} {y + 11}H{_n(left + high)}"/>',
            f'<path class="whisker" d="M{_n(left + low)} {y + 11}H{_n(left + high)}"/>',
            f'<text class="ink" x="{behind}" y="{y + 10}"{weight}>{escape(number_of(row.value.middle))} /s</text>',
        ]
        for line, note in enumerate(row.notes):
            parts.append(f'<text class="faint small" x="{behind}" y="{y + 25 + 15 * line}">{escape(note)}</text>')
    return _document(title, question, top + len(rows) * step + 8, parts)


def lines(title: str, question: str, unit: str, series: Sequence[Line], note: str = "") -> str:
    """Lines over the number of deliveries, on two logarithmic axes, each named at its end; `note` stands below."""
    left, right, top, height = 76, 150, 84, 300
    xs = sorted({x for line in series for x, _ in line.points})
    lows = [spread.low for line in series for _, spread in line.points]
    highs = [spread.high for line in series for _, spread in line.points]
    bottom, ceiling = math.floor(math.log10(min(lows))), math.ceil(math.log10(max(highs)))
    ceiling = max(ceiling, bottom + 1)

    def x_of(x: float) -> float:
        span = math.log10(xs[-1] / xs[0]) or 1.0
        return left + (WIDTH - left - right) * math.log10(x / xs[0]) / span

    def y_of(y: float) -> float:
        return top + height * (ceiling - math.log10(y)) / (ceiling - bottom)

    parts = []
    for decade in range(bottom, ceiling + 1):
        y = y_of(10.0**decade)
        parts.append(f'<path class="grid" d="M{left} {_n(y)}H{WIDTH - right}"/>')
        label = f"{number_of(10.0**decade)} {unit}"
        parts.append(
            f'<text class="faint small" x="{left - 8}" y="{_n(y + 4)}" text-anchor="end">{escape(label)}</text>'
        )
    for x in xs:
        parts.append(f'<path class="grid" d="M{_n(x_of(x))} {top}V{top + height}"/>')
        parts.append(
            f'<text class="faint small" x="{_n(x_of(x))}" y="{top + height + 18}" text-anchor="middle">{number_of(x)}</text>'
        )
    below = f"deliveries held{note and '; '}{note}"
    parts.append(f'<text class="faint small" x="{left}" y="{top + height + 40}">{escape(below)}</text>')
    ends = _apart([y_of(line.points[-1][1].middle) for line in series], 18.0)
    for number, (line, end) in enumerate(zip(series, ends, strict=True)):
        places = [(x_of(x), y_of(spread.middle)) for x, spread in line.points]
        path = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in places)
        dashes = f' stroke-dasharray="{DASHES[number]}"' if DASHES[number] else ""
        parts.append(f'<path class="line l{number}" d="{path}"{dashes}/>')
        for (x, y), (_, spread) in zip(places, line.points, strict=True):
            parts.append(
                f'<path class="line thin l{number}" d="M{_n(x)} {_n(y_of(spread.low))}V{_n(y_of(spread.high))}"/>'
            )
            parts.append(_mark(number, x, y))
        weight = ' font-weight="600"' if number == 0 else ""
        parts.append(
            f'<text class="s{number}" x="{_n(places[-1][0] + 14)}" y="{_n(end + 4)}"{weight}>{escape(line.label)}</text>'
        )
    return _document(title, question, top + height + 54, parts)


def number_of(value: float) -> str:
    """As people write it: three digits that count, thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _mark(number: int, x: float, y: float) -> str:
    kind = f"s{number}"
    if number == 0:
        return f'<circle class="{kind}" cx="{_n(x)}" cy="{_n(y)}" r="4.5"/>'
    if number == 1:
        return f'<rect class="{kind}" x="{_n(x - 4)}" y="{_n(y - 4)}" width="8" height="8"/>'
    return f'<path class="{kind}" d="M{_n(x)} {_n(y - 5)}l5 9h-10z"/>'


def _apart(places: list[float], least: float) -> list[float]:
    """The places, moved as little down as keeps each from covering the one above."""
    order = sorted(range(len(places)), key=lambda one: places[one])
    found = list(places)
    for above, below in itertools.pairwise(order):
        found[below] = max(found[below], found[above] + least)
    return found


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _document(title: str, question: str, height: int, parts: Sequence[str]) -> str:
    def rules(which: int) -> str:
        found = []
        for name, both in COLOURS.items():
            found.append(f".{name}{{fill:{both[which]}}}")
        found.append(f".grid{{fill:none;stroke:{COLOURS['grid'][which]}}}")
        found.append(f".casing{{fill:none;stroke-width:6;stroke:{COLOURS['bg'][which]}}}")
        found.append(f".whisker{{fill:none;stroke-width:2;stroke:{COLOURS['ink'][which]}}}")
        found += [f".l{number}{{stroke:{COLOURS[f's{number}'][which]}}}" for number in range(4)]
        return "".join(found)

    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
            ' role="img" aria-labelledby="title question">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="question">{escape(question)}</desc>',
            "<style>",
            "text{font:14px system-ui,-apple-system,'Segoe UI',sans-serif}",
            "text.small{font-size:12px}text.big{font-size:18px;font-weight:600}",
            ".line{fill:none;stroke-width:2.5}.thin{stroke-width:1.2}",
            rules(0),
            f"@media (prefers-color-scheme: dark){{{rules(1)}}}",
            "</style>",
            f'<rect class="bg" width="{WIDTH}" height="{height}"/>',
            f'<text class="ink big" x="20" y="30">{escape(title)}</text>',
            f'<text class="faint" x="20" y="52">{escape(question)}</text>',
            *parts,
            "</svg>",
            "",
        ]
    )
