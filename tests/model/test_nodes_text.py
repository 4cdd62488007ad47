"""What is said of the nodes that share a journal."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from covenq.model.nodes_text import BEHIND_LONG, config_word, node_troubles, nodes_text
from covenq.model.status import KnownNode
from covenq.operate.inspect.nodes import AWAY_S, known_nodes
from journal.records import NodeSeen
from tests.support.answers import AGO, NOW
from tests.support.records import empty_state

A = KnownNode("a1", "alpha", "10.0.0.1:8787", "leads", True, AGO, AGO, "1.0", 0, False)
B = KnownNode("b1", "beta", None, "standby", False, AGO, AGO, "1.0", 12, False)


def seen(id: str = "b1", silent_s: float = 0.1, about: str = "{}", **given: Any) -> NodeSeen:
    return NodeSeen(
        id, id.upper(), "", AGO, AGO, silent_s, given.get("stopped", False), about, given.get("leads", False)
    )


def test_one_node_is_no_word_worth() -> None:
    assert nodes_text([], NOW) == nodes_text([A], NOW) == ""
    assert not list(node_troubles([A], NOW))


def test_the_one_that_leads_is_named_first_and_how_far_the_others_are() -> None:
    assert nodes_text([B, A], NOW) == "alpha (here) leads; beta stands by, 12 records behind"


def test_a_node_that_is_away_or_differs_is_trouble_and_one_that_was_stopped_is_not() -> None:
    away = KnownNode("c1", "gamma", None, "away", False, AGO, AGO, "1.0", 3, True)
    other = KnownNode("d1", "delta", None, "standby", False, AGO, AGO, "1.0", BEHIND_LONG + 1, True)
    stopped = KnownNode("e1", "epsilon", None, "stopped", False, AGO, AGO, "1.0", 3, True)
    words = [text for _, text, _ in node_troubles([A, B, away, other, stopped], NOW)]
    assert len(words) == 3
    assert words[0].startswith("node gamma has said nothing for ")
    assert words[1] == f"node delta stands by, and is {BEHIND_LONG + 1:,} records behind"
    assert words[2] == "node delta runs with another configuration than this one"
    assert "gamma away since" in nodes_text([A, away], NOW)


def test_a_node_with_other_secrets_is_trouble_before_it_leads_and_so_is_one_that_does() -> None:
    standby = KnownNode("b1", "beta", None, "standby", False, AGO, AGO, "1.0", 0, False, True)
    [(_, words, what_to_do)] = node_troubles([A, standby], NOW)
    assert words == (
        "node beta has other webhook secrets than this one: deliveries would be refused there once it leads"
    )
    assert what_to_do.startswith("Copy the same secrets to it") and "`covenq secrets`" in what_to_do
    assert nodes_text([A, standby], NOW) == "alpha (here) leads; beta stands by, other webhook secrets"
    leads = KnownNode("b1", "beta", None, "leads", False, AGO, AGO, "1.0", 0, False, True)
    [(_, words, what_to_do)] = node_troubles([leads], NOW)
    assert "would be refused once this one leads" in words and what_to_do.startswith("Copy its secrets to this one")
    away = KnownNode("b1", "beta", None, "stopped", False, AGO, AGO, "1.0", 0, False, True)
    assert not list(node_troubles([A, away], NOW)), "it is told when it is there again"


@pytest.mark.parametrize(
    ("other_config", "other_secrets", "word"),
    [
        (False, False, "same"),
        (False, None, "same"),
        (False, True, "other secrets"),
        (True, True, "another"),
        (True, False, "another"),
        (None, None, "-"),
    ],
)
def test_the_table_has_the_configuration_before_the_secrets(
    other_config: bool | None, other_secrets: bool | None, word: str
) -> None:
    one = KnownNode("b1", "beta", None, "standby", False, AGO, AGO, "1.0", 0, other_config, other_secrets)
    assert config_word(one) == word


@pytest.mark.parametrize(
    ("here", "there", "other"),
    [
        ('"0123abcd"', '"0123abcd"', False),
        ('"0123abcd"', '"0123abce"', True),
        ('"0123abcd"', "null", None),
        ("null", '"0123abcd"', None),
        ('"0123abcd"', '"0123ABCE"', None),
        ('"0123abcd"', '"0123abce\\n"', None),
        ('"0123abcd"', '"0123abcd0"', None),
        ('"0123abcd"', '["0123abcd"]', None),
        ('"0123abcd"', "19088743", None),
        ('"0123abcd"', '"\u0660123abcd"', None),
    ],
)
def test_secrets_are_compared_where_both_nodes_say_what_may_be_a_fingerprint(
    here: str, there: str, other: bool | None
) -> None:
    told = [seen("a1", about=f'{{"secrets": {here}}}', leads=True), seen(about=f'{{"secrets": {there}}}')]
    assert known_nodes(told, "a1", 9, "x")[1].other_secrets is other
    assert known_nodes([seen("a1", about=f'{{"secrets": {here}}}'), seen()], "a1", 9, "x")[1].other_secrets is None
    assert known_nodes(told, "another", 9, "x")[0].other_secrets is None, "this one has said nothing yet"


@pytest.mark.parametrize(
    "about",
    [
        "[" * 100_000,
        '{"secrets":' * 100_000,
        f'{{"folded": 1{"0" * 30}, "erased": -1, "clock_ahead": 1{"0" * 400}}}',
        '{"folded": -1, "clock_ahead": NaN}',
        '{"version": "\\ud800", "api": "\\ud800"}',
    ],
)
def test_whatever_a_row_says_there_is_an_answer(about: str) -> None:
    [found] = known_nodes([seen(about=about)], "a1", 9, "x", empty_state())
    assert (found.version, found.behind, found.clock_ahead_s, found.api, found.owes) == (None, None, None, None, 0)
    assert msgspec.json.encode(found)


def test_a_clock_that_would_keep_a_node_from_starting_is_told() -> None:
    fast = KnownNode("b1", "beta", None, "standby", False, AGO, AGO, "1.0", 0, False, clock_ahead_s=-7.25)
    [(_, words, what_to_do)] = node_troubles([A, fast], NOW)
    assert words == "the clock of node beta is 7.2 s off" and "a start is refused" in what_to_do
    near = KnownNode("b1", "beta", None, "standby", False, AGO, AGO, "1.0", 0, False, clock_ahead_s=4.0)
    assert not list(node_troubles([A, near], NOW))


def test_a_node_is_what_was_seen_of_it_and_not_more() -> None:
    said = '{"version": "2.0", "folded": 7, "config": "x", "clock_ahead": -0.25}'
    leads, behind, away, stopped, strange = known_nodes(
        [
            seen("a1", about=said, leads=True),
            seen(about='{"folded": 3, "config": "y"}'),
            seen(silent_s=AWAY_S + 1, leads=True),
            seen(stopped=True, silent_s=999),
            seen(about='{"folded": "7", "version": 2, "config": [1], "clock_ahead": "1"}'),
        ],
        "a1",
        9,
        "x",
    )
    assert (leads.state, leads.here, leads.version, leads.behind, leads.other_config) == (
        "leads",
        True,
        "2.0",
        2,
        False,
    )
    assert leads.clock_ahead_s == -0.25
    assert (behind.state, behind.here, behind.behind, behind.other_config) == ("standby", False, 6, True)
    assert (away.state, stopped.state) == ("away", "stopped")
    assert (strange.version, strange.behind, strange.other_config, strange.clock_ahead_s) == (None,) * 4
    [broken] = known_nodes([seen(about="[")], "a1", 9, "x")
    assert (broken.behind, broken.other_config) == (None, None)
