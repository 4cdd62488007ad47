"""Routing: which tasks a delivery becomes, what each freezes, and why a delivery becomes none."""

from __future__ import annotations

from typing import Any

import pytest

from covenq.config.load import build
from covenq.model import DeliveryId, State, task_id
from covenq.routing.decide import KEY_MAX, key, route

ID = DeliveryId("9", "guid-1")
ROW: dict[str, Any] = {
    "hook": "9",
    "guid": "guid-1",
    "event": "issues",
    "action": "labeled",
    "installation": 5,
    "repo_id": 6,
    "repo": "octo/hello",
    "owner": "octo",
    "sender": "octocat",
    "number": 7,
    "head_sha": None,
    "title": "It breaks",
    "label": "coven:fix",
    "labels": ["bug", "coven:fix"],
    "secret": "app",
    "source": "http",
    "twin": None,
    "payload_bytes": 100,
    "received_at": "2026-11-23T02:00:00.000000Z",
}


def config(*matches: str, **more: Any) -> Any:
    routes = [{"name": f"r{i}", "match": match, "run": ["true"], **more} for i, match in enumerate(matches)]
    return build({"route": routes}, None, {})


def decide(made: Any, row: dict[str, Any] | None = None, payload: Any = None, **more: Any) -> Any:
    def give() -> Any:
        assert payload is not None, "nothing asked for the payload"
        return payload

    return route(made, ID, row or ROW, give, **more)


def test_every_matching_route_makes_one_task_with_its_policy_frozen() -> None:
    made = config("event:issues action:assigned,labeled label:coven:fix -sender:*[bot]", "event:push", "repo:octo/*")
    decision = decide(made)
    assert decision.state is State.QUEUED
    assert decision.tasks == (task_id(ID, "r0", 0), task_id(ID, "r2", 0))
    first, second = decision.entries
    assert (first.subject, first.kind, first.expect) == (f"task.{decision.tasks[0]}", "task.queued", 0)
    assert first.data == {
        "hook": "9",
        "guid": "guid-1",
        "delivery_seq": None,
        "route": "r0",
        "kind": "run",
        "replay": 0,
        "priority": 0,
        "policy": made.routes[0].policy,
        "config": made.sha256,
        "installation": 5,
        "repo_id": 6,
        "event": "issues",
        "action": "labeled",
        "target": None,
    }
    assert first.about == {"repo": "octo/hello", "number": 7, "head_sha": None, "ref": None, "key": None}
    assert second.data["route"] == "r2"


def test_a_task_freezes_what_its_route_says_it_is_for_and_is_run_as() -> None:
    made, plain = config("event:issues", purpose="fix_issue", familiar="cody"), config("event:issues")
    [entry] = decide(made).entries
    assert (entry.data["purpose"], entry.data["familiar"]) == ("fix_issue", "cody")
    assert made.sha256 != plain.sha256
    assert not {"purpose", "familiar"} & set(decide(plain).entries[0].data)


@pytest.mark.parametrize(
    ("match", "wanted"),
    [
        ("", True),
        ("event:issues", True),
        ("event:issue*", True),
        ("event:push,issues", True),
        ("event:push", False),
        ("-event:push", True),
        ("label:bug", False),
        ("label:coven:fix", True),
        ("sender:octocat", True),
        ("not:sender:octocat", False),
        ("repo:octo/hello number:7", True),
        ("number>7", False),
        ("installation:5", True),
        ("head_sha_is_no_field", False),
        ("-sha:*", True),
        ("secret:app source:http", True),
        ("twin:*", False),
        ("size<1000", True),
        ("guid:guid-1 hook:9", True),
        ("breaks", True),
        ("since:2026-11-01", True),
        ("before:2026-11-01", False),
    ],
)
def test_matching(match: str, wanted: bool) -> None:
    assert (decide(config(match)).state is State.QUEUED) is wanted


def test_the_label_of_an_event_without_one_is_any_of_the_issues() -> None:
    assert decide(config("label:bug"), {**ROW, "action": "opened", "label": None}).state is State.QUEUED


def test_the_payload_is_decoded_only_if_a_route_asks() -> None:
    decide(config("event:issues"))
    body = {"issue": {"user": {"login": "mona"}}}
    assert decide(config("payload.issue.user.login:mona"), payload=body).state is State.QUEUED
    assert decide(config("payload.issue.user.login:octocat"), payload=body).state is State.IGNORED


def test_no_match_is_ignored_with_a_reason() -> None:
    decision = decide(config("event:push", "event:star"))
    assert (decision.state, decision.reason, decision.tasks) == (State.IGNORED, "no_match", ())
    [entry] = decision.entries
    assert (entry.subject, entry.kind, entry.expect) == ("delivery.9.guid-1", "delivery.ignored", None)
    assert entry.data["reason"] == "no_match"
    assert entry.data["detail"] == "No route matches event issues, action labeled; there are r0, r1."
    assert decide(config()).reason == "no_routes"


