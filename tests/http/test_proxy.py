"""Behind a proxy: one that passes bytes on changes nothing, and one that rewrites bodies is detected."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from covenq.config.load import BODY_LIMIT
from tests.support.checkout import ROOT
from tests.support.daemon import Daemon
from tests.support.requests import new_guid, signed
from tests.support.serving import Served, serving

Change = Callable[[bytes], bytes]

BODY = b'{"action":"opened","issue":{"number":7,"title":"caf\xc3\xa9 \\u00e9 1.0 1E2 \\/"},"a":1,"a":2}'
"""JSON that a decoder and an encoder don't reproduce byte for byte."""


@contextmanager
def proxy(upstream: int, change: Change = lambda body: body) -> Iterator[int]:
    """A reverse proxy that reads a request whole and sends it on in chunks, with headers in another case; its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = change(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            for name in ("content-length", "host", "connection"):
                headers.pop(name, None)
            headers |= {"via": "1.1 a-proxy", "x-forwarded-for": "192.0.2.7", "transfer-encoding": "chunked"}
            connection = http.client.HTTPConnection("127.0.0.1", upstream, timeout=30)
            pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
            connection.request("POST", self.path, iter(pieces), headers, encode_chunked=True)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: the test reads covenq's own log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def post(port: int, body: bytes, guid: str, content_type: str = "application/json") -> tuple[int, dict[str, object]]:
    body, headers = signed("issues", body, guid, content_type=content_type)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/webhook", body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def stored(served: Served, guid: str) -> bytes:
    return served.ask(f"/api/v1/deliveries/{guid}/payload").body


def test_a_proxy_that_passes_bytes_on_changes_nothing(data: Path) -> None:
    with serving(data) as served, proxy(served.port) as port:
        guids = [new_guid() for _ in range(3)]
        assert post(port, BODY, guids[0])[0] == 202
        form = b"payload=%7B%22action%22%3A%22opened%22%2C%22n%22%3A+1%7D&x=%20"
        assert post(port, form, guids[1], "application/x-www-form-urlencoded")[0] == 202
        large = b'{"n":"' + b"x" * 100_000 + b'"}'
        assert post(port, large, guids[2])[0] == 202
        assert [stored(served, guid) for guid in guids] == [BODY, form, large]
        found = served.ask(f"/api/v1/deliveries/{guids[0]}").json
        assert found["payload_sha256"] == hashlib.sha256(BODY).hexdigest()
        assert post(served.port, BODY, guids[0]) == (200, {**post(port, BODY, guids[0])[1]}), (
            "one delivery, by either way"
        )


def test_a_proxy_that_rewrites_bodies_is_refused_and_named(data: Path) -> None:
    def rewrite(body: bytes) -> bytes:
        return json.dumps(json.loads(body)).encode()

    with serving(data) as served:
        with proxy(served.port, rewrite) as port:
            assert post(port, BODY, new_guid())[0] == 401
        with proxy(served.port, lambda body: b"") as port:
            assert post(port, BODY, new_guid())[0] == 401
        said = Daemon(data).cli("refused")
        assert b"by proxy" in said.stdout
        hints = said.stderr.decode()
        assert "wrote it anew" in hints and "dropped it" in hints and hints.count("covenq-proxy(7)") == 2
        assert served.ask("/api/v1/deliveries").json["items"] == [], "nothing of it is in the journal"


def test_the_page_allows_what_github_sends_and_waits_as_long() -> None:
    """The numbers in the examples match the code's."""

    page = (ROOT / "man" / "covenq-proxy.7").read_text()
    sizes = [
        int(number) << 20 for number in re.findall(r"(?:max_size|client_max_body_size) (\d+)m", page, re.IGNORECASE)
    ]
    assert len(sizes) == 2 and all(size > BODY_LIMIT for size in sizes)
    source = (ROOT / "covenq" / "http" / "server" / "listener.py").read_text()
    idle = re.search(r"channel_timeout=(\d+)", source)
    assert idle is not None
    kept = [int(number) for number in re.findall(r"keepalive(?:_timeout)? (\d+)s", page)]
    assert len(kept) == 2 and all(number < int(idle[1]) for number in kept)
    assert "covenq.sock" in page and page.count("location = /webhook") == 1
