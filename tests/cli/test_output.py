"""What commands print: hostile text made harmless, tables that fit, JSON that stays JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.cli import output
from covenq.cli.commands import listing, refused
from covenq.cli.table import SAMPLE, Column, print_table
from covenq.cli.table_layout import layout
from covenq.errors import CovenqError, UsageError
from covenq.text import shorten, width

HOSTILE = "\x1b[2J\x1b]0;owned\x07 \u202egnp.exe \x9b31m \r\nforged line \x00 \ud800 \u2028"


class Terminal(io.TextIOWrapper):
    """Standard output as a terminal, kept in memory."""

    def __init__(self) -> None:
        self.raw_bytes = io.BytesIO()
        super().__init__(self.raw_bytes, "utf-8", errors="backslashreplace", newline="")

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        self.flush()
        return self.raw_bytes.getvalue().decode()


def terminal(monkeypatch: pytest.MonkeyPatch, **env: str) -> Terminal:
    """Make standard output a colour terminal of 40 columns, until the test ends."""
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return out


@pytest.mark.parametrize(
    ("at", "minute", "clock"),
    [
        ("2027-01-15T07:59:58.000000Z", "07:59", "07:59:58Z"),
        ("2027-01-14T09:00:00.000000Z", "09:00", "09:00:00Z"),
        ("2027-01-13T07:59:58.000000Z", "01-13 07:59", "01-13 07:59Z"),
        (None, "", ""),
        ("no time\x1b", "no time\\x1b", "no time\\x1b"),
    ],
)
def test_a_clock_stands_beside_an_age(at: str | None, minute: str, clock: str) -> None:
    assert (output.minute(at, 1_800_000_000.0), output.clock(at, 1_800_000_000.0)) == (minute, clock)


def test_lists_have_it_behind_the_age_and_keep_it_at_80_columns() -> None:
    at = "2027-01-13T07:59:58.000000Z"
    for columns in (listing.DELIVERY_COLUMNS, listing.TASK_COLUMNS, refused.COLUMNS):
        headings = [one.heading for one in columns]
        assert headings.index("UTC") == headings.index("AGE") + 1
    rows = [
        [
            f"{number:08x}-guid",
            f"{number}h",
            at[11:16],
            "push",
            f"octo/hello#{number}",
            "mona",
            state,
            "",
            "",
            "9",
            "exit",
        ]
        for number, state in ((7, "failed"), (8, "completed"))
    ]
    found = layout(listing.DELIVERY_COLUMNS, rows, 80)
    assert "UTC" in {listing.DELIVERY_COLUMNS[at].heading for at in found.widths}


def test_clean_shows_what_a_terminal_would_obey() -> None:
    shown = output.clean(HOSTILE)
    assert shown.isprintable()
    assert "\\x1b[2J" in shown
    assert "\\u202e" in shown
    assert output.clean("naïve 日本 ok") == "naïve 日本 ok"
    assert output.clean(None) == ""


@given(st.text())
def test_clean_never_leaves_anything_unprintable(text: str) -> None:
    assert output.clean(text).isprintable()


@given(st.text(), st.integers(1, 30))
def test_shorten_keeps_within_the_room(text: str, room: int) -> None:
    cleaned = output.clean(text)
    short = shorten(cleaned, room)
    assert width(short) <= room
    assert short == cleaned or short.endswith("…")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_says_the_same_and_holds_nothing_that_a_terminal_obeys(value: Any) -> None:
    text = output.json_text(value)
    assert json.loads(text) == value
    assert not any(c == "\x7f" or "\x80" <= c <= "\x9f" or "\u202a" <= c <= "\u202e" or c < " " for c in text)
    text.encode()  # no lone surrogate is left


def test_items_are_one_document_however_many(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for items in ([], [{"a": 1}], [{"a": 1}, {"a": 2}]):
        output.emit_items(items, lambda: "cursor")
        output.stdout().flush()
        assert json.loads(capfdbinary.readouterr().out) == {"items": items, "next": "cursor"}


def test_a_list_that_fails_before_its_first_item_is_no_half_document(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    def wrong() -> Iterator[dict[str, Any]]:
        raise UsageError("'bogus' is no field")
        yield {}

    with pytest.raises(UsageError):
        output.emit_items(wrong(), lambda: None)
    output.stdout().flush()
    assert capfdbinary.readouterr().out == b""


COLUMNS: list[Column[dict[str, str]]] = [
    Column("ID", lambda row: row["id"]),
    Column("TITLE", lambda row: row["title"], shrink=6),
    Column("STATE", lambda row: row["state"], colour=output.state_colour),
]


def rows(count: int) -> list[dict[str, str]]:
    return [
        {"id": f"id-{n}", "title": "a long title that needs room " + HOSTILE, "state": "failed"} for n in range(count)
    ]


def test_a_table_in_a_pipe_is_whole_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_table(COLUMNS, rows(3)) == 3
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert len(lines) == 4
    assert lines[0].split() == ["ID", "TITLE", "STATE"]
    assert all(output.clean(HOSTILE) in line for line in lines[1:])
    assert "\x1b" not in said


def test_a_table_on_a_terminal_fits_it_and_never_cuts_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    out = terminal(monkeypatch)
    assert print_table(COLUMNS, rows(3)) == 3
    text = out.text()
    plain = text
    for code in (output.BOLD, output.BAD, output.PLAIN):
        plain = plain.replace(code, "")
    assert "\x1b" not in plain, "no control but our own colours"
    lines = plain.splitlines()
    assert all(width(line) <= 40 for line in lines)
    assert [line.split()[0] for line in lines] == ["ID", "id-0", "id-1", "id-2"]
    assert output.BAD in text


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    out = terminal(monkeypatch, **{name: value})
    print_table(COLUMNS, rows(1))
    assert "id-0" in out.text()
    assert "\x1b" not in out.text()


def test_a_table_of_more_rows_than_the_sample_prints_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_table(COLUMNS, iter(rows(SAMPLE + 50))) == SAMPLE + 50
    assert len(capsys.readouterr().out.splitlines()) == SAMPLE + 51


def test_an_empty_table_has_no_headings(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_table(COLUMNS, []) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("2026-11-23T02:34:56.000000Z", "4s"),
        ("2026-11-23T02:30:00Z", "5m"),
        ("2026-11-22T02:30:00Z", "1d"),
        ("2026-11-23T02:45:00Z", "in 10m"),
        (None, ""),
        ("\x1b[2J", "\\x1b[2J"),
        ("in no time", "in no time"),
    ],
)
def test_ages(at: str | None, said: str) -> None:
    assert output.age(at, 1795401300.0) == said
    assert output.elapsed(at, 1795401300.0) == (said if said != "in 10m" else "0s")


def test_counts_and_sizes() -> None:
    assert [output.count(n, "delivery", "deliveries") for n in (1, 1004221)] == ["1 delivery", "1,004,221 deliveries"]
    assert [output.size(n) for n in (0, 812, 7741, 3 << 30, 5 << 42)] == [
        "0 B",
        "812 B",
        "7.6 KiB",
        "3.0 GiB",
        "20480.0 GiB",
    ]


class _Partial(io.RawIOBase):
    """A file that takes three bytes at a time, as one that isn't buffered may."""

    def __init__(self) -> None:
        self.taken = b""
        self.room = 1000

    def write(self, data: Any) -> int:
        some = bytes(data[: min(3, self.room)])
        self.taken += some
        self.room -= len(some)
        return len(some)


def test_all_of_it_is_written_where_a_write_takes_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = _Partial()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, "utf-8", write_through=True))  # type: ignore[arg-type]
    output.write_bytes(b"0123456789")
    output.emit_json({"a": 1})
    assert raw.taken == b'0123456789{"a":1}\n'
    raw.room = 0
    with pytest.raises(CovenqError, match="can't write to standard output"):
        output.write_bytes(b"x")
