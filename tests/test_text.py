"""What makes text from outside safe, each way for its reader; and instants, durations and sizes."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq import text
from covenq.cli import output

ANYTHING = st.text(st.characters(codec=None), max_size=100)
HOSTILE = "a\x1b[2J\x00\n\x7f\x9b\u202e\u200d\ud800b"


@given(ANYTHING, st.integers(0, 400))
def test_a_cut_between_characters_leaves_no_part_of_one(said: str, at: int) -> None:
    content = said.encode("utf-8", "replace")
    before, after = content[:at], content[at:]
    whole, rest = before[: text.character_end(before)], before[text.character_end(before) :]
    assert whole.decode() + (rest + after).decode() == content.decode() and len(rest) <= 3
    assert after[text.character_start(after) :].decode() in content.decode()


@pytest.mark.parametrize(
    ("cleaned", "expected"),
    [
        (text.escape(HOSTILE), "a\\x1b[2J\\x00\\n\\x7f\\x9b\\u202e\\u200d\\ud800b"),
        (text.picture(HOSTILE), "a␛[2J␀␊␡����b"),
        (text.one_line(HOSTILE, 100), "a [2J   \x9b\u202e\u200d b"),
        (text.storable(HOSTILE, 100), "a\x1b[2J�\n\x7f\x9b\u202e\u200d�b"),
    ],
)
def test_each_cleaner_replaces_what_its_reader_can_not_take(cleaned: str, expected: str) -> None:
    assert cleaned == expected


HIDDEN = "\u200b\u200d\u2060\ufeff\u00ad\u034f\u3164\u180e\ufe00\U000e0041\U000e0100"
"""Zero-width characters, fillers, variation selectors and tags: each is nothing to see, and something to a program."""


@pytest.mark.parametrize("character", HIDDEN, ids=ascii)
def test_what_nobody_sees_is_shown_by_both(character: str) -> None:
    written = f"a{character}b"
    assert text.escape(written) == "a" + character.encode("unicode_escape").decode() + "b"
    assert text.picture(written) == "a\ufffdb"
    assert character not in output.json_text(written) and json.loads(output.json_text(written)) == written


def test_an_emoji_keeps_what_chooses_how_it_is_drawn() -> None:
    for drawn in ("\u2764\ufe0f", "1\ufe0f\u20e3"):
        assert text.escape(drawn) == text.picture(drawn) == drawn
    assert text.escape("a\ufe0f") == "a\\ufe0f"
    assert text.picture("\ufe0f") == text.picture("\ufe0f\ufe0f")[:1] == "\ufffd"


@given(ANYTHING, st.integers(0, 50))
def test_what_is_kept_is_bounded_and_has_a_utf_8(given: str, limit: int) -> None:
    for kept in (text.one_line(given, limit), text.storable(given, limit)):
        assert len(kept) <= limit
        kept.encode()
        assert "\0" not in kept


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=50))
def test_plain_text_passes_unchanged(plain: str) -> None:
    plain = re.sub(f"[{text.INVISIBLE}]", "", plain)  # fillers are letters
    assert text.escape(plain) == text.picture(plain) == text.one_line(plain, 50) == text.storable(plain, 50) == plain


def test_instants_durations_and_sizes() -> None:
    assert text.instant("2026-11-23T02:34:56.5Z") == 1795401296.5
    assert text.instant("nonsense") is text.instant("") is text.instant(None) is None
    assert [text.duration(s) for s in (0, 59.9, 60, 7200, 200000)] == ["0s", "59s", "1m", "2h", "2d"]
    assert text.byte_size(5 << 40, "TiB") == "5.0 TiB"
    assert text.byte_size(5 << 40, "GiB") == "5120.0 GiB"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0ms"), (-1.0, "0ms"), (0.0004, "0ms"), (0.85, "850ms"), (1.0, "1.0s"), (9.94, "9.9s"), (9.96, "9s"), (42.7, "42s"),
        (60.0, "1.0m"), (210.0, "3.5m"), (1000.0, "16m"), (3600.0, "1h"), (1e6, "11d"),
    ],
)  # fmt: skip
def test_a_latency_has_two_digits_where_there_is_room(seconds: float, said: str) -> None:
    assert text.latency(seconds) == said
