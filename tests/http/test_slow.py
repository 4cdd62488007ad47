"""Slow clients, many clients, and draining: requests in flight are answered, and dripping clients are disconnected."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from covenq.http.server import channel
from covenq.http.server.channel import FIRST_BYTE_S
from covenq.http.server.listener import UNPAUSED, Listener, ListenerSettings, bind_tcp
from covenq.http.server.parser import BufferedBytes, RequestLimits
from covenq.http.webhook import WeightedSemaphore
from tests.support.daemon import Daemon
from tests.support.requests import Answer, issue, new_guid, signed
from tests.support.serving import serving
from tests.support.waiting import eventually


def head_of(body: bytes, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /webhook HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode()


def everything(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def hang_up_all(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()


def sockets(pid: int) -> int:
    found = 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found += str(path.readlink()).startswith("socket:")
    return found


def test_200_slow_connections_do_not_stop_the_201st_and_are_gone_after_their_deadline(
    make_daemon: Callable[..., Daemon],
) -> None:
    daemon = make_daemon('[server]\nthreads = 4\nheader_timeout = "8s"\nbody_timeout = "8s"\n')
    body, headers = signed("issues", issue(body="x" * 50_000))
    whole = head_of(body, headers) + body
    head = len(whole) - len(body)
    before = sockets(daemon.pid)
    slow: list[socket.socket] = []
    try:
        for number in range(200):
            connection = socket.create_connection(("127.0.0.1", daemon.port), timeout=60)
            slow.append(connection)
            # Silent; within the request line; within the headers; behind them; within the body.
            connection.sendall(whole[: (0, 10, head - 2, head, head + 20)[number % 5]])
        assert daemon.post("issues", issue()).status == 202
        assert daemon.get("/readyz").status == 200
        assert sockets(daemon.pid) >= 200, "all of them were still there"
        # Half of them drip, so that they are never idle.
        dripping = [connection for number, connection in enumerate(slow) if number % 2 and number % 5]
        while dripping:
            for connection in dripping:
                with suppress(OSError):
                    connection.send(b"x")
            answered = select.select(dripping, [], [], 0.25)[0]
            dripping = [connection for connection in dripping if connection not in answered]
        words = {}
        for number, connection in enumerate(slow):
            try:
                said = everything(connection)
            except ConnectionError:
                said = b"HTTP/1.1 408 "  # it dripped on into the closed connection
            assert said.startswith(b"HTTP/1.") is bool(number % 5), "who said nothing is told nothing"
            if said:
                assert said.split()[1] == b"408", said
                words[number] = said
        assert len(words) == 160
        eventually(lambda: sockets(daemon.pid) <= before, 30, "the connections are gone")
    finally:
        hang_up_all(slow)
    assert daemon.api("/api/v1/status").json["refused"] == {"request_timeout": 160}
    assert daemon.post("issues", issue()).status == 202
    assert len(daemon.records("delivery.received")) == 2


def test_who_does_not_take_its_answer_is_left(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(data) as served:
        guid = new_guid()
        content = b'{"x":"' + b"y" * 12_000_000 + b'"}'
        assert served.post("star", content, guid).status == 202
        channels = served.api._server.active_channels
        stuck = []
        for _ in range(2):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(served.socket))
            connection.sendall(f"GET /api/v1/deliveries/7/{guid}/payload HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            stuck.append(connection)
        eventually(lambda: len([one for one in list(channels.values()) if one.total_outbufs_len]) == 2, 30)
        monkeypatch.setattr(channel, "ANSWER_S", 0.5)
        eventually(lambda: not [one for one in list(channels.values()) if one.total_outbufs_len], 30)
        eventually(lambda: served.api._dispatcher.active_count == 0, 30)
        for connection in stuck:
            assert len(everything(connection)) < len(content)
            connection.close()
        monkeypatch.undo()
        assert served.ask(f"/api/v1/deliveries/7/{guid}/payload").body == content


def test_the_loop_lets_a_thread_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polling over and over, it would keep the interpreter's lock from the thread: four pull workers did half as much."""
    monkeypatch.setattr(channel, "SENDING_S", 30.0)
    looked = []

    def app(environ: Any, start: Any) -> Iterator[bytes]:
        start("200 OK", [("Content-Length", "2")])
        (one,) = listener._server.active_channels.values()
        with one.outbuf_lock:  # as the thread holds it while it sends
            one.total_outbufs_len += 1
            look = executor.submit(lambda: bool(one.writable()))
            with suppress(TimeoutError):
                looked.append(look.result(0.1))
            one.total_outbufs_len -= 1
        looked.append(look.result(30))
        yield b"ab"

    limits = RequestLimits(1 << 20, 30.0, 30.0)
    bound = bind_tcp("127.0.0.1", 0)
    listener = Listener(app, bound, ListenerSettings("x", 1, limits), on_refusal=lambda *_: None)
    with ThreadPoolExecutor(1) as executor:
        listener.start()
        try:
            with socket.create_connection(bound.getsockname(), timeout=30) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert everything(connection).endswith(b"\r\n\r\nab")
        finally:
            listener.close()
    assert looked == [False], "not before the thread had sent it all"


