"""The page is enough: a reader written from it agrees with the engine on every journal, whole or damaged."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from journal.errors import JournalDamaged
from journal.file.reader import open_reader
from journal.file.salvage import salvage
from journal.file.verify import verify
from journal.format.codec import SUM_MARK, Salted, is_plain_object, payload_form
from journal.format.header import parse_header
from journal.records import Entry
from tests.support.journals import independent_reader, making
from tests.support.journals.independent_reader import Reading


def read(directory: Path) -> Reading:
    """What the page says, held against what the engine says of the same directory."""
    page = independent_reader.read(directory)
    report = verify(directory)
    assert report.ok == (page.fault is None), (page.fault, report.damage)
    if page.fault is None:
        with open_reader(directory, adopt=True) as reader:
            assert making.seen(reader.read(0)) == making.seen(page.records)
        assert report.records == len(page.records)
    return page


def test_it_is_short_and_knows_nothing_of_the_engine() -> None:
    text = Path(independent_reader.__file__).read_text()
    assert len(text.splitlines()) <= 150
    imported = {line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported <= sys.stdlib_module_names


def test_every_form_of_a_payload(tmp_path: Path) -> None:
    with making.opened(tmp_path / "j") as journal:
        making.fill(journal)
    found = read(tmp_path / "j")
    assert found.fault is None
    assert {one["data"]["guid"]: one["payload"] for one in found.records[:-1]} == making.PAYLOADS
    assert [one["about"] for one in found.records[:-1]] == [making.about_of(at) for at in range(len(making.PAYLOADS))]


def test_segments_epochs_erasure_and_an_open_journal(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    with making.opened(directory, segment_bytes=4000) as journal:
        assert independent_reader.read(directory).records == []
        making.fill(journal, list(making.PAYLOADS)[:12])
        journal.begin_epoch("f" * 16)
        making.fill(journal, list(making.PAYLOADS)[12:])
        journal.erase([Entry("ops.x", "journal.dropped", {"drops": [[2, 5], [20, 99]], "about": False})])
        journal.erase([Entry("ops.x", "journal.dropped", {"drops": [[4, 9], [6, 7]], "about": True})])
        assert making.seen(independent_reader.read(directory).records) == making.seen(journal.read(0))
    found = read(directory)
    assert found.fault is None
    assert len({one["epoch"] for one in found.records}) == 2
    assert len(making.segments(directory)) > 3
    assert {one["seq"] for one in found.records if one["dropped"]} >= {2, 3, 5, 6, 8, 9, 20, 23}


def test_a_salvage_and_its_gap(tmp_path: Path) -> None:
    source, target = tmp_path / "j", tmp_path / "saved"
    with making.opened(source, segment_bytes=4000) as journal:
        making.fill(journal)
    making.alter(making.segments(source)[1], lambda raw: raw.replace(b"delivery.9.", b"delivery.8.", 1))
    assert read(source).fault is not None
    plan = salvage(source, target, now=making.START, token=making.Tokens(7))
    found = read(target)
    assert found.fault is None
    assert [list(gap) for gap in found.gaps] == plan.lost != []


# ---- what the page says of single bytes


JSONISH = st.recursive(
    st.sampled_from(
        ["null", "true", "0", "-0", "1e5", "1E-2", "01", "1.", ".5", "+1", "NaN", "-Infinity", '""', '"\\u00e9"']
    )
    | st.sampled_from(['"\\ud800"', '"\\x"', '"é"', '"\x7f"', '"\\u12"', "'a'", "9" * 30, "1e999", "", '"\t"', '"a']),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda those: "[" + ",".join(those) + "]")
        | st.lists(inner, max_size=3).map(lambda those: "{" + ", ".join(f'"k" :{one}' for one in those) + "}")
    ),
)


@given(st.one_of(st.binary(max_size=40), JSONISH.map(str.encode), JSONISH.map(lambda one: f'{{"a":{one}}}'.encode())))
@example(making.deep(128))
@example(making.deep(129))
@example(b'{"a":"' + b"[" * 500 + b'\\"{"}')
@example(b'{"a":' + b"[]," * 200 + b"1}")
@example(b"{" * 200 + b"}" * 200)
@example(b'{"a":1}}')
@example(b'{"\\\\":"\\\\\\"{"}')
def test_both_write_any_payload_alike(payload: bytes) -> None:
    assert independent_reader.plain_object(payload) == is_plain_object(payload)
    assert independent_reader.as_written(payload) == payload_form(payload)


@pytest.mark.parametrize("payload", [one for one in making.PAYLOADS.values() if one is not None])
def test_both_write_these_payloads_alike(payload: bytes) -> None:
    test_both_write_any_payload_alike.hypothesis.inner_test(payload)  # type: ignore[attr-defined]


# ---- lines that are signed as the salt allows, and still none of this format


def signed(directory: Path, number: int, change: Callable[[bytes], bytes], *, tail: bool = False) -> Reading:
    """Change one line of the first segment's (its envelope, or its tail), sum it again as one who knows the salt, and read.

    The line is the last, so no link breaks: it is judged by its form alone.
    """
    path = making.segments(directory)[0]
    lines = path.read_bytes().splitlines(keepends=True)[: number + 1]
    header, _ = parse_header(b"".join(lines[:2]))
    assert header is not None
    line = lines[number]
    cut = line.index(SUM_MARK)
    envelope, rest = line[:cut], line[cut + 72 :]
    changed = change(rest if tail else envelope)
    assert changed != (rest if tail else envelope), "nothing was changed"
    if tail:
        rest = changed
    else:
        envelope = changed
    lines[number] = envelope + SUM_MARK + header.salted.sum(envelope).encode() + rest
    target = making.copy(directory, directory.with_name("changed"), caches=False)
    for other in making.segments(target):
        other.unlink()
    (target / path.name).write_bytes(b"".join(lines))
    assert isinstance(header.salted, Salted)
    return read(target)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Lines 2 to 6: no content; about; payload; both; a payload as text."""
    directory = tmp_path / "j"
    about = {"repo": "octo/hello", "n": 1}
    with making.opened(directory) as opened:
        opened.append([making.delivery("a")])
        opened.append([making.delivery("b", about=about)])
        opened.append([making.delivery("c", b'{"a":1}')])
        opened.append([making.delivery("d", b'{"a":1}', about=about)])
        opened.append([making.delivery("e", b'\x01\x1f "\\\x7f')])
        opened.append([making.delivery("f", b"\xff\xfe")])
    return directory


