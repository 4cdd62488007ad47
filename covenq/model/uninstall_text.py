"""The words of a line about an uninstalled installation: the same in the status, the dashboard and in notices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from covenq.model.pending_status import Uninstall
from covenq.text import instant

LINES_MAX = 5
"""Installations that get a line each."""
_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def uninstall_text(one: Uninstall, now: float) -> str:
    """As in "installation 9001 uninstalled, erased in 6d 3h"."""
    what = f"installation {one.installation} uninstalled"
    if one.state == "erasing":
        return f"{what}, being erased"
    left = (instant(one.due_at) or now) - now
    if left > 0:
        return f"{what}, erased in {_two_units(left)}"
    return f"{what}, not erased yet: {one.waits or 'it is looked whether it is still gone'}"


def uninstall_lines(found: Sequence[Uninstall], now: float) -> Iterator[tuple[str, str]]:
    """(the words, what to do about it) of the first of them, and how many more there are."""
    for one in found[:LINES_MAX]:
        command = stop_command(one)
        plan = f"covenq redact --installation {one.installation} --dry-run"
        yield (
            uninstall_text(one, now),
            "" if command is None else f"`{command}` stops that; `{plan}` shows what is erased.",
        )
    if len(found) > LINES_MAX:
        yield f"{len(found) - LINES_MAX} more installations: `covenq status --json`", ""


def _two_units(seconds: float) -> str:
    """As `6d 3h`, or `42s`."""
    left = int(seconds)
    found: list[str] = []
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        if number or found:
            found.append(f"{number}{unit}")
    return " ".join(found[:2]) or "0s"


def stop_command(one: Uninstall) -> str | None:
    """What stops it, where it can still be stopped."""
    return None if one.state == "erasing" else f"covenq keep {one.installation}"
