"""How much of the house each installation, repository, route and key may have: values only, as the configuration says them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PRIORITIES = 10
"""Priorities are 0 to 9; the higher goes first."""


@dataclass(frozen=True, slots=True)
class Cap:
    """`concurrency` tasks at once, `daily` attempts begun in any 24 hours; None is no limit."""

    concurrency: int | None = None
    daily: int | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """One installation: its turns in a round of the round robin, and its own caps."""

    weight: int = 1
    cap: Cap = Cap()


@dataclass(frozen=True, slots=True)
class RouteCap:
    """One route: its caps, and how many tasks of one key may run at once."""

    cap: Cap = Cap()
    key_concurrency: int = 1


@dataclass(frozen=True, slots=True)
class Caps:
    """All of them. `installation`, `repo` and `route` hold for each one that has none of its own."""

    installation: Cap = Cap()
    repo: Cap = Cap()
    route: Cap = Cap()
    installations: Mapping[str, Share] = field(default_factory=dict)
    routes: Mapping[str, RouteCap] = field(default_factory=dict)
    resting: Mapping[str, str] = field(default_factory=dict)
    """Route to why it rests for the moment: its receiver failed again and again. Not configured, but found out."""

    def share(self, tenant: str) -> Share:
        return self.installations.get(tenant) or Share(1, self.installation)

    def of_route(self, route: str | None) -> RouteCap:
        return self.routes.get(route or "") or RouteCap(self.route)


NO_CAPS = Caps()


def tenant_of(installation: int | None, hook: str | None) -> str:
    """Whose turn a task waits for: its App installation's, or, without one, that of the hook it came by."""
    return str(installation) if installation is not None else f"hook:{hook or '-'}"
