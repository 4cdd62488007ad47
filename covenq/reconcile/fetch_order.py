"""The order in which missing deliveries are fetched: first what a route surely matches, with all that must come before it.

GitHub's limit may let a pass fetch only some, so those come first that are sure to be worked on. A task starts as soon as its
delivery is recorded, and tasks of one key start in the order in which GitHub sent their deliveries: what a delivery may share a
key with is therefore fetched before it, if it was sent before it. Keys are made of what GitHub's list doesn't say, but one that
names the repository is never shared by two of them, and their numbers are in the list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from covenq.config.route import Route
from covenq.reconcile.wanted import Listed, surely_wanted

NAMING_A_REPOSITORY = ("{repo}", "{repo_id}", "{target}")
"""Placeholders which make a key one repository's own."""


class Sent(Protocol):
    """A delivery of which GitHub's list says the repository, if any."""

    @property
    def repo_id(self) -> int | None: ...


S = TypeVar("S", bound=Sent)


def surely_first(routes: Sequence[Route], now: float, source: str | None = "import") -> Callable[[Listed], bool]:
    """Whether a delivery is one to fetch first, because a route surely matches it; none is where keys may span repositories."""
    for route in routes:
        if route.key is not None and not any(word in route.key for word in NAMING_A_REPOSITORY):
            return lambda one: False
    return lambda one: surely_wanted(one, routes, now=now, source=source) is True


def in_fetch_order(sent: Sequence[S], is_first: Callable[[S], bool]) -> tuple[list[S], list[S]]:
    """Those to fetch first, with what was sent before them in their repositories, and the others; each in the order of `sent`.

    `sent` is in the order in which GitHub sent them. What the list says no repository of may be any one's.
    """
    first: list[S] = []
    others: list[S] = []
    repositories: set[int] = set()
    everything = False
    for one in reversed(sent):
        may_be_before = everything or (bool(repositories) if one.repo_id is None else one.repo_id in repositories)
        if not may_be_before and not is_first(one):
            others.append(one)
            continue
        first.append(one)
        if one.repo_id is None:
            everything = True
        else:
            repositories.add(one.repo_id)
    return first[::-1], others[::-1]