TAILS: list[tuple[int, str, Callable[[bytes], bytes]]] = [
    (2, "a member more", lambda tail: tail.replace(b'"}', b'","x":1}')),
    (2, "a payload it never had", lambda tail: tail.replace(b'"}', b'","payload":{}}')),
    (2, "dropped, of nothing", lambda tail: tail.replace(b'"}', b'","dropped":9}')),
    (2, "white space", lambda tail: tail.replace(b'"}', b'" }')),
    (2, "white space behind", lambda tail: tail.replace(b"}\n", b"} \n")),
    (2, "a carriage return", lambda tail: tail.replace(b"}\n", b"}\r\n")),
    (3, "dropped, and still there", lambda tail: tail.replace(b"}}\n", b'},"dropped":9}\n')),
    (3, "about gone", lambda tail: b'"}\n'),
    (3, "about twice", lambda tail: tail[:-2] + tail[1:]),
    (3, "about in another order", lambda tail: tail.replace(b'"repo":"octo/hello","n":1', b'"n":1,"repo":"octo/hello"')),
    (3, "about with white space", lambda tail: tail.replace(b'"about":', b'"about": ')),
    (4, "payload with white space", lambda tail: tail.replace(b'"payload":', b'"payload": ')),
    (4, "payload changed within", lambda tail: tail.replace(b'{"a":1}', b'{"a":2}')),
    (4, "payload spelled otherwise", lambda tail: tail.replace(b'{"a":1}', b'{"a":1.0}')),
    (4, "payload as text", lambda tail: tail.replace(b'"payload":{"a":1}', b'"body":"{\\"a\\":1}"')),
    (4, "payload in base64", lambda tail: tail.replace(b'"payload":{"a":1}', b'"body64":"eyJhIjoxfQ=="')),
    (4, "payload gone", lambda tail: b'"}\n'),
    (4, "payload twice", lambda tail: tail.replace(b"}}\n", b'},"payload":{"a":1}}\n')),
    (4, "payload and dropped", lambda tail: tail.replace(b"}}\n", b'},"dropped":9}\n')),
    (4, "dropped by itself", lambda tail: b'","dropped":3}\n'),
    (4, "dropped by an earlier one", lambda tail: b'","dropped":1}\n'),
    (4, "dropped by one that says nothing of it", lambda tail: b'","dropped":9}\n'),
    (4, "dropped, with a zero before", lambda tail: b'","dropped":09}\n'),
    (4, "dropped by none", lambda tail: b'","dropped":0}\n'),
    (4, "an about it never had", lambda tail: tail.replace(b'","payload', b'","about":{},"payload')),
    (5, "about behind the payload", lambda tail: re.sub(rb'(,"about".*)(,"payload".*)(}\n)', rb"\2\1\3", tail)),
    (5, "about missing", lambda tail: b'"' + tail[tail.index(b',"payload"') :]),
    (6, "an escape in capitals", lambda tail: tail.replace(b"\\u001f", b"\\u001F")),
    (6, "an escape too many", lambda tail: tail.replace(b"\x7f", b"\\u007f")),
    (6, "text in base64", lambda tail: tail.replace(b'"body":"\\u0001\\u001f \\"\\\\\x7f"', b'"body64":"AR8gIlx/"')),
    (7, "base64 without its padding", lambda tail: tail.replace(b"//4=", b"//4")),
    (7, "base64 with white space", lambda tail: tail.replace(b"//4=", b"//4= ")),
    (7, "base64 with other bits behind", lambda tail: tail.replace(b"//4=", b"//5=")),
    (7, "base64 in another alphabet", lambda tail: tail.replace(b"//4=", b"__4=")),
]  # fmt: skip


