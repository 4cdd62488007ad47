"""Signatures, identities, bodies and columns: what is believed of a request, and what isn't."""

from __future__ import annotations

import json
import sys
from collections import Counter
from types import FrameType
from typing import Any
from unittest import mock
from urllib.parse import quote_plus, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.config.secret_keys import Key
from covenq.errors import BadRequest
from covenq.github import request
from covenq.github.columns import columns
from covenq.github.signature import sign, verify
from covenq.model import DeliveryId
from tests.support.requests import sign as sign_by_library

DOCUMENTED = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
SECRET = b"It's a Secret to Everybody"
BODY = b"Hello, World!"


def test_the_signature_that_github_documents() -> None:
    assert sign(SECRET, BODY) == DOCUMENTED
    assert verify([Key("app", SECRET)], BODY, DOCUMENTED) == "app"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256=",
        DOCUMENTED[:-1],
        DOCUMENTED + "0",
        DOCUMENTED + "\n",
        DOCUMENTED[7:],
        "sha1=" + DOCUMENTED[7:],
        "SHA256=" + DOCUMENTED[7:],
        DOCUMENTED[:-1] + "8",
        "sha256=" + " " + DOCUMENTED[8:],
        DOCUMENTED + ", " + DOCUMENTED,
        "sha256=" + "é" * 64,
        "sha256=" + "٣" * 64,
    ],
)
def test_no_other_signature_passes(header: str | None) -> None:
    assert verify([Key("app", SECRET)], BODY, header) is None


def test_every_secret_is_tried_and_the_one_that_signed_is_named() -> None:
    secrets = [Key("new", b"n"), Key("old", SECRET), Key("older", b"o")]
    assert verify(secrets, BODY, DOCUMENTED) == "old"
    assert verify(secrets[::2], BODY, DOCUMENTED) is None
    assert verify([], BODY, DOCUMENTED) is None


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=100))
def test_signatures_agree_with_the_standard_library(body: bytes, secret: bytes) -> None:
    assert sign(secret, body) == sign_by_library(body, secret)


def test_another_byte_in_the_body_is_another_signature() -> None:
    assert verify([Key("app", SECRET)], BODY + b"\n", DOCUMENTED) is None


# ---- identity

GOOD = {
    "x-github-event": "issues",
    "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    "x-github-hook-id": "9",
}


def test_who_a_delivery_is() -> None:
    found = request.identity(GOOD)
    assert found.delivery == DeliveryId("9", GOOD["x-github-delivery"])
    assert found.event == "issues"
    without = {name: value for name, value in GOOD.items() if name != "x-github-hook-id"}
    assert request.identity(without).delivery.hook == "-"
    assert request.identity({**without, "x-github-hook-installation-target-id": "77"}).delivery.hook == "77"
    assert request.identity({**GOOD, "x-github-hook-installation-target-id": "../77"}).delivery.hook == "9"


HOSTILE = [
    "",
    " ",
    "../../x",
    "x/../y",
    "a" * 65,
    "a" * 10_000,
    "nul\0",
    "line\n",
    "\n",
    "a b",
    "ä",
    "a,b",
    "a.b",
    "٣",
    "$(id)",
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    ("header", "word"),
    [
        ("x-github-delivery", "delivery_malformed"),
        ("x-github-hook-id", "hook_malformed"),
    ],
)
def test_hostile_ids_are_refused(header: str, word: str, value: str) -> None:
    with pytest.raises(BadRequest) as raised:
        request.identity({**GOOD, header: value})
    assert raised.value.word == word
    assert len(str(raised.value)) < 200


def test_a_hostile_installation_target_is_refused_where_it_would_be_the_hook() -> None:
    headers = {**GOOD, "x-github-hook-installation-target-id": "../x"}
    del headers["x-github-hook-id"]
    with pytest.raises(BadRequest, match="Installation-Target-ID"):
        request.identity(headers)


def test_missing_headers_are_named() -> None:
    with pytest.raises(BadRequest, match="X-GitHub-Event") as raised:
        request.identity({"x-github-delivery": "1"})
    assert raised.value.word == "event_missing"
    with pytest.raises(BadRequest, match="X-GitHub-Event") as raised:
        request.identity({**GOOD, "x-github-event": "issues\n"})
    assert raised.value.word == "event_malformed"
    with pytest.raises(BadRequest, match="X-GitHub-Delivery") as raised:
        request.identity({"x-github-event": "issues"})
    assert raised.value.word == "delivery_missing"


