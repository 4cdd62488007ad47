"""An App's manifest: the events that routes ask for, their permissions as GitHub publishes them, its addresses, its redirect."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest

from covenq.config.load import build
from covenq.errors import UsageError
from covenq.github.app_manifest import (
    NAME_MAX,
    Manifest,
    checked_name,
    checked_organisation,
    code_of_address,
    code_of_query,
    default_name,
    registration_url,
    web_url,
)
from covenq.github.events import EVENTS
from covenq.github.subscriptions import DEFAULT_EVENTS, PERMISSIONS, UNASKED, subscription
from tests.support.github_apps import PERMISSIONS as PUBLISHED
from tests.support.github_apps import SUBSCRIPTIONS

STATE = "s" * 43
CODE = "a180b1a3d263c81bc6441d7b990bae27d4c10679"


def routes_of(*matches: str):  # type: ignore[no-untyped-def]
    tables = [{"name": f"r{n}", "match": match, "run": ["true"]} for n, match in enumerate(matches)]
    return build({"route": tables}, None, {}).routes


def test_every_event_has_the_permission_that_github_publishes() -> None:
    assert set(PERMISSIONS) <= set(SUBSCRIPTIONS) & EVENTS
    assert set(PERMISSIONS.values()) <= PUBLISHED
    assert not set(PERMISSIONS) & UNASKED
    words: dict[str, set[str]] = {}
    for event, permission in PERMISSIONS.items():
        first, _, place = SUBSCRIPTIONS[event].partition(", ")
        words.setdefault(permission, set()).add(
            f"{first.partition(' or ')[0]}, {place.partition(' ')[0] or 'repository'}"
        )
    assert all(len(said) == 1 for said in words.values()), words
    assert len(set.union(*words.values())) == len(words), "no two permissions have the same words"
    assert words["security_events"] == {"Code scanning alerts, repository"}
    assert words["vulnerability_alerts"] == {"Dependabot alerts, repository"}
    assert set(SUBSCRIPTIONS) - set(PERMISSIONS) == {
        "meta", "project", "project_card", "project_column", "repository_advisory",
    }, "whose permission the API has no name for"  # fmt: skip


@pytest.mark.parametrize(
    ("matches", "events", "left_out"),
    [
        ((), DEFAULT_EVENTS, ()),
        (("event:push ref:refs/heads/main",), {"push"}, ()),
        (("event:issues,label", "event:push"), {"issues", "label", "push"}, ()),
        (("event:discussion*",), {"discussion", "discussion_comment"}, ()),
        (("-sender:*[bot]",), DEFAULT_EVENTS, ()),
        (("-event:push",), DEFAULT_EVENTS, ()),
        (("event:star", "repo:octo/*"), {"star", *DEFAULT_EVENTS}, ()),
        (("event:ping,installation",), (), ()),
        (("event:meta,of_tomorrow,sponsorship",), (), ("meta", "of_tomorrow", "sponsorship")),
    ],
)  # fmt: skip
def test_events_are_those_of_the_routes(matches: tuple[str, ...], events: set[str], left_out: tuple[str, ...]) -> None:
    found = subscription(routes_of(*matches))
    assert set(found.events) == set(events)
    assert found.left_out == left_out
    assert set(found.permissions) == {"metadata", *(PERMISSIONS[event] for event in events)}
    assert set(found.permissions.values()) == {"read"}


def test_the_app_may_do_what_the_routes_tokens_are_for() -> None:
    tokens = [{"issues": "write"}, {"issues": "read", "checks": "write"}]
    routes = [
        {"name": f"r{at}", "match": "event:issues", "run": ["true"], "token": {"permissions": one}}
        for at, one in enumerate(tokens)
    ]
    found = subscription(build({"route": routes}, None, {}).routes)
    assert found.permissions == {"checks": "write", "issues": "write", "metadata": "read"}


def test_the_manifest_is_what_github_takes() -> None:
    one = Manifest(
        "x", "https://a.example", "https://a.example/webhook", "http://127.0.0.1:1/created", subscription(())
    )
    assert json.loads(one.text())["default_events"] == sorted(DEFAULT_EVENTS)


@pytest.mark.parametrize(
    ("api", "web"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://ghe.example.org/api/v3", "https://ghe.example.org"),
        ("https://ghe.example.org:8443/api/v3", "https://ghe.example.org:8443"),
        ("https://api.octo.ghe.com", "https://octo.ghe.com"),
        ("https://api.example.org/api/v3", "https://api.example.org"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
    ],
)
def test_the_web_is_not_where_the_api_is(api: str, web: str) -> None:
    assert web_url(api) == web
    assert registration_url(web, None, STATE) == f"{web}/settings/apps/new?state={STATE}"
    assert registration_url(web, "octo-org", STATE) == f"{web}/organizations/octo-org/settings/apps/new?state={STATE}"


@pytest.mark.parametrize("host", ["build-7.example.org", "ü", "", "x" * 200, 'a"><b>'])
def test_an_app_has_a_name_that_github_takes(host: str) -> None:
    name = default_name(host)
    assert checked_name(name) == name and 1 <= len(name) <= NAME_MAX and name.isascii()


@pytest.mark.parametrize("name", ["", "  ", "x" * 35, "a\nb", "a\x1b[2Jb"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        checked_name(name)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a?b", "a#b", "a b", "a%2fb", "é", "x" * 101, "a\n"])
def test_an_organisation_that_would_be_another_address_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        checked_organisation(name)
    assert checked_organisation("octo-org") == "octo-org"


ADDRESS = "http://127.0.0.1:9/created"


def test_a_code_is_read_from_a_redirect() -> None:
    assert code_of_query(f"code={CODE}&state={STATE}", STATE) == CODE
    assert code_of_query(f"state={STATE}&code={CODE}&setup_action=x", STATE) == CODE
    assert code_of_address(f" {ADDRESS}?code={CODE}&state={STATE}\n", ADDRESS, STATE) == CODE


@pytest.mark.parametrize(
    "query",
    [
        "",
        f"code={CODE}",
        f"state={STATE}",
        f"code={CODE}&state={STATE[:-1]}t",
        f"code={CODE}&state=",
        f"code={CODE}&code={CODE}&state={STATE}",
        f"code={CODE}&state={STATE}&state={STATE}",
        f"code=../../user&state={STATE}",
        f"code={CODE}%0d%0aX&state={STATE}",
        f"code={CODE}%00&state={STATE}",
        f"code=short&state={STATE}",
        f"code={'c' * 300}&state={STATE}",
        f"code={CODE}&state={STATE}&{'&'.join(f'a{n}=1' for n in range(20))}",
        f"code={CODE}&state={STATE}&x={'x' * 3000}",
        f"code={CODE}&state=%ff%fe{STATE}",
        "&&&=",
    ],
)
def test_what_is_no_redirect_of_this_run_is_refused_and_not_quoted(query: str) -> None:
    for read in (lambda: code_of_query(query, STATE), lambda: code_of_address(f"{ADDRESS}?{query}", ADDRESS, STATE)):
        with pytest.raises(UsageError) as refused:
            read()
        assert CODE not in str(refused.value) + refused.value.hint and STATE not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [ADDRESS.replace("127.0.0.1", "evil.example"), ADDRESS + "/", ADDRESS.upper(), "", f"x {ADDRESS}", "http://[::1/created"],
)  # fmt: skip
def test_an_address_of_elsewhere_is_refused(address: str) -> None:
    with pytest.raises(UsageError):
        code_of_address(f"{address}?code={CODE}&state={STATE}", ADDRESS, STATE)
    assert urlsplit(ADDRESS).path == "/created"
