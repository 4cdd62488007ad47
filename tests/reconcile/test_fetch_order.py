"""What routes surely match is fetched first, and nothing before what may share a key with it and was sent before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from covenq.config.load import build
from covenq.config.route import Route
from covenq.reconcile.compare import Absent
from covenq.reconcile.fetch_order import in_fetch_order, surely_first


@dataclass(frozen=True)
class One:
    number: int
    repo_id: int | None
    sure: bool


ALL = st.lists(st.tuples(st.sampled_from([1, 2, 3, None]), st.booleans()), max_size=14).map(
    lambda made: [One(number, repo, sure) for number, (repo, sure) in enumerate(made)]
)


def may_share(one: One, other: One) -> bool:
    return None in (one.repo_id, other.repo_id) or one.repo_id == other.repo_id


@given(ALL)
def test_none_is_before_what_may_share_its_key_and_was_sent_before_it(sent: list[One]) -> None:
    first, others = in_fetch_order(sent, lambda one: one.sure)
    order = [*first, *others]
    assert sorted(order, key=lambda one: one.number) == sent
    for at, one in enumerate(order):
        assert not any(may_share(one, later) and later.number < one.number for later in order[at + 1 :])


@given(ALL)
def test_first_are_the_sure_ones_and_only_what_has_to_come_before_one(sent: list[One]) -> None:
    first, others = in_fetch_order(sent, lambda one: one.sure)
    assert not any(one.sure for one in others)
    for one in first:
        later = [other for other in first if other.number > one.number]
        assert one.sure or any(may_share(one, other) for other in later)


def absent(event: str, repo_id: int | None = 1) -> Absent:
    return Absent("7", "g", event, None, None, repo_id, 0.0, 0.0, 1, "1", 0)


def routes_of(*routes: dict[str, Any]) -> tuple[Route, ...]:
    named = [{"name": f"r{number}", "run": ["true"], **one} for number, one in enumerate(routes)]
    return tuple(build({"route": named}, None, {}).routes)


def test_sure_is_what_a_route_matches_whatever_the_delivery_holds() -> None:
    is_first = surely_first(routes_of({"match": "event:push"}, {"match": "label:x"}), 0.0)
    assert is_first(absent("push")) and not is_first(absent("issues")) and not is_first(absent("ping"))


def test_where_a_key_may_span_repositories_all_are_fetched_as_they_were_sent() -> None:
    for key, spans in (
        ("{repo}", False),
        ("{target}-x", False),
        ("{repo_id}", False),
        ("{owner}", True),
        ("deploy", True),
    ):
        is_first = surely_first(routes_of({"match": "event:push", "key": key}), 0.0)
        assert is_first(absent("push")) is not spans, key
