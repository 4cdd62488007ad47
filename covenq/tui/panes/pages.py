"""The Journal page, and the page for what can't be opened, as pure functions to lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from covenq.tui import text
from covenq.tui.panes import overview
from covenq.tui.widgets.lines import Line

_BAR = 14


def _pair(name: str, value: object, style: str = "") -> Line:
    return [(f"  {name:<12}", "dim"), (text.ABSENT if value is None else text.clean(value), style)]


def journal(status: Mapping[str, Any], now: float, *, here: bool = True) -> list[Line]:
    """Head, health, syncs and batches, what the last verification found, how far the state has folded, the segments.

    `here`: the journal's files are on this machine, and can be verified and copied from here.
    """
    log, state = status.get("journal") or {}, status.get("state") or {}
    head = log.get("head") or {}
    lines: list[Line] = [[("Journal", "bold")]]
    if log.get("poisoned"):
        health, style = "✗ poisoned: a sync failed, nothing more is written until it is started again", "red"
    elif log.get("full"):
        health, style = "✗ full: intake is closed until there is space", "red"
    else:
        health, style = "✓ accepts writes" if status.get("ready") else "– not open for writing here", "green"
    lines.append(_pair("health", health, style))
    lines.append(_pair("head seq", f"{text.number(head.get('seq') or 0)}, synced: all up to it is on disk"))
    lines.append(_pair("head sum", head.get("sum")))
    folded = state.get("seq")
    if folded is not None:
        lag = state.get("lag")
        behind = f", {text.number(lag)} behind" if lag else ", all of it" if lag == 0 else ""
        lines.append(_pair("folded to", f"{text.number(folded)}{behind}"))
    if state.get("error"):
        lines.append(_pair("error", state["error"], "red"))
    lines.append(_pair("fsync", overview.fsync(log)))
    batches = log.get("recent_batches")
    if batches:
        told = f"half have {text.number(batches['median'])} or less, the largest {text.number(batches['largest'])}"
        lines.append(_pair("batches", f"of records to a sync {told}, of the last {text.number(batches['count'])}"))
    lines.append(_verified(status.get("verified"), now))
    lines.append(_pair("id", log.get("id")))
    lines.append(_pair("epoch", log.get("epoch")))
    lines += [[], *_segments(status.get("segments") or (), log, head.get("seq") or 0)]
    if here:
        told = "v verifies every record, K compacts, B backs up."
    else:
        told = "K compacts. On the daemon's machine: covenq verify, covenq backup."
    return [*lines, [], [(told, "dim")]]


def _verified(seen: Mapping[str, Any] | None, now: float) -> Line:
    if seen is None:
        return _pair("verified", "not yet, or nowhere that is known of")
    took = text.duration(float(seen.get("seconds") or 0))
    if seen["ok"]:
        said = (
            f"✓ {text.ago(seen['at'], now)}: {text.number(seen['records'])} records, to seq {text.number(seen['seq'])}"
        )
        return _pair("verified", f"{said}, in {took}", "green")
    return _pair("verified", f"✗ {text.ago(seen['at'], now)}: {text.number(seen['findings'])} findings", "red")


def _segments(newest: Sequence[Mapping[str, Any]], log: Mapping[str, Any], head: int) -> list[Line]:
    count = int(log.get("segments") or 0)
    lines: list[Line] = [[("Segments", "bold"), (f"  {text.number(count)}, {text.size(log.get('bytes'))}", "")]]
    most = max((int(one["bytes"]) for one in newest), default=0)
    after = head + 1
    for one in newest:
        first, size = int(one["first"]), int(one["bytes"])
        upto = max(first, after - 1)
        bar = "█" * max(1, size * _BAR // most) if size else ""
        span = f"seq {text.number(first)} – {text.number(upto)}"
        lines.append(
            [(f"  {text.clean(one['name'])}  ", ""), (f"{text.size(size):>10}  {bar:<{_BAR}}  ", ""), (span, "dim")]
        )
        after = first
    if count > len(newest):
        lines.append([(f"  and {text.number(count - len(newest))} older ones", "dim")])
    return lines


def broken(error: BaseException) -> list[Line]:
    """The source can't be opened: what happened, what verify would say, what to type next."""
    lines: list[Line] = [[(f"✗ {text.clean(error)}", "red")], [("", "")]]
    damage = getattr(error, "damage", ())
    for one in damage:
        lines.append([(f"  ✗ {text.clean(one)}", "red")])
    if damage:
        lines.append([("", "")])
    lines.append([(text.clean(getattr(error, "hint", "")), "")])
    lines += [[("", "")], [("It is tried again every two seconds. v verifies the journal. q quits.", "dim")]]
    return lines