def test_a_ping_is_ignored_whatever_the_routes() -> None:
    assert decide(config(""), {**ROW, "event": "ping", "action": None}).reason == "ping"


def test_a_rule_that_raises_leaves_it_received_and_takes_no_other_route() -> None:
    def broken() -> Any:
        raise RecursionError("quoting the payload")

    made = config("event:issues", "payload.a:1")
    decision = route(made, ID, ROW, broken)
    assert (decision.state, decision.entries, decision.tasks) == (State.RECEIVED, (), ())
    assert decision.problem == "route 'r1' failed with RecursionError"


def test_replays_make_other_tasks_and_only_leaves_the_rest_out() -> None:
    made = config("", "event:issues")
    replay = decide(made, replay=2, delivery_seq=41)
    assert replay.tasks == (task_id(ID, "r0", 2), task_id(ID, "r1", 2))
    assert [(e.data["replay"], e.data["delivery_seq"]) for e in replay.entries] == [(2, 41)] * 2
    one = task_id(ID, "r1", 0)
    assert decide(made, only=[one]).tasks == (one,)


def test_keys() -> None:
    assert key(None, ROW) is None
    assert key("{repo}#{number}", ROW) == "octo/hello#7"
    assert key("deploy", ROW) == "deploy"
    assert key("{repo}@{head_sha}", ROW) is None, "without a head it is not the same thing as all others without one"
    assert key("{repo}", {**ROW, "repo": "{number}/{title}"}) == "{number}/{title}", (
        "what a request says is no template"
    )
    assert len(key("{repo}{repo}{repo}", {**ROW, "repo": "r" * 256}) or "") == KEY_MAX
    assert decide(config("", key="{repo}#{number}")).entries[0].about["key"] == "octo/hello#7"


def test_else_is_the_reason_where_a_route_came_near() -> None:
    made = build(
        {
            "route": [
                {
                    "name": "fix",
                    "match": "event:issues label:coven:fix sender:mona",
                    "run": ["true"],
                    "else": "not for us",
                },
                {"name": "any", "match": "event:issues sender:mona", "run": ["true"], "else": "not mona"},
                {"name": "pull", "match": "event:pull_request", "run": ["true"], "else": "no pull"},
                {"name": "plain", "match": "event:star", "run": ["true"]},
            ]
        },
        None,
        {},
    )
    told = decide(made)
    assert (told.state, told.reason) == (State.IGNORED, "not for us"), "of equals, the first"
    assert told.entries[0].data["detail"] == "No route matches event issues, action labeled; fix came nearest."
    assert decide(made, {**ROW, "label": None, "labels": []}).reason == "not mona"
    assert decide(made, {**ROW, "event": "star", "sender": "x"}).state is State.QUEUED
    assert decide(made, {**ROW, "event": "push", "action": None}).reason == "no_match", "none is about pushes"
    assert decide(made, {**ROW, "sender": "mona"}).state is State.QUEUED


def test_turns_are_told_to_the_task() -> None:
    made = config("", key="{repo}", debounce="30s", order="newest", priority=4)
    body = {"issue": {"updated_at": "2026-11-23T01:59:58Z"}}
    [entry] = decide(made, payload=body, now=lambda: 1_800_000_000.0).entries
    assert (entry.data["priority"], entry.data["not_before"]) == (4, "2027-01-15T08:00:30.000000Z")
    assert entry.about["source_at"] == "2026-11-23T01:59:58.000000Z"
    [again] = decide(made, payload=body, replay=1).entries
    assert "not_before" not in again.data, "an operator's replay waits for nothing"
    assert decide(made, payload=[]).entries[0].about["source_at"] is None
    assert decide(made, payload={"issue": {"updated_at": 5}}).entries[0].about["source_at"] is None


def test_a_name_in_another_case_is_the_same_name_and_a_denial_of_it_holds() -> None:
    row = ROW | {
        "event": "push",
        "repo": "acme/infra",
        "owner": "acme",
        "sender": "evilbot",
        "label": None,
        "labels": None,
    }
    assert decide(config("event:push repo:acme/Infra"), row).state is State.QUEUED
    assert decide(config("event:push -sender:EvilBot"), row).reason == "no_match"
    assert decide(config("event:push -repo:Acme/*"), row).reason == "no_match"
    named = decide(config("event:push owner:ACME", key="{repo}"), row).entries[0]
    assert named.about is not None and (named.about["repo"], named.about["key"]) == ("acme/infra", "acme/infra")
