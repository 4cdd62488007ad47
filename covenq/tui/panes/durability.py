"""The Overview's section on durability and the disk: how long syncs take, as a histogram, what room is left, how far the fold is.

It serves one decision: whether the disk is what makes everything slow. Every answer to GitHub waits for a sync.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from covenq.text import counted
from covenq.tui import text
from covenq.tui.panes.route_table import sparkline
from covenq.tui.widgets.lines import Line, labelled

if TYPE_CHECKING:
    from covenq.model.journal_status import JournalStatus, SyncTimes
    from covenq.model.status import Status

_CELL = 5
"""Cells of a bar of the histogram, and of its bound below."""
_LABEL = 14
SLOW_MS = 100.0
"""A sync that takes longer is drawn as a warning."""


def durability(status: Status, now: float) -> list[Line]:
    """The section; `now` is seconds since 1970."""
    log = status.journal
    lines: list[Line] = [[("Durability", "bold")], labelled("fsync", fsync(log))]
    if log.recent_syncs_ms is not None:
        lines += _histogram(log.recent_syncs_ms)
    if log.database is not None:
        from covenq.model.database_text import standbys_text

        wrong = log.database.waits is not None or bool(log.database.missing)
        lines.append(labelled("standbys", text.clean(standbys_text(log)), "bad" if wrong else ""))
    if len(status.nodes) > 1:
        from covenq.model.nodes_text import node_lines

        for number, line in enumerate(node_lines(status.nodes, now)):
            lines.append(labelled("" if number else "nodes", text.clean(line)))
    disk = status.disk
    if disk:
        share = disk.free * 100 // max(1, disk.total)
        free = f"{text.size(disk.free)} free of {text.size(disk.total)}"
        lines.append(labelled("disk", free, "bad" if share < 5 else ""))
    lag = status.state.lag
    lines.append(labelled("fold lag", counted(lag, "record") if lag else "none"))
    doing = status.upkeep.doing if status.upkeep else None
    if doing:
        lines.append(labelled("upkeep", f"{doing.what}: {doing.done} of {doing.total} segments", "warning"))
    return lines


def fsync(log: JournalStatus) -> str | None:
    """Latency of the newest fsyncs, None before the first."""
    recent = log.recent_syncs_ms
    if not recent:
        last = log.last_sync_ms
        return None if last is None else f"{last:.1f} ms"
    return f"p50 {recent.median:.1f} ms, p99 {recent.p99:.1f} ms, of the last {text.number(recent.count)}"


def _histogram(recent: SyncTimes) -> list[Line]:
    """Bars, and below them the bounds in milliseconds; nothing of an older daemon's."""
    if not recent.bounds or len(recent.counts) != len(recent.bounds) + 1:
        return []
    most = max(recent.counts)
    bars: Line = [(" " * _LABEL, "")]
    for bound, count in zip((*recent.bounds, float("inf")), recent.counts, strict=True):
        tone = "muted" if not count else "warning" if bound > SLOW_MS else "active"
        bars.append((sparkline([count] * (_CELL - 1), most) + " ", tone))
    bounds = "".join(f"{f'≤{bound:g}':<{_CELL}}" for bound in recent.bounds)
    return [bars, [(f"{'':<{_LABEL}}{bounds}more ms", "muted")]]
