"""What a token may see: the deliveries and tasks of some installations of the App, and of some of their repositories only.

By numbers alone: a repository's name can be given to another repository, and its number can't. What came without an
installation (a repository's own hook) is in no scope, so that what can't be told apart is closed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from covenq.errors import UsageError

NUMBERS_MAX = 100
"""Installations, and repositories, of a scope at most: they stand in each statement."""
NUMBER_MAX = (1 << 63) - 1
OF_INSTALLATION, OF_REPOSITORY = 0.05, 0.01
"""Which part of all rows is taken to be of them: above that of an id, a delivery or a name, below all."""


class Scoped(Protocol):
    """A row that belongs to an installation and a repository: a delivery, a task, of any type that has both."""

    @property
    def installation(self) -> int | None: ...

    @property
    def repo_id(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Scope:
    """Numbers in ascending order. `repositories` None: all of these installations."""

    installations: tuple[int, ...]
    repositories: tuple[int, ...] | None = None

    def sql(self, table: str) -> str:
        """The condition that a row of `table` (a name or an alias) is in scope.

        It has no parameters, since a view can't have any: the numbers stand in it, and are whole numbers, whoever gave them. That
        a large part of the rows may be of an installation is said for SQLite, which would else take it for a few and look for
        the tasks of one delivery among all of the installation's.
        """
        condition = f"likelihood({table}.installation IN ({_listed(self.installations)}), {OF_INSTALLATION})"
        if self.repositories is not None:
            condition += f" AND likelihood({table}.repo_id IN ({_listed(self.repositories)}), {OF_REPOSITORY})"
        return condition

    def allows(self, row: Scoped) -> bool:
        """As `sql`, of a row that was read."""
        return self.allows_numbers(row.installation, row.repo_id)

    def allows_numbers(self, installation: int | None, repo_id: int | None) -> bool:
        return installation in self.installations and (self.repositories is None or repo_id in self.repositories)

    def __str__(self) -> str:
        text = f"installation {', '.join(map(str, self.installations))}"
        if self.repositories is None:
            return text
        return f"{text}; repository {', '.join(map(str, self.repositories))}"


def scope_of(installations: Iterable[object], repositories: Iterable[object] | None) -> Scope:
    """The scope of these numbers. Raises UsageError for what is no number, for none, and for too many; TypeError for no list."""
    return Scope(
        _numbers(installations, "installation"),
        None if repositories is None else _numbers(repositories, "repository"),
    )


def _numbers(given: Iterable[object], noun: str) -> tuple[int, ...]:
    found = []
    for one in given:
        if type(one) is not int or not 0 < one <= NUMBER_MAX:
            hint = "`covenq deliveries --json` has them, as installation and repo_id."
            raise UsageError(f"{str(one)[:40]!r} is no {noun}'s number", hint=hint)
        found.append(one)
    if not 0 < len(set(found)) <= NUMBERS_MAX:
        raise UsageError(f"a scope of {len(set(found))} numbers", hint=f"It has 1 to {NUMBERS_MAX} of each kind.")
    return tuple(sorted(set(found)))


def _listed(numbers: Iterable[int]) -> str:
    """`%d` writes whole numbers alone, and fails for anything else."""
    return ", ".join("%d" % one for one in numbers)  # noqa: UP031 - see above
