"""What an empty list says: why there may be nothing, and what to type next. Pure functions from the status to text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from covenq.tui import text

if TYPE_CHECKING:
    from covenq.model.status import Status


def no_deliveries(status: Status | None) -> str:
    if status is None:
        return "No deliveries yet."
    url = status.webhook_url
    if status.pid is not None and url is None:
        return "No deliveries yet: they are taken from GitHub's log as it lists them."
    first = f"Deliveries are taken at  {text.clean(url)}" if url else "No daemon is running. Start it:  covenq serve"
    routes = "" if status.routes else "\nNo route is configured yet; covenq init writes some.\n"
    return f"No deliveries yet.\n\n{first}\n\nTry one from a shell:  covenq send issues\n{routes}"


def no_tasks(status: Status | None) -> str:
    if status is None:
        return "No tasks yet."
    if status.routes:
        return "No tasks yet: no delivery has matched a route."
    return "No tasks yet, and no route that would make some.\n\ncovenq init writes a configuration with routes."
