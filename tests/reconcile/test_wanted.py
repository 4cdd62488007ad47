"""What is said of a delivery by GitHub's list alone is what the routes decide once it is here."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.config.load import Config, build
from covenq.config.route import UNDECIDED
from covenq.filter.explain import node_text
from covenq.github import samples
from covenq.github.columns import columns
from covenq.model import DeliveryId, State
from covenq.reconcile.compare import Absent
from covenq.reconcile.wanted import surely_wanted
from covenq.routing.decide import route
from tests.support.filters import filters

NOW = 1_800_000_000.0
EVENTS = sorted(samples.SAMPLES)


def config_of(*matches: str) -> Config:
    routes = [{"name": f"r{i}", "match": match, "run": ["true"]} for i, match in enumerate(matches)]
    return build({"route": routes}, None, {})


def listed(event: str, payload: dict[str, Any], **more: Any) -> Absent:
    """A delivery as GitHub's list has it."""
    told: dict[str, Any] = {
        "hook": "9", "guid": "g1", "event": event, "action": payload.get("action"),
        "installation": payload.get("installation", {}).get("id"), "repo_id": payload.get("repository", {}).get("id"),
        "first_at": NOW, "last_at": NOW, "attempts": 1, "attempt": "1", "status_code": 500,
    }  # fmt: skip
    return Absent(**{**told, **more})


def decided(config: Config, event: str, payload: dict[str, Any]) -> State:
    """What becomes of it once it is imported."""
    data, about = columns(event, payload)
    told = {"hook": "9", "guid": "g1", "event": event, "secret": "app", "source": "import", "twin": None}
    row = {**told, **data, **about, "payload_bytes": len(json.dumps(payload))}
    return route(config, DeliveryId("9", "g1"), row, lambda: payload, now=lambda: NOW).state


SIGNS = st.sampled_from(["", "-"])
ACTIONS = ["opened", "*", "c*", "created,labeled"]
LIKELY = st.one_of(
    st.builds("{}event:{}".format, SIGNS, st.sampled_from([*EVENTS, "push,issues", "*"])),
    st.builds("{}action:{}".format, SIGNS, st.sampled_from(ACTIONS)),
    st.builds("{}{}".format, SIGNS, st.sampled_from(["g1", "hello", "source:import", "twin:*"])),
    st.builds("{}repo_id:{}".format, SIGNS, st.sampled_from(["*", "1..", "..9"])),
    st.builds("{}installation:{}".format, SIGNS, st.sampled_from(["*", "1..", "..9"])),
    filters.filter(lambda one: not one.fields() & UNDECIDED).map(lambda one: " ".join(map(node_text, one.node.nodes))),
)
MATCHES = st.lists(LIKELY, min_size=1, max_size=3).map(" ".join)


@given(st.lists(MATCHES, max_size=3), st.sampled_from(EVENTS), st.integers(1, 9), st.data())
def test_what_is_sure_by_the_list_is_what_the_routes_decide(
    matches: list[str], event: str, number: int, draw: st.DataObject
) -> None:
    payload = dict(samples.SAMPLES[event](number))
    for name in draw.draw(st.lists(st.sampled_from(["repository", "installation", "action", "sender"]), max_size=2)):
        payload.pop(name, None)
    forgotten = draw.draw(st.lists(st.sampled_from(["hook", "action", "installation", "repo_id"]), max_size=2))
    config = config_of(*matches)
    said = surely_wanted(listed(event, payload, **dict.fromkeys(forgotten)), config.routes, now=NOW)
    state = decided(config, event, payload)
    if said is not None:
        assert state is (State.QUEUED if said else State.IGNORED)


@pytest.mark.parametrize(
    ("matches", "said"),
    [
        ([], False),
        (["event:push"], False),
        (["event:push", "event:issues"], True),
        (["event:push", "event:issues repo:octo/hello"], None),
        (["event:issues action:closed label:bug"], False),
        (["-event:push -action:opened"], False),
        (["repo_id:1000001..", "installation:7"], False),
        (["-sender:*[bot]"], None),
        (["payload.issue.number:7"], None),
        (["age<1h"], None),
        (["source:import"], True),
        (["-twin:*"], None),
        (["source:http"], False),
        (["hook:9 guid:g1"], True),
        (["hook:8"], False),
    ],
)
def test_an_issue_that_was_opened(matches: list[str], said: bool | None) -> None:
    one = listed("issues", {"action": "opened", "repository": {"id": 6}, "installation": {"id": 5}})
    assert surely_wanted(one, config_of(*matches).routes, now=NOW) is said


def test_what_the_list_does_not_say_is_not_taken_for_absent() -> None:
    one = listed("issues", {}, hook=None)
    for match in ("action:opened", "-action:*", "repo_id:6", "-repo_id:6", "installation:*", "hook:9", "-hook:9"):
        assert surely_wanted(one, config_of(match).routes, now=NOW) is None
    odd = listed("repository_dispatch", {"action": "a\nb"})
    assert surely_wanted(odd, config_of("-action:*").routes, now=NOW) is None


def test_a_ping_is_never_wanted() -> None:
    assert surely_wanted(listed("ping", {}), config_of("").routes, now=NOW) is False


def test_only_the_delivery_itself_tells_whether_it_calls_a_familiar() -> None:
    familiar = {"id": "cody", "bot_username": "cody", "pull": True}
    routes = build({"familiar": [familiar]}, None, {}).routes
    assert surely_wanted(listed("issues", {"action": "assigned"}), routes, now=NOW) is None
    assert surely_wanted(listed("issues", {"action": "opened"}), routes, now=NOW) is False
    assert surely_wanted(listed("push", {}), routes, now=NOW) is False