def test_a_header_given_twice_is_no_identity() -> None:
    folded = request.fold_headers([("X-GitHub-Delivery", "a"), ("x-github-delivery", "b"), ("X-GitHub-Event", "e")])
    assert folded["x-github-delivery"] == "a, b"
    with pytest.raises(BadRequest):
        request.identity(folded)


def test_kept_headers_are_those_of_github_in_order_and_bounded() -> None:
    headers = [
        ("Host", "x"),
        ("X-Hub-Signature-256", "sha256=1"),
        ("Cookie", "session=1"),
        ("Authorization", "Bearer x"),
        ("X-GitHub-Event", "push"),
        ("content-type", "application/json"),
        ("User-Agent", "GitHub-Hookshot/1"),
        ("X-Forwarded-For", "192.0.2.1"),
    ]
    assert [name for name, _ in request.recorded_headers(headers)] == [
        "X-Hub-Signature-256",
        "X-GitHub-Event",
        "content-type",
        "User-Agent",
    ]
    many = request.recorded_headers([(f"X-GitHub-{i}", "v" * 5000) for i in range(100_000)])
    assert len(many) == request.HEADERS_MAX
    assert {len(value) for _, value in many} == {request.HEADER_VALUE_MAX}
    [[name, value]] = request.recorded_headers([("X-GitHub-\udc80", "\udcff\0")])
    (name + value).encode()
    assert "\0" not in value


# ---- bodies


def refusal(body: bytes, content_type: str | None = "application/json") -> str:
    with pytest.raises(BadRequest) as raised:
        request.parse(body, content_type)
    assert str(raised.value).endswith(".")
    assert len(str(raised.value)) < 200
    return raised.value.word


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        ("application/json", False),
        ("application/json; charset=utf-8", False),
        ("application/json;charset=UTF-8", False),
        ('Application/JSON ; Charset="utf-8"; x=y', False),
        ("application/json; charset=iso-8859-1", False),
        ("application/vnd.github+json", False),
        ("application/x-www-form-urlencoded", True),
        ("application/x-www-form-urlencoded; charset=UTF-8", True),
        ("text/plain", None),
        ("text/json", None),
        ("application/jsonp", None),
        ("application/json, text/plain", None),
        ("multipart/form-data; boundary=x", None),
        ("", None),
        (None, None),
    ],
)
def test_content_types(content_type: str | None, form: bool | None) -> None:
    assert request.is_form(content_type) is form
    if form is None:
        assert refusal(b"{}", content_type) == "content_type_unsupported"
    else:
        parsed = request.parse(b"payload=%7B%7D" if form else b"{}", content_type)
        assert (parsed.object, parsed.form) == ({}, form)


def deep(levels: int, inside: bytes = b"") -> bytes:
    return b'{"a":' + b"[" * levels + inside + b"]" * levels + b"}"


ACCEPTED: dict[str, tuple[bytes, Any]] = {
    "spaces": (b' \r\n{"a" : 1}\n', {"a": 1}),
    "duplicate keys": (b'{"a":1,"a":2}', {"a": 2}),
    "an escaped lone surrogate": (b'{"a":"x\\ud800y"}', {"a": "x\ud800y"}),
    "a surrogate pair": (b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}),
    "an escaped NUL": (b'{"a":"\\u0000"}', {"a": "\0"}),
    "a byte order mark": (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
    "a number beyond a double": (b'{"a":1e400}', {"a": float("inf")}),
    "an integer of 5000 digits": (b'{"a":' + b"7" * 5000 + b"}", {"a": float("inf")}),
    "a negative integer of 5000 digits": (b'{"a":-' + b"7" * 5000 + b"}", {"a": float("-inf")}),
    "an empty object": (b"{}", {}),
}


@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.parametrize("form", [False, True])
def test_json_objects_are_accepted_however_odd(name: str, form: bool) -> None:
    body, value = ACCEPTED[name]
    if form:
        body = b"x=1&payload=" + quote_plus(body).encode() + b"&y=%FF\xff"
    content_type = "application/x-www-form-urlencoded" if form else "application/json"
    assert request.parse(body, content_type).object == value
    assert request.decode(body) == value


