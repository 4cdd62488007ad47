"""The figures as tables of text, narrow enough for a page of 80 columns: for the terminal, and for the manual page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tests.bench.compare.losses import Loss
from tests.bench.compare.results import Results
from tests.bench.compare.svg import number_of
from tests.bench.figures import Spread

WIDTH = 72
"""Columns that a page has for them."""
INTAKE = {
    "covenq": "covenq",
    "hmac": "Falcon alone",
    "normal": "SQLite NORMAL",
    "full": "SQLite FULL",
    "postgres": "PostgreSQL",
}
TASKS = {
    "covenq": "covenq, 32 a request",
    "covenq, one a request": "covenq, 1 a request",
    "huey, SQLite with fsync": "huey",
    "huey, which stores their ends too": "huey, ends stored",
    "procrastinate, PostgreSQL": "procrastinate",
}
"""Their names in tests/bench/tasks.py, and here."""
KILLED = {
    "covenq": "covenq",
    "covenq, one a request": "covenq",
    "huey, SQLite with fsync": "huey",
    "huey, which stores their ends too": "huey",
    "procrastinate, PostgreSQL": "procrastinate",
}
"""Which of the systems that were killed while they did tasks it is."""
STORES = {"covenq": "covenq", "full": "SQLite", "postgres": "PostgreSQL"}
MEASURES = {
    "start_ms": ("Start, from nothing to the first 202", "ms"),
    "memory_mib": ("Memory of all of its processes, once it was asked all of these", "MiB"),
    "disk_mib": ("On the disk", "MiB"),
    "target_ms": ("Filter: what came of one pull request", "ms"),
    "failed_ms": ("Filter: the 50 newest that failed", "ms"),
    "why_ms": ("All that is known of one delivery", "ms"),
    "claim_ms": ("Claim a task and end it, each durable", "ms"),
    "verify_s": ("Check all that is held", "s"),
}
"""By measure: what is asked, and the unit."""


class Block(NamedTuple):
    """A table under a heading."""

    title: str
    lines: list[str]


def blocks(results: Results) -> list[Block]:
    """All tables of what was measured."""
    found = []
    if results.intake:
        found.append(Block("Deliveries accepted a second", intake(results)))
    if results.intake_losses or results.power_cuts:
        found.append(Block("Deliveries acknowledged, and lost", losses(results)))
    if results.tasks:
        found.append(Block("Tasks done a second", tasks(results)))
    found += [
        Block(f"{title} ({unit})", by_size(results, measure))
        for measure, (title, unit) in MEASURES.items()
        if results.sizes
    ]
    return found


def intake(results: Results) -> list[str]:
    """A line a server: its rate, how covenq's compares, an answer's time at half of it, and what it lost."""
    ours = results.intake.get("covenq")
    rows = [["", "/s", "covenq ×", "p99 ms", "CPU µs", "lost", "twice", "cut"]]
    for name, title in INTAKE.items():
        one = results.intake.get(name)
        if one is not None:
            ratio = "" if ours is None or name == "covenq" else times(Spread.of_ratios(ours.rate, one.rate))
            figures = [number_of(Spread.of(values).middle) for values in (one.rate, one.p99_half_ms, one.cpu_us)]
            _, *killed = _losses(results.intake_losses.get(name))
            rows.append([title, figures[0], ratio, *figures[1:], *killed, _losses(results.power_cuts.get(name))[1]])
    return aligned(rows)


def losses(results: Results) -> list[str]:
    """A line a server: what it acknowledged and lost, and had twice, when it was killed, and when the power was cut as well."""
    rows = [["", "killed: of", "lost", "twice", "power cut: of", "lost", "twice"]]
    for name, title in INTAKE.items():
        if name in results.intake_losses or name in results.power_cuts:
            every = (results.intake_losses.get(name), results.power_cuts.get(name))
            rows.append([title, *(cell for loss in every for cell in _losses(loss))])
    return aligned(rows)


def tasks(results: Results) -> list[str]:
    ours = results.tasks.get("covenq")
    rows = [["", "/s", "covenq ×", "killed: of", "lost", "twice"]]
    for name, title in TASKS.items():
        rates = results.tasks.get(name)
        if rates:
            ratio = "" if not ours or KILLED[name] == "covenq" else times(Spread.of_ratios(ours[: len(rates)], rates))
            rows.append(
                [title, number_of(Spread.of(rates).middle), ratio, *_losses(results.task_losses.get(KILLED[name]))]
            )
    return aligned(rows)


def by_size(results: Results, measure: str) -> list[str]:
    """A line a size: what each system takes, and how many times what another takes covenq does."""
    names = [name for name in STORES if any(name in found for found in results.sizes.values())]
    rows = [["held"]]
    for name in names:
        rows[0] += [STORES[name]] if name == "covenq" else [STORES[name], "covenq ×"]
    for count in sorted(results.sizes):
        found = results.sizes[count]
        ours = found.get("covenq", {}).get(measure)
        row = [f"{count:,}"]
        for name in names:
            values = found.get(name, {}).get(measure)
            row.append(number_of(Spread.of(values).middle) if values else "–")
            if name != "covenq":
                row.append(times(Spread.of_ratios(ours, values)) if values and ours else "–")
        rows.append(row)
    return aligned(rows)


def times(ratio: Spread) -> str:
    """`1.2 (1.1–1.4)`; without a spread where there was one round."""
    spread = "" if ratio.low == ratio.high else f" ({_short(ratio.low)}–{_short(ratio.high)})"
    return f"{_short(ratio.middle)}{spread}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _losses(loss: Loss | None) -> tuple[str, str, str]:
    """Of how many, lost, and twice."""
    return ("–", "–", "–") if loss is None else (f"{loss.acknowledged:,}", f"{loss.lost:,}", f"{loss.doubled:,}")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns two spaces apart, the first to the left and the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def machine_lines(results: Results) -> list[str]:
    """What it was measured on, and how."""
    one = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in one.versions.items())
    return [
        f"{one.processor}, {one.cores} cores, {one.memory_gib:g} GiB; {one.kernel}",
        f"{one.filesystem}; a write of 4 KiB and its sync take {one.sync_us[0]:,.0f} µs (p99: {one.sync_us[1]:,.0f})",
        versions,
        f"{one.day}, load {one.load:g} at the start, {results.took_s / 60:.0f} minutes; "
        + ", ".join(f"{name} {value}" for name, value in results.options.items()),
    ]
