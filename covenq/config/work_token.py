"""A route's `token`: what the installation token may do that an attempt gets for its work, and of which repositories.

Least privilege: a route names each permission, and the token is for the repository of the delivery alone unless it says "all".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from covenq.config.toml_table import Table
from covenq.errors import ConfigError
from covenq.model import JsonObject

PERMISSIONS_MAX = 64
LEVELS = ("read", "write", "admin")
THIS, ALL = "this", "all"
REPOSITORIES = (THIS, ALL)
_NAME = re.compile(r"[a-z_]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class WorkToken:
    """`permissions` are (name, level) by name; `repositories` is one of REPOSITORIES."""

    permissions: tuple[tuple[str, str], ...]
    repositories: str = THIS

    def as_json(self) -> JsonObject:
        """As a task's policy freezes it."""
        return {"permissions": dict(self.permissions), "repositories": self.repositories}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> WorkToken:
        """What `as_json` gave. Raises ValueError for anything else: a token is never for more than was meant."""
        permissions, repositories = value.get("permissions"), value.get("repositories")
        if not isinstance(permissions, dict) or not 1 <= len(permissions) <= PERMISSIONS_MAX:
            raise ValueError("permissions")
        if repositories not in REPOSITORIES or not all(is_permission(*one) for one in permissions.items()):
            raise ValueError("repositories")
        return cls(tuple(sorted(permissions.items())), repositories)

    @property
    def words(self) -> str:
        """For a person, in a list of routes."""
        named = ", ".join(f"{name}: {level}" for name, level in self.permissions)
        where = "the delivery's repository" if self.repositories == THIS else "all repositories of the installation"
        return f"with a token ({named}) for {where}"


def is_permission(name: object, level: object) -> bool:
    return isinstance(name, str) and bool(_NAME.match(name)) and level in LEVELS


def parse_work_token(route: Table) -> WorkToken | None:
    """`token` of a route; None where it has none. Raises ConfigError."""
    if "token" not in route.raw:
        return None
    table = route.table("token", ("permissions", "repositories"))
    hint = 'Write token = { permissions = { issues = "write" } }.'
    given = table.raw.get("permissions")
    if not isinstance(given, dict) or not given:
        raise table.error("permissions", "must name each permission that the work needs", hint=hint)
    if len(given) > PERMISSIONS_MAX:
        raise table.error("permissions", f"has {len(given)}, and {PERMISSIONS_MAX} at most are asked for")
    for name, level in given.items():
        if not _NAME.match(name):
            raise table.error("permissions", f"{name[:80]!r} is no permission's name, as issues or pull_requests is")
        if level not in LEVELS:
            raise table.error("permissions", f"{name} must be one of {', '.join(LEVELS)}", hint=hint)
    return WorkToken(tuple(sorted(given.items())), table.choice("repositories", REPOSITORIES))


def require_no_token(routes: Iterable[tuple[str, WorkToken | None]], path: Path | None) -> None:
    """Raises ConfigError for a route that wants a token, where there is no App that could get one."""
    for name, token in routes:
        if token is not None:
            where = "configuration" if path is None else path
            raise ConfigError(
                f"{where}: route {name!r}.token: is got by a GitHub App, and there is no [github.app]",
                hint="Write [github.app], or have `covenq init --github-app` write it.",
            )
