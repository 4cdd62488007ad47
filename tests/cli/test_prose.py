"""Sentences on a terminal: no word is cut, commands stay whole, and a pipe gets what was said."""

from __future__ import annotations

import io
import re

import pytest
import typer
from hypothesis import example, given
from hypothesis import strategies as st

from covenq.cli import output
from covenq.cli.app import app
from covenq.cli.prose import unbroken, wrap
from covenq.cli.terminal_width import columns
from covenq.text import shorten, shorten_middle, width

WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Zs", "Zl", "Zp", "Cc", "Cs", "Cf", "Cn", "Co"])
    | st.sampled_from("日本e\u0301`-/"),
    min_size=1,
    max_size=30,
)
TEXTS = st.lists(WORDS, max_size=40).map(" ".join)


class Terminal(io.StringIO):
    """A stream that is a terminal's, kept in memory."""

    def isatty(self) -> bool:
        return True


@given(TEXTS, st.integers(40, 200), st.integers(0, 24))
@example("hint: see `covenq deliveries state:received reason:held` for what is held back here", 40, 6)
def test_no_line_is_longer_than_the_terminal_unless_a_word_is(text: str, room: int, hang: int) -> None:
    lines = wrap(text, room, hang)
    assert " ".join(" ".join(lines).split()) == " ".join(text.split()), "every word is there, whole and in order"
    for line in lines:
        assert width(line) <= room or " " not in line.strip(" ")
    for line in lines[1:]:
        assert not line.startswith(" " * (hang + 1))


@given(
    st.lists(WORDS.map(lambda word: word.replace("`", "'")), min_size=1, max_size=5),
    TEXTS,
    st.integers(40, 200),
)
def test_a_command_that_fits_on_a_line_is_on_one(command: list[str], text: str, room: int) -> None:
    words = " ".join(command)
    before = text.replace("`", "'")
    for told in (f"{before} `{words}`.", f"{before} {unbroken(words)}."):
        assert width(words) > room - 3 or any(words in line for line in wrap(told, room))


def test_later_lines_hang_and_what_fits_is_left_as_it_is() -> None:
    assert wrap("state      seq 7,  and more", 40, 11) == ["state      seq 7,  and more"]
    assert wrap("state      one two three four five six seven", 30, 11) == [
        "state      one two three four",
        "           five six seven",
    ]
    assert wrap("\x1b[1mhint:\x1b[0m one two", 13) == ["\x1b[1mhint:\x1b[0m one two"], "a colour takes no room"
    assert wrap(f"  {unbroken('covenq replay 9/x')}", 17) == ["covenq replay 9/x"], "whole before it is indented"
    assert wrap(f"  {unbroken('covenq replay 9/x')} is it", 18) == [" covenq replay 9/x", "  is it"]
    path = "/var/lib/covenq/attempts/t0123456789abcdef01234567/1"
    assert wrap(f"its files are in {path} still", 52, 17) == ["its files are in", path, "                 still"]


def test_words_on_a_terminal_are_wrapped_and_in_a_pipe_they_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = "Nothing was refused. If deliveries are missing they never reached covenq: " + unbroken("covenq why ID")
    plain = sentence.replace("\u00a0", " ")
    monkeypatch.setenv("COLUMNS", "40")
    for name, tell in (("stderr", output.say), ("stdout", output.prose)):
        for kind, lines in ((Terminal, 3), (io.StringIO, 1)):
            out = kind()
            monkeypatch.setattr(f"sys.{name}", out)
            tell(sentence)
            said = out.getvalue()
            assert said.count("\n") == lines
            assert re.sub(r"\n +", " ", said) == plain + "\n"
            assert all(len(line) <= 40 for line in said.splitlines()) == (lines > 1)


def test_how_wide_a_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "132")
    assert columns(Terminal()) == 132
    assert columns(io.StringIO()) is None
    assert columns(None) is None
    for nonsense in ("", "0", "-5", "wide", "²"):
        monkeypatch.setenv("COLUMNS", nonsense)
        assert columns(Terminal()) == 80


@given(TEXTS, st.integers(1, 60), st.integers(0, 8))
def test_what_is_cut_fits_and_says_that_it_was_cut(text: str, room: int, keep: int) -> None:
    for short in (shorten(text, room), shorten_middle(text, room), shorten_middle(text, room, keep)):
        assert width(short) <= room
        assert short == text or "…" in short
    end = text[len(text) - keep :] if keep else ""
    if width(end) < room:
        assert shorten_middle(text, room, keep).endswith(end)


def test_what_typer_says_of_a_wrong_value_is_wrapped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stderr", Terminal())
    usage_error = typer.BadParameter.__bases__[0]
    for words in (
        ["tasks", "--limit", "abc"],
        ["tokens", "new", "--an-option-that-nobody-has-ever-heard-of-here"],
        ["secrets", "rotate", *["extra"] * 9],
    ):
        with pytest.raises(usage_error) as caught:
            app(words, standalone_mode=False)
        said = f"Error: {caught.value.format_message()}"  # type: ignore[attr-defined]
        assert said.count("\n") == 1
        assert all(width(line) <= 60 for line in said.splitlines())