def test_a_connection_rests_for_a_time_and_is_closed_then(data: Path) -> None:
    with serving(data) as served:
        assert served.webhook._server.adj.channel_timeout == 60
        served.webhook._server.adj.channel_timeout = 1
        with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert everything(connection).startswith(b"HTTP/1.1 200 ")


def test_more_slow_connections_than_can_be_held_give_way_to_who_comes(data: Path) -> None:
    with serving(data, {"server": {"header_timeout": "5m"}}) as served:
        served.webhook._server.adj.connection_limit = 40
        body, headers = signed("issues", issue())
        slow = []
        for number in range(70):
            connection = socket.create_connection(("127.0.0.1", served.port), timeout=60)
            connection.sendall(head_of(body, headers)[: 100 * (number % 2)])
            slow.append(connection)
        assert served.post("issues", issue()).status == 202, "long before the deadline of any of them"
        hang_up_all(slow)
        assert served.refused().get("request_timeout", 0) == 0


@pytest.mark.parametrize("most", [1, 2, 3, 8, 30])
def test_a_listener_holds_as_many_connections_as_it_says_and_evicts_however_few_they_are(most: int) -> None:
    def app(environ: Any, start: Any) -> list[bytes]:
        start("200 OK", [("Content-Length", "2")])
        return [b"ab"]

    bound = bind_tcp("127.0.0.1", 0)
    settings = ListenerSettings("x", 1, RequestLimits(1 << 20, 300.0, 300.0), connections=most)
    listener = Listener(app, bound, settings, on_refusal=lambda *_: None)
    listener.start()
    slow = []
    try:
        held = listener._server.active_channels
        listener._server.spared_s = 300.0  # none is evicted yet
        for number in range(most):
            connection = socket.create_connection(bound.getsockname(), timeout=60)
            connection.sendall(b"GET / HTTP/1.1\r\n"[: 20 * (number % 2)])
            slow.append(connection)
        eventually(lambda: len(held) == most, 30, "it holds as many as it may")
        listener._server.spared_s = FIRST_BYTE_S
        with socket.create_connection(bound.getsockname(), timeout=60) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert everything(connection).endswith(b"\r\n\r\nab"), "long before the deadline of any of them"
        assert len(held) <= most
    finally:
        hang_up_all(slow)
        listener.close()


def test_a_crowded_listener_says_once_that_it_is_full_and_everything_else_too(caplog: pytest.LogCaptureFixture) -> None:
    bound = bind_tcp("127.0.0.1", 0)
    settings = ListenerSettings("x", 1, RequestLimits(1 << 20, 300.0, 300.0), connections=2, crowded=True)
    listener = Listener(lambda *_: [], bound, settings, on_refusal=lambda *_: None)
    server = listener._server
    server.spared_s = 300.0  # it stays full
    listener.start()
    try:
        for _ in range(2):
            both = [socket.create_connection(bound.getsockname(), timeout=30) for _ in range(2)]
            eventually(lambda: server.in_connection_overflow, 30, "it is full")
            hang_up_all(both)
            eventually(lambda: not server.in_connection_overflow, 30, "it is not")
            server.log_info("something else", "warning")  # as waitress has its servers log
            server.log_info("a fault", "error")
    finally:
        listener.close()
    said = [(one.name, one.getMessage()) for one in caplog.records]
    assert [name for name, _ in said] == ["covenq.http.x"] * 4
    assert [words[:22] for _, words in said] == ["total open connections", "something else", "a fault", "a fault"]


def test_a_connection_that_was_used_may_rest_longer_than_a_request_may_take(data: Path) -> None:
    with serving(data, {"server": {"header_timeout": "1s"}}) as served:
        silent = socket.create_connection(("127.0.0.1", served.port), timeout=30)
        connection = served.connect()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        assert silent.recv(100) == b"", "by now the deadline has passed"
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        silent.close()
        connection.close()


