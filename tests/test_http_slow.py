"""Slow clients, many of them, and the end: who is in flight is answered, who drips is sent away."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from serving import serving
from support import Answer, eventually, issue, signed

from covenq.http import channel
from covenq.http.channel import Buffered
from covenq.http.webhook import Budget


def head_of(body: bytes, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /webhook HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode()


def everything(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def test_200_slow_connections_do_not_stop_the_201st_and_are_gone_after_their_deadline(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, headers = signed("issues", issue())
    with serving(data, threads=4) as served:
        slow = []
        for number in range(200):
            connection = socket.create_connection(("127.0.0.1", served.port), timeout=30)
            connection.sendall((head_of(body, headers) + body[:20])[: 10 if number % 2 else None])
            slow.append(connection)
        assert served.post("issues", issue()).status == 202
        monkeypatch.setattr(channel, "REQUEST_S", 0.0)
        for connection in slow:
            assert connection.recv(100) == b""
            connection.close()
        monkeypatch.setattr(channel, "REQUEST_S", 60.0)
        assert served.post("issues", issue()).status == 202


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


def test_what_is_received_at_once_is_bounded_and_the_next_is_told_so(data: Path) -> None:
    with serving(data, {"server": {"body_limit": 2000}}) as served:
        served.webhook._server.buffered = Buffered(1000)  # what channels made from now on share
        first = socket.create_connection(("127.0.0.1", served.port), timeout=30)
        body, headers = signed("star", b'{"x":"' + b"y" * 900 + b'"}')
        first.sendall(head_of(body, headers) + body[:-1])
        eventually(lambda: served.webhook._server.buffered._bytes == len(body) - 1, 30)
        answer = served.post("star", b'{"x":"' + b"z" * 900 + b'"}')
        assert (answer.status, answer.json["error"]) == (503, "busy")
        assert int(answer.headers["retry-after"]) > 0
        first.sendall(body[-1:])
        assert first.recv(65536).startswith(b"HTTP/1.1 202 ")
        first.close()
        eventually(lambda: served.webhook._server.buffered._bytes == 0, 30)
        assert served.post("star", b'{"x":"' + b"z" * 900 + b'"}').status == 202


def test_the_budget_lets_small_ones_pass_and_big_ones_wait() -> None:
    budget = Budget(100)
    order: list[str] = []
    with budget.hold(60):
        with budget.hold(40):
            order.append("both fit")
        waiting = threading.Thread(target=lambda: _hold(budget, 60, order))
        waiting.start()
        order.append("the third waits")
    waiting.join(30)
    with budget.hold(1000):
        order.append("alone, anything fits")
    assert order == ["both fit", "the third waits", "held", "alone, anything fits"]


def _hold(budget: Budget, size: int, order: list[Any]) -> None:
    with budget.hold(size):
        order.append("held")


def test_a_burst_over_many_connections_is_all_answered(data: Path) -> None:
    with serving(data) as served, ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda number: served.post("issues", issue(number)), range(300)))
        assert {answer.status for answer in answers} == {202}
        assert len({json.loads(answer.body)["seq"] for answer in answers}) == 300
