"""Odd bodies and headers through a real socket: stored and given back as they came, or refused with a 4xx that says why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from tests.support.journals.chosen import open_chosen
from tests.support.requests import new_guid, signed
from tests.support.serving import Served, serving

FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def served(journal_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("bodies") / "data", {"server": {"body_limit": 8 << 20}}) as served:
        yield served


KEPT = {
    "1e999": b'{"a":1e999,"b":-1e999,"c":1e-999}',
    "100,000 digits": b'{"issue":{"number":' + b"9" * 100_000 + b"}}",
    "a fraction of 100,000 digits": b'{"a":0.' + b"3" * 100_000 + b"}",
    "keys given twice": b'{"action":"opened","action":"closed","action":7}',
    "lone surrogates": b'{"issue":{"title":"\\ud800 \\udc00\\ud800","number":1}}',
    "an escaped NUL": b'{"repository":{"full_name":"a\\u0000b"}}',
    "a byte order mark": b'\xef\xbb\xbf{"action":"opened"}',
    "nesting of 200": b'{"a":' + b"[" * 200 + b"]" * 200 + b"}",
    "white space": b'\r\n\t {"a" :\n1 } \n\n',
    "a record's marker": b'{"x":"\\",\\"sum\\":\\"' + b"0" * 64 + b'","y":{",":"sum"}}',
    "3 MiB": b'{"x":"' + b"z" * (3 << 20) + b'"}',
    "a million commas": b'{"x":[0' + b",0" * 1_000_000 + b"]}",
    "an empty object": b"{}",
    "lines for a journal": b'{"x":"{seq:1}\\n{seq:2}"}',
    "DEL and C1 in UTF-8": '{"x":"\x7f\x80\x9b31m\u202e\ufeff"}'.encode(),
}  # fmt: skip

REFUSED = {
    "nesting of 100,000": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "body_too_deep"),
    "wrong UTF-8": (b'{"a":"\xff\xfe"}', "body_not_json"),
    "surrogates in UTF-8": (b'{"a":"\xed\xa0\x80"}', "body_not_json"),
    "a NUL": (b'{"a":"x\0y"}', "body_not_json"),
    "a NUL behind": (b'{"a":1}\0', "body_not_json"),
    "UTF-16": ('{"a":1}'.encode("utf-16"), "body_not_json"),
    "UTF-16 without a mark": ('{"a":1}'.encode("utf-16-le"), "body_not_json"),
    "Latin-1": ('{"a":"é"}'.encode("latin-1"), "body_not_json"),
    "NaN": (b'{"a":NaN}', "body_not_json"),
    "nothing": (b"", "body_not_json"),
    "two objects": (b"{}{}", "body_not_json"),
    "a list": (b"[{}]", "body_not_object"),
}


def records(served: Served) -> int:
    return sum(record.kind == "delivery.received" for record in served.journal.read(0))


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("form", [False, True], ids=["json", "form"])
def test_odd_bodies_come_back_byte_for_byte(served: Served, name: str, form: bool) -> None:
    body = b"payload=" + quote_plus(KEPT[name]).encode() + b"&x=\xff" if form else KEPT[name]
    guid = new_guid()
    answer = served.post("issues", body, guid, content_type=FORM if form else "application/json")
    assert answer.status == 202, answer.body[:300]
    assert served.ask(f"/api/v1/deliveries/7/{guid}/payload").body == body
    shown = served.ask(f"/api/v1/deliveries/7/{guid}")
    assert (shown.status, shown.json["payload_bytes"]) == (200, len(body))


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("form", [False, True], ids=["json", "form"])
def test_what_is_no_json_object_is_a_400_and_leaves_nothing(served: Served, name: str, form: bool) -> None:
    body, word = REFUSED[name]
    before = records(served)
    sent = b"payload=" + quote_plus(body).encode() if form else body
    answer = served.post("issues", sent, content_type=FORM if form else "application/json")
    assert (answer.status, answer.json["error"]) == (400, word)
    assert len(answer.body) < 400
    assert records(served) == before


@pytest.mark.parametrize(
    "parameters",
    ["", "; charset=utf-8", ";charset=UTF-8", '; charset="utf-8"', "; charset=iso-8859-1", "; x=y; charset=", ";"],
)
@pytest.mark.parametrize("kind", ["application/json", "application/vnd.github.v3+json", FORM])
def test_a_charset_changes_nothing_about_the_bytes(served: Served, kind: str, parameters: str) -> None:
    content = '{"issue":{"title":"naïve – 中","number":1}}'.encode()
    body = b"payload=" + quote_plus(content).encode() if kind == FORM else content
    guid = new_guid()
    assert served.post("issues", body, guid, content_type=kind + parameters).status == 202
    assert served.ask(f"/api/v1/deliveries/7/{guid}/payload").body == body
    shown = served.ask(f"/api/v1/deliveries/7/{guid}").json
    assert shown["title"] == "naïve – 中"
    assert dict(shown["headers"])["Content-Type"] == (kind + parameters).strip()


def test_odd_headers_are_kept_bounded_or_refused(served: Served) -> None:
    body, headers = signed("issues", b"{}", new_guid(), "7")
    odd = {
        "X-GitHub-Odd": "\xff\x80 {}\",\"sum\":\"",
        "X-GitHub-Long": "v" * 5000,
        **{f"X-GitHub-Number-{number}": "n" for number in range(300)},
    }  # fmt: skip
    answer = served.request("POST", "/webhook", body, {**headers, **odd})
    assert answer.status == 202
    kept = served.ask(f"/api/v1/deliveries/7/{headers['X-GitHub-Delivery']}").json["headers"]
    assert len(kept) <= 40
    assert all(len(name) <= 64 and len(value) <= 1024 for name, value in kept)
    for name, value, status in (
        ("X-GitHub-Delivery", "x" * 60_000, 400),
        ("X-GitHub-Event", "e" * 60_000, 400),
        ("X-GitHub-Hook-ID", "h" * 60_000, 400),
        ("X-Hub-Signature-256", "s" * 60_000, 401),
        ("Content-Type", "t" * 60_000, 415),
        ("X-GitHub-Delivery", "x" * 70_000, 431),
    ):
        answer = served.request("POST", "/webhook", body, {**headers, name: value})
        assert (answer.status, answer.json["ok"]) == (status, False)
        assert len(answer.body) < 400, "what was sent is not sent back"


def test_all_of_it_is_in_the_journal_as_it_came_and_verifies(data: Path) -> None:
    sent = {}
    with serving(data) as served:
        for body in KEPT.values():
            guid = new_guid()
            assert served.post("issues", body, guid).status == 202
            sent[guid] = body
    with open_chosen(data) as journal:
        assert {
            record.data["guid"]: record.payload for record in journal.read(0) if record.kind == "delivery.received"
        } == sent
