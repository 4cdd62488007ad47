"""JSON texts are the same where their values are, however they are written, and nothing is rounded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.github.json_equal import VALUES_MAX, canonical, same_json
from tests.support.delivery_details import STYLES, Number, Style

TEXT = st.text(st.characters(codec="utf-16-le", exclude_categories=["Cs"]), max_size=6)
NUMBERS = st.tuples(st.integers(-(10**25), 10**25), st.integers(-30, 30))
"""Digits, and a power of ten."""
VALUES = st.recursive(
    st.none() | st.booleans() | TEXT | NUMBERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def normal(value: Any) -> Any:
    """The value by what it is, so that what Python's own comparison takes for the same is told apart."""
    if isinstance(value, tuple):
        digits, power = value
        while digits and digits % 10 == 0:
            digits, power = digits // 10, power + 1
        return ("number", digits, power if digits else 0)
    if isinstance(value, list):
        return ["list", *map(normal, value)]
    if isinstance(value, dict):
        return {name: normal(one) for name, one in value.items()}
    return (type(value).__name__, value)


def written(draw: st.DataObject, value: Any, how: Style) -> str:
    """One of the many ways to write the value."""

    def spelled(one: Any) -> Any:
        if isinstance(one, tuple):
            return Number(draw.draw(st.sampled_from(spellings(*one))))
        if isinstance(one, list):
            return list(map(spelled, one))
        if isinstance(one, dict):
            return {name: spelled(one[name]) for name in draw.draw(st.permutations(list(one)))}
        return one

    return how.write(spelled(value))


def spellings(digits: int, power: int) -> list[str]:
    sign, text = "-" if digits < 0 else "", str(abs(digits))
    ways = [f"{digits}e{power}", f"{digits}E{power:+d}", f"{digits}.000e{power}", f"{digits}0e{power - 1}"]
    ways.append(f"{sign}{text[0]}.{text[1:] or '0'}e{power + len(text) - 1}")
    if power >= 0:
        ways.append(f"{digits}{'0' * power}" if digits else "0")
    return ways


@given(VALUES, VALUES, st.data())
def test_texts_are_the_same_exactly_where_their_values_are(one: Any, other: Any, draw: st.DataObject) -> None:
    styles = st.sampled_from([*STYLES, Style(blank="\n ")])
    first = written(draw, one, draw.draw(styles)).encode()
    assert same_json(first, written(draw, one, draw.draw(styles)).encode())
    second = written(draw, other, draw.draw(styles)).encode()
    assert same_json(first, second) == same_json(second, first) == (normal(one) == normal(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "true"),
        ("0", "false"),
        ("1", '"1"'),
        ("12345678901234567890123", "12345678901234567890124"),
        ("0.1", "0.10000000000000001"),
        ("[]", "{}"),
        ("null", "[null]"),
        ("1e" + "9" * 30, "1e" + "8" * 30),
        ('{"a":1}', '{"a":1,"b":null}'),
        ("nonsense", "other"),
        ('"\\ud800"', '"\\udfff"'),
        ("NaN", "nan"),
    ],
)
def test_what_is_not_the_same(one: str, other: str) -> None:
    assert not same_json(b'{"a":%b}' % one.encode(), b'{"a":%b}' % other.encode())


def test_what_is_deep_or_long_is_the_same_only_where_it_is_written_alike() -> None:
    deep = b'{"a":%b}' % (b"[" * 900 + b"1" + b"]" * 900)
    long = b'{"a":1,"b":"%b"}' % (b"x" * VALUES_MAX)
    for text in (deep, long):
        assert same_json(text, text.replace(b":", b" : "))
        assert not same_json(text, text.replace(b"1", b"1.0"))
    assert same_json(long[200:-200].join((b'{"a":1,"b":"', b'"}')), long[200:-200].join((b'{"b":"', b'","a":1.0}')))


def test_a_byte_order_mark_and_escapes_are_no_part_of_it() -> None:
    assert canonical(b'\xef\xbb\xbf{ "a": "\\u00fc\\/" }') == '{"a":"ü/"}'.encode()
    assert same_json(b'\xef\xbb\xbf{"a":1e400}', b'{"a":10e399}')
