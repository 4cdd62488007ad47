"""A delivery out of GitHub's log: what was signed comes back byte for byte, or is told as unsigned; never something else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covenq.config.secret_keys import Key
from covenq.github import samples, signed_body
from covenq.github.delivery_detail import DeliveryDetail, NoDelivery, Recovered, from_detail, recover
from covenq.github.json_spans import DEPTH_MAX
from tests.support.delivery_details import ATTEMPT, GUID, HTML, PLAIN, SEPARATORS, STYLES, Number, Style, detail
from tests.support.requests import SECRET, sign

KEYS = [Key("old", b"an older secret of the test"), Key("app", SECRET.encode())]
FORM = "application/x-www-form-urlencoded"
TEXT = "\u00fcbersicht \u20ac \U0001f600 <b>&amp;</b> \u2028\u2029 \x1b[2K \x7f \ud800 \"\\\b\f\n\r\t/ \\u00e9 \\u001B ~*!'()"
NUMBERS = ["1.0", "1e5", "1E+5", "-0", "-0.0", "12345678901234567890", "0.10000000000000000001", "1e400", "3" * 5000]
GAPS = ["", " ", "\n  ", "\t\r\n"]

texts = st.text(
    st.one_of(
        st.characters(),  # lone surrogates are among them
        st.sampled_from(TEXT),
    ),
    max_size=12,
).filter(lambda text: json.loads(json.dumps(text)) == text)  # no two surrogates that together are one character
numbers = st.sampled_from(NUMBERS).map(Number)
values = st.recursive(
    st.one_of(texts, numbers, st.booleans(), st.none(), st.integers()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=12,
)
styles = st.builds(
    Style, st.text(HTML + SEPARATORS + "/ab'", max_size=4), st.booleans(), st.booleans(), st.sampled_from(GAPS)
)


def read(text: bytes) -> DeliveryDetail:
    found = from_detail(text)
    assert isinstance(found, DeliveryDetail), found
    return found


def recovered(text: bytes) -> Recovered:
    found = read(text)
    return recover(found.headers, found.payload, KEYS)


def no_delivery(text: bytes) -> NoDelivery:
    found = from_detail(text)
    assert isinstance(found, NoDelivery), found
    return found


def payload_of(event: str, more: object) -> dict[str, Any]:
    return {**samples.SAMPLES[event](), "covenq": more, "n\u00e4me <&>": [Number(one) for one in NUMBERS]}


@pytest.mark.parametrize("event", sorted(samples.SAMPLES))
def test_the_signed_bytes_of_every_sample_come_back_in_every_way_to_write_them(event: str) -> None:
    payload = payload_of(event, TEXT)
    for style in STYLES:
        signed = style.write(payload).encode()
        for seen in (PLAIN, Style(ascii=True, blank="\n "), Style(HTML, upper=True, blank=" ")):
            found = recovered(detail(seen.write(payload), signed, event=event, style=seen))
            assert found.body == signed, style
            assert [one.name for one in found.signers] == ["app"]
            assert dict(found.headers)["X-Hub-Signature-256"] == sign(signed)


@pytest.mark.parametrize("event", sorted(samples.SAMPLES))
def test_a_sample_as_it_is_sent_comes_back_as_json_and_as_a_form(event: str) -> None:
    body = samples.body(event)
    assert recovered(detail(body.decode(), body)).body == body
    escaped = "".join(chr(one) if chr(one).isalnum() and one < 128 else f"%{one:02X}" for one in body)
    for text in (escaped, escaped.replace("%20", "+")):
        form = b"payload=" + text.replace("%2D", "-").replace("%5F", "_").replace("%2E", ".").encode()
        found = recovered(detail(body.decode(), form, headers={"content-type": FORM}))
        assert (found.body, len(found.signers)) == (form, 1)
        assert dict(found.headers)["content-type"] == FORM
    assert not recovered(detail(body.decode(), body, headers={"content-type": FORM})).signers


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(texts, values, max_size=4), st.sampled_from(STYLES), styles)
def test_any_payload_comes_back_from_any_json_of_it(payload: dict[str, Any], style: Style, seen: Style) -> None:
    signed = style.write(payload).encode()
    found = recovered(detail(seen.write(payload), signed, style=seen))
    assert found.body == signed
    assert [one.name for one in found.signers] == ["app"]


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(texts, values, max_size=4), styles, styles, st.booleans())
def test_what_signs_is_what_was_signed_or_it_is_told(
    payload: dict[str, Any], style: Style, seen: Style, form: bool
) -> None:
    signed = style.write(payload).encode()
    headers = {"content-type": FORM} if form else {}
    found = recovered(detail(seen.write(payload), signed, headers=headers, style=seen))
    names = {name.lower() for name, _ in found.headers}
    if found.signers:
        assert found.body == signed
    else:
        assert found.body == PLAIN.write(payload).encode()
        assert not names & {"x-hub-signature", "x-hub-signature-256"}
        assert ("Content-Type", "application/json") in found.headers
    assert {"x-github-event", "x-github-delivery", "x-github-hook-id"} <= names


@pytest.mark.parametrize(
    ("headers", "signed"),
    [
        ({}, None),
        ({"X-Hub-Signature-256": "sha256=" + "0" * 64}, None),
        ({"X-Hub-Signature-256": "sha256=nothing"}, None),
        ({"X-Hub-Signature-256": None}, None),
        ({"X-Hub-Signature-256": sign(b'{"a":1}', "a secret that is not here")}, None),
        ({}, b'{"a": 1}'),
        ({}, b'{"a":1.0}'),
        ({}, b'{"b":1}'),
    ],
)
def test_what_no_secret_here_signed_is_unsigned(headers: dict[str, Any], signed: bytes | None) -> None:
    found = recovered(detail('{"a" : 1}', signed, headers=headers))
    assert (found.body, found.signers) == (b'{"a":1}', [])


def test_several_names_of_one_secret_are_all_told_and_no_key_signs_nothing() -> None:
    found = read(detail('{"a":1}', b'{"a":1}'))
    keys = [*KEYS, Key("same", SECRET.encode())]
    assert [one.name for one in recover(found.headers, found.payload, keys).signers] == ["app", "same"]
    assert not recover(found.headers, found.payload, []).signers


def test_what_github_says_of_the_attempt_is_kept_as_it_is() -> None:
    found = read(detail('{"a":1}', redelivery=True))
    assert (found.id, found.delivered_at, found.redelivery) == (str(ATTEMPT), "2026-11-20T00:57:16Z", True)
    assert read(detail("{}", id="12345678901234567890123")).id == "12345678901234567890123"
    assert read(detail("{}", id=Number("1e18"))).id is None
    assert read(detail("{}", delivered_at="\x1b" * 9)).delivered_at is None
    assert read(detail("{}", delivered_at=7, redelivery="yes")).redelivery is False
    headers = {"x-github-hook-id": 446581321, "X-GitHub-Event": None}
    told = dict(read(detail("{}", headers={"X-GitHub-Hook-ID": None, **headers}, event="push")).headers)
    assert (told["x-github-hook-id"], told["X-GitHub-Event"]) == ("446581321", "push")
    marked = b"\xef\xbb\xbf" + detail('{"a":1}', b'{"a":1}')
    assert recovered(marked).signers


def test_the_last_of_repeated_keys_counts_as_for_a_parser() -> None:
    text = b'{"request":{"payload":{"a":1},"payload":{"a":1,"a":2}},%b' % detail("{}")[1:]
    assert read(text).payload == b"{}"
    text = detail('{"a":1,"a":2}', b'{"a":1,"a":2}').replace(b'"payload":', b'"p\\u0061yload":', 1)
    assert recovered(text).signers


def without_request(**more: Any) -> bytes:
    return detail("{}", request=more)


@pytest.mark.parametrize(
    ("text", "problem", "words"),
    [
        (without_request(headers=None, payload={}), "no_headers", "no headers"),
        (without_request(payload={}), "no_headers", "no headers"),
        (without_request(headers=[], payload={}), "no_headers", "no headers"),
        (without_request(headers={}, payload={}), "no_headers", "no headers"),
        (detail("null"), "no_payload", "no payload"),
        (detail('"{}"'), "no_payload", "no payload"),
        (without_request(headers={"X-GitHub-Hook-ID": "30"}), "no_payload", "no payload"),
        (detail("{}", request=None), "no_detail", "no request"),
        (b'{"id":1,"guid":"g","event":"push"}', "no_detail", "no request"),
        (b'{"request":{"headers":{"X-GitHub-Hook-ID":"1"},"payload":{}}}', "no_detail", "no request"),
        (b"[]", "no_detail", "no request"),
        (b"7", "no_detail", "no request"),
        (b"", "not_json", "not JSON"),
        (b"nonsense", "not_json", "not JSON"),
        (b'{"guid":"g","request":{"headers":{},"payload":{}', "not_json", "not JSON"),
        (detail("{}x"), "not_json", "not JSON"),
        (detail("{},"), "not_json", "not JSON"),
        (detail("NaN"), "not_json", "not JSON"),
        (detail('{"a":"\x01"}'), "not_json", "not JSON"),
        (detail("{}") + b"{}", "not_json", "not JSON"),
        (detail("{}").replace(b"OK", b"\xff"), "not_json", "UTF-8"),
        (b"\xff\xfe{\x00}\x00", "not_json", "UTF-8"),
    ],
)
def test_what_is_no_delivery_is_told_with_its_reason(text: bytes, problem: str, words: str) -> None:
    found = no_delivery(text)
    assert (found.problem, words in found.reason) == (problem, True), found
    assert found.is_detail is (problem in ("no_headers", "no_payload"))
    if found.is_detail:
        assert found.id == GUID


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64), st.data())
def test_no_bytes_break_it(noise: bytes, data: st.DataObject) -> None:
    from_detail(noise)
    text = detail('{"a":"\u00e9"}', b"{}")
    at = data.draw(st.integers(0, len(text)))
    for broken in (text[:at], text[:at] + noise + text[at:], text[:at] + noise + text[at + len(noise) :]):
        found = from_detail(broken)
        if isinstance(found, DeliveryDetail):
            json.loads(broken)
            recover(found.headers, found.payload, KEYS)


@pytest.mark.parametrize("levels", [1000, 1023, DEPTH_MAX + 1, 200_000])
def test_depth_is_as_bounded_as_for_what_comes_to_the_webhook(levels: int) -> None:
    deep = "[" * levels + "]" * levels
    signed = f'{{"a":{deep}}}'
    text = detail(signed, signed.encode())
    if levels < 1024:
        assert recovered(text).body == signed.encode()
    else:
        assert "too deep" in no_delivery(text).reason
    aside = from_detail(detail("{}", response=Number(deep)))
    assert isinstance(aside, DeliveryDetail) is (levels < 1024)


def test_what_is_tried_of_a_large_payload_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = {"a": TEXT}
    signed = STYLES[-1].write(payload).encode()
    monkeypatch.setattr(signed_body, "WRITTEN_MAX", 2 * len(signed))
    assert not recovered(detail(PLAIN.write(payload), signed)).signers
    first = PLAIN.write(payload).encode()
    assert recovered(detail(PLAIN.write(payload), first)).signers, "the likely ways are tried"
    monkeypatch.setattr(signed_body, "HASHED_MAX", len(first))
    assert not recovered(detail(PLAIN.write(payload), first)).signers
