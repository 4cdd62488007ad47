"""The lines above every page, as pure functions to text: the tabs with the source's state, and the alarms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from covenq.client.interface import Source
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

NO_DAEMON = "no daemon is running"
"""The first reason in a status without a daemon; the alarms have a longer sentence for it."""


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
    page: str, source: Source | None, status: Status | None, error: BaseException | None, now: float
) -> list[str]:
    """What an operator must act on, in words. `error` is why the last read failed, None if it did not."""
    found = []
    if error is not None:
        found.append(text.clean(error))
    stopped = source is not None and not source.live
    if stopped:
        found.append("no daemon is running: this reads the files, and nothing new arrives. Start it: covenq serve")
    reasons = [] if status is None else [one for one in overview.alarms(status, now) if one != NO_DAEMON]
    if reasons and stopped:
        reasons = [*reasons[:1], f"covenq verify, or v here, lists all that is damaged: {len(reasons)} so far"]
    if page != "overview":  # which lists all of these itself
        found += reasons
    return found


def alarm_lines(found: Sequence[str]) -> str:
    """At most three lines; the Overview page has the rest."""
    more = f"  (1 tells {len(found) - 2} more)" if len(found) > 3 else ""
    return "\n".join(f"! {one}" for one in found[: 2 if more else 3]) + more
