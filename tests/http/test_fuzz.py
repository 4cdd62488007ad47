"""Fuzzing connections: whatever the bytes, an answer that is no 500, an end, every thread back, and a record only of what was
accepted. One server, thousands of connections made by hypothesis; `make test-deep` makes more of them."""

from __future__ import annotations

import itertools
import json
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.support.requests import issue, sign
from tests.support.serving import Served, serving
from tests.support.waiting import eventually

LIMIT = 40_000
DEADLINE_S = 60.0
"""A connection that is silent for longer has been forgotten by the server."""
ANSWERED = {200, 202, 400, 401, 404, 405, 409, 413, 415, 431, 501}
SHARDS = [0, *(pytest.param(shard, marks=pytest.mark.deep) for shard in range(1, 21))]

# ---- what is sent

FEW = 7
"""How many times as likely as all oddities together the usual thing is: most requests have one or two of them."""


def mostly(usual: Any, *odd: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([usual] * (FEW * len(odd)) + list(odd))


METHODS = mostly(
    b"POST",
    b"GET",
    b"HEAD",
    b"OPTIONS",
    b"PUT",
    b"TRACE",
    b"CONNECT",
    b"post",
    b"PoST",
    b"PRI",
    b"P\0ST",
    b"",
    b"A" * 300,
)
TARGETS = mostly(
    b"/webhook", b"/", b"/webhook/", b"//webhook", b"///", b"/webhook?x=%ff&y&=&x=1", b"/webhook#x", b"http://x/webhook",
    b"https://u:p@[::1]:9/webhook", b"http://x", b"http://[", b"http://[::1", b"*", b"/healthz", b"/readyz", b"/%00", b"/%ff",
    b"/..%2f..%2fetc/passwd", "/é".encode(), b"/\xff", b"/" + b"x" * 3000, b"", b"webhook", b"/a b", b"x:443", b"/api/v1/status",
)  # fmt: skip
VERSIONS = mostly(
    b" HTTP/1.1", b" HTTP/1.0", b" HTTP/1.2", b" HTTP/2.0", b" HTTP/0.9", b" http/1.1", b"", b" HTTP/1.1 ", b" X"
)
LINE_ENDS = mostly(b"\r\n", b"\n", b"\r", b"\n\r", b" \r\n", b"\r\r\n")
TYPES = mostly(
    b"application/json", b"application/x-www-form-urlencoded", b"application/json; charset=utf-8", b"text/plain", b"",
    b"application/json; charset=utf-16", b"application/json, text/plain", b"multipart/form-data; boundary=x", b"\xff\xfe",
)  # fmt: skip
SIGNATURES = mostly("right", "wrong", "missing", "short", "twice", "sha1", "upper")
HEADERS = st.sampled_from([
    b"Host: x", b"Host:", b"Connection: close", b"Connection: keep-alive", b"Connection: upgrade", b"Expect: 100-continue",
    b"Expect: 200-maybe", b"X-GitHub-Delivery: again", b"X-GitHub-Hook-ID: ../../x", b"X-GitHub-Event: push", b"X_Y: x",
    b"X-GitHub-\xff: x", b"X-GitHub-Odd: \xff\x80\xe2\x80\xae", b"X: \0", b": x", b"X", b"X :y", b" folded: x", b"\tfolded",
    b"X: " + b"y" * 3000, b"A: b\r\nC: d", b"Cookie: x=1", b"Content-Encoding: gzip", b"Upgrade: h2c", b"Transfer-Encoding: ",
    b"Content-Type: text/html", b"X-Hub-Signature: sha1=0", b"Trailer: X-GitHub-Event", b"TE: trailers", b"Keep-Alive: 1",
    b"X-Forwarded-For: 1.2.3.4", b"Forwarded: for=x", b"Range: bytes=0-1", b"Date: never", b"X-GitHub-Event: a\x0bb",
])  # fmt: skip
FRAMINGS = mostly(
    "length", *["chunked"] * 20, "none", "short", "long", "twice", "two lengths", "list", "negative", "plus", "hex", "huge",
    "digits", "empty", "both", "gzip", "identity", "chunked, gzip", "gzip, chunked", "\x0bchunked", "Chunked",
    "xchunked", "twice chunked",
    "bad chunk", "big chunk", "signed chunk", "extension", "long extension", "chunk lf", "trailer", "no last chunk", "no end",
)  # fmt: skip
BODIES: list[bytes] = [
    json.dumps(issue()).encode(), b"{}", b"", b"{", b"[]", b"null", b'{"a":1e999}', b'{"a":' + b"9" * 9000 + b"}",
    b'{"a":"\\ud800"}', b'{"a":"\0"}', b"\xef\xbb\xbf{}", b'{"a":"\xff"}', b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    b'{"a":1,"a":2}', b"payload=%7B%7D", b"payload=", b"payload=%7B&payload=%7D", b"x" * (LIMIT + 1), b'{"a":NaN}',
    b'{"action":["x"],"issue":7,"repository":[],"sender":null,"label":{"name":{}}}', b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n",
]  # fmt: skip
TAILS = st.sampled_from([
    b"", b"", b"", b"\r\n", b"\0", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"POST /webhook HTTP/1.1\r\nContent-Length: 9\r\n\r\n", b"0\r\n\r\n", b"garbage",
])  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """One request to send; `render` gives it an id of its own, and its signature."""

    method: bytes
    target: bytes
    version: bytes
    line_end: bytes
    type: bytes
    signature: str
    headers: list[bytes]
    framing: str
    body: bytes
    known: bool
    """Whether its id was sent before."""
    hosts: tuple[bytes, ...] = (b"Host: x",)

    def render(self, guid: str) -> bytes:
        end = self.line_end
        lines = [
            self.method + b" " + self.target + self.version,
            *self.hosts,
            b"Content-Type: " + self.type,
            b"X-GitHub-Event: issues",
            b"X-GitHub-Hook-ID: 7",
            b"X-GitHub-Delivery: " + guid.encode(),
            *self._signature(),
            *self.headers,
        ]
        framing, content = framed(self.framing, self.body)
        return end.join([*lines, *framing]) + end + end + content

    def _signature(self) -> list[bytes]:
        right = b"X-Hub-Signature-256: " + sign(self.body).encode()
        return {
            "right": [right],
            "wrong": [right[:-1] + (b"0" if right[-1:] != b"0" else b"1")],
            "missing": [],
            "short": [right[:-1]],
            "twice": [right, right],
            "sha1": [b"X-Hub-Signature-256: sha1=" + right[-40:]],
            "upper": [right[:28] + right[28:].upper()],
        }[self.signature]


def framed(kind: str, body: bytes) -> tuple[list[bytes], bytes]:
    """The headers that frame the body, correctly or not, and the body."""
    length = b"Content-Length: %d" % len(body)
    half = len(body) // 2
    services = [part for part in (body[:half], body[half:]) if part]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in services)
    encoded = b"Transfer-Encoding: chunked"
    match kind:
        case "length":
            return [length], body
        case "none":
            return [], body
        case "short" | "long":
            return [b"Content-Length: %d" % max(0, len(body) + (5 if kind == "long" else -5))], body
        case "twice":
            return [length, length], body
        case "two lengths":
            return [length, b"Content-Length: 3"], body
        case "list":
            return [length + b", %d" % len(body)], body
        case "negative" | "plus" | "hex" | "huge" | "digits" | "empty":
            odd = {
                "negative": b"-1",
                "plus": b"+3",
                "hex": b"0x10",
                "huge": b"9" * 19,
                "digits": b"9" * 5000,
                "empty": b"",
            }
            return [b"Content-Length: " + odd[kind]], body
        case "both":
            return [length, encoded], chunks + b"0\r\n\r\n"
        case "gzip" | "identity" | "chunked, gzip" | "gzip, chunked" | "\x0bchunked" | "xchunked" | "Chunked":
            return [b"Transfer-Encoding: " + kind.encode()], chunks + b"0\r\n\r\n"
        case "twice chunked":
            return [encoded, encoded], chunks + b"0\r\n\r\n"
        case "bad chunk":
            return [encoded], b"zz\r\n" + body
        case "big chunk":
            return [encoded], b"f" * 40 + b"\r\n" + body
        case "signed chunk":
            return [encoded], b"-1\r\n" + body
        case "extension":
            return [encoded], b'%x;a=b;c="d"\r\n%b\r\n0\r\n\r\n' % (len(body), body)
        case "long extension":
            return [encoded], b"1;" + b"x" * 80_000 + b"\r\n"
        case "chunk lf":
            return [encoded], b"%x\n%b\n0\n\n" % (len(body), body)
        case "trailer":
            return [encoded], chunks + b"0\r\nX-GitHub-Event: push\r\nContent-Length: 9\r\n\r\n"
        case "no last chunk":
            return [encoded], chunks
        case "no end":
            return [encoded], chunks + b"0\r\n"
        case _:
            return [encoded], chunks + b"0\r\n\r\n"


