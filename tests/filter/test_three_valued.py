"""What is said of a filter when only some fields are known holds whatever the others are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.filter.grammar import Filter, delivery_fields, parse
from covenq.filter.three_valued import AtLeast, surely_matches
from tests.support.filters import NOW, TEXTS, filters, negated
from tests.support.records import START

TEXT = st.none() | st.sampled_from(TEXTS)
NUMBER = st.none() | st.sampled_from([0, 1, 7, 12, 120, -1, 1 << 62])
ROWS = st.fixed_dictionaries(
    dict.fromkeys(
        "guid hook event action repo owner sender head_sha ref target label title source secret twin".split(), TEXT
    )
    | dict.fromkeys("seq repo_id installation number duplicates payload_bytes".split(), NUMBER)
    | {
        "labels": st.none() | st.lists(st.sampled_from(TEXTS), max_size=3),
        "state": st.sampled_from(["queued", "received", "ignored"]),
        "received_at": st.just("2027-01-15T08:00:00.000000Z"),
    }
)
TASKS = st.lists(st.fixed_dictionaries({"id": st.sampled_from(TEXTS), "route": TEXT, "attempts": NUMBER}), max_size=2)
BODIES = st.sampled_from([None, {}, {"a": {"b": [1, "x*y", None]}}, {"a": 5, "z": {}}])


def partly(draw: st.DataObject, fields: Any) -> dict[str, object]:
    """Some of the fields, of some with several values only some of these."""
    known: dict[str, object] = {}
    for name in fields:
        how = draw.draw(st.sampled_from(["unknown", "known", "partly"]))
        value = fields[name]
        if how == "known":
            known[name] = value
        elif how == "partly" and isinstance(value, list):
            known[name] = AtLeast(tuple(draw.draw(st.lists(st.sampled_from(value), max_size=2)) if value else ()))
    return known


@given(filters, ROWS, TASKS, BODIES, st.data())
def test_it_never_contradicts_what_all_fields_say_and_more_knowledge_changes_no_answer(
    filter: Filter, row: dict[str, object], tasks: list[Any], body: Any, draw: st.DataObject
) -> None:
    fields = delivery_fields(row, tasks, body)
    known = partly(draw, fields)
    matches = filter.matches(fields, now=NOW)
    said = surely_matches(filter, known, now=NOW)
    assert said in (None, matches)
    assert surely_matches(filter, dict(fields), now=NOW) is matches
    less = {name: known[name] for name in draw.draw(st.lists(st.sampled_from(sorted(known)))) if known} if known else {}
    before = surely_matches(filter, less, now=NOW)
    assert before in (None, said)
    opposite = surely_matches(negated(filter), known, now=NOW)
    assert opposite is (None if said is None else not said)


KNOWN: dict[str, object] = {
    "event": "issues",
    "action": "opened",
    "repo_id": 7,
    "installation": None,
    "id": AtLeast(("g-1",)),
    "words": AtLeast(("9/g-1",)),
    "at": "2027-01-15T08:00:00.000000Z",
}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", True),
        ("event:issues", True),
        ("event:push", False),
        ("-event:push", True),
        ("event:issues action:opened,closed", True),
        ("event:issues repo:octo/hello", None),
        ("event:push repo:octo/hello", False),
        ("repo:octo/hello event:push", False),
        ("repo:octo/hello -repo:octo/hello", None),
        ("-sender:*[bot]", None),
        ("repo_id:1..10", True),
        ("repo_id>7", False),
        ("-repo_id>7", True),
        ("number:7", None),
        ("installation:*", False),
        ("-installation:*", True),
        ("installation:7", False),
        ("id:g-1", True),
        ("id:g-2", None),
        ("-id:g-1", False),
        ("g-1", True),
        ("hello", None),
        ("-g-1", False),
        ("payload.a:1", None),
        ("payload.a:1 event:push", False),
        ("age<1h", True),
        ("since:2028-01-01", False),
        ("label:bug", None),
    ],
)
def test_what_is_said(text: str, said: bool | None) -> None:
    assert surely_matches(parse(text), KNOWN, now=START + 10) is said
    if not text:
        assert surely_matches(parse(text), {}, now=START) is True
