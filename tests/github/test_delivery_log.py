"""GitHub's delivery log as it is read: items, odd items, ids that other programs round, and the cursor of the next page."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.errors import GithubAnswerUnreadable
from covenq.filter.grammar import parse
from covenq.github.delivery_log import next_cursor, parse_page
from covenq.model import at_text

ITEM = {
    "id": 3_812_345_678_901_234_567,
    "guid": "58474f00-b361-11eb-836d-0e4f3503ccbe",
    "delivered_at": "2026-11-29T20:33:44.123Z",
    "redelivery": False,
    "duration": 0.03,
    "status": "failed to connect",
    "status_code": 0,
    "event": "issues",
    "action": "opened",
    "installation_id": 123,
    "repository_id": None,
    "throttled_at": None,
}


def page(*items: Any) -> bytes:
    return json.dumps(items).encode()


def test_an_item_keeps_its_id_to_the_last_digit() -> None:
    (one,) = parse_page(page({**ITEM, "more": [1]}), None).attempts
    assert (one.id, one.guid) == ("3812345678901234567", ITEM["guid"])
    assert at_text(one.at) == "2026-11-29T20:33:44.123000Z"
    assert (one.installation, one.repo_id, one.action, one.accepted, one.throttled) == (
        123,
        None,
        "opened",
        False,
        False,
    )


def test_attempts_are_ordered_by_time_though_their_ids_jump() -> None:
    older = {**ITEM, "id": 9, "delivered_at": "2026-11-29T20:00:00Z"}
    newer = {**ITEM, "id": 7, "delivered_at": "2026-11-29T21:00:01+01:00"}
    found = parse_page(page(newer, older), None).attempts
    assert [one.id for one in sorted(found, key=lambda one: one.order)] == ["9", "7"]


@pytest.mark.parametrize(
    "odd",
    [
        {"id": "12"},
        {"id": 2**63},
        {"id": True},
        {"guid": "../../x"},
        {"guid": "a" * 65},
        {"delivered_at": "yesterday"},
        {"delivered_at": "2026-11-29T20:00:00"},
        {"delivered_at": "9999-12-31T23:59:59-23:59"},
        {"delivered_at": "0001-01-01T00:00:00+23:59"},
        {"event": "a b"},
        {"action": 5},
        {"status_code": -1},
        {"installation_id": "5"},
        {"redelivery": None},
    ],
)
def test_an_odd_item_is_counted_and_hides_no_other(odd: dict[str, Any]) -> None:
    found = parse_page(page(ITEM, {**ITEM, **odd}, 7), None)
    assert (len(found.attempts), found.unreadable) == (1, 2)


@pytest.mark.parametrize(
    ("action", "told"), [("x" * 100, "x" * 100), ("x" * 101, None), ("\ud800", "?"), ("\U0001f389",) * 2]
)
def test_no_action_loses_its_delivery_for_that_of_a_dispatch_is_its_senders_own_words(
    action: str, told: str | None
) -> None:
    found = parse_page(page(ITEM, {**ITEM, "id": 3, "action": action}), None)
    assert [(one.id, one.action) for one in found.attempts] == [(str(ITEM["id"]), "opened"), ("3", told)]


@pytest.mark.parametrize("name", ["installation_id", "repository_id"])
@pytest.mark.parametrize("number", [-1, 10**18, 2**63 - 1, 2**70])
def test_a_number_that_no_filter_can_ask_for_counts_as_not_said(name: str, number: int) -> None:
    (one,) = parse_page(page({**ITEM, name: number}), None).attempts
    said = {"installation_id": one.installation, "repository_id": one.repo_id}
    assert said[name] is None
    (one,) = parse_page(page({**ITEM, name: 10**18 - 1}), None).attempts
    parse(f"repo_id:{one.repo_id or 1} installation:{one.installation or 1}")


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b'{"message":"x"}', b"\xff", b"[" * 100_000, b"null"])
def test_what_is_no_list_is_said_so(body: bytes) -> None:
    with pytest.raises(GithubAnswerUnreadable):
        parse_page(body, None)


@pytest.mark.parametrize(
    ("link", "cursor"),
    [
        (None, None),
        ('<https://api.github.com/app/hook/deliveries?per_page=100&cursor=v1_12>; rel="next"', "v1_12"),
        ('<https://evil.example/x?cursor=v1_12>; rel="next"', "v1_12"),
        ('<https://a/?cursor=back>; rel="prev", <https://a/?cursor=on%3D1>; rel="next"', "on=1"),
        ('<https://a/?cursor=back>; rel="prev"', None),
        ('<https://a/?page=2>; rel="next"', None),
        ('<https://a/?cursor=a%0d%0ab>; rel="next"', None),
        ("<https://a/?cursor=" + "x" * 600 + '>; rel="next"', None),
        ("<https://a/?cursor=c>; title=t; rel=next", "c"),
        ("<", None),
    ],
)
def test_the_cursor_is_taken_from_the_link_as_that_alone(link: str | None, cursor: str | None) -> None:
    assert next_cursor(link) == cursor


@given(st.text(max_size=300))
def test_no_link_is_an_error(link: str) -> None:
    found = next_cursor(link)
    assert found is None or found.isascii()