REQUESTS = st.builds(
    Sent,
    METHODS,
    TARGETS,
    VERSIONS,
    LINE_ENDS,
    TYPES,
    SIGNATURES,
    st.just([]) | st.lists(HEADERS, max_size=2),
    FRAMINGS,
    mostly(BODIES[0], *BODIES),
    mostly(False, True),
    st.sampled_from([(b"Host: x",)] * 60 + [(), (b"Host:",), (b"Host: [::1]",), (b"Host: x",) * 2, (b"Host: x/",)]),
)


@dataclass(frozen=True)
class Connection:
    """Requests one after another, perhaps with bytes changed, cut short, and sent in pieces."""

    requests: list[Sent]
    tail: bytes = b""
    changes: list[tuple[float, int, bytes]] = field(default_factory=list)
    """(position as a share of the whole; how many bytes are removed; what replaces them)"""
    cut: float = 1.0
    splits: list[float] = field(default_factory=list)

    def pieces(self, guids: Iterator[str]) -> list[bytes]:
        raw = b"".join(one.render("known" if one.known else next(guids)) for one in self.requests) + self.tail
        for where, gone, come in self.changes:
            at = int(where * len(raw))
            raw = raw[:at] + come + raw[at + gone :]
        raw = raw[: int(self.cut * len(raw))]
        marks = [0, *sorted(int(split * len(raw)) for split in self.splits), len(raw)]
        return [raw[start:stop] for start, stop in itertools.pairwise(marks)]


