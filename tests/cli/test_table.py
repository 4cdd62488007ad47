"""Tables on a terminal: a row is a line, nothing is cut without saying so, and what one looks for stays."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covenq.cli import bench_report, reconcile_report
from covenq.cli.commands import demo, info, listing, refused, routes, show, tokens
from covenq.cli.commands.listing import DELIVERY_COLUMNS, TASK_COLUMNS
from covenq.cli.table import Column, print_table
from covenq.cli.table_layout import layout, telling
from covenq.model import State
from covenq.model.rows import Waits
from covenq.text import escape, shorten_target, width

NAME = st.text(st.sampled_from("abc-_.日本e\u0301"), min_size=1, max_size=40)
ROWS = {
    "guid": st.uuids().map(str) | st.text(st.sampled_from("0123-"), min_size=1, max_size=64),
    "id": st.text(st.sampled_from("0123456789abcdef"), min_size=24, max_size=24).map("t{}".format),
    "hook": st.sampled_from(["446581321", "-", "9" * 64]),
    "received_at": st.sampled_from(["2026-11-30T00:00:00Z", "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"]),
    "event": st.sampled_from(["push", "pull_request_review_comment", "x" * 64]),
    "action": st.sampled_from([None, "created", "synchronize"]),
    "repo": st.none() | st.builds("{}/{}".format, NAME, NAME),
    "number": st.none() | st.integers(0, 999_999),
    "sender": st.none() | NAME,
    "state": st.sampled_from([state.value for state in State]),
    "reason": st.sampled_from([None, "no_route", "signature-wrong-for-a-very-long-reason"]),
    "duplicates": st.sampled_from([0, 0, 12]),
    "conflicts": st.sampled_from([0, 0, 1]),
    "twin": st.sampled_from([None, None, "abc"]),
    "attempts": st.sampled_from([0, 1, 100]),
    "waits": st.sampled_from([None, Waits("worker", "", 1234), Waits("backoff", "")]),
    "route": st.sampled_from(["fix-issue", "a-route-with-a-long-name-that-says-what-it-is-for"]),
    "created_at": st.just("2026-11-30T00:00:00Z"),
}
SOME = st.lists(st.builds(SimpleNamespace, **ROWS), min_size=1, max_size=12)
WIDTHS = st.integers(40, 200)
SAMPLES = st.sampled_from([200, 1, 3])
"""How many rows are looked at before the first is printed: those that come later are as any."""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(columns: Sequence[Column[Any]], rows: Sequence[Any], room: int | None, sample: int = 200) -> list[str]:
    """The lines of a table on a terminal so wide, or in a pipe; without colours."""
    out = io.StringIO() if room is None else Terminal()
    environment = {"COLUMNS": str(room), "NO_COLOR": "1"}
    with patch.dict("os.environ", environment), patch("covenq.cli.table.SAMPLE", sample), redirect_stdout(out):
        assert print_table(columns, iter(rows)) == len(rows)
    return out.getvalue().splitlines()


def cells_of(columns: Sequence[Column[Any]], rows: Sequence[Any]) -> list[list[str]]:
    return [[escape("" if (cell := one.cell(row)) is None else str(cell)) for one in columns] for row in rows]


@pytest.mark.parametrize("columns", [DELIVERY_COLUMNS, TASK_COLUMNS], ids=["deliveries", "tasks"])
@given(rows=SOME, room=WIDTHS, sample=SAMPLES)
def test_a_row_of_a_list_is_a_line_with_its_state_and_number(
    columns: list[Column[Any]], rows: list[Any], room: int, sample: int
) -> None:
    lines = shown(columns, rows, room, sample)
    assert {"STATE", "TARGET"} <= set(lines[0].split())
    for line in lines:
        assert width(line) <= room or " " not in line.strip(), "a long name of what is the same in every row"
    ids = {row.guid if columns is DELIVERY_COLUMNS else row.id for row in rows}
    for row, line, cells in zip(rows, lines[1:], cells_of(columns, rows), strict=False):
        words = line.split()
        assert row.state in words
        if row.number is not None:
            assert any(word.endswith(f"#{row.number}") for word in words)
        whole = {word for cell in cells for word in cell.split()}
        for word in set(words) - whole:
            parts = word.split("…")
            named = [one for one in ids if one.startswith(word)]
            assert len(named) == 1 or len(parts) == 2, f"{word!r} is cut, and nothing says so"
            if len(parts) == 2:
                assert any(one.startswith(parts[0]) and one.endswith(parts[1]) for one in (*cells, *whole))


@pytest.mark.parametrize("columns", [DELIVERY_COLUMNS, TASK_COLUMNS], ids=["deliveries", "tasks"])
@given(rows=SOME)
def test_in_a_pipe_all_of_it_is_there(columns: list[Column[Any]], rows: list[Any]) -> None:
    lines = shown(columns, rows, None)
    assert lines[0].split() == [column.heading for column in columns]
    for line, cells in zip(lines[1:], cells_of(columns, rows), strict=True):
        at = 0
        for cell in cells:
            at = line.index(cell, at) + len(cell)


TABLES: dict[str, Sequence[Column[Any]]] = {
    "deliveries": listing.DELIVERY_COLUMNS,
    "tasks": listing.TASK_COLUMNS,
    "attempts": show.ATTEMPT_COLUMNS,
    "refused": refused.COLUMNS,
    "routes": routes.COLUMNS,
    "tokens": tokens.COLUMNS,
    "settings": info.COLUMNS,
    "paths": info.PATHS,
    "reconcile": reconcile_report.COLUMNS,
    "demo": demo.COLUMNS,
    "bench": bench_report.COLUMNS,
}
FEW = {"settings", "paths", "demo", "bench"}
"""Those that never have more rows than the sample: there are so many settings, places or promises."""
WORD = st.text(st.sampled_from("abcdefgh日本e\u0301"), min_size=1, max_size=12)
LONG = st.text(st.sampled_from("/abc日"), min_size=1, max_size=150)
SENTENCE = st.lists(WORD | LONG, max_size=14).map(" ".join)


@settings(max_examples=200)
@given(name=st.sampled_from(sorted(TABLES)), data=st.data(), room=st.integers(80, 200), sample=SAMPLES)
def test_no_line_of_any_table_is_longer_than_the_terminal(
    name: str, data: st.DataObject, room: int, sample: int
) -> None:
    def cell_of(at: int) -> Callable[[list[str]], str]:
        return lambda row: row[at]

    table = [replace(column, cell=cell_of(at)) for at, column in enumerate(TABLES[name])]
    kinds = [SENTENCE if one.wraps else LONG if one.shrink is not None else WORD for one in table]
    rows = data.draw(st.lists(st.tuples(*kinds), min_size=1, max_size=6))
    lines = shown(table, rows, room, len(rows) if name in FEW else sample)
    for line in lines:
        assert width(line) <= room or " " not in line.strip()
    if not any(column.wraps for column in table):
        assert len(lines) - len(rows) in range(1, 4), (
            "a row is a line; above it the headings, below it what is left out"
        )
    last = table[-1]
    if last.wraps and last.heading in lines[0]:
        said = " ".join(" ".join(lines[1:]).split())
        for row in rows:
            for word in row[-1].split():
                assert word in said, "a sentence that comes last is there whole"


COLUMNS: list[Column[Any]] = [
    Column("GUID", lambda row: row[0], rank=1, short=8),
    Column("TARGET", lambda row: row[1], shrink=12, cut=shorten_target),
    Column("STATE", lambda row: row[2]),
    Column("NOTE", lambda row: row[3], rank=3),
    Column("HOOK", lambda row: row[4], rank=4),
    Column("SENDER", lambda row: row[5], rank=2),
]
ROW = ("72d3162e-cc78-11e3-81ab-4c9367dc0958", "octo/hello#12", "failed", "", "app", "mona")
OTHER = ("82d3162e-cc78-11e3-81ab-4c9367dc0958", "octo/a-long-name#13", "failed", "", "app", "octocat")


def test_what_says_nothing_goes_first_then_ids_are_short_then_columns_go_by_rank() -> None:
    rows = [ROW, OTHER]
    assert shown(COLUMNS, rows, 100)[0].split() == ["GUID", "TARGET", "STATE", "NOTE", "HOOK", "SENDER"]
    assert shown(COLUMNS, rows, 85)[0].split() == ["GUID", "TARGET", "STATE", "HOOK", "SENDER"], "the empty one first"
    assert shown(COLUMNS, rows, 78) == [
        "GUID                                  TARGET               STATE   SENDER",
        "72d3162e-cc78-11e3-81ab-4c9367dc0958  octo/hello#12        failed  mona",
        "82d3162e-cc78-11e3-81ab-4c9367dc0958  octo/a-long-name#13  failed  octocat",
        "hook app for all",
    ]
    assert shown(COLUMNS, rows, 60)[1:] == [
        "72d3162e  octo/hello#12        failed  mona",
        "82d3162e  octo/a-long-name#13  failed  octocat",
        "hook app for all",
    ]
    assert shown(COLUMNS, rows, 40)[2] == "82d3162e  octo/a-lo…#13  failed  octocat"
    assert shown(COLUMNS, rows, 37)[1:] == [
        "72d3162e  octo/hello#12        failed",
        "82d3162e  octo/a-long-name#13  failed",
        "hook app for all",
        "no room for sender",
    ]
    assert shown(COLUMNS, rows, 30)[2] == "82d3162e  octo/a-l…#13  failed"


def test_of_a_single_row_nothing_is_the_same_for_all() -> None:
    assert shown(COLUMNS, [ROW], 70)[1] == "72d3162e  octo/hello#12  failed  app   mona"


def test_what_only_later_rows_have_is_told() -> None:
    later = (*OTHER[:3], "twin", "other", "octocat")
    lines = shown(COLUMNS, [ROW, OTHER, *[ROW] * 5, later], 60, sample=3)
    assert len(lines) == 10
    assert lines[-1] == "no room for note, hook"


def test_ids_are_as_long_as_tells_them_apart() -> None:
    assert telling(["abc", "abd", "x", "x"]) == 3
    assert telling(["short", "short-and-long"]) == 6
    rows = [(f"72d3162e-cc78-11e3-81ab-{n:012}", *ROW[1:]) for n in (1, 2, 30)]
    assert [line.split()[0] for line in shown(COLUMNS, rows, 80)[1:4]] == [row[0] for row in rows]
    near = [(f"72d3162e{n}-cc78-11e3-81ab-4c9367dc0958", *ROW[1:]) for n in (1, 2)]
    assert [line.split()[0] for line in shown(COLUMNS, near, 50)[1:3]] == ["72d3162e1", "72d3162e2"]
    many = layout(COLUMNS, [list(row) for row in (ROW, OTHER)], 60, more=True)
    assert many.prefix == {0: 12}, "more of each where there are rows that were not looked at"


def test_sentences_are_wrapped_in_their_column_and_long_paths_stay_whole() -> None:
    columns: list[Column[Any]] = [
        Column("", lambda row: row[0]),
        Column("WHAT", lambda row: row[1], shrink=8, wraps=True),
        Column("FOUND", lambda row: row[2], shrink=8, wraps=True),
    ]
    path = "/var/lib/covenq/journal/00000000000000000001.jsonl"
    assert shown(columns, [("ok", "what was looked at", f"it is in {path} now")], 60) == [
        "    WHAT                FOUND",
        "ok  what was looked at  it is in",
        f"          {path}",
        "                        now",
    ]
    whole: list[Column[Any]] = [Column("PATH", lambda row: row[0]), Column("WHERE", lambda row: row[1], wraps=True)]
    assert shown(whole, [("data", f"{path} is not there")], 50)[1:] == ["data", path, "      is not there"]
    lines = shown(columns, [("ok", "one two three four five six", "seven eight nine ten eleven twelve")], 40)
    assert all(width(line) <= 40 for line in lines)
    assert re.sub(r"\s+", " ", " ".join(lines)).count("e") == len(re.findall("e", "".join(itertools.chain(*lines))))
