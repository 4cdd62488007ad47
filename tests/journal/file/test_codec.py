"""One line: every form comes back byte for byte, and no other spelling of a line passes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.errors import EntryRefused
from journal.file.segment import split_lines
from journal.format.codec import (
    DATA_MAX,
    DEPTH_MAX,
    SUM_MARK,
    LineError,
    Salted,
    check_tail,
    decode,
    encode_line,
    fields_at,
    is_plain_object,
    loaded,
    open_envelope,
    payload_form,
    prepare,
)
from journal.format.header import parse_header
from journal.records import NO_SUM, Entry, Record

SALT = "5a" * 32
SALTED = Salted(SALT)
EPOCH = "e" * 16
AT = "2026-11-23T02:34:56.123456Z"


def entry(payload: bytes | None = None, about: dict[str, Any] | None = None, **data: Any) -> Entry:
    return Entry("delivery.9.abc", "delivery.received", data, about, payload, 0)


def line_of(one: Entry, seq: int = 42, synced: int = 41, prev: str = NO_SUM, salted: Salted = SALTED) -> bytes:
    return encode_line(prepare(one), seq=seq, at=AT, synced=synced, prev=prev, salted=salted)[0]


def read(line: bytes) -> Record:
    return decode(line, SALTED, EPOCH)


def nested(depth: int, opening: bytes = b'{"a":', closing: bytes = b"}") -> bytes:
    return opening * (depth - 1) + b"{}" + closing * (depth - 1)


PLAIN = [
    b"{}",
    b'{"a":1}',
    b'{ "a" : [ 1 , 2 ] }',
    b'{"a":"\\ud800","b":"\\u0000"}',
    b'{"a":1e999,"b":-0.0,"c":123456789012345678901234567890}',
    b'{"a":1,"a":2}',
    '{"a":"é🦇\u2028\x7f"}'.encode(),
    b'{"a":"\\"}],{\\\\"}',
    nested(DEPTH_MAX),
    b'{"a":' + b"[" * (DEPTH_MAX - 1) + b"]" * (DEPTH_MAX - 1) + b"}",
    b'{"a":[' + b",".join([b"{}"] * 1000) + b"]}",
    b'{"a":"' + b"[" * 1000 + b'"}',
]
TEXT = [
    b"",
    b"[]",
    b"1",
    b'{"a":1} ',
    b' {"a":1}',
    b'{"a":1}\n',
    b'{"a"\n:1}',
    b'{"a":\t1}',
    b'{"a":1,}',
    b"{'a':1}",
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":01}',
    b'{"a":"\x01"}',
    b'{"a":1}{"b":2}',
    b'{"a":"\\x"}',
    b"payload=%7B%7D",
    b"\xef\xbb\xbf{}",
    nested(DEPTH_MAX + 1),
    b'{"a":' + b"[" * DEPTH_MAX + b"]" * DEPTH_MAX + b"}",
    nested(100_000),
    b'{"a":' * 500,
]
BINARY = [b"\xff", b'{"a":"\xc3"}', b'{"a":"\xed\xa0\x80"}', bytes(range(256)), b"{\xc0\x80}"]


@pytest.mark.parametrize("payload", PLAIN + TEXT + BINARY)
@pytest.mark.parametrize("about", [None, {"repo": "octo/hello"}])
def test_every_payload_stands_in_its_form_and_comes_back(payload: bytes, about: dict[str, Any] | None) -> None:
    form = b',"payload":' if payload in PLAIN else b',"body":"' if payload in TEXT else b',"body64":"'
    assert payload_form(payload).startswith(form)
    line = line_of(entry(payload, about, n=1))
    found = read(line)
    assert (found.payload, found.about, found.data) == (payload, about, {"n": 1})
    assert (found.payload_bytes, found.seq, found.synced, found.at, found.epoch) == (len(payload), 42, 41, AT, EPOCH)
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")
    if payload not in PLAIN:
        json.loads(line)


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_bytes_come_back(payload: bytes) -> None:
    assert read(line_of(entry(payload))).payload == payload


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=20,
    ),
    st.sampled_from([(",", ":"), (", ", ": ")]),
    st.booleans(),
)
def test_a_plain_object_is_what_a_strict_parser_calls_one(
    value: Any, separators: tuple[str, str], ascii_only: bool
) -> None:
    text = json.dumps({"v": value}, separators=separators, ensure_ascii=ascii_only)
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return
    strict = True
    try:
        json.loads(text, parse_constant=lambda word: 1 / 0)  # NaN and Infinity are no JSON
    except ZeroDivisionError:
        strict = False
    assert is_plain_object(raw) is strict
    assert read(line_of(entry(raw))).payload == raw


def test_data_cannot_hide_the_mark() -> None:
    for data in ({"a": 1, "sum": "x"}, {"a": [{"b": 1, "sum": "x"}]}, {"a": {"b": {}, "sum": ""}}):
        with pytest.raises(EntryRefused):
            prepare(entry(**data))
    for data in ({"a": ',"sum":"'}, {"sum": "x"}, {"a": 1, "sum": 7}, {"a": 1, "sum\\": "x"}, {"a": ',\\"sum\\":\\"'}):
        line = line_of(entry(**data))
        assert read(line).data == data
        assert open_envelope(line, SALTED).tail_at == line.index(SUM_MARK) + 73


def test_sizes_are_bounded() -> None:
    with pytest.raises(EntryRefused):
        prepare(entry(about={"a": "x" * DATA_MAX}))
    with pytest.raises(EntryRefused):
        prepare(entry(b"x" * ((64 << 20) + 1)))


@pytest.mark.parametrize("about", [None, {"a": [1, {"b": "c"}]}])
@pytest.mark.parametrize("payload", [None, b'{"a":1}', b"text\n", b"\xff\x00", b""])
def test_no_other_byte_passes(payload: bytes | None, about: dict[str, Any] | None) -> None:
    """Every byte changed, every byte left out, every byte doubled: none of it is the record, whatever a JSON parser says."""
    line = line_of(entry(payload, about, n=1))
    for at in range(len(line)):
        for changed in (
            line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :],
            line[:at] + line[at + 1 :],
            line[:at] + line[at : at + 1] + line[at:],
        ):
            if changed != line:
                with pytest.raises(LineError):
                    read(changed)


def spellings() -> Iterator[tuple[str, bytes, bytes]]:
    plain, text, raw = b'{"a":1}', "é/".encode(), b"\xff\xfe\xfd"
    yield "a space more", plain, b',"payload":{"a":1} '
    yield "as text", plain, b',"body":' + orjson.dumps(plain.decode())
    yield "as base64", plain, b',"body64":"eyJhIjoxfQ=="'
    yield "escaped", text, b',"body":"\\u00e9/"'
    yield "escaped slash", text, ',"body":"é\\/"'.encode()
    yield "text as base64", text, b',"body64":"w6kv"'
    yield "loose base64", raw, b',"body64":"//79="'
    yield "base64 in another alphabet", raw, b',"body64":"__79"'
    yield "twice", plain, b',"payload":{"a":1},"payload":{"a":1}'
    yield "body and payload", plain, b',"body":"x","payload":{"a":1}'
    yield "missing", plain, b""
    yield "another", plain, b',"payload":{"a":2}'
    yield "a stranger", plain, b',"more":1,"payload":{"a":1}'
    yield "dropped by zero", plain, b',"dropped":0'
    yield "dropped by a word", plain, b',"dropped":"x"'
    yield "dropped and there", plain, b',"payload":{"a":1},"dropped":7'


@pytest.mark.parametrize(
    ("name", "payload", "tail"), list(spellings()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_no_other_spelling_of_the_same_content_passes(name: str, payload: bytes, tail: bytes) -> None:
    line = line_of(entry(payload))
    cut = open_envelope(line, SALTED).tail_at
    assert read(line).payload == payload
    with pytest.raises(LineError):
        read(line[:cut] + tail + b"}\n")


@pytest.mark.parametrize("about", [None, {"a": 1}])
def test_dropped_content(about: dict[str, Any] | None) -> None:
    line = line_of(entry(b'{"a":1}', about))
    cut = open_envelope(line, SALTED).tail_at
    found = read(line[:cut] + b',"dropped":77}\n')
    assert (found.dropped, found.payload, found.about, found.payload_bytes) == (77, None, None, 7)
    if about is not None:
        kept = read(line[:cut] + b',"about":{"a":1},"dropped":77}\n')
        assert (kept.dropped, kept.payload, kept.about) == (77, None, about)
        with pytest.raises(LineError):
            read(line[:cut] + b',"about":{"a":2},"dropped":77}\n')
    bare = line_of(entry())
    with pytest.raises(LineError):
        read(bare[: open_envelope(bare, SALTED).tail_at] + b',"dropped":77}\n')


def test_a_payload_that_ends_like_a_drop_is_no_drop() -> None:
    payload = b'{"a":1,"dropped":7}'
    assert read(line_of(entry(payload))).dropped is None
    assert read(line_of(entry(None, {"a": 1, "dropped": 7}))).dropped is None


def test_a_line_belongs_to_its_salt() -> None:
    line = line_of(entry(b"{}"))
    with pytest.raises(LineError):
        open_envelope(line, Salted("00" * 32))
    hidden = line_of(entry(line))
    start = hidden.index(b'{\\"seq\\"')
    with pytest.raises(LineError):
        open_envelope(hidden[start:], SALTED)


def whole(line: bytes) -> list[object] | str:
    """What its envelope says as `open_envelope` reads it, or the kind of the fault."""
    try:
        found = open_envelope(line, SALTED)
        loaded(found.match[9])
    except LineError as error:
        return error.kind
    words = [None if word is None else word.decode() for word in found.match.groups()]
    numbers = (0, 2, 7)
    return [None if word is None else int(word) if at in numbers else word for at, word in enumerate(words)]


def at_once(line: bytes) -> list[object] | str:
    """The same as the fold reads it."""
    try:
        *found, total = fields_at(b"x" + line, 1, 1 + line.find(SUM_MARK), SALTED)
        loaded(found[8])
    except LineError as error:
        return error.kind
    assert total == open_envelope(line, SALTED).sum
    return found


@pytest.mark.parametrize("one", [entry(b"{}", {"a": "é"}), entry(b"{}", n="é"), entry(None, {"a": 1}), entry()])
def test_an_envelope_that_no_writer_wrote_passes_neither_reader_whatever_its_sum(one: Entry) -> None:
    """Each of its bytes is another, or gone, under a sum that matches."""
    line = line_of(one)
    envelope, tail = line[: line.index(SUM_MARK)], line[line.index(SUM_MARK) + 73 :]
    assert whole(line) == at_once(line)
    refused = 0
    for at in range(len(envelope)):
        for other in (b"", b"0", b"A", b"g", b'"', b"}", b"\n", b"\xff", "é".encode(), "٣".encode()):
            forged = envelope[:at] + other + envelope[at + 1 :]
            line = forged + SUM_MARK + SALTED.sum(forged).encode() + b'"' + tail[1:]
            expected = whole(line)
            assert at_once(line) == expected, forged
            refused += expected == "foreign"
    assert refused > 5 * len(envelope)


def test_a_line_without_its_end_is_truncated() -> None:
    line = line_of(entry(b"{}"))
    with pytest.raises(LineError) as raised:
        check_tail(line[:-1], open_envelope(line[:-1], SALTED))
    assert raised.value.kind == "truncated"


@given(
    st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"")), max_size=12),
    st.integers(1, 64),
    st.booleans(),
)
def test_lines_are_split_on_newlines_alone_whatever_the_chunk(lines: list[bytes], chunk: int, ended: bool) -> None:
    data = b"".join(line + b"\n" for line in lines) + (b"" if ended else b"rest\r\x85\xe2\x80\xa8")
    found = list(split_lines(lambda size, at: data[at : at + size], 0, None, chunk))
    assert b"".join(line for _, line in found) == data
    assert [offset for offset, _ in found] == [sum(len(line) for _, line in found[:at]) for at in range(len(found))]
    assert all(line.index(b"\n") == len(line) - 1 for _, line in found[: len(lines)])


def test_a_header_reads_by_either_copy_and_says_which_is_bad() -> None:
    envelope = b'{"format":1,"journal":"%s","epoch":"%s","first":5,"after":4,"prev":"%s","salt":"%s"' % (
        b"a" * 32,
        b"b" * 16,
        b"c" * 64,
        SALT.encode(),
    )
    line = envelope + SUM_MARK + SALTED.sum(envelope).encode() + b'"}\n'
    good, faults = parse_header(line * 2)
    assert good is not None and not faults
    assert (good.first, good.after, good.salt, good.size) == (5, 4, SALT, 2 * len(line))
    for at in range(2 * len(line)):
        raw = bytearray(line * 2)
        raw[at] ^= 1
        found, faults = parse_header(bytes(raw) + b"{")
        assert found is not None and (found.first, found.salt, found.sum, found.size) == (5, SALT, good.sum, good.size)
        assert faults and faults[0].copy == (0 if at < len(line) else 1)
        raw[(at + len(line)) % (2 * len(line))] ^= 1
        assert parse_header(bytes(raw))[0] is None