SHARE = st.floats(0, 1, allow_nan=False)
CHANGES = st.lists(st.tuples(SHARE, st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=3)
CONNECTIONS = st.builds(
    Connection,
    st.lists(REQUESTS, min_size=1, max_size=3),
    TAILS,
    st.just([]) | st.just([]) | CHANGES,
    st.just(1.0) | st.just(1.0) | SHARE,
    st.lists(SHARE, max_size=3),
)
GARBAGE = st.builds(Connection, st.just([]), st.binary(max_size=400) | TAILS | st.text().map(str.encode))

# ---- who looks


@dataclass
class Watched:
    """A server, and its invariants after every connection."""

    served: Served
    guids: Iterator[str]
    seq: int = 0

    def exchange(self, pieces: list[bytes]) -> tuple[bytes, bool]:
        """Everything received, and whether the connection was reset rather than closed."""
        with socket.create_connection(("127.0.0.1", self.served.port), timeout=DEADLINE_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            received = b""
            try:
                for piece in pieces:
                    connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
                while chunk := connection.recv(65536):
                    received += chunk
            except (ConnectionResetError, BrokenPipeError, OSError) as error:
                if isinstance(error, TimeoutError):
                    raise
                return received, True
            return received, False

    def recorded(self) -> list[str]:
        """The GUIDs of the deliveries received since the last call."""
        found = []
        for record in self.served.journal.read(self.seq):
            self.seq = record.seq
            if record.kind == "delivery.received":
                found.append(record.data["guid"])
        return found

    def check(self, pieces: list[bytes]) -> list[tuple[int, Any]]:
        """Send, and compare the answers with the journal. The answers: (status, JSON)."""
        received, reset = self.exchange(pieces)
        answers = list(parsed(received, reset))
        accepted = [
            said["delivery"] for status, said in answers if said and said["ok"] and said.get("duplicate") is False
        ]
        recorded = self.recorded()
        assert set(accepted) <= set(recorded), "an answer without a record"
        if not reset:
            assert sorted(accepted) == sorted(recorded), "a record without an answer that says so"
        return answers


def parsed(received: bytes, reset: bool) -> Iterator[tuple[int, Any]]:
    """Every answer, parsed strictly: (status, its JSON or None)."""
    while received:
        head, blank, rest = received.partition(b"\r\n\r\n")
        assert blank or reset, received[:200]
        if not blank:
            return
        found = re.match(rb"HTTP/1\.[01] (\d\d\d) ", head)
        assert found, head[:200]
        status = int(found[1])
        received = rest
        if status == 100:
            continue
        assert status in ANSWERED, head + rest[:300]
        headers = {
            name.lower(): value for name, _, value in (line.partition(b": ") for line in head.split(b"\r\n")[1:])
        }
        size = int(headers[b"content-length"])
        if not size or not rest.startswith(b"{"):  # OPTIONS, and what follows the answer to a HEAD
            yield status, None
            continue
        if len(rest) < size:
            assert reset, "an answer cut short"
            return
        said = json.loads(rest[:size])
        assert said["ok"] is (status < 300), said
        assert headers[b"content-type"] == b"application/json"
        received = rest[size:]
        yield status, said


@contextmanager
def watching(data: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Watched]:
    with serving(data, {"server": {"body_limit": LIMIT}}, threads=6) as served:
        watched = Watched(served, (f"g{number}" for number in itertools.count()))
        assert served.post("issues", BODIES[0], "known").status == 202
        watched.recorded()
        threads = workers()
        with caplog.at_level(logging.WARNING):
            yield watched
        server, dispatcher = served.webhook._server, served.webhook._dispatcher
        eventually(lambda: not server.active_channels, 30, "no connection is left")
        eventually(lambda: dispatcher.active_count == 0 and not dispatcher.queue, 30, "no thread is busy")
        assert workers() == threads, "a thread was lost"
        assert server.buffered.bytes == 0
        assert served.webhook.alive
        wrong = [line.getMessage() for line in caplog.records if line.levelno >= logging.ERROR]
        assert not wrong, wrong[:3]
        assert served.post("issues", issue()).status == 202
        caplog.clear()


def workers() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("waitress-"))


def drive(shard: int, examples: int, strategy: st.SearchStrategy[Any], look: Callable[[Any], None]) -> None:
    """Have hypothesis draw that many examples, different ones in each shard."""

    @seed(shard)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def each(made: Any) -> None:
        look(made)

    each()


@pytest.mark.parametrize("shard", SHARDS)
def test_no_bytes_bring_a_500_a_hang_a_lost_thread_or_a_record_of_what_was_refused(
    data: Path, caplog: pytest.LogCaptureFixture, shard: int
) -> None:
    seen: dict[int, int] = {}
    with watching(data, caplog) as watched:

        def look(connection: Connection) -> None:
            for status, _ in watched.check(connection.pieces(watched.guids)):
                seen[status] = seen.get(status, 0) + 1

        drive(shard, 700, CONNECTIONS, look)
        drive(shard, 150, GARBAGE, look)
    # What is generated reaches everywhere: a test that never gets past the door proves little.
    assert set(seen) >= {200, 202, 400, 401, 404, 405, 415}, seen
    assert seen[202] >= 50, seen


# ---- bodies

SCALARS = st.sampled_from([
    b"0", b"-0", b"1e999", b"-1e999", b"1e-999", b"9" * 400, b"-" + b"9" * 5000, b"0.1", b"true", b"null", b'""', b'"\\u0000"',
    b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\\/"', b'"\x7f"', '"\u2028\ufeff\U0010ffff"'.encode(), b'"\xff"',
    b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\0"', b'"\n"', b"NaN", b"Infinity", b"01", b"+1", b".5", b"'x'", b"\xef\xbb\xbf", b"",
    b'","sum":"', b'"\\",\\"sum\\":\\""', b"12345678901234567890", b"1.0E+2", b'"' + b"z" * 3000 + b'"',
])  # fmt: skip
KEYS = st.sampled_from([
    b'"action"', b'"issue"', b'"number"', b'"repository"', b'"full_name"', b'"sender"', b'"login"', b'"label"', b'"labels"',
    b'"name"', b'"head"', b'"sha"', b'"id"', b'"installation"', b'"payload"', b'"sum"', b'""', b'"\\u0000"', b'"__proto__"',
])  # fmt: skip


def _object(pairs: list[tuple[bytes, bytes]]) -> bytes:
    return b"{" + b",".join(key + b":" + value for key, value in pairs) + b"}"


JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: b"[" + b" ,\r\n".join(items) + b"]")
        | st.lists(st.tuples(KEYS, inner), max_size=4).map(_object)
    ),
    max_leaves=8,
)
OBJECTS = st.lists(st.tuples(KEYS, JSON), max_size=4).map(_object)
EDGES = st.sampled_from([b"", b"", b"", b" ", b"\n", b"\xef\xbb\xbf", b"\0", b"x", b"{}"])
DEEP = st.integers(1, 6000).map(lambda depth: b'{"a":' + b"[" * depth + b"]" * depth + b"}")
CONTENT = st.tuples(EDGES, OBJECTS | OBJECTS | JSON | DEEP | st.binary(max_size=40), EDGES).map(b"".join)
FORMS = st.sampled_from(["json", "json", "chunked", "form", "form and more", "wrong form"])


