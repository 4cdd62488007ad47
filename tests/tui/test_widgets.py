"""The payload's tree, the difference of two documents, completion and saved filters: values in, values out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covenq.errors import CovenqError
from covenq.filter.grammar import FIELDS, parse
from covenq.tui import saved
from covenq.tui.complete import complete
from covenq.tui.widgets.jsondiff import ABSENT, Difference, differences
from covenq.tui.widgets.jsontree import CHILDREN_MAX, Tree, path_step

ISSUE = {"action": "opened", "issue": {"user": {"login": "octocat"}, "labels": [{"name": "bug"}, {"name": "good one"}]}}
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def names(tree: Tree) -> list[str]:
    return [node.name for node in tree.lines]


def test_only_what_is_open_has_lines() -> None:
    tree = Tree(ISSUE)
    assert names(tree) == ["payload", "action", "issue"]
    tree.toggle(tree.lines[2])
    assert names(tree) == ["payload", "action", "issue", "user", "labels"]
    tree.toggle(tree.lines[2])
    assert names(tree) == ["payload", "action", "issue"]
    tree.open_below(tree.root)
    assert names(tree)[-4:] == ["[0]", "name", "[1]", "name"]
    tree.close_below(tree.root)
    assert names(tree) == ["payload", "action", "issue"]


def test_a_node_says_how_to_ask_for_it() -> None:
    tree = Tree(ISSUE)
    found = tree.find("good one")
    assert found is not None
    assert found.path == ".issue.labels[1].name"
    line = tree.reveal(found)
    assert tree.lines[line] is found
    assert path_step("a b") == '["a b"]'
    assert path_step('"') == r'["\""]'


def test_searching_goes_round_in_both_directions() -> None:
    tree = Tree({"a": "x", "b": {"c": "x"}, "d": "X"})
    hits = []
    here = None
    for _ in range(3):
        here = tree.find("x", here)
        assert here is not None
        hits.append(here.path)
    assert hits == [".a", ".b.c", ".d"]
    round_the_end = tree.find("x", here)
    assert round_the_end is not None and round_the_end.path == ".a"
    back = tree.find("x", here, backwards=True)
    assert back is not None and back.path == ".b.c"
    assert tree.find("") is None
    assert tree.find("nowhere") is None


def test_a_deep_and_a_wide_payload_are_no_trouble() -> None:
    deep: Any = "bottom"
    for _ in range(5000):
        deep = [deep]
    tree = Tree(deep)
    found = tree.find("bottom")
    assert found is not None
    assert tree.reveal(found) == 5000
    wide = Tree(list(range(CHILDREN_MAX + 5)))
    assert len(wide.lines) == CHILDREN_MAX + 1
    assert wide.root.hidden_count == 5


def test_differences_are_told_by_path() -> None:
    other = json.loads(json.dumps(ISSUE))
    other["action"] = "closed"
    other["issue"]["labels"].pop()
    other["sender"] = {"login": "o"}
    assert list(differences(ISSUE, other)) == [
        Difference(".action", "opened", "closed"),
        Difference(".issue.labels[1]", {"name": "good one"}, ABSENT),
        Difference(".sender", ABSENT, {"login": "o"}),
    ]
    assert list(differences({"n": 1}, {"n": True})) == [Difference(".n", 1, True)]


@settings(deadline=None, max_examples=60)
@given(DOCUMENTS, DOCUMENTS)
def test_documents_differ_just_when_they_are_not_the_same(one: Any, other: Any) -> None:
    told = list(differences(one, other))
    assert bool(told) == (json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True))
    assert [(d.path, d.new, d.old) for d in differences(other, one)].sort(key=str) == [
        (d.path, d.old, d.new) for d in told
    ].sort(key=str)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("st", "state:"),
        ("event:push st", "event:push state:"),
        ("-st", "-state:"),
        ("not:st", "not:state:"),
        ("state:fa", "state:failed"),
        ("state:failed,ru", "state:failed,running"),
        ("ag", "age<"),
        ("pay", "payload."),
        ("repo:oc", "repo:octo/hello"),
        ("repo:octo/hello-world", None),
        ("nosuch:x", None),
        ("", None),
        ("state:failed ", None),
    ],
)
def test_completion(typed: str, completed: str | None) -> None:
    assert complete(typed, {"repo": ["octo/hello", "octo/hello-world"]}) == completed


def test_every_field_is_completed_to_something_that_parses() -> None:
    for field in FIELDS:
        start = complete(field[:-1], {})
        assert start is not None
        assert complete(field, {}) in (f"{field}:", f"{field}<", f"{field}_id:"), field
    parse(str(complete("state:que", {})))


def test_saved_filters_survive_and_a_broken_file_is_named(tmp_path: Path) -> None:
    path = saved.path_of({"XDG_CONFIG_HOME": str(tmp_path)})
    assert saved.read(path) == {}
    saved.write(path, {"failed today": "state:failed since:1d"})
    assert saved.read(path) == {"failed today": "state:failed since:1d"}
    path.write_text("[1]")
    with pytest.raises(CovenqError, match=r"filters\.json"):
        saved.read(path)
    with pytest.raises(CovenqError, match="100"):
        saved.write(path, {str(n): "x" for n in range(101)})
    assert saved.path_of({"HOME": "/home/x"}) == Path("/home/x/.config/covenq/filters.json")
