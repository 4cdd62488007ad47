"""What a question is about where it isn't about everything: some installations, and perhaps some of their repositories alone.

It shapes the statements that are to be fast: a page of several installations is made of a page of each, read from an index.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import orjson


class Scope(Protocol):
    """Installations and repositories by their numbers. What has no installation is in no scope."""

    @property
    def installations(self) -> Collection[int]: ...

    @property
    def repositories(self) -> Collection[int] | None:
        """None: all of the installations'."""


def parameters(scope: Scope) -> tuple[str, str]:
    """For a statement that asks of each part of the scope, by `json_each`: the parts' numbers, and the installations'.

    A part is a repository where there are some, and else an installation.
    """
    parts = scope.installations if scope.repositories is None else scope.repositories
    return orjson.dumps(sorted(parts)).decode(), orjson.dumps(sorted(scope.installations)).decode()


def condition(scope: Scope, alias: str, part: str) -> str:
    """That a row is of the part with the number `part`, as SQL; ?2 is the second of `parameters`.

    The + keeps SQLite from looking for the installations in an index: the repository's part of it is the smaller one.
    """
    if scope.repositories is None:
        return f"{alias}.installation = {part} AND ?2 IS NOT NULL"
    return f"{alias}.repo_id = {part} AND +{alias}.installation IN (SELECT value FROM json_each(?2))"  # noqa: S608 - constants


def among(scope: Scope, alias: str) -> str:
    """That a row is of the scope at all, as SQL with both of `parameters`, for statements that read an index of few rows."""
    of_installations = f"+{alias}.installation IN (SELECT value FROM json_each(?2))"  # noqa: S608 - constants
    if scope.repositories is None:
        return f"{of_installations} AND ?1 IS NOT NULL"
    return f"{of_installations} AND +{alias}.repo_id IN (SELECT value FROM json_each(?1))"  # noqa: S608 - constants


def holds(scope: Scope | None, installation: int | None, repo_id: int | None) -> bool:
    """Whether what is of that installation and repository is in it; None is everything."""
    if scope is None:
        return True
    return installation in scope.installations and (scope.repositories is None or repo_id in scope.repositories)