@pytest.mark.parametrize("shard", SHARDS)
def test_every_body_is_refused_or_comes_back_as_it_came(
    data: Path, caplog: pytest.LogCaptureFixture, shard: int
) -> None:
    seen: dict[int, int] = {}
    with watching(data, caplog) as watched:

        def look(made: tuple[bytes, str]) -> None:
            content, form = made
            guid = next(watched.guids)
            body = {
                "form": b"payload=" + quote_plus(content).encode(),
                "form and more": b"a=%FF\xff&payload=" + quote_plus(content).encode() + b"&=&b",
                "wrong form": b"payload=" + content,
            }.get(form, content)
            kind = b"application/x-www-form-urlencoded" if "form" in form else b"application/json"
            framing = "chunked" if form == "chunked" else "length"
            sent = Sent(b"POST", b"/webhook", b" HTTP/1.1", b"\r\n", kind, "right", [], framing, body, False)
            [(status, said)] = watched.check([sent.render(guid)])
            assert status in (202, 400), said
            seen[status] = seen.get(status, 0) + 1
            if status == 202:
                assert watched.served.ask(f"/api/v1/deliveries/7/{guid}/payload").body == body
                assert watched.served.ask(f"/api/v1/deliveries/7/{guid}").json["payload_bytes"] == len(body)

        drive(shard, 250, st.tuples(CONTENT, FORMS), look)
    assert seen[202] >= 40, seen
    assert seen[400] >= 40, seen
