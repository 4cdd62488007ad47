"""The pages made of the status alone, as pure functions from the status object to lines: Overview and Journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from covenq.tui import text
from covenq.tui.lines import Line

_BAR = 24


def _pair(name: str, value: object, style: str = "") -> Line:
    return [(f"  {name:<14}", "dim"), (text.ABSENT if value is None else text.clean(value), style)]


def _counts(title: str, counts: Mapping[str, int]) -> list[Line]:
    total = sum(counts.values())
    lines: list[Line] = [[(title, "bold"), (f"  {text.number(total)}", "")]]
    most = max(counts.values(), default=0)
    for word in (*text.GLYPHS, *(extra for extra in counts if extra not in text.GLYPHS)):
        count = counts.get(word, 0)
        if count:
            bar = "█" * max(1, count * _BAR // most)
            style = text.STYLES.get(word, "")
            lines.append([(f"  {text.state(word):<14}", style), (f"{text.number(count):>12}  ", ""), (bar, style)])
    if not total:
        lines.append([("  none yet", "dim")])
    return lines


def alarms(status: Mapping[str, Any]) -> list[str]:
    """What an operator must know, in words: why it isn't ready, and what the fold last failed with."""
    found = [text.clean(reason) for reason in status.get("reasons") or ()]
    error = (status.get("state") or {}).get("error")
    if error:
        found.append(f"the state lags: {text.clean(error)}")
    return found


def overview(status: Mapping[str, Any], now: float) -> list[Line]:
    """Depth by state, the worker, refusals, where it runs."""
    lines: list[Line] = []
    for alarm in alarms(status):
        lines.append([(f"! {alarm}", "red")])
    if lines:
        lines.append([("", "")])
    lines += _counts("Deliveries", status.get("deliveries") or {})
    lines.append([("", "")])
    lines += _counts("Tasks", status.get("tasks") or {})
    lines += [[("", "")], [("Worker", "bold")]]
    worker = status.get("worker")
    if worker:
        running = worker.get("running") or []
        lines.append(_pair("slots", f"{len(running)} of {worker.get('concurrency')} busy"))
        for one in running:
            shown = one.get("task") or one.get("id") if isinstance(one, dict) else one
            lines.append(_pair("", f"◐ {text.clean(shown)}", "yellow"))
    else:
        lines.append([("  no daemon is running", "dim")])
    refused = status.get("refused") or {}
    lines += [[("", "")], [("Refused since start", "bold"), (f"  {text.number(sum(refused.values()))}", "")]]
    lines += [_pair(reason, text.number(count)) for reason, count in sorted(refused.items())]
    lines += [[("", "")], [("Where", "bold")]]
    lines.append(_pair("webhook", status.get("webhook_url")))
    lines.append(_pair("data", status.get("data")))
    lines.append(_pair("routes", ", ".join(status.get("routes") or ()) or "none: `covenq init` writes some"))
    if status.get("started_at"):
        lines.append(_pair("up", f"{text.age(status['started_at'], now)}, process {status.get('pid')}"))
    lines.append(_pair("version", status.get("version")))
    return lines


def journal(status: Mapping[str, Any]) -> list[Line]:
    """Head, size, health, and how far the state has folded."""
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
    lines.append(_pair("head seq", text.number(head.get("seq") or 0)))
    lines.append(_pair("head sum", head.get("sum")))
    lines.append(_pair("segments", log.get("segments")))
    lines.append(_pair("size", text.size(log.get("bytes"))))
    last_sync = log.get("last_sync_ms")
    lines.append(_pair("last sync", None if last_sync is None else f"{last_sync:.1f} ms"))
    lines.append(_pair("id", log.get("id")))
    lines.append(_pair("epoch", log.get("epoch")))
    lines += [[("", "")], [("State", "bold")]]
    lines.append(_pair("folded to", None if state.get("seq") is None else text.number(state["seq"])))
    lines.append(_pair("lag", None if state.get("lag") is None else f"{text.number(state['lag'])} records"))
    if state.get("error"):
        lines.append(_pair("error", state["error"], "red"))
    lines += [[("", "")], [("v verifies every record against its hash and its predecessor's.", "dim")]]
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