def test_moderately_deep_nesting_is_accepted_and_absurd_nesting_refused() -> None:
    assert request.parse(deep(200), "application/json").object
    assert refusal(deep(100_000)) == "body_too_deep"
    assert refusal(b"[" * 1_000_000) == "body_too_deep"
    # What only the standard library reads is bounded by a number, and not by how deep the caller is.
    assert request.parse(deep(200, b'"\\ud800"'), "application/json").object
    assert refusal(deep(400, b'"\\ud800"')) == "body_too_deep"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "body_not_json"),
        (b"{", "body_not_json"),
        (b'{"a":1}x', "body_not_json"),
        (b'{"a":1}\0', "body_not_json"),
        (b'{"a":"\0"}', "body_not_json"),
        (b'{"a":"\n"}', "body_not_json"),
        (b'{"a":NaN}', "body_not_json"),
        (b'{"a":Infinity}', "body_not_json"),
        (b'{"a":-Infinity}', "body_not_json"),
        (b"{'a':1}", "body_not_json"),
        (b'{"a":01}', "body_not_json"),
        (b'{"a":"\xff"}', "body_not_json"),
        (b'{"a":"\xed\xa0\x80"}', "body_not_json"),
        (b'{"a":"\xc0\xaf"}', "body_not_json"),
        ('{"a":1}'.encode("utf-16"), "body_not_json"),
        (b"payload=%7B%7D", "body_not_json"),
        (b"[1]", "body_not_object"),
        (b"1", "body_not_object"),
        (b"null", "body_not_object"),
        (b'"\\ud800"', "body_not_object"),
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes, word: str) -> None:
    assert refusal(body) == word


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "form_without_payload"),
        (b"payload", "form_without_payload"),
        (b"xpayload=%7B%7D", "form_without_payload"),
        (b"payload=%7B%7D&payload=%7B%7D", "form_payload_repeated"),
        (b"payload=", "body_not_json"),
        (b"payload=%7B%FF%7D", "body_not_json"),
        (b"payload=%ZZ", "body_not_json"),
        (b"payload=[]", "body_not_object"),
        (b"{}", "form_without_payload"),
    ],
)
def test_what_is_no_form_with_an_object_is_refused(body: bytes, word: str) -> None:
    assert refusal(body, "application/x-www-form-urlencoded") == word


def test_form_decoding() -> None:
    value = {"a b": "1+1=2 & more", "ü": "%"}
    body = b"payload=" + quote_plus(json.dumps(value, ensure_ascii=False)).encode()
    assert request.parse(body, "application/x-www-form-urlencoded").object == value


def test_a_form_is_decoded_in_one_pass_whatever_its_escapes() -> None:
    """484 spellings of escapes, each in a form of a megabyte: a pass for each would be seen by the callback's count."""
    digits = "0123456789abcdefABCDEF"
    text = "".join(f"%{a}{b}" for a in digits for b in digits).encode() * 2000
    calls = Counter[str]()

    def count(frame: FrameType, event: str, function: object) -> None:
        calls[event] += 1

    sys.setprofile(count)
    try:
        found = request._unquote(text)
    finally:
        sys.setprofile(None)
    assert found == unquote_to_bytes(text)
    assert calls["call"] + calls["c_call"] < 200


PIECES = [*b"%41 %25 %2 % 41 %00 %fF %e4 x + %2B = =3D =41 == =% %=41 _ \n \r =\n =\r\n".split(b" "), b" "]


@given(st.lists(st.sampled_from(PIECES)).map(b"".join))
def test_forms_are_decoded_as_the_standard_library_does(text: bytes) -> None:
    assert request._unquote(text) == unquote_to_bytes(text)
    with mock.patch.object(request, "_PIECE", 5):
        assert request._unquote(text) == unquote_to_bytes(text)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    for content_type in ("application/json", "application/x-www-form-urlencoded"):
        for content in (body, b"payload=" + body, b'{"a":' + body + b"}"):
            try:
                parsed = request.parse(content, content_type)
            except BadRequest:
                continue
            columns("issues", parsed.object)


def test_a_body_that_is_neither_decodes_to_nothing() -> None:
    assert request.decode(None) is None
    assert request.decode(b"nothing") is None
    assert request.decode(b' {"url":"https://x.example/?a=1&payload=2"}') == {"url": "https://x.example/?a=1&payload=2"}
