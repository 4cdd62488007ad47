"""What a daemon has still to do of what is over, as its status tells it: content to be erased, tokens to be revoked."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from covenq.model.rows import Count, Time


class Uninstall(Struct):
    """An installation that was uninstalled, and whose content will be erased, or is just being erased."""

    installation: Count
    state: Literal["waiting", "erasing"]
    since: Time
    """When its deletion was noticed."""
    due_at: Time | None
    """When it is erased at the earliest; null where it has begun."""
    waits: str | None = None
    """Why it is not erased though it is due; null without a daemon, and before that time."""


class UnrevokedTokens(Struct):
    """Installation tokens of attempts that are over, and of which it isn't confirmed that they are of no use any more."""

    attempts: Count
    until: Time
    """When the last of them expires by itself."""
    tasks: list[str]
    """Of some of those attempts."""
