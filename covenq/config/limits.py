"""Concurrency limits, daily quotas and scheduling: the section `[limits]` and a route's own keys, as values and parsed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from covenq.config.toml_table import Table
from covenq.model import DURATION_MAX_S, Json

PRIORITIES = 10
"""Priorities are 0 to 9; the higher goes first."""


class Cap(Struct, frozen=True):
    """`concurrency` tasks at once, `daily` attempts begun in any 24 hours; None is no limit."""

    concurrency: int | None = None
    daily: int | None = None


class Share(Struct, frozen=True):
    """One installation: its weight in the round robin, and its own caps."""

    weight: int = 1
    cap: Cap = Cap()


class RouteCap(Struct, frozen=True):
    """One route: its caps, and how many tasks of one key may run at once."""

    cap: Cap = Cap()
    key_concurrency: int = 1


class BackingOff(Struct, frozen=True):
    """Why a route backs off: its receiver, how often that failed, and how at last. `until` is when it is asked again."""

    why: str
    until: str | None = None


class Caps(Struct, frozen=True):
    """All limits. `installation`, `repo` and `route` apply to each one that has no limit of its own."""

    installation: Cap = Cap()
    repo: Cap = Cap()
    route: Cap = Cap()
    installations: Mapping[str, Share] = {}
    routes: Mapping[str, RouteCap] = {}
    backing_off: Mapping[str, BackingOff] = {}
    """Route to why it backs off at the moment: its receiver failed repeatedly. Not configured, but observed."""
    short_of: str | None = None
    """What the daemon itself is short of for starting tasks, in a sentence. Observed, too."""
    stopped: str | None = None
    """Why nothing is started at all: no daemon runs, or its pool ended. Observed, too."""
    all_busy: int | None = None
    """How many workers the daemon has, where all of them are busy. Observed, too."""

    def share(self, tenant: str) -> Share:
        return self.installations.get(tenant) or Share(1, self.installation)

    def of_route(self, route: str | None) -> RouteCap:
        return self.routes.get(route or "") or RouteCap(self.route)


NO_CAPS = Caps()


def tenant_of(installation: int | None, hook: str | None) -> str:
    """The tenant in whose turn a task runs: its App installation or, without one, the hook that delivered it."""
    return str(installation) if installation is not None else f"hook:{hook or '-'}"


# ---- parsing

SUPERSEDE = ("never", "queued", "running")
ORDER = ("any", "newest")
DEBOUNCE_MAX_TIMES = 10
"""How many quiet periods a burst may delay its task by, if `debounce_max` isn't set."""

SCHEDULING_KEYS = (
    "supersede", "debounce", "debounce_max", "order", "priority", "concurrency", "daily", "key_concurrency"
)  # fmt: skip
"""The keys of a route that `parse_scheduling` reads."""

SHARE_KEYS = ("concurrency", "daily", "weight")
"""The keys of an installation's limits."""

_SECTION = ("installation", "repo", "route", "installations")
_COUNT = 1_000_000_000
_WEIGHT = 1000
_TENANT = re.compile(r"(?:[0-9]{1,19}|hook:[0-9A-Za-z_-]{1,64})\Z")


class Scheduling(Struct, frozen=True):
    """The scheduling of a route's tasks: which of them run, and when.

    `debounce_s` is a quiet period: a task waits until no delivery of its key has come for so long, at most `debounce_max_s` in
    all. With `order` "newest", no task runs that newer work on the same issue or pull request has outdated.
    """

    supersede: str = "never"
    debounce_s: float | None = None
    debounce_max_s: float | None = None
    order: str = "any"
    priority: int = 0
    concurrency: int | None = None
    daily: int | None = None
    key_concurrency: int = 1

    def policy(self) -> dict[str, Json]:
        """The part that a task freezes. It leaves out the numbers that can be changed for tasks that are queued already."""
        frozen: dict[str, Json] = {"supersede": self.supersede}
        if self.debounce_s is not None:
            frozen |= {"debounce_s": self.debounce_s, "debounce_max_s": self.debounce_max_s}
        if self.order != ORDER[0]:
            frozen["order"] = self.order
        return frozen


