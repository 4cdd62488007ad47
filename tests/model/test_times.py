"""Times and durations: written so that they sort, and bounded where they are read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.config.load import build
from covenq.errors import UsageError
from covenq.filter.grammar import parse
from covenq.model import DURATION_MAX_S, at_text, parse_duration, seconds_of

DAY = 86_400.0


@given(one=st.floats(allow_nan=False), other=st.floats(allow_nan=False))
def test_every_time_is_written_and_sorts_as_the_moments_do(one: float, other: float) -> None:
    first, second = at_text(min(one, other)), at_text(max(one, other))
    assert len(first) == len("2026-11-23T02:34:56.123456Z") and first <= second
    assert math.isfinite(seconds_of(first))


def test_years_have_four_digits_and_what_is_out_of_range_is_its_end() -> None:
    assert at_text(1_800_000_000.25) == "2027-01-15T08:00:00.250000Z"
    assert at_text(1_800_000_000 - 400_000 * DAY) == "0931-11-17T08:00:00.000000Z"
    assert at_text(-1e300) == "0001-01-01T00:00:00.000000Z"
    assert at_text(1e300) == at_text(math.nan) == "9999-12-31T23:59:59.000000Z"


def test_a_duration_is_a_hundred_years_at_most_in_digits_of_ascii() -> None:
    assert parse_duration("36500d") == DURATION_MAX_S == 36_500 * DAY
    for text in ("36501d", "400000d", "9999999d", "999999999d", "876001h"):
        assert parse_duration(text) == DURATION_MAX_S
    for text in ("１２d", "\N{ARABIC-INDIC DIGIT ONE}h", "1_0s", "1e3s", "10d\n", "0000000001d"):
        with pytest.raises(UsageError):
            parse_duration(text)


def test_the_configuration_bounds_what_is_longer() -> None:
    route = {"name": "a", "match": "age<400000d", "run": ["x"], "timeout": "400000d", "key": "{repo}"}
    more = {"retry": {"max": 3, "backoff": "9999999d", "cap": "9999999d"}, "debounce": "9999999d"}
    config = build({"retention": {"attempts": "400000d", "payloads": "400000d"}, "route": [route | more]}, None, {})
    (made,) = config.routes
    found = [config.retention.attempts_s, config.retention.payloads_s, made.timeout_s]
    found += [made.retry.backoff_s, made.retry.cap_s, made.scheduling.debounce_s, made.scheduling.debounce_max_s]
    assert found == [DURATION_MAX_S] * 7


def test_filters_have_the_longest_age_and_no_foreign_digits() -> None:
    assert parse("age<36500d").matches({"at": "2026-11-23T02:34:56.123456Z"}, now=1_800_000_000.0)
    assert parse("age<400000d").matches({"at": "1971-01-01T00:00:00.000000Z"}, now=1_800_000_000.0)
    for text in ("before:１h", "number:１２", "number:１..2", "number>１"):
        with pytest.raises(UsageError):
            parse(text)
