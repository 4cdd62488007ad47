"""Routes on a repository by a name that it no longer has: since its rename they take nothing, and nothing else says so.

What came says it: the newest delivery of a name has the number of its repository, and the newest of that number its present name.
If another repository has been given the old name since, the newest of the name is of that one, and the route may mean it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from covenq.config.route import Route
from covenq.filter.explain import node_text
from covenq.filter.tree import Match, Node, Not, Pattern, fold_case, fold_pattern
from covenq.model.rows import Delivery

Newest = Callable[[str], Delivery | None]
"""The newest delivery that a filter matches."""


@dataclass(frozen=True, slots=True)
class Renamed:
    """A route's term on `name`, or what familiars are told of it, whose repository is called `present` now.

    `route` is the route, or the section of the configuration that has the name as a key: then `is_key`.
    """

    route: str
    name: str
    present: str
    number: int
    is_key: bool = False

    @property
    def where(self) -> str:
        return self.route if self.is_key else f"route {self.route}"

    @property
    def words(self) -> str:
        return f"{self.name} is called {self.present} now"

    @property
    def instead(self) -> str:
        """What to write in its place."""
        if self.is_key:
            return f"repos.{self.number}"
        return f"{_term(self.present)}, or repo_id:{self.number}"


def names_repositories(routes: Sequence[Route]) -> bool:
    """Whether there is anything for `renamed` to look up."""
    named = (match for route in routes for match in _matches(route.filter.node.nodes))
    return any(map(_literals, named)) or any(_keys(routes))


def renamed(routes: Sequence[Route], newest: Newest) -> Iterator[Renamed]:
    """Each name in the routes, in terms that deny it too, that its repository no longer has; not beside its present name."""
    known: dict[str, tuple[str, int] | None] = {}
    for route in routes:
        told: set[str] = set()
        for match in _matches(route.filter.node.nodes):
            for name in _literals(match):
                folded = fold_case(name)
                if folded not in known:
                    known[folded] = _present(name, newest)
                present = known[folded]
                if present is None or folded in told or _holds(match, present[0]):
                    continue
                told.add(folded)
                yield Renamed(route.name, name, *present)
    # What is said of a repository by its name would no longer hold of it: one that is disabled would be open.
    for where, name in _keys(routes):
        if (found := _present(name, newest)) is not None:
            yield Renamed(where, name, *found, is_key=True)


def _keys(routes: Sequence[Route]) -> Iterator[tuple[str, str]]:
    """(section, name) of each repository that is named in what all familiars share."""
    scope = next((route.trigger.scope for route in routes if route.trigger is not None), None)
    if scope is not None:
        for one in scope.installations.values():
            yield from ((f"installation {one.id}", name) for name in one.repos if "/" in name)
        yield from (("[review]", name) for name in scope.reviews if "/" in name)


def _present(name: str, newest: Newest) -> tuple[str, int] | None:
    """The present name and the number of the repository that had this name last, if it is called otherwise now."""
    last = newest(_term(name))
    if last is None or last.repo_id is None:
        return None
    now = newest(f"repo_id:{last.repo_id}")
    if now is None or now.repo is None or fold_case(now.repo) == fold_case(name):
        return None
    return now.repo, last.repo_id


def _matches(nodes: Sequence[Node]) -> Iterator[Match]:
    for node in nodes:
        inner = node.node if isinstance(node, Not) else node
        if isinstance(inner, Match) and inner.field == "repo":
            yield inner


def _literals(match: Match) -> list[str]:
    return [pattern.literal for pattern in match.patterns if pattern.literal is not None]


def _holds(match: Match, name: str) -> bool:
    return any(fold_pattern(pattern).matches(fold_case(name)) for pattern in match.patterns)


def _term(name: str) -> str:
    return node_text(Match("repo", (Pattern((name,)),)))
