"""The lines of what waits, on terminals of any width and in a pipe."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from covenq.cli.commands.listing import waits_of
from covenq.cli.waiting_lines import typed_here, waiting_lines
from covenq.client.suggestion import options_given
from covenq.model import at_text
from covenq.model.rows import Waits
from covenq.model.waiting import ORDER, WaitingTasks
from covenq.text import width
from covenq.tui import text
from covenq.tui.panes import waiting as overview
from covenq.tui.panes.columns import TASKS
from covenq.tui.widgets.lines import plain

NOW = 1_800_000_000.0


def line(
    cause: str, scope: str | None, count: int, why: str, command: str | None = None, until: float | None = None
) -> WaitingTasks:
    due = None if until is None else at_text(NOW + until)
    since = at_text(NOW - 5 * 3600) if cause == "paused" else None
    return WaitingTasks(cause, scope, count, at_text(NOW - 7200), due, command, why, since, "t1")


FOUND = [
    line("paused", "repo acme/payments", 190, "paused by root: a release", "covenq resume repo acme/payments"),
    line("receiver", "route mirror", 208, "http://127.0.0.1:9 failed 10 times in a row (refused)", None, 105),
    line("quota", "installation 9001", 133, "40 of 40 attempts in 24 hours", None, 3600),
    line("unclaimed", "route ci-results", 1286, "nobody claims them", "covenq worker --route ci-results -- CMD"),
]


def test_in_a_pipe_each_is_one_line() -> None:
    assert list(waiting_lines(FOUND, NOW, None, coloured=False)) == [
        "‖   190 acme/payments  paused 5h by root: a release; oldest 2h  covenq resume repo acme/payments",
        "✗   208 mirror         http://127.0.0.1:9 failed 10 times in a row (refused); asked again in 1m; oldest 2h",
        "◔   133 inst. 9001     40 of 40 attempts in 24 hours; next at 09:00Z; oldest 2h",
        "○ 1,286 ci-results     nobody claims them; oldest 2h  covenq worker --route ci-results -- CMD",
    ]


def test_on_a_terminal_words_wrap_and_commands_stay_whole() -> None:
    assert list(waiting_lines(FOUND[:2], NOW, 68, coloured=False)) == [
        "‖ 190 acme/payments  paused 5h by root: a release; oldest 2h",
        "                     covenq resume repo acme/payments",
        "✗ 208 mirror         http://127.0.0.1:9 failed 10 times in a row",
        "                     (refused); asked again in 1m; oldest 2h",
    ]


def test_colour_is_of_what_lasts_alone() -> None:
    lines = list(waiting_lines([*FOUND, line("key", "route r", 1, "a task runs")], NOW, None, coloured=True))
    assert ["\x1b[" in one for one in lines] == [True, True, True, True, False]


def test_commands_are_typed_where_this_one_was_told_to_look() -> None:
    found = [line("paused", "route x", 1, "paused", "covenq resume route x"), replace(FOUND[3])]
    with options_given({"data": "/srv/a b", "config": None, "url": None, "token_file": None}):
        typed_here(found)
    assert [one.command for one in found] == [
        "covenq resume route x --data '/srv/a b'",
        "covenq worker --route ci-results --data '/srv/a b' -- CMD",
    ]


WORDS = st.text(st.sampled_from("ab-/ 漢é\u0301\x1b"), min_size=1, max_size=40)


@given(
    found=st.lists(
        st.builds(
            line,
            st.sampled_from([str(cause) for cause in ORDER]),
            st.one_of(st.none(), WORDS.map(lambda name: f"route {name}")),
            st.integers(1, 10**7),
            WORDS,
            st.one_of(st.none(), st.just("covenq resume route x")),
            st.one_of(st.none(), st.integers(-99, 10**6)),
        ),
        max_size=6,
    ),
    room=st.integers(40, 200),
)
def test_no_line_is_longer_than_the_terminal(found: list[WaitingTasks], room: int) -> None:
    lines = list(waiting_lines(found, NOW, room, coloured=False))
    longest = max((width(word) for one in lines for word in one.split()), default=0)
    assert all(width(one) <= max(room, longest + 4) for one in lines), lines
    assert not any("\x1b" in one for one in lines)
    for one in found:
        assert any(f"{one.count:,}" in shown for shown in lines)
        assert one.command is None or any(shown.endswith(one.command) for shown in lines)


@pytest.mark.parametrize("room", [40, 77, 97, 157])
def test_the_overview_tells_the_same(room: int) -> None:
    shown = plain(overview.waiting_lines(FOUND, NOW, room))
    assert shown.startswith("Waiting  1,817\n")
    lines = shown.splitlines()
    assert all(text.cells(one) <= room for one in lines), shown
    together = " ".join(shown.split())
    for one in FOUND:
        assert one.command is None or one.command in shown
        assert one.why.removeprefix("paused ") in together
    assert overview.waiting_lines([], NOW, room) == []


@pytest.mark.parametrize(
    ("waits", "shown"),
    [
        (Waits("repo_daily", "…", 3, "quota"), "quota #3"),
        (Waits("retry", "…", None, "not_before"), "not before"),
        (Waits("pull", "…", 1, "unclaimed"), "nobody claims #1"),
        (Waits("retry", "…"), "retry"),
    ],
    ids=str,
)
def test_a_task_names_its_cause_in_both_lists(waits: Waits, shown: str) -> None:
    """That of an older daemon, which tells no cause, its word."""
    task: Any = SimpleNamespace(waits=waits)
    (column,) = [one for one in TASKS if one.title == "Waits"]
    assert column.draw(task, NOW) == (shown, "")
    assert waits_of(task) == shown
    assert waits_of(cast(Any, SimpleNamespace(waits=None))) == ""
