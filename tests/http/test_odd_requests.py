"""The API's answers to invalid requests: methods, paths, queries and ids of every wrong kind. Never a 500."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from covenq.config.api_tokens import create
from covenq.errors import UsageError
from covenq.http.openapi.operations import OPERATIONS
from covenq.net.http_client import error_of
from covenq.operate.operations import BODY_MAX
from tests.support.requests import Answer, UnixConnection, ask, issue, new_guid
from tests.support.serving import Served, serving

READS = sorted({one.path for one in OPERATIONS if one.method == "GET" and one.path != "/api/v1/events"})


@pytest.fixture(scope="module")
def served(journal_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("o") / "data", {"api": {}}) as served:
        yield served


@pytest.fixture(scope="module")
def guid(served: Served) -> str:
    guid = new_guid()
    served.post("issues", issue(), guid)
    return guid


def local(
    served: Served, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answer:
    connection = UnixConnection(served.socket, 30)
    try:
        return ask(connection, method, path, body, headers)
    finally:
        connection.close()


def raw(served: Served, request: bytes) -> tuple[int, bytes]:
    """Status and body of a request sent as these bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(served.socket))
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.read()


def test_head_is_get_without_its_body(served: Served, guid: str) -> None:
    for path in READS:
        path = path.replace("{one}", guid).replace("{id}", "t0")
        if "{two}" in path:
            continue
        got, head = local(served, "GET", path), local(served, "HEAD", path)
        assert head.body == b""
        assert (head.status, head.headers["content-type"]) == (got.status, got.headers["content-type"]), path
        if path == "/api/v1/snapshot":  # its length is known when it is made
            assert "content-length" not in head.headers
        elif path not in ("/metrics", "/api/v1/status"):  # which are another length each time
            assert head.headers["content-length"] == str(len(got.body)), path
    head = local(served, "HEAD", "/api/v1/events")
    assert (head.status, head.headers["content-type"], head.body) == (200, "text/event-stream", b"")


def test_other_methods_are_405_with_what_is_allowed(served: Served) -> None:
    for path, allowed in (("/api/v1/status", {"GET", "HEAD", "OPTIONS"}), ("/api/v1/replay", {"POST", "OPTIONS"})):
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "TRACE"):
            if method in allowed:
                continue
            answer = local(served, method, path, b"{}" if method != "GET" else None)
            assert (answer.status, answer.json["error"]) == (405, "method_not_allowed"), (method, path)
            assert {word.strip() for word in answer.headers["allow"].split(",")} == allowed
        answer = local(served, "OPTIONS", path)
        assert answer.status == 200
        assert {word.strip() for word in answer.headers["allow"].split(",")} == allowed - {"OPTIONS"}
    for method in ("BREW", "CONNECT", "get"):
        answer = local(served, method, "/api/v1/status")
        assert 400 <= answer.status < 500 and answer.json["ok"] is False, method


