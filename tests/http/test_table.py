"""The whole table of answers: every mixture of faults gets the answer of the earliest row, through a real socket."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.requests import Answer, encode, issue, new_guid, sign
from tests.support.serving import Served, serving

LIMIT = 8192
BODY = encode(issue())
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    with serving(data, {"server": {"body_limit": LIMIT}}) as served:
        yield served


def headers_of(body: bytes, guid: str | None = None, event: str = "issues") -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": guid or new_guid(),
        "X-GitHub-Hook-ID": "7",
        "X-Hub-Signature-256": sign(body),
    }


def received(served: Served) -> int:
    return sum(record.kind == "delivery.received" for record in served.journal.read(0))


FAULTS: list[tuple[int, str, dict[str, Any]]] = [
    (413, "body_too_large", {"body": b'{"x":"' + b"y" * LIMIT + b'"}'}),
    (415, "content_type_unsupported", {"Content-Type": "text/plain"}),
    (415, "content_type_unsupported", {"Content-Type": None}),
    (415, "content_type_unsupported", {"Content-Type": "multipart/form-data; boundary=x"}),
    (415, "content_encoding_unsupported", {"Content-Encoding": "gzip"}),
    (415, "content_encoding_unsupported", {"Content-Encoding": "br"}),
    (415, "content_encoding_unsupported", {"Content-Encoding": "deflate, gzip"}),
    (401, "signature_missing", {"X-Hub-Signature-256": None}),
    (401, "signature_missing", {"X-Hub-Signature-256": None, "X-Hub-Signature": "sha1=" + "0" * 40}),
    (401, "signature_wrong", {"X-Hub-Signature-256": "sha256=" + "0" * 64}),
    (401, "signature_wrong", {"X-Hub-Signature-256": sign(BODY, "another secret")}),
    (401, "signature_wrong", {"X-Hub-Signature-256": ""}),
    (400, "event_missing", {"X-GitHub-Event": None}),
    (400, "event_malformed", {"X-GitHub-Event": "../x"}),
    (400, "delivery_missing", {"X-GitHub-Delivery": None}),
    (400, "delivery_malformed", {"X-GitHub-Delivery": "x" * 65}),
    (400, "hook_malformed", {"X-GitHub-Hook-ID": "a b"}),
    (400, "form_without_payload", {"Content-Type": FORM, "body": b"x=1"}),
    (400, "form_payload_repeated", {"Content-Type": FORM, "body": b"payload={}&payload={}"}),
    (400, "body_not_json", {"body": b"{"}),
    (400, "body_not_object", {"body": b"[1]"}),
]
"""Status, word, and what is changed in a valid request: the body, or a header (None: left out)."""


def changed(*changes: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """A valid request with these changes; of two changes to the same part, the earlier is made."""
    merged: dict[str, Any] = {}
    for change in reversed(changes):
        merged |= change
    body = merged.pop("body", BODY)
    headers = {**headers_of(body), **merged}
    return body, {name: value for name, value in headers.items() if value is not None}


@pytest.mark.parametrize("first", range(len(FAULTS)), ids=lambda number: FAULTS[number][1])
def test_of_two_faults_the_earlier_row_is_told(served: Served, first: int) -> None:
    status, word, change = FAULTS[first]
    told: list[str] = []
    for _, _, other in [(0, "", {}), *(fault for fault in FAULTS[first + 1 :])]:
        body, headers = changed(change, other)
        answer = served.request("POST", "/webhook", body, headers)
        assert (answer.status, answer.json["error"]) == (status, word), other
        assert answer.json["ok"] is False
        assert answer.json["detail"].endswith(".")
        assert answer.headers["content-type"] == "application/json"
        told.append(word)
    assert served.refused() == {word: len(told)}
    assert received(served) == 0


def test_every_mixture_of_rows(served: Served) -> None:
    """Over the limit, of another type, wrongly signed, without an id, no object, known or conflicting, a ping, closed."""
    known = new_guid()
    assert served.request("POST", "/webhook", BODY, headers_of(BODY, known)).status == 202
    records = 1
    flags = itertools.product([False, True], repeat=5)
    for (over, kind, signature, ids, shape), before, ping, closed in itertools.product(
        flags, ("new", "same", "other"), (False, True), (False, True)
    ):
        body = BODY if before != "other" else encode(issue(8))
        if shape:
            body = b"[]"
        if over:
            body += b" " * LIMIT
        headers = headers_of(body, None if before == "new" else known, "ping" if ping else "issues")
        if kind:
            headers["Content-Type"] = "text/html"
        if signature:
            headers["X-Hub-Signature-256"] = sign(body, "a guess")
        if ids:
            del headers["X-GitHub-Delivery"]
        served.disk.free = 1 << 20 if closed else 1 << 40
        answer = served.request("POST", "/webhook", body, headers)
        faults = [
            (over, 413), (kind, 415), (signature, 401), (ids or shape, 400), (before == "same", 200), (before == "other", 409),
            (closed, 503), (ping, 200), (True, 202),
        ]  # fmt: skip
        expected = next(status for applies, status in faults if applies)
        case = (over, kind, signature, ids, shape, before, ping, closed)
        assert answer.status == expected, (case, answer)
        told(answer, expected, duplicate=before == "same")
        if expected == 202 or (expected == 200 and before == "new"):
            records += 1
    assert received(served) == records


def told(answer: Answer, status: int, *, duplicate: bool) -> None:
    """The JSON object of an answer with this status."""
    said = answer.json
    assert said["ok"] is (status < 300)
    if said["ok"]:
        assert said["duplicate"] is duplicate
        assert set(said) >= {"delivery", "seq", "state", "tasks", "durability"}
    else:
        assert set(said) >= {"error", "detail"}
    if status == 503:
        assert int(answer.headers["retry-after"]) > 0
    else:
        assert "retry-after" not in answer.headers
