"""A route's `token`: what is taken, what is refused and why, what of it a task freezes, and what `covenq routes check` says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from covenq.config.load import build, load
from covenq.config.work_token import WorkToken
from covenq.errors import ConfigError
from covenq.operate.inspect.route_check import token_problem
from covenq.tasks.scheduling.outcome import Policy

APP = {"app": {"id": 1, "private_key_file": "app.pem"}}


def route(token: Any, match: str = "event:issues", **more: Any) -> dict[str, Any]:
    return {"name": "r", "match": match, **(more or {"run": ["true"]}), "token": token}


def read(token: Any, **more: Any) -> Any:
    return build({"github": APP, "route": [route(token, **more)]}, None, {}).routes[0]


@pytest.mark.parametrize("more", [{}, {"pull": True}])
def test_a_task_freezes_what_its_token_is_for(more: dict[str, Any]) -> None:
    one = read({"permissions": {"pull_requests": "write", "issues": "read"}}, **more)
    frozen = {"permissions": {"issues": "read", "pull_requests": "write"}, "repositories": "this"}
    assert one.policy["token"] == frozen
    assert Policy.from_record(one.policy).token == one.token == WorkToken.from_json(frozen)
    assert read({"permissions": {"issues": "read"}, "repositories": "all"}).token.repositories == "all"


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ({}, "must name each permission"),
        ({"permissions": {}}, "must name each permission"),
        ({"permissions": "issues"}, "must name each permission"),
        ({"permissions": {"Issues": "write"}}, "is no permission's name"),
        ({"permissions": {"a" * 65: "write"}}, "is no permission's name"),
        ({"permissions": {"issues": "all"}}, "must be one of read, write, admin"),
        ({"permissions": {"issues": 1}}, "must be one of read, write, admin"),
        (
            {"permissions": {f"p{'a' * n}": "read" for n in range(60)} | {"q" * n: "read" for n in range(1, 9)}},
            "64 at most",
        ),
        ({"permissions": {"issues": "read"}, "repositories": "some"}, "is none of this, all"),
        ({"permissions": {"issues": "read"}, "repository": "this"}, "unknown key"),
        ("write", "must be a table"),
    ],
)
def test_what_is_no_token_is_refused(token: Any, words: str) -> None:
    with pytest.raises(ConfigError) as found:
        read(token)
    assert words in str(found.value) and "token" in str(found.value)


def test_a_forward_has_none() -> None:
    with pytest.raises(ConfigError, match="nothing that authorises"):
        read({"permissions": {"issues": "read"}}, forward="https://example.org/")


def test_it_needs_an_app_but_where_one_is_to_be_made(tmp_path: Path) -> None:
    path = tmp_path / "covenq.toml"
    one = (
        '[[route]]\nname = "r"\nmatch = "event:issues"\nrun = ["true"]\ntoken = { permissions = { issues = "read" } }\n'
    )
    path.write_text(one)
    with pytest.raises(ConfigError, match="got by a GitHub App") as found:
        load(path, {})
    assert "covenq init --github-app" in found.value.hint and "'r'.token" in str(found.value)
    assert load(path, {}, complete=False).routes[0].token is not None
    path.write_text('[github.app]\nid = 1\nprivate_key_file = "a.pem"\n' + one)
    assert load(path, {}).routes[0].token is not None


@pytest.mark.parametrize(
    "odd",
    [
        {"permissions": {"issues": "everything"}, "repositories": "this"},
        {"permissions": {}, "repositories": "this"},
        {"permissions": {"issues": "read"}},
        {"permissions": [], "repositories": "this"},
        "x",
    ],
)
def test_an_odd_record_gets_no_token_and_no_command(odd: Any) -> None:
    """Never one for more than was meant."""
    found = Policy.from_record({"run": ["true"], "token": odd})
    assert (found.run, found.token) == ((), None)


@pytest.mark.parametrize(
    ("match", "repositories", "words"),
    [
        ("event:issues", "this", None),
        ("repo:octo/*", "this", None),
        ("", "all", None),
        ("", "this", "and custom_property, github_app_authorization"),
        ("event:issues,installation", "this", "and installation has none"),
        ("event:organization", "this", "and organization has none"),
    ],
)
def test_a_check_refuses_this_where_events_have_no_repository(match: str, repositories: str, words: str | None) -> None:
    found = token_problem(
        read({"permissions": {"issues": "read"}, "repositories": repositories}, match=match, run=["true"])
    )
    assert found == words if words is None else words in str(found)


def test_the_policys_record_of_a_route_without_one_is_as_it_was() -> None:
    assert "token" not in build({"route": [{"name": "r", "match": "", "run": ["true"]}]}, None, {}).routes[0].policy
