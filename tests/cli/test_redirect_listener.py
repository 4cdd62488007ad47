"""The one-shot listener that GitHub's redirect comes to: its bounds, its end."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from covenq.cli import redirect_listener
from covenq.cli.redirect_listener import RedirectListener, listening
from covenq.errors import CovenqError, UsageError
from tests.support.github_apps import Browser
from tests.support.waiting import eventually


def code_of(query: str) -> str:
    if query != "good":
        raise UsageError("no code")
    return "code"


@pytest.fixture
def listener() -> Iterator[RedirectListener]:
    with listening(RedirectListener(code_of)) as one:
        yield one


def connected(listener: RedirectListener) -> socket.socket:
    return socket.create_connection(("127.0.0.1", listener.server_address[1]), timeout=30)


def test_it_listens_on_the_loopback_interface_alone(listener: RedirectListener) -> None:
    assert listener.server_address[0] == "127.0.0.1"


def test_a_code_ends_the_wait_and_a_second_one_is_refused(listener: RedirectListener) -> None:
    assert Browser().get(f"{listener.redirect_url}?bad").status == 403
    assert Browser().get(f"{listener.redirect_url}?good").status == 200
    assert Browser().get(f"{listener.redirect_url}?good").status == 403
    assert listener.wait(30) == "code"


def test_the_wait_has_an_end(listener: RedirectListener) -> None:
    with pytest.raises(CovenqError, match="sent no browser back"):
        listener.wait(0.01)


def test_connections_that_say_nothing_are_few_and_keep_nobody(
    listener: RedirectListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = [connected(listener) for _ in range(redirect_listener.CONNECTIONS_MAX - 1)]
    assert Browser().get(f"{listener.redirect_url}?bad").status == 403, "one is free"
    eventually(lambda: _holds(listener), 30, "its connection is given back")
    silent.append(connected(listener))
    with connected(listener) as one_more:
        assert one_more.recv(1) == b"", "closed at once"
    silent.pop().close()
    assert eventually(lambda: Browser().get(f"{listener.redirect_url}?good").status == 200, 30)
    for one in silent:
        one.close()


def _holds(listener: RedirectListener) -> bool:
    free = listener._connections.acquire(blocking=False)
    if free:
        listener._connections.release()
    return free


def test_a_silent_connection_is_closed(listener: RedirectListener, monkeypatch: pytest.MonkeyPatch) -> None:
    assert redirect_listener._Handler.timeout == redirect_listener.SILENCE_S
    monkeypatch.setattr(redirect_listener._Handler, "timeout", 0.05)
    with connected(listener) as one:
        assert one.recv(1) == b""


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"501"),
        (b"GET / HTTP/1.1\r\n\r\n", b"403"),
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", b"505"),
        (b"nonsense with too many words here\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"431"),
        (b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", b"403"),
    ],
)
def test_what_is_no_request_of_a_browser_is_refused_in_a_sentence(
    listener: RedirectListener, request_: bytes, status: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with connected(listener) as one:
        one.sendall(request_)
        said = b""
        while chunk := one.recv(65536):
            said += chunk
    assert status in said.split(b"\r\n")[0] or said.startswith(b"<!doctype"), said[:200]
    assert b"Content-Security-Policy" in said and b"xxxx" not in said
    assert capfd.readouterr().err == ""
