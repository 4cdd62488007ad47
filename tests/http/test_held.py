"""Held requests: bounded in number, bytes and time, and answered in the order in which they came."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from covenq.http.server.held import HeldRequests
from covenq.http.server.listener import Listener, ListenerSettings, bind_tcp, take_bound
from covenq.http.server.parser import RequestLimits
from tests.support.waiting import eventually


def channel(size: int = 0) -> Any:
    return SimpleNamespace(requests=[SimpleNamespace(body_rcv=bytes(size))])


def test_they_are_bounded_in_number_and_in_bytes() -> None:
    held: HeldRequests[Any] = HeldRequests(most=3, bytes_max=100)
    assert held.add(channel(60)) and not held.add(channel(41)) and held.add(channel(40))
    assert held.add(channel()) and not held.add(channel())
    assert len(held.take_all()) == 3
    assert len(held) == 0 and held.add(channel(100))


def test_each_is_overdue_in_its_turn() -> None:
    now = 0.0
    held: HeldRequests[Any] = HeldRequests(seconds=8.0, bytes_max=10, clock=lambda: now)
    first, second = channel(10), channel()
    held.add(first)
    now = 3.0
    held.add(second)
    assert held.overdue() == []
    now = 8.0
    assert held.overdue() == [first]
    assert held.add(channel(10)), "its bytes are free again"
    now = 11.0
    assert held.overdue() == [second] and len(held) == 1


@contextmanager
def holding() -> Iterator[tuple[Listener, int, list[tuple[str, int]]]]:
    refused: list[tuple[str, int]] = []
    bound = bind_tcp("127.0.0.1", 0)
    port = bound.getsockname()[1]
    limits = RequestLimits(1 << 20, 10.0, 10.0)
    settings = ListenerSettings("x", 1, limits)
    listener = Listener(answers, bound, settings, on_refusal=lambda word, status, *_: refused.append((word, status)))
    listener.hold()
    try:
        yield listener, port, refused
    finally:
        listener.close()


def answers(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "0")])
    return []


def get(port: int, got: list[int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/")
    got.append(connection.getresponse().status)
    connection.close()


def test_what_waits_is_answered_when_it_starts_and_what_is_malformed_at_once() -> None:
    with holding() as (listener, port, refused):
        got: list[int] = []
        senders = [threading.Thread(target=get, args=(port, got)) for _ in range(5)]
        for sender in senders:
            sender.start()
        eventually(lambda: listener.stats().waiting == 5)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as wrong:
            wrong.sendall(b"nonsense\r\n\r\n")
            assert wrong.recv(4096).startswith(b"HTTP/1.0 400 ")
        assert got == [] and refused == [("request_malformed", 400)]
        with socket.create_connection(("127.0.0.1", port), timeout=30) as gone:
            gone.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            eventually(lambda: listener.stats().waiting == 6)
        listener.start()
        for sender in senders:
            sender.join(30)
        assert got == [200] * 5
        get(port, got)
        assert got == [200] * 6, "and those that come later"


def test_a_start_that_fails_refuses_what_waits() -> None:
    with holding() as (listener, port, refused):
        got: list[int] = []
        sender = threading.Thread(target=get, args=(port, got))
        sender.start()
        eventually(lambda: listener.stats().waiting == 1)
        listener.close()
        sender.join(30)
    assert got == [503] and refused == [("starting", 503)]


def test_a_connection_goes_from_one_listener_to_another() -> None:
    """With what its client has sent meanwhile; one that is in the middle of a request stays."""
    with holding() as (first, port, _), holding() as (second, _, _):
        first.start()
        got: list[bytes] = []
        with (
            socket.create_connection(("127.0.0.1", port), timeout=30) as kept,
            socket.create_connection(("127.0.0.1", port), timeout=30) as half,
        ):
            kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert kept.recv(4096).startswith(b"HTTP/1.1 200 ")
            half.sendall(b"GET / HT")
            eventually(lambda: first.stats().connections == 2)

            def pass_on(connections: list[socket.socket]) -> None:
                kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                for one in connections:
                    second.adopt(one)

            assert not first.drain(0.5, pass_on=pass_on)
            eventually(lambda: second.stats().waiting == 1)
            half.sendall(b"TP/1.1\r\nHost: x\r\n\r\n")
            got.append(half.recv(4096))
            assert first.drain(30, pass_on=pass_on)
            second.start()
            got.append(kept.recv(4096))
        assert [answer[:13] for answer in got] == [b"HTTP/1.1 200 "] * 2


@pytest.mark.parametrize(
    ("host", "port", "taken"),
    [
        ("127.0.0.1", None, True),
        ("localhost", None, True),
        ("127.0.0.1", 0, True),
        ("0.0.0.0", None, False),
        ("127.0.0.1", 1, False),
    ],
)
def test_a_passed_socket_is_taken_for_the_address_that_it_is_bound_to(host: str, port: int | None, taken: bool) -> None:
    with bind_tcp("127.0.0.1", 0) as bound:
        passed = [bound]
        found = take_bound(passed, host, bound.getsockname()[1] if port is None else port)
        assert (found is bound, passed) == ((True, []) if taken else (False, [bound]))
