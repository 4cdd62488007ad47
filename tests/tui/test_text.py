"""What is drawn is safe and fits, whatever a payload holds."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from covenq.model import State
from covenq.model.rows import Attempt
from covenq.model.short_ids import with_short_tasks
from covenq.operate.answers import Done, PlanAnswer, Skipped
from covenq.text import instant
from covenq.tui import text
from covenq.tui.actions import DELIVERIES
from covenq.tui.background import BackgroundThread
from covenq.tui.panes import columns
from covenq.tui.screens import detail
from covenq.tui.screens.dialogs import done_lines
from covenq.tui.screens.help import WIDTH, help_text
from covenq.tui.screens.logs import LogScreen, Output
from covenq.tui.widgets.lines import plain

ANYTHING = st.text(st.characters(codec=None), max_size=200) | st.text(
    "\x00\x07\x1b[31m\x9b\x7f\r\n\t\u202e\u2066\u200dß日"
)


@given(ANYTHING)
def test_nothing_that_a_terminal_acts_on_gets_through(hostile: str) -> None:
    safe = text.clean(hostile)
    assert not [c for c in safe if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


@given(ANYTHING, st.integers(0, 60), st.booleans())
def test_a_cell_is_exactly_as_wide_as_its_column(value: str, width: int, right: bool) -> None:
    assert cell_len(text.fit(text.clean(value), width, right)) == width


def test_controls_are_shown_not_dropped() -> None:
    assert text.clean("a\x1b[31mb\nc") == "a␛[31mb␊c"
    assert text.clean("left\u202eright") == "left�right"
    assert text.clean("plain [red]markup[/red] stays") == "plain [red]markup[/red] stays"


def test_what_is_left_out_of_what_is_done_is_told_as_a_part_of_it() -> None:
    skipped = [Skipped("9/a", "its route look has completed"), Skipped("9/b", "it is queued")]
    done = done_lines(PlanAnswer(["9/a"], skipped, [Done("9/a", ["t1"], 7)]), DELIVERIES, [])
    assert "skipped   1 delivery, and parts of 1" in done
    assert "  9/a: its route look has completed" in done


def test_every_state_has_a_glyph_of_its_own_and_its_word() -> None:
    drawn = [text.state(state) for state in State]
    assert len({one[0] for one in drawn}) == len(State)
    assert all(one[2:] == state for one, state in zip(drawn, State, strict=True))
    assert all(cell_len(one[0]) == 1 for one in drawn)


@given(st.integers(1, 300))
def test_the_columns_fill_the_width_and_the_state_is_the_last_to_go(width: int) -> None:
    titles = [
        [(column.title, wide) for column, wide in columns.layout(columns.DELIVERIES, width)],
        [(column.title, wide) for column, wide in columns.layout(columns.TASKS, width)],
    ]
    for shown in titles:
        assert shown[0][0] == "State"
        taken = sum(wide for _, wide in shown) + columns.GAP * (len(shown) - 1)
        assert taken <= max(width, 0)
        if width >= 78:
            assert len(shown) >= 6


@given(st.integers(1, 300))
def test_the_repository_has_room_before_numbers_and_ids_are_shown(width: int) -> None:
    for shown, ids in (
        (columns.layout(columns.DELIVERIES, width), {"Seq", "GUID"}),
        (columns.layout(columns.TASKS, width), {"Task"}),
        (columns.layout(columns.ATTEMPTS, width), {"Task"}),
    ):
        widths = {column.title: wide for column, wide in shown}
        assert widths.get("Repo", 0) >= 36 or ids.isdisjoint(widths)


def test_an_attempts_node_is_said_where_there_is_room() -> None:
    wide, narrow = ({one.title for one, _ in columns.layout(columns.ATTEMPTS, width)} for width in (160, 80))
    assert "Node" in wide and "Node" not in narrow
    fields: dict[str, Any] = dict.fromkeys(Attempt.__struct_fields__)
    began = {"task": "t1", "attempt": 1, "started_at": "2026-11-23T02:34:56.123456Z", "worker": "w", "phases": []}
    for node, said in (("alpha", "worker w  node alpha"), (None, "worker w")):
        one = Attempt(**{**fields, **began, "node": node})
        assert plain(detail.attempt_lines(one, 0.0, marked=False)).endswith(said)


def test_times_and_sizes_are_short() -> None:
    at = "2026-11-23T02:34:56.123456Z"
    seconds = instant(at)
    assert seconds is not None
    assert [text.age(at, seconds + gone) for gone in (0, 59, 60, 7200, 200000)] == ["now", "59s", "1m", "2h", "2d"]
    assert text.age("nonsense", 0) == text.age(None, 0) == text.ABSENT
    assert [text.size(n) for n in (None, 0, 7741, 25 * 1024 * 1024)] == [text.ABSENT, "0 B", "7.6 KiB", "25.0 MiB"]


def test_a_payload_is_laid_out_as_json_or_shown_as_it_came() -> None:
    assert plain(detail.payload_lines(b'{"a":{"b":"\\u001b[2J"}}', "9/g")) == (
        '  {\n    "a": {\n      "b": "\\u001b[2J"\n    }\n  }'
    )
    assert plain(detail.payload_lines(b"payload=%7B\x1b\xff", "9/g")) == "  payload=%7B␛�"
    deep = b"[" * 100_000
    assert plain(detail.payload_lines(deep, "9/g")) == "  " + deep.decode()
    big = plain(detail.payload_lines(b"x" * (detail.PRETTY_PRINT_MAX + 1), "9/g"))
    assert "covenq show --payload 9/g" in big
    assert len(big) < detail.PREVIEW_BYTES + 200


@pytest.mark.parametrize(
    ("outcome", "category", "stream"),
    [(None, None, "stdout"), ("completed", None, "stdout"), ("failed", "exit", "stderr"), ("failed", "http", "stdout")],
)
def test_a_log_opens_with_the_output_that_says_why(outcome: str | None, category: str | None, stream: str) -> None:
    values = dict.fromkeys(Attempt.__struct_fields__) | {"task": "t1", "attempt": 1, "outcome": outcome}
    attempt = Attempt(**{**values, "category": category})  # type: ignore[arg-type]
    assert LogScreen("9/g", Output(attempt, "a"), lambda: None, BackgroundThread("test")).stream == stream


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ("", [""]),
        ("one two three", ["one two", "three"]),
        ("  in one two", ["  in one", "two"]),
        ("a " + "x" * 20 + " b", ["a", "x" * 8, "x" * 8, "xxxx b"]),
        ("漢字漢字漢字", ["漢字漢字", "漢字"]),
    ],
)
def test_words_are_wrapped_by_their_cells(words: str, lines: list[str]) -> None:
    assert text.wrap(words, 8) == lines


def test_ids_are_short_where_commands_take_them_so_and_others_whole() -> None:
    guid, task = "72d3162e-cc78-11e3-81ab-4c9367dc0958", "t" + "0123456789ab" * 2
    assert text.short_id(guid) == text.short_id(f"446581321/{guid}") == "72d3162e"
    assert text.short_id(task) == "t01234567"
    for whole in ("g1", "9/my-own-delivery-of-today", "t123", "\u202e"):
        assert text.short_id(whole) == text.clean(whole)
    assert with_short_tasks(f"covenq requeue {task}") == "covenq requeue t01234567"
    assert with_short_tasks(f"id:{task}") == f"id:{task}", "in a filter the beginning is none"
    alike = f"{task[:9]}{'f' * 16}"
    assert with_short_tasks(f"{task} and {alike}") == f"{task} and {alike}"


def test_the_help_is_wrapped_at_words_below_what_it_says() -> None:
    what = "requeue: the failed or cancelled tasks again, as they were when they were made"
    told = help_text([("Everywhere", [("u", what)])], grammar=False).split("\n")
    assert told == [
        "Everywhere",
        f"  u{' ' * 14}requeue: the failed or cancelled tasks again, as they",
        f"{' ' * 17}were when they were made",
        "",
    ]
    assert max(map(len, told)) <= WIDTH