@pytest.mark.parametrize(("number", "what", "change"), TAILS, ids=[f"{number}, {what}" for number, what, _ in TAILS])
def test_no_other_tail_passes(journal: Path, number: int, what: str, change: Callable[[bytes], bytes]) -> None:
    found = signed(journal, number, change, tail=True)
    assert found.fault is not None or found.torn is not None
    assert found.torn is None
    assert len(found.records) >= number - 2


ENVELOPES: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("a member more", lambda line: line.replace(b',"data"', b',"x":1,"data"')),
    ("white space", lambda line: line.replace(b',"kind"', b', "kind"')),
    ("another order", lambda line: line.replace(b'"seq":1,', b"").replace(b'"kind"', b'"seq":1,"kind"')),
    ("a seq with a zero before", lambda line: line.replace(b'"seq":1,', b'"seq":01,')),
    ("the seq of another", lambda line: line.replace(b'"seq":1,', b'"seq":2,')),
    ("another prev", lambda line: line[:-65] + b"0" * 64 + b'"'),
    ("a sum in capitals", lambda line: line[:-65].replace(b"{", b"{", 1) + line[-65:].upper()),
    ("a subject of no kind", lambda line: line.replace(b'"delivery.9.a"', b'"other.a"')),
    ("a subject with a dot too many", lambda line: line.replace(b'"delivery.9.a"', b'"delivery.9.a.b"')),
    ("a token that is empty", lambda line: line.replace(b'"delivery.9.a"', b'"delivery..a"')),
    ("a token of 65", lambda line: line.replace(b'"delivery.9.a"', b'"delivery.9.' + b"a" * 65 + b'"')),
    ("a kind of one word", lambda line: line.replace(b'"delivery.received"', b'"received"')),
    ("a kind of three", lambda line: line.replace(b'"delivery.received"', b'"a.b.c"')),
    ("a time without a zone", lambda line: line.replace(b'00Z","synced', b'000","synced')),
    ("synced at itself", lambda line: line.replace(b'"synced":0', b'"synced":1')),
    ("data of no object", lambda line: line.replace(b'"data":{"guid":"a"}', b'"data":[]')),
]


@pytest.mark.parametrize(("what", "change"), ENVELOPES, ids=[what for what, _ in ENVELOPES])
def test_no_other_envelope_passes(journal: Path, what: str, change: Callable[[bytes], bytes]) -> None:
    found = signed(journal, 2, change)
    assert found.fault is not None
    assert found.records == []


def test_damage_at_random(tmp_path: Path) -> None:
    """Several bytes, anywhere, at once: both stop at the same record, and call it the same."""
    directory = tmp_path / "j"
    with making.opened(directory, segment_bytes=3000) as journal:
        making.fill(journal, "none object form binary nul text empty lone".split())
    chance = random.Random(7)
    for _ in range(150):
        target = making.copy(directory, tmp_path / "copy", caches=False)
        path = chance.choice(making.segments(target))
        raw = bytearray(path.read_bytes())
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(raw))
            raw[at : at + chance.randint(0, 3)] = bytes(
                chance.choice(b'\x00\n"{}x1') for _ in range(chance.randint(0, 3))
            )
        path.write_bytes(raw)
        page = independent_reader.read(target)
        assert verify(target).ok == (page.fault is None)
        try:
            with making.opened(target, seed=5) as opened:
                kept = [one for one in making.seen(opened.read(0)) if one["kind"] == "delivery.received"]
            assert page.fault is None
            assert kept[: len(page.records)] == [
                one for one in making.seen(page.records) if one["kind"] == "delivery.received"
            ]
        except JournalDamaged as error:
            assert page.fault is not None
            assert error.damage[0].segment == page.fault[0]


def test_the_mark_of_a_clean_close(journal: Path, tmp_path: Path) -> None:
    """With it, a tail cut at a line's end is told; the page says enough to check it."""
    mark = json.loads((journal / "closed.json").read_bytes())
    assert independent_reader.seq_of_clean_close(journal) == mark["seq"] == 7
    making.alter(making.segments(journal)[0], lambda raw: raw[: raw.rindex(b'{"seq"')])
    (journal / "index.sqlite").unlink()
    assert read(journal).fault is not None
    (journal / "closed.json").unlink()
    assert read(journal).fault is None