DEFAULT_SCHEDULING = Scheduling()


def parse_scheduling(table: Table, *, keyed: bool) -> Scheduling:
    """Read a route's SCHEDULING_KEYS; `keyed` says whether it has a `key`. Raises ConfigError."""
    supersede = table.choice("supersede", SUPERSEDE)
    debounce = longest = None
    if "debounce" in table.raw:
        debounce = table.duration("debounce", 0.0)
        longest = table.duration("debounce_max", min(DEBOUNCE_MAX_TIMES * debounce, DURATION_MAX_S))
        if longest < debounce:
            raise table.error("debounce_max", "is shorter than the quiet period itself")
    elif "debounce_max" in table.raw:
        raise table.error("debounce_max", "says how long a debounce may last, and there is no `debounce`")
    if not keyed and (debounce is not None or supersede != "never"):
        word = "debounce" if debounce is not None else "supersede"
        raise table.error(word, 'needs a `key` that says which tasks are about the same, such as "{repo_id}#{number}"')
    if debounce is not None and supersede == "never":
        supersede = "queued"
    return Scheduling(
        supersede=supersede,
        debounce_s=debounce,
        debounce_max_s=longest,
        order=table.choice("order", ORDER),
        priority=table.integer("priority", 0, 0, PRIORITIES - 1),
        concurrency=_count(table, "concurrency", None),
        daily=_count(table, "daily", None),
        key_concurrency=_count(table, "key_concurrency", None) or 1,
    )


def installation_cap(top: Table) -> Cap:
    """What the section `[limits]` of `top` has for each installation. Raises ConfigError."""
    return _cap(top.table("limits", _SECTION), "installation")


def parse_caps(top: Table, routes: Iterable[tuple[str, Scheduling]], listed: Mapping[str, Share] = {}) -> Caps:
    """The limits of the section `[limits]` of `top` and of the routes' own keys (name, Scheduling). Raises ConfigError.

    `listed` are those of installations that are said elsewhere, by number.
    """
    table = top.table("limits", _SECTION)
    installation = _cap(table, "installation")
    shares = dict(_shares(table, installation))
    for name in shares.keys() & listed.keys():
        raise table.error("installations", f"{name} is said in its [[installation]] limits too")
    route = _cap(table, "route")
    return Caps(
        installation=installation,
        repo=_cap(table, "repo"),
        route=route,
        installations={**shares, **listed},
        routes={
            name: RouteCap(Cap(one.concurrency or route.concurrency, one.daily or route.daily), one.key_concurrency)
            for name, one in routes
        },
    )


def _cap(table: Table, key: str) -> Cap:
    inner = table.table(key, ("concurrency", "daily"))
    return Cap(_count(inner, "concurrency", None), _count(inner, "daily", None))


def _shares(table: Table, default: Cap) -> Iterable[tuple[str, Share]]:
    given = table.raw.get("installations")
    named = table.table("installations", tuple(given) if isinstance(given, Mapping) else ())
    for name in named.raw:
        if not _TENANT.match(name):
            raise named.error(name[:80], "is neither an installation's number nor hook:ID")
        yield name, parse_share(named.table(name, SHARE_KEYS), default)


def parse_share(own: Table, default: Cap) -> Share:
    """One installation's limits, by the SHARE_KEYS of its table; what it doesn't say is the default. Raises ConfigError."""
    cap = Cap(_count(own, "concurrency", default.concurrency), _count(own, "daily", default.daily))
    return Share(own.integer("weight", 1, 1, _WEIGHT), cap)


def _count(table: Table, key: str, default: int | None) -> int | None:
    return table.integer(key, 1, 1, _COUNT) if key in table.raw else default
