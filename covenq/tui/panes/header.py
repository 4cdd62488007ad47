"""The lines above every page, as pure functions to text: the tabs with the source's state, and the alarms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from covenq.client.interface import Source
from covenq.model import NOT_RUNNING
from covenq.tui import text
from covenq.tui.panes import overview

if TYPE_CHECKING:
    from covenq.model.status import Status

PAGES = (
    ("1", "overview", "Overview"),
    ("2", "deliveries", "Deliveries"),
    ("3", "tasks", "Tasks"),
    ("4", "attempts", "Attempts"),
    ("5", "journal", "Journal"),
)
"""Key, name and title of each page."""


def tabs(page: str, source_state: str) -> Content:
    shown: list[Content | str | tuple[str, str]] = [(" covenq ", "bold")]
    for key, name, title in PAGES:
        shown.append((f" {key} {title} ", "reverse" if name == page else ""))
    shown.append((f"  {source_state}", ""))
    return Content.assemble(*shown)


def source_state(source: Source | None, error: BaseException | None, *, read_only: bool) -> str:
    """Whether a daemon answers, and where; `error` is why there is no source."""
    if source is None:
        return "… opening" if error is None else "✗ no source"
    mode = "  read-only" if read_only else ""
    return f"{'● live' if source.live else '○ stopped'}{mode}  {text.clean(source.where)}"


def alarms(
    page: str,
    source: Source | None,
    status: Status | None,
    error: BaseException | None,
    now: float,
    *,
    age: float = 0.0,
    writable: bool = True,
) -> list[str]:
    """What an operator must act on, in words. `error` is why the last read failed, None if it did not.

    `age` is how many seconds ago the status was read, if that is too long; `writable`: the dashboard may act.
    """
    found = []
    if error is not None:
        found.append(text.clean(error))
    stopped = source is not None and not source.live
    of_files = status is not None and status.pid is None
    reasons = list(status.reasons) if status is not None else []
    holder = reasons.pop(0) if of_files and reasons else NOT_RUNNING
    if stopped:
        if holder == NOT_RUNNING:
            found.append("no daemon is running: this reads the files, and nothing new arrives. Start it: covenq serve")
        else:
            found.append(f"{text.clean(holder)}: this reads the files")
    if age:
        found.append(f"what is shown of the status was read {text.duration(age)} ago")
    if status is None or page == "overview":  # which lists all that follows itself
        return found
    if of_files:  # its other reasons are what of the journal is damaged
        if reasons:
            found.append(text.clean(reasons[0]))
            found.append(f"covenq verify, or v here, lists all that is damaged: {len(reasons)} so far")
    else:
        found += overview.reasons(status)
    return found + overview.warnings(status, now, writable=writable)


def alarm_lines(found: Sequence[str]) -> str:
    """At most three lines; the Overview page has the rest."""
    more = f"  (1 tells {len(found) - 2} more)" if len(found) > 3 else ""
    return "\n".join(f"! {one}" for one in found[: 2 if more else 3]) + more
