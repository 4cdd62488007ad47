"""What an empty list says: why there may be nothing, and what to type next. Pure functions from the status to text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from covenq.client.suggestion import suggested
from covenq.tui import text

if TYPE_CHECKING:
    from covenq.model.status import Status


def no_deliveries(status: Status | None) -> str:
    if status is None:
        return "No deliveries yet."
    url = status.webhook_url
    if status.pid is not None and url is None:
        return "No deliveries yet: they are taken from GitHub's log as it lists them."
    if url:
        first = f"Deliveries are taken at  {text.clean(url)}"
    else:
        first = f"No daemon is running. Start it:\n{_command('covenq serve')}"
    routes = "" if status.routes else f"\n\nNo route is configured yet. This writes some:\n{_command('covenq init')}"
    return f"No deliveries yet.\n\n{first}\n\nTry one from a shell:\n{_command('covenq send issues')}{routes}"


def no_tasks(status: Status | None) -> str:
    if status is None:
        return "No tasks yet."
    if status.routes:
        return "No tasks yet: no delivery has matched a route."
    words = "No tasks yet, and no route that would make some. This writes a configuration with routes:"
    return f"{words}\n{_command('covenq init')}"


def _command(words: str) -> str:
    """A line of its own, so that no width breaks what is to be copied."""
    return f"  {text.clean(suggested(words))}"