@pytest.mark.files("a sync of the disk is held back")
def test_a_drain_finishes_what_is_in_flight_and_takes_no_more(data: Path) -> None:
    body, headers = signed("issues", issue())
    with serving(data) as served, ThreadPoolExecutor(4) as pool:
        idle = socket.create_connection(("127.0.0.1", served.port), timeout=30)
        partial = socket.create_connection(("127.0.0.1", served.port), timeout=30)
        partial.sendall(head_of(body, headers) + body[:20])
        assert served.post("issues", issue()).status == 202
        served.files.go.clear()
        waiting = pool.submit(served.post, "issues", issue())
        assert served.files.syncing.wait(30)
        drained = pool.submit(served.webhook.drain, 30.0)
        assert idle.recv(100) == b"", "who asked nothing is sent away"

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", served.port), timeout=30).close()
            except ConnectionRefusedError:
                return True
            return False

        eventually(refused, 30, "no more connections")
        assert not waiting.done()
        served.files.go.set()
        answer: Answer = waiting.result(30)
        assert answer.status == 202
        partial.sendall(body[20:])
        said = everything(partial)
        assert said.startswith(b"HTTP/1.1 202 ")
        assert b"Connection: close" in said
        assert drained.result(30) is True
        idle.close()
        partial.close()
        assert len(served.ask("/api/v1/deliveries").json["items"]) == 3


def test_a_drain_gives_up_on_who_never_finishes(data: Path) -> None:
    with serving(data) as served, socket.create_connection(("127.0.0.1", served.port), timeout=30) as slow:
        slow.sendall(b"POST /webhook HTTP/1.1\r\n")
        eventually(lambda: [c for c in served.webhook._server.active_channels.values() if c.request], 30)
        assert served.webhook.drain(0.05) is False
        served.webhook.close()
        assert slow.recv(100) == b""


def test_what_is_received_at_once_is_bounded_and_the_larger_ones_wait_for_room(data: Path) -> None:
    with serving(data) as served, ThreadPoolExecutor(12) as pool:
        server = served.webhook._server
        server.buffered = buffered = BufferedBytes(500_000)  # what channels made from now on share
        content = b'{"x":"' + b"y" * 300_000 + b'"}'
        open_ones = []
        for _ in range(12):
            body, headers = signed("star", content)
            connection = socket.create_connection(("127.0.0.1", served.port), timeout=60)
            open_ones.append(connection)
            pool.submit(connection.sendall, head_of(body, headers) + body[:-1])
        eventually(lambda: buffered.full and [c for c in list(server.active_channels.values()) if c._paused_at], 30)
        assert served.post("star", b'{"x":1}').status == 202, "a small one passes by"
        assert buffered.bytes <= 500_000 + UNPAUSED * len(content) + 12 * (64 + 64) * 1024
        for connection in reversed(open_ones):
            pool.submit(connection.sendall, content[-1:])
        for connection in open_ones:
            assert connection.recv(65536).startswith(b"HTTP/1.1 202 ")
            connection.close()
        eventually(lambda: buffered.bytes == 0, 30)
        assert served.refused() == {}


def test_a_body_that_the_disk_has_no_room_for_is_503(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(data) as served:
        monkeypatch.setattr("tempfile.tempdir", str(data / "nowhere"))
        answer = served.post("star", b'{"x":"' + b"y" * 300_000 + b'"}')
        assert (answer.status, answer.json["error"]) == (503, "busy")
        assert int(answer.headers["retry-after"]) > 0
        monkeypatch.undo()
        assert served.post("star", b'{"x":"' + b"y" * 300_000 + b'"}').status == 202


def test_the_semaphore_lets_small_bodies_pass_and_large_ones_wait() -> None:
    memory = WeightedSemaphore(100)
    order: list[str] = []
    with memory.acquired(60):
        with memory.acquired(40):
            order.append("both fit")
        waiting = threading.Thread(target=lambda: _hold(memory, 60, order))
        waiting.start()
        order.append("the third waits")
    waiting.join(30)
    with memory.acquired(1000):
        order.append("alone, anything fits")
    assert order == ["both fit", "the third waits", "held", "alone, anything fits"]


def _hold(memory: WeightedSemaphore, size: int, order: list[Any]) -> None:
    with memory.acquired(size):
        order.append("held")


def test_a_burst_over_many_connections_is_all_answered(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(data) as served, ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda number: served.post("issues", issue(number)), range(300)))
        assert {answer.status for answer in answers} == {202}
        assert len({json.loads(answer.body)["seq"] for answer in answers}) == 300
    assert not caplog.records, "no line for each that waited for a thread"


def test_large_bodies_that_stalled_keep_no_room_from_one_that_comes(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covenq.http.server.channel.STALLED_S", 0.05)
    with serving(data, {"server": {"body_timeout": "10m"}}) as served:
        server = served.webhook._server
        server.buffered = BufferedBytes(500_000)
        content = b'{"x":"' + b"y" * 300_000 + b'"}'
        stalled = []
        for _ in range(UNPAUSED + 2):
            body, headers = signed("star", content)
            connection = socket.create_connection(("127.0.0.1", served.port), timeout=60)
            connection.sendall(head_of(body, headers) + body[:150_000])
            stalled.append(connection)
        eventually(lambda: server.buffered.full, 30)
        assert served.post("star", content).status == 202
        for connection in stalled:
            connection.sendall(content[150_000:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 202 ")
            connection.close()
