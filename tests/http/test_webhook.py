"""POST /webhook through a real socket: the table of answers row by row, and what the server itself refuses."""

from __future__ import annotations

import gzip
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from covenq.http.server.parser import HEADERS_MAX
from tests.support.requests import issue, new_guid, sign, signed
from tests.support.serving import Served, serving

LIMIT = 8192


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    with serving(data, {"server": {"body_limit": LIMIT}}) as served:
        yield served


def deliveries(served: Served) -> int:
    return len(served.ask("/api/v1/deliveries?limit=0").json["items"])


def talk(served: Served, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, and read one answer: status, headers, body. The connection must be closed after it."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return parsed(received)


def parsed(received: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    found = re.match(r"HTTP/1\.[01] (\d\d\d) ", lines[0])
    assert found, received[:200]
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    return int(found[1]), headers, body


def chunked(body: bytes, size: int, headers: dict[str, str]) -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    sent = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return (
        f"POST /webhook HTTP/1.1\r\nHost: x\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode() + sent + b"0\r\n\r\n"
    )


def sized(size: int) -> bytes:
    """A JSON object of exactly that many bytes."""
    return b'{"x":"' + b"y" * (size - 8) + b'"}'


def test_the_table_of_answers_in_its_order(served: Served) -> None:
    body, headers = signed("issues", issue())
    bad_type = {"Content-Type": "text/plain"}
    bad_signature = {"X-Hub-Signature-256": sign(body, "a guess")}
    bad_id = {"X-GitHub-Delivery": "../../x"}
    over = sized(LIMIT + 1)
    # Each request has every later fault as well: the first that applies is told.
    for content, change, status, word in [
        (over, {**bad_type, **bad_signature, **bad_id}, 413, "body_too_large"),
        (body, {**bad_type, **bad_signature, **bad_id}, 415, "content_type_unsupported"),
        (body, {**bad_signature, **bad_id}, 401, "signature_wrong"),
        (body, bad_id, 400, "delivery_malformed"),
    ]:
        answer = served.request("POST", "/webhook", content, {**headers, **change})
        assert (answer.status, answer.json["ok"], answer.json["error"]) == (status, False, word)
        assert answer.headers["content-type"] == "application/json"
        assert answer.json["detail"].endswith(".")
    assert deliveries(served) == 0
    assert served.refused() == dict.fromkeys(
        ("body_too_large", "content_type_unsupported", "signature_wrong", "delivery_malformed"), 1
    )

    new = served.request("POST", "/webhook", body, headers)
    assert new.status == 202
    assert new.json == {
        "ok": True,
        "duplicate": False,
        "delivery": headers["X-GitHub-Delivery"],
        "seq": 1,
        "state": "queued",
        "tasks": new.json["tasks"],
        "durability": "fsync",
    }
    again = served.request("POST", "/webhook", body, headers)
    assert (again.status, again.json) == (200, {**new.json, "duplicate": True})
    other, _ = signed("issues", issue(8))
    conflict = served.request("POST", "/webhook", other, {**headers, "X-Hub-Signature-256": sign(other)})
    assert (conflict.status, conflict.json["error"]) == (409, "delivery_conflict")
    pong = served.post("ping", {"zen": "x"})
    assert (pong.status, pong.json["pong"], pong.json["state"]) == (200, True, "ignored")


def test_a_closed_intake_is_503_last_of_all_and_opens_by_itself(served: Served) -> None:
    guid = new_guid()
    assert served.post("issues", issue(), guid).status == 202
    served.disk.free = 1 << 20
    closed = served.post("issues", issue())
    assert (closed.status, closed.json["error"]) == (503, "intake_closed")
    assert int(closed.headers["retry-after"]) > 0
    assert served.post("issues", issue(), secret="a guess").status == 401
    assert served.post("issues", issue(), guid).json["duplicate"] is True, "what is durable already is still told"
    ready = served.request("GET", "/readyz")
    assert (ready.status, ready.json["ready"], ready.headers["retry-after"]) == (503, False, "30")
    assert "MiB" in ready.json["reasons"][0]
    served.disk.free = 1 << 40
    assert served.request("GET", "/readyz").status == 200
    assert served.post("issues", issue()).status == 202


def test_a_body_of_exactly_the_limit_is_read_and_one_byte_more_is_not(served: Served) -> None:
    assert served.post("star", sized(LIMIT)).status == 202
    assert served.post("star", sized(LIMIT + 1)).status == 413
    for size in (1, 100, LIMIT):
        body, headers = signed("star", sized(LIMIT))
        assert talk(served, chunked(body, size, {**headers, "Connection": "close"}))[0] == 202, f"chunks of {size}"
        body, headers = signed("star", sized(LIMIT + 1))
        status, _, said = talk(served, chunked(body, size, headers))
        assert (status, json.loads(said)["error"]) == (413, "body_too_large")
    assert served.refused() == {"body_too_large": 4}


def test_413_is_said_before_the_body_comes_and_without_asking_for_it(served: Served) -> None:
    request = b"POST /webhook HTTP/1.1\r\nHost: x\r\n"
    length, encoding = b"Content-Length: 30000000\r\n", b"Transfer-Encoding: chunked\r\n"
    asks = [
        length + b"\r\n",
        length + b"Expect: 100-continue\r\n\r\n",
        encoding + b"\r\n%x\r\n" % (LIMIT + 1),
        encoding + b"\r\n%x;x=y\r\nab" % (LIMIT + 1),
        encoding + b"\r\n2\r\nab\r\n%x\r\n" % (LIMIT - 1),
        encoding + b"\r\n" + b"f" * 8000 + b"\r\n",
    ]
    for more in asks:
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
            connection.sendall(request + more)
            received = connection.recv(65536)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                received += chunk
        status, headers, body = parsed(received)
        assert (status, headers["connection"]) == (413, "close")
        assert json.loads(body)["error"] == "body_too_large"
    assert served.refused() == {"body_too_large": len(asks)}


def test_a_client_that_sends_all_before_it_reads_still_gets_its_413(served: Served) -> None:
    body = b"x" * 20_000_000
    head = b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(head + body)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert parsed(received)[0] == 413


def test_expect_100_continue_is_honoured_for_what_is_accepted(served: Served) -> None:
    body, headers = signed("star", {"action": "created"})
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        start = f"POST /webhook HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(body)}\r\n"
        connection.sendall(f"{start}Expect: 100-continue\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert parsed(received)[0] == 202


POST = b"POST /webhook HTTP/1.1\r\nHost: x\r\n"
MALFORMED = {
    "no request line": (b"GARBAGE\r\n\r\n", 400, "request_malformed"),
    "binary": (b"\0\1\2\3\r\n\r\n", 400, "request_malformed"),
    "a header without a colon": (POST + b"nonsense\r\n\r\n", 400, "request_malformed"),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\n", 400, "request_malformed"),
    "a length of 5000 digits": (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400, "request_malformed"),
    "a broken chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400, "request_malformed"),
    "headers without end": (POST + b"X: " + b"x" * 70_000, 431, "headers_too_large"),
    "a header of 1 MB": (POST + b"X: " + b"x" * (1 << 20) + b"\r\n\r\n", 431, "headers_too_large"),
    "100,000 headers": (POST + b"X-Y: z\r\n" * 100_000 + b"\r\n", 431, "headers_too_large"),
    "a length beside an encoding": (
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "request_malformed",
    ),
    "an encoding in HTTP/1.0": (
        POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "request_malformed",
    ),
    "an encoding twice": (
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "request_malformed",
    ),
    "two lengths": (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, "request_malformed"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300), 400, "request_malformed"),
    "nothing but empty lines": (b"\r\n\r\n", 400, "request_malformed"),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "request_malformed"),
    "half an address": (b"POST http://[ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "request_malformed"),
    "a method in lower case": (b"post /webhook HTTP/1.1\r\nHost: x\r\n\r\n", 400, "request_malformed"),
    "a chunk's line without end": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 100_000, 400, "request_malformed",
    ),
    "a trailer without end": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 50_000, 400, "request_malformed",
    ),
    "no host": (b"POST /webhook HTTP/1.1\r\n\r\n", 400, "request_malformed"),
    "two hosts": (POST + b"Host: y\r\n\r\n", 400, "request_malformed"),
    "one host twice": (POST + b"Host: x\r\n\r\n", 400, "request_malformed"),
    "two hosts in HTTP/1.0": (POST.replace(b"1.1", b"1.0") + b"Host: y\r\n\r\n", 400, "request_malformed"),
    "a host that is none": (POST.replace(b"Host: x", b"Host: http://x/") + b"\r\n", 400, "request_malformed"),
    "a host with a user": (POST.replace(b"Host: x", b"Host: u@x") + b"\r\n", 400, "request_malformed"),
    "a host without end": (POST.replace(b"Host: x", b"Host: " + b"x" * 301) + b"\r\n", 400, "request_malformed"),
    "a port that is none": (POST.replace(b"Host: x", b"Host: x:y") + b"\r\n", 400, "request_malformed"),
    "another encoding": (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501, "transfer_encoding"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_what_the_server_refuses_by_itself_is_json_and_counted(served: Served, name: str) -> None:
    request, status, word = MALFORMED[name]
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    found, headers, body = parsed(received)
    assert (found, headers["content-type"]) == (status, "application/json")
    answer = json.loads(body)
    assert (answer["ok"], answer["error"]) == (False, word)
    assert answer["detail"].endswith(".")
    assert served.refused() == {word: 1}
    assert served.post("issues", issue()).status == 202


def test_an_empty_line_before_a_request_and_headers_of_just_64_kib_are_let_pass(served: Served) -> None:
    start = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: "
    request = start + b"x" * (HEADERS_MAX - len(start) - 4) + b"\r\n\r\n"
    assert len(request) == HEADERS_MAX
    for sent, status in ((b"\r\n" + start + b"\r\n\r\n", 200), (request, 200), (request.replace(b"X: ", b"X: x"), 431)):
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
            connection.sendall(sent)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
        assert parsed(received)[0] == status


@pytest.mark.parametrize(
    "host", ["covenq.example.org", "192.0.2.1:8787", "[::1]:8787", "[fe80::1%25eth0]", "a_b.c", "x:", ""]
)
def test_a_host_of_any_form_is_let_pass_and_http_1_0_needs_none(served: Served, host: str) -> None:
    body, headers = signed("issues", issue())
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    end = f"{lines}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
    assert talk(served, f"POST /webhook HTTP/1.1\r\nHost: {host}\r\n".encode() + end)[0] == 202
    assert talk(served, b"POST /webhook HTTP/1.0\r\n" + end)[0] == 200


def test_a_compressed_body_is_named_for_what_it_is(served: Served) -> None:
    """Not called wrongly signed, which would send its reader to change secrets that are right."""
    body, headers = signed("issues", issue())
    for coding, named in (("gzip", "gzip"), ("BR", "br"), ("deflate, gzip", "deflate, gzip"), ("ghp_" + "a" * 36, "")):
        answer = served.request("POST", "/webhook", gzip.compress(body), {**headers, "Content-Encoding": coding})
        assert (answer.status, answer.json["error"]) == (415, "content_encoding_unsupported")
        assert f"Content-Encoding {named}".rstrip() in answer.json["detail"] and "ghp_" not in answer.json["detail"]
        assert answer.headers["accept-encoding"] == "identity"
    hint = served.ask("/api/v1/refused").json["items"][0]["hint"]
    assert "compress" in hint and "covenq-proxy(7)" in hint
    assert served.request("POST", "/webhook", body, {**headers, "Content-Encoding": "identity"}).status == 202


def test_a_signature_by_sha_1_alone_is_named(served: Served) -> None:
    body, headers = signed("issues", issue(), X_Hub_Signature="sha1=" + "0" * 40)
    del headers["X-Hub-Signature-256"]
    answer = served.request("POST", "/webhook", body, headers)
    assert (answer.status, answer.json["error"]) == (401, "signature_missing")
    assert "SHA-1" in answer.json["detail"]
    del headers["X-Hub-Signature"]
    served.request("POST", "/webhook", body, headers)
    neither, old = served.ask("/api/v1/refused").json["items"]
    assert (old["signature"], neither.get("signature")) == ("sha1", None)
    assert "SHA-1" in old["hint"] and "SHA-1" not in neither["hint"]


def test_unknown_paths_and_methods_are_json_and_a_misdirected_hook_is_counted(served: Served) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("GET", "/webhook", 405), ("POST", "/", 404)):
        answer = served.request(method, path, b"x" if method == "POST" else None)
        assert (answer.status, answer.json["ok"]) == (status, False)
    assert served.refused() == {"path_unknown": 1}


def test_a_delivery_that_went_astray_is_named(served: Served) -> None:
    body, headers = signed("issues", issue(), "astray")
    served.request("POST", "/hook", body, headers | {"X-GitHub-Delivery": "a-57", "X-Forwarded-Proto": "https"})
    # What a redirect makes of a POST.
    served.request("GET", "/webhook", None, headers | {"X-GitHub-Delivery": "b-57"})
    newest, before = served.ask("/api/v1/refused").json["items"]
    assert (newest["error"], newest["delivery"], newest["path"]) == ("method_not_allowed", "b-57", "/webhook")
    assert (before["error"], before["delivery"], before["path"]) == ("path_unknown", "a-57", "/hook")
    assert (before["event"], before["github"], before["proxied"]) == ("issues", True, True)
    assert "body" not in before, "it was not looked at"


def test_one_connection_carries_many_deliveries_and_a_refusal_between_them(served: Served) -> None:
    connection = served.connect()
    statuses = []
    for secret in (None, "a guess", None):
        body, headers = signed("issues", issue(), **({"secret": secret} if secret else {}))
        connection.request("POST", "/webhook", body, headers)
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()
    assert statuses == [202, 401, 202]


def test_what_is_sent_in_one_go_is_answered_in_its_order(served: Served) -> None:
    sent, expected = b"", []
    for number in range(60):
        body, headers = signed("issues", issue(number))
        status = 202
        if number % 7 == 3:
            headers["X-Hub-Signature-256"] = sign(body, "a guess")
            status = 401
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if number % 5 == 2:
            request = chunked(body, 100, headers)
        else:
            request = f"POST /webhook HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        sent += request
        expected.append((status, headers["X-GitHub-Delivery"] if status == 202 else None))
        if number % 11 == 4:
            sent += b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
            expected.append((200, None))
    sent += b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    expected.append((404, None))
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    answers = []
    while received:
        status, headers, rest = parsed(received)
        size = int(headers["content-length"])
        answers.append((status, json.loads(rest[:size]).get("delivery")))
        received = rest[size:]
    assert answers == expected


def test_headers_are_recorded_as_github_spells_them(served: Served) -> None:
    guid = new_guid()
    served.post("issues", issue(), guid, X_GitHub_Enterprise_Host="ghe.example.org", Cookie="private")
    kept = dict(served.ask(f"/api/v1/deliveries/7/{guid}").json["headers"])
    assert kept["X-GitHub-Event"] == "issues"
    assert kept["X-GitHub-Hook-ID"] == "7"
    assert kept["Content-Type"] == "application/json"
    assert "Cookie" not in kept
