"""The filter grammar: what parses to what, what it matches, and what its errors say."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.errors import FilterError
from covenq.filter.grammar import FIELDS, delivery_fields, parse, task_fields
from covenq.filter.tree import Age, InRange, Match, Not, Pattern, values_at
from tests.support.filters import negated

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z

ROW = {
    "seq": 7,
    "hook": "99",
    "guid": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    "received_at": "2027-01-15T07:30:00.000000Z",
    "event": "issues",
    "action": "labeled",
    "repo": "octo/Hello-World",
    "owner": "octo",
    "sender": "dependabot[bot]",
    "number": 12,
    "label": "coven:fix",
    "labels": ["coven:fix", "good first issue"],
    "title": "It falls over",
    "state": "queued",
    "payload_bytes": 2048,
    "duplicates": 2,
}


def matches(text: str, row: dict[str, object] = ROW, **more: object) -> bool:
    return parse(text).matches(delivery_fields(row | more), now=NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "event:issues",
        "event:push,issues action:labeled,assigned",
        "label:coven:fix",
        "repo:octo/*",
        "repo:*/*World",
        "repo:o*-*d",
        "sender:*[bot]",
        "-sender:mona",
        "not:sender:mona",
        "not:-event:issues",
        "-event:push,pull_request",
        "number:12 number:10..20 number:10.. number:..12 number:* number>11 number>=12 number<13 number<=12",
        "-number:13 -number>12",
        "-sha:* -twin:x",
        "age<1h age<=30m age>=30m age>10m",
        "since:1h before:10m",
        "since:2027-01-15 before:2027-01-16T00:00:00+02:00 since:2027-01-15T07:00:00Z",
        "hello",
        "HELLO-w*d",
        "octo/hello-world#12",
        '"falls over"',
        "-nowhere",
        "72D3162E",
        "99/72d3",
        "id:72d3162e-* id:99/72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "size>1000 duplicates:1.. seq:7",
    ],
)
def test_it_matches(text: str) -> None:
    assert matches(text)
    assert not negated(parse(text)).matches(delivery_fields(ROW), now=NOW)


@pytest.mark.parametrize(
    "text",
    [
        "event:push",
        "event:Issues",
        "repo:octo",
        "repo:octo/*-worlds",
        "-event:issues",
        "not:event:issues",
        "event:issues action:opened",
        "-number:10..20",
        "number>12",
        "sha:*",
        "label:good*",
        'label:"good first issue"',
        "age>1h",
        "before:1h",
        "nowhere",
        'repo:"octo/*"',
        "-octo",
    ],
)
def test_it_does_not_match(text: str) -> None:
    assert not matches(text)
    assert negated(parse(text)).matches(delivery_fields(ROW), now=NOW)


def test_labels_are_the_events_own_or_else_those_of_the_issue() -> None:
    assert matches('label:"good first issue"', label=None)
    assert matches('-label:"good first issue"')
    assert not matches("label:*", label=None, labels=None)


def test_quotes_make_spaces_commas_colons_and_stars_literal() -> None:
    assert parse(r'label:"a, b*","c\"d\\"').node.nodes == (Match("label", (Pattern(("a, b*",)), Pattern(('c"d\\',)))),)
    assert matches('label:"x, y",z', label="x, y")
    assert matches('label:""', label="")
    assert matches('label:"good "*', label="good one")


def test_a_value_is_compared_as_its_column_will_hold_it() -> None:
    assert matches("repo:a\ufffdb", repo="a\0b")


def test_words_of_a_shell_and_one_text_are_the_same() -> None:
    assert parse(["state:failed", "age<1h"]).node == parse("state:failed age<1h").node
    assert parse(["state:failed age<1h"]).node == parse("state:failed age<1h").node


def test_since_and_before_part_time_in_two() -> None:
    since, before = parse("since:1h"), parse("before:1h")
    for at in ("2027-01-15T06:59:59.999999Z", "2027-01-15T07:00:00.000000Z", "2027-01-15T07:00:00.000001Z"):
        fields = delivery_fields({"received_at": at})
        assert since.matches(fields, now=NOW) != before.matches(fields, now=NOW)


def test_ages_that_reach_before_1970_stop_there() -> None:
    assert Age(">", 1e18, None).moment(NOW) == "1970-01-01T00:00:00.000000Z"
    assert matches("age<999999999d since:0001-01-01")


def test_a_route_of_any_of_its_tasks_counts() -> None:
    tasks = [{"id": "t0a", "route": "fix", "attempts": 3}, {"id": "t1b", "route": "log", "attempts": 1}]
    fields = delivery_fields(ROW, tasks)
    assert parse("route:fix attempts:3 route:log t0a").matches(fields, now=NOW)
    assert not parse("-route:fix").matches(fields, now=NOW)
    assert parse("-route:fix").matches(delivery_fields(ROW), now=NOW)


def test_a_task_is_seen_with_its_delivery() -> None:
    task = {"id": "t0a", "hook": "99", "guid": "g", "state": "failed", "category": "exit", "delivery_seq": 7}
    fields = task_fields(task | {"created_at": ROW["received_at"]}, ROW)
    text = "id:t0a sender:dependabot* label:coven:fix size:2048 seq:7 falls category:exit"
    assert parse(text).matches(fields, now=NOW)
    assert not parse("sender:*").matches(task_fields(task), now=NOW)


BODY = {
    "issue": {"user": {"login": "octocat"}, "number": 5, "draft": False, "milestone": None, "body": "a\0b"},
    "commits": [{"id": "a1", "files": ["x", "y"]}, {"id": "b2", "files": []}],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("payload.issue.user.login:octocat", True),
        ("payload.issue.user.login:mona,octo*", True),
        ("payload.issue.number:5", True),
        ("payload.issue.draft:false", True),
        ("payload.issue.milestone:*", False),
        ("-payload.issue.milestone:*", True),
        ("payload.issue.user:*", True),
        ("payload.issue.user:octocat", False),
        ("payload.commits.id:b2", True),
        ("payload.commits.1.id:b2", True),
        ("payload.commits.0.id:b2", False),
        ("payload.commits.9.id:*", False),
        ("payload.commits.files:y", True),
        ("payload.nowhere.at.all:*", False),
        ("payload.issue.body:a\ufffdb", True),
    ],
)
def test_reaching_into_the_payload(text: str, expected: bool) -> None:
    filter = parse(text)
    assert filter.needs_payload
    assert filter.matches(delivery_fields({}, payload=lambda: BODY), now=NOW) is expected
    assert filter.matches(delivery_fields({}, payload=BODY), now=NOW) is expected


def test_a_payload_that_is_gone_holds_nothing() -> None:
    assert not parse("payload.issue:*").matches(delivery_fields({}), now=NOW)
    assert list(values_at([[{"a": 1}], {"a": 2}], ("a",))) == ["1", "2"]


def test_the_payload_is_not_read_when_an_earlier_term_says_no() -> None:
    def read() -> object:
        raise AssertionError("read")

    assert not parse("event:push payload.a:b").matches(delivery_fields(ROW, payload=read), now=NOW)


@pytest.mark.parametrize(
    ("text", "column", "hint"),
    [
        ("evnt:push", 1, "Did you mean event:?"),
        ("event:push  repos:x", 13, "Did you mean repo:?"),
        ("evnt:", 1, "Did you mean event:?"),
        ("-sendr:x", 2, "Did you mean sender:?"),
        ("state:runing", 7, "Did you mean state:running?"),
        ("state:failed,qued", 14, "Did you mean state:queued?"),
        ("category:zzz", 10, "It is one of"),
        ("repo:", 6, "repo:value"),
        ("repo:a,,b", 8, "repo:value"),
        ("repo:a,", 7, "repo:value"),
        ("number:abc", 8, "number:12"),
        ("number:1*", 8, "number:12"),
        ("number:..", 8, "number:12"),
        ("number:1234567890123456789", 8, "18 digits"),
        ("number>x", 8, "number>10"),
        ("repo>3", 5, "repo:value"),
        ("since:soon", 7, "since:2d"),
        ("age:1h", 5, "age<1h"),
        ("since<1h", 7, "since:2d"),
        ("age<2027-01-01", 5, "age<1h"),
        ('label:"open', 7, "Close it"),
        ("-", 1, "-field:value"),
        ("not:", 1, "-field:value"),
        ("x/y:z", 1, "quotes"),
        (":x", 1, "quotes"),
        ("payload.a..b:x", 1, "payload.issue"),
        ("payload.a>1", 10, "payload.path"),
        ("payload:x", 1, "payload.issue.user.login:"),
        ("paylod:x", 1, "payload.issue.user.login:"),
        ("event:\ud800", 7, "UTF-8"),
        ("a\0b", 2, "NUL"),
        ("x" * 8193, 8193, "shorter"),
        ("a " * 101, 1, "either"),
        ("event:" + "a," * 200 + "a", 7, "parts"),
    ],
)
def test_errors_point_at_the_column_and_say_what_to_write(text: str, column: int, hint: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert caught.value.column == column
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


def test_every_field_can_be_asked_for() -> None:
    for name in FIELDS:
        value = {"age": "<1h", "since": ":1h", "before": ":1h", "state": ":failed", "category": ":exit"}.get(name, ":5")
        filter = parse(name + value)
        assert filter.fields() == {"age" if name in ("since", "before") else name}
    assert parse("-x payload.a:b seq:1").fields() == {"word", "payload", "seq"}
    assert parse("-number>5").node.nodes == (Not(InRange("number", ((6, None),))),)


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused_with_a_column_in_it(text: str) -> None:
    try:
        filter = parse(text)
    except FilterError as error:
        assert 1 <= error.column <= len(text) + 1
        assert error.hint
        return
    fields = delivery_fields(ROW)
    assert filter.matches(fields, now=NOW) != negated(filter).matches(fields, now=NOW)


@given(st.lists(st.sampled_from(["a", "b", "ab", "*", "**", "."]), max_size=8), st.text("ab.", max_size=12))
def test_stars_match_as_the_regular_expression_would(pieces: list[str], text: str) -> None:

    spelling = "".join(pieces)
    if not spelling:
        return
    (node,) = parse(f"repo:{spelling}").node.nodes
    assert isinstance(node, Match)
    expected = re.fullmatch(re.escape(spelling).replace(r"\*", ".*"), text, re.DOTALL) is not None
    assert node.patterns[0].matches(text) == expected


def test_many_stars_cost_no_more_than_the_text_is_long() -> None:
    (node,) = parse("repo:" + "a*" * 2000 + "b").node.nodes
    assert isinstance(node, Match)
    assert not node.patterns[0].matches("a" * 100_000)
