"""A filter's terms told one by one: the text of a term is the term, and together they say what the filter says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.filter.explain import explain, node_text
from covenq.filter.grammar import Filter, delivery_fields, parse
from journal.records import Entry
from tests.support.filters import filters, journals

NOW = 1_800_000_010.0
ISSUE = {
    "hook": "9",
    "guid": "g1",
    "event": "issues",
    "action": "opened",
    "repo": "octo/hello",
    "number": 12,
    "label": None,
    "labels": ["bug", "help wanted"],
    "received_at": "2027-01-15T08:00:00.000000Z",
    "title": "It breaks",
}


def told(text: str, **more: object) -> list[tuple[str, bool | None, tuple[str, ...]]]:
    fields = delivery_fields({**ISSUE, **more}, payload={"issue": {"user": {"login": "octocat"}, "labels": [{}]}})
    return [(term.text, term.holds, tuple(term.seen)) for term in explain(parse(text), fields, now=NOW)]


def test_each_term_says_whether_it_holds_and_what_it_saw() -> None:
    assert told("event:issues action:assigned,labeled label:bug -sender:*[bot] payload.issue.user.login:octocat") == [
        ("event:issues", True, ("issues",)),
        ("action:assigned,labeled", False, ("opened",)),
        ("label:bug", True, ("bug", "help wanted")),
        ("-sender:*[bot]", True, ()),
        ("payload.issue.user.login:octocat", True, ("octocat",)),
    ]
    assert told("age<5s number>20 payload.issue.labels:* hello") == [
        ("age<5s", False, ("2027-01-15T08:00:00.000000Z",)),
        ("number:21..", False, ("12",)),
        ("payload.issue.labels:*", True, ("an object",)),
        ("hello", True, ("octo/hello#12", "It breaks", "9/g1")),
    ]


def test_what_it_saw_is_bounded() -> None:
    (only,) = explain(parse("label:x"), delivery_fields({"labels": ["l" * 500] * 9}), now=NOW)
    assert len(only.seen) == 6
    assert {len(value) for value in only.seen} == {80, 1}


def test_a_term_that_fails_says_so_and_the_others_are_told() -> None:
    def broken() -> object:
        raise RecursionError

    first, second = explain(parse("payload.a:1 event:issues"), delivery_fields(ISSUE, payload=broken), now=NOW)
    assert (first.holds, first.problem) == (None, "it fails with RecursionError")
    assert second.holds is True


@pytest.mark.parametrize(
    "text",
    [
        "since:2027-01-15",
        "before:2h",
        "age>=90s",
        "age<1500ms",
        "seq<0",
        "number:*,1..2,..7",
        '"a b"',
        '""',
        "a*b",
        "*",
    ],
)
def test_the_text_of_a_term_is_the_term(text: str) -> None:
    node = parse(text).node
    assert parse(node_text(node)).node == node


@given(filters)
def test_the_text_of_any_filter_parses_to_the_same(filter: Filter) -> None:
    assert parse(node_text(filter.node)).node == filter.node


@given(journals(), filters)
def test_a_filter_matches_where_all_its_terms_hold(entries: list[Entry], filter: Filter) -> None:
    for entry in entries:
        fields = delivery_fields(
            {**entry.data, **(entry.about or {}), "received_at": "2027-01-15T08:00:00.000000Z"}, payload={"a": 1}
        )
        assert all(term.holds for term in explain(filter, fields, now=NOW)) == filter.matches(fields, now=NOW)


@given(
    journals(), st.sampled_from(["event:issues ", "event:push,issues,x ", "event:iss* ", "-event:issues ", ""]), filters
)
def test_a_filter_is_the_texts_of_a_field_and_the_rest(entries: list[Entry], term: str, filter: Filter) -> None:
    whole = parse(f"{term}{filter.text}")
    texts, rest = whole.split("event")
    if term.startswith("event:") and "*" not in term:
        assert texts is not None
    for entry in entries:
        fields = delivery_fields({**entry.data, **(entry.about or {}), "received_at": "2027-01-15T08:00:00.000000Z"})
        split = (texts is None or fields["event"] in texts) and rest.matches(fields, now=NOW)
        assert split == whole.matches(fields, now=NOW)


@given(st.text(min_size=1, max_size=12))
def test_any_value_can_be_told(text: str) -> None:
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        return
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    node = parse(f"title-{quoted} repo:{quoted}").node
    assert parse(node_text(node)).node == node


def test_lists_of_any_depth_are_looked_through() -> None:
    body: object = "x"
    for _ in range(100_000):
        body = [body, [[]]]
    fields = delivery_fields(ISSUE, payload={"a": body})
    assert parse("payload.a:x").matches(fields, now=NOW) and not parse("payload.a:y").matches(fields, now=NOW)
    (term,) = explain(parse("payload.a:x"), fields, now=NOW)
    assert (term.holds, term.seen, term.problem) == (True, ["x"], None)