def test_unknown_places_are_404_in_json(served: Served) -> None:
    for path in (
        "/",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v1/status/",
        "/api/v1/deliveries/a/b/c",
        "/%00",
        "/..%2f",
        "//",
    ):
        answer = local(served, "GET", path)
        assert (answer.status, answer.json["error"]) == (404, "path_unknown"), path
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "query",
    [
        "filtr=state:failed",
        "filter=a&filter=b",
        "limit=1&limit=1",
        "limit=",
        "limit=-1",
        "limit=1.0",
        "limit=1e3",
        "limit=٣",
        "limit=" + "9" * 5000,
        "limit=0x10",
        "limit=%00",
        "limit=%ff%fe",
        "after=-1",
        "after=" + "9" * 19,
        "after=%ff",
        "after=a",
        "filter=" + quote("state:") + "%ff",
        "filter=" + "(" * 100,
        "filter=state:" + "x," * 10000,
        "filter=" + "a%20" * 9000,
        "%ff=%ff",
        "=",
        "&&&=&x",
        "filter=number:" + "9" * 40,
        "filter=seq:-1%20installation:" + "9" * 19,
        "filter=attempts%3E" + "9" * 30,
        "filter=age%3C" + "9" * 30 + "d",
        "filter=since:" + "9" * 9 + "d",
        "filter=before:" + "9" * 9 + "d",
        "filter=payload." + "a." * 5000 + "b:1",
    ],
)
def test_queries_that_mean_nothing_are_refused_in_a_sentence(served: Served, query: str) -> None:
    for path in ("/api/v1/deliveries", "/api/v1/tasks"):
        status, body = raw(served, f"GET {path}?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert status in (200, 400) and json.loads(body)["ok"] is (status == 200), (status, body[:300])
        if not query.startswith("filter="):
            assert status == 400, body[:300]


def test_what_a_parameter_was_meant_to_be_is_suggested(served: Served) -> None:
    answer = local(served, "GET", "/api/v1/deliveries?filtr=x").json
    assert (answer["error"], answer["hint"]) == ("usage", "Did you mean filter?")
    assert "no parameter" in local(served, "GET", "/api/v1/status?x=1").json["detail"]


def test_hints_over_http_name_no_commands_help_and_come_back_as_one(served: Served) -> None:
    wrong = local(served, "POST", "/api/v1/replay", b'{"ids":7}')
    assert (wrong.status, wrong.json["hint"]) == (400, "See covenq-http(7), or the description at /openapi.json.")
    for path in ("/api/v1/claims", "/api/v1/claims/x/complete", "/api/v1/cancel", "/api/v1/reroute", "/api/v1/requeue"):
        for body in (b"{}", b"[]", b'{"x":1}', b'{"routes":1,"filter":1,"fence":1}'):
            assert "--help" not in local(served, "POST", path, body).json.get("hint", "")
    assert "covenq-http(7)" in local(served, "POST", "/api/v1/redact", b"{}").json["hint"]
    error = error_of(wrong.status, wrong.body)
    assert (type(error), error.hint) == (UsageError, UsageError.hint)


def test_a_limit_is_bounded_however_much_is_asked_for(served: Served, guid: str) -> None:
    for limit in ("0", "1001", "999999999"):
        assert local(served, "GET", f"/api/v1/deliveries?limit={limit}").status == 200
    assert len(local(served, "GET", "/api/v1/deliveries?limit=1").json["items"]) == 1


ODD = st.one_of(
    st.text(max_size=40),
    st.binary(max_size=40).map(lambda b: b.decode("latin-1")),
    st.sampled_from(["..", ".", "%2e%2e", "\x00", "a" * 3000, "'; DROP TABLE tasks;--", "7/", "-", "\ud7ff", "null"]),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(template=st.sampled_from(READS), words=st.tuples(ODD, ODD, ODD), value=ODD)
def test_no_id_or_value_makes_it_fail(
    served: Served, guid: str, template: str, words: tuple[str, str, str], value: str
) -> None:
    path = template
    for name, word in zip(("{one}", "{two}", "{id}"), words, strict=True):
        path = path.replace(name, quote(word, safe="", errors="replace") or "%20")
    query = quote(value, safe="=&:", errors="replace")
    answer = local(served, "GET", f"{path}?{query}" if query else path)
    assert answer.status < 500, (path, query, answer.body)
    if answer.headers["content-type"] == "application/json":
        json.loads(answer.body)


BODIES = (
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff",
    b'{"ids":[1]}',
    b'{"ids":{"a":1}}',
    b'{"ids":["\\ud800"]}',
    b'{"ids":["x"],"ids":["y"]}',
    b'{"by":"\\u0000","ids":["x"]}',
    b'{"reason":' + b"[" * 5000 + b"]" * 5000 + b"}",
    b'{"filter":1e999}',
    b'{"filter":"payload.a:1","dry_run":true}',
    b'{"ids":' + json.dumps(["x" * 70000]).encode() + b"}",
    b'{"lease_s":1e400,"worker":1}',
    b'{"what":"repo","name":"' + b"/" * 500 + b'"}',
    b'{"installation":99999999999999999999999999}',
    b'{"installation":9223372036854775808}',
    b'{"installation":true}',
)


def test_no_body_makes_it_fail(served: Served) -> None:
    for operation in OPERATIONS:
        if operation.method != "POST" or operation.path == "/webhook":
            continue
        path = operation.path.replace("{id}", "t0").replace("{task}", "t0").replace("{one}", "x").replace("{two}", "x")
        for body in BODIES:
            for kind in ("application/json", "text/plain"):
                answer = local(served, "POST", path, body, {"Content-Type": kind})
                assert answer.status < 500, (path, body[:80], answer.body)
                assert answer.json["ok"] is (answer.status < 300)


@pytest.mark.parametrize("what", ["claims/t0/complete", "claims/t0/fail", "replay"])
def test_a_body_that_can_t_be_read_is_answered_with_what_is_wrong_with_it(served: Served, what: str) -> None:
    path, most = f"/api/v1/{what}", BODY_MAX
    for size in (most + 1, 20_000_000):
        answer = local(served, "POST", path, b'{"stdout":"' + b"x" * (size - 13) + b'"}')
        assert (answer.status, answer.json["error"]) == (413, "body_too_large")
        assert str(most) in answer.json["detail"] and ("last 65536 bytes" in answer.json["hint"]) == ("/" in what)
        found = error_of(answer.status, answer.body)
        assert isinstance(found, UsageError) and found.exit_code == 2
    for body, words in (
        (b'{"stdout":"\\ud83d"}', "no low surrogate"),
        (b'{"stdout":"\xff"}', "not valid UTF-8"),
        (b'{"stdout":"', "no JSON"),
        (b"[]", "no JSON object"),
    ):
        answer = local(served, "POST", path, body)
        assert (answer.status, answer.json["error"]) == (400, "usage") and words in answer.json["detail"]
        assert "fence" in answer.json["hint"] or "/" not in what or words != "no JSON object"


def test_a_body_over_the_limit_is_413_and_not_read(served: Served) -> None:
    token = create(served.data / "tokens.json", "big", "operate")
    connection = http.client.HTTPConnection("127.0.0.1", served.remote_port, timeout=30)
    try:
        connection.putrequest("POST", "/api/v1/replay")
        connection.putheader("Authorization", f"Bearer {token}")
        connection.putheader("Content-Length", str(1 << 40))
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["error"]) == (413, "body_too_large")
    finally:
        connection.close()


# ---- the event stream


def lines(served: Served, path: str, count: int, headers: dict[str, str] | None = None) -> list[bytes]:
    """The first lines of a stream that are no comments."""
    connection = UnixConnection(served.socket, 30)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        assert (response.status, response.getheader("Content-Type")) == (200, "text/event-stream")
        assert response.getheader("Cache-Control") == "no-store"
        found: list[bytes] = []
        while len(found) < count:
            line = response.readline()
            assert line, "the stream ended"
            if line.strip() and not line.startswith(b":"):
                found.append(line.strip())
        return found
    finally:
        connection.close()


def test_a_stream_goes_on_where_its_client_was(served: Served, guid: str) -> None:
    whole = lines(served, "/api/v1/events?after=0", 6)
    assert [line for line in whole if line.startswith(b"id:")] == [b"id: 1", b"id: 2", b"id: 3"][: len(whole) // 2]
    assert lines(served, "/api/v1/events", 1, {"Last-Event-ID": "1"}) == [b"id: 2"]
    assert lines(served, "/api/v1/events?after=0", 1, {"Last-Event-ID": "1"}) == [b"id: 1"], "what is asked for wins"
    event = json.loads(whole[1].removeprefix(b"data: "))
    assert {"seq": 1, "kind": "delivery.received"}.items() <= event.items()
    for path, headers in (("?after=x", {}), ("", {"Last-Event-ID": "x"}), ("?after=" + "9" * 30, {}), ("?since=1", {})):
        answer = local(served, "GET", "/api/v1/events" + path, headers=headers)
        assert (answer.status, answer.json["error"]) == (400, "usage")
