"""One POST of a forward: what is sent, what ends it, what it says where there is no answer, and the way by a proxy."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from covenq.tasks.execution.command import StopEvent
from covenq.tasks.execution.forward import BODY_MAX, Reply
from covenq.tasks.execution.post import post as post_by
from tests.support.certificates import server_tls
from tests.support.checkout import ROOT
from tests.support.daemon import Daemon
from tests.support.proxy import Proxy, proxying
from tests.support.receiver import Receiver, receiving
from tests.support.requests import issue, sign
from tests.support.waiting import eventually

ELSEWHERE = "hooks.invalid"
"""A host that no name server knows, so that nobody but a proxy leads there."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as server:
        yield server


@pytest.fixture
def stop() -> Iterator[StopEvent]:
    stop = StopEvent()
    yield stop
    stop.close()


def post(url: str, headers: list[tuple[str, str]], body: bytes, timeout_s: float, stops: list[StopEvent]) -> Reply:
    return post_by(url, headers, body, timeout_s, stops, {})


def test_a_large_answer_is_cut(receiver: Receiver, stop: StopEvent) -> None:
    receiver.answer = lambda number: (200, {}, b"x" * (BODY_MAX * 4))
    reply = post(receiver.url, [], b"{}", 30.0, [stop])
    assert (reply.status, len(reply.body)) == (200, BODY_MAX)


def test_a_timeout_of_months_is_no_short_one(receiver: Receiver, stop: StopEvent) -> None:
    """In milliseconds it has more than the 32 bits of poll(2); the lower ones are a fifth of a second."""
    nobody = threading.Event()

    def slowly(number: int) -> tuple[int, dict[str, str], bytes]:
        nobody.wait(1.0)
        return 200, {}, b"thanks"

    receiver.answer = slowly
    assert post(receiver.url, [], b"{}", 2**32 / 1000 - 0.8, [stop]).status == 200


def test_no_answer_in_time_no_receiver_no_http(stop: StopEvent) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert post(url, [], b"{}", 0.2, [stop]).error == "it gave no whole answer within 0.2 s"
        threading.Timer(0.1, stop.set, (0.1,)).start()
        assert post(url, [], b"{}", 60.0, [stop]).status is None
    assert post(url, [], b"{}", 5.0, []).error == "Connection refused"
    assert post("http://nowhere.invalid/", [], b"{}", 5.0, []).error == "its name can't be resolved"
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def talk() -> None:
            connection, _ = odd.accept()
            connection.sendall(b"hello ghp_secret\r\n\r\n")
            connection.recv(100)
            connection.close()

        thread = threading.Thread(target=talk)
        thread.start()
        reply = post(f"http://127.0.0.1:{odd.getsockname()[1]}/", [], b"{}", 5.0, [])
        thread.join()
    assert reply.status is None
    assert "ghp_secret" not in str(reply.error)


def test_a_drip_does_not_outlive_the_deadline(stop: StopEvent) -> None:
    """Each byte comes before any one wait is over; all of them never do."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as slow:

        def drip() -> None:
            connection, _ = slow.accept()
            with connection:
                try:
                    connection.sendall(b"HTTP/1.1 200 OK\r\n")
                    while not ended.wait(0.01):
                        connection.sendall(b"X: y\r\n"[:1])
                except OSError:
                    pass

        thread = threading.Thread(target=drip)
        thread.start()
        reply = post(f"http://127.0.0.1:{slow.getsockname()[1]}/", [], b"{}", 0.5, [stop])
        ended.set()
        thread.join()
    assert reply.status is None


def test_certificates_are_checked(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, context = server_tls(tmp_path, "localhost")
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    receiver.handle_error = lambda *_: None  # type: ignore[method-assign]
    url = f"https://localhost:{receiver.server_address[1]}/"
    reply = post(url, [], b"{}", 30.0, [])
    assert reply.status is None
    assert reply.error is not None
    assert reply.error.startswith("its certificate does not hold: self")
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    assert post(url, [], b"{}", 30.0, []).status == 200


def test_a_body_that_drips_ends_with_the_deadline_and_its_status_counts(stop: StopEvent) -> None:
    """Each byte comes before any one wait is over, and the whole never does."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as slow:

        def drip() -> None:
            connection, _ = slow.accept()
            with connection:
                try:
                    connection.sendall(b"HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n")
                    while not ended.wait(0.02):
                        connection.sendall(b"x")
                except OSError:
                    ended.set()

        thread = threading.Thread(target=drip)
        thread.start()
        reply = post(f"http://127.0.0.1:{slow.getsockname()[1]}/", [], b"{}", 2.0, [stop])
        assert ended.wait(30), "its connection was ended"
        thread.join()
    assert reply.status == 202
    assert 0 < len(reply.body) < 1000


def test_a_receiver_that_reads_slowly_has_the_whole_timeout(stop: StopEvent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covenq.tasks.execution.post.CONNECT_S", 0.2)
    nobody, body = threading.Event(), b"x" * 16_000_000 + b"!"
    with socket.create_server(("127.0.0.1", 0)) as slow:

        def read() -> None:
            connection, _ = slow.accept()
            with connection:
                nobody.wait(0.6)
                while (piece := connection.recv(1 << 20)) and not piece.endswith(b"!"):
                    pass
                if piece:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=read)
        thread.start()
        reply = post(f"http://127.0.0.1:{slow.getsockname()[1]}/", [], body, 30.0, [stop])
        thread.join()
    assert (reply.status, reply.error) == (200, None)


def test_what_is_sent_is_what_came_and_nothing_of_the_library(stop: StopEvent) -> None:
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as raw:

        def read() -> None:
            connection, _ = raw.accept()
            with connection:
                while not got or not got[-1].endswith(b"{}"):
                    got[:] = [b"".join(got) + connection.recv(65536)]
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        thread = threading.Thread(target=read)
        thread.start()
        host = f"127.0.0.1:{raw.getsockname()[1]}"
        headers = [("User-Agent", "GitHub-Hookshot/1"), ("X-Odd", "caf\u00e9 \u2603"), ("x-two", "1"), ("X-Two", "2")]
        reply = post(f"http://{host}/a/../%7e%2f?q=%5b[]", headers, b"{}", 30.0, [stop])
        thread.join()
    assert reply.status == 204
    head, _, body = got[0].partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    assert (first, body) == ("POST /a/../%7e%2f?q=%5b[] HTTP/1.1", b"{}")
    assert sorted(lines) == sorted(
        [
            f"Host: {host}",
            "Content-Length: 2",
            "User-Agent: GitHub-Hookshot/1",
            "X-Odd: caf\u00e9 ?",
            "x-two: 1",
            "x-two: 2",
            "Connection: close",
        ]
    )


# ---- by a proxy


def replied_after_a_stop(stop: StopEvent, waits: threading.Event, env: dict[str, str]) -> Reply:
    """The reply to a POST that is stopped when it waits, by which a test hangs if nothing ends that wait."""
    replies: list[Reply] = []
    url = f"https://{ELSEWHERE}/"
    thread = threading.Thread(target=lambda: replies.append(post_by(url, [], b"{}", 3600.0, [stop], env)), daemon=True)
    thread.start()
    assert waits.wait(30)
    stop.set(0.1)
    thread.join(30)
    assert replies, "the stop ended nothing"
    return replies[0]


def test_https_goes_through_the_proxy_that_sees_nothing_of_it(
    tmp_path: Path, receiver: Receiver, stop: StopEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, context = server_tls(tmp_path, ELSEWHERE)
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    headers = [("X-Hub-Signature-256", sign(b"{}")), ("X-Covenq-Task", "t")]
    url = f"https://{ELSEWHERE}/hook?app=1"
    for scheme in ("http", "https"):
        with proxying(Proxy(receiver.server_address[1])) as proxy:
            if scheme == "https":
                proxy.socket = context.wrap_socket(proxy.socket, server_side=True)
            env = {"HTTPS_PROXY": f"{scheme}://me:h%75sh@{proxy.netloc}"}
            reply = post_by(url, headers, b"{}", 30.0, [stop], env)
            assert (reply.status, reply.body, reply.error) == (200, b"thanks", None), scheme
            assert proxy.asked == [("CONNECT", f"{ELSEWHERE}:443", "Basic bWU6aHVzaA==")]
            reply = post_by(url, headers, b"{}", 30.0, [stop], {**env, "NO_PROXY": f"x.org,{ELSEWHERE}"})
            assert (reply.status, reply.error) == (None, "its name can't be resolved")
            assert len(proxy.asked) == 1
        got, body, good = receiver.seen.pop()
        assert (body, good, got[":path"], got["host"]) == (b"{}", True, "/hook?app=1", ELSEWHERE)
        assert "proxy-authorization" not in got and got["x-covenq-task"] == "t"


def test_plain_http_goes_through_the_proxy_but_for_this_machine(receiver: Receiver, stop: StopEvent) -> None:
    headers = [("X-Hub-Signature-256", sign(b"{}"))]
    with proxying(Proxy(receiver.server_address[1])) as proxy:
        env = {"HTTP_PROXY": f"http://me:hush@{proxy.netloc}"}
        reply = post_by(f"http://{ELSEWHERE}:8080/hook?app=1", headers, b"{}", 30.0, [stop], env)
        assert (reply.status, reply.body, reply.error) == (200, b"thanks", None)
        assert proxy.asked == [("POST", f"http://{ELSEWHERE}:8080/hook?app=1", "Basic bWU6aHVzaA==")]
        assert post_by(receiver.url, headers, b"{}", 30.0, [stop], env).status == 200
        assert len(proxy.asked) == 1
    (got, body, good), (_, _, direct) = receiver.seen
    assert (body, good, direct) == (b"{}", True, True)
    assert (got["host"], got[":path"]) == (f"{ELSEWHERE}:8080", "/hook?app=1")


def test_a_proxy_that_leads_nowhere_is_named_and_nothing_that_it_says(stop: StopEvent) -> None:
    url = f"https://{ELSEWHERE}/"
    with proxying(Proxy(0)) as proxy:
        proxy.refusal = (407, "ghp_secret")
        env = {"https_proxy": f"http://me:hush@{proxy.netloc}"}
        assert post_by(url, [], b"{}", 30.0, [stop], env).error == "the proxy 127.0.0.1 makes no way there"
    assert post_by(url, [], b"{}", 5.0, [], env).error == "Connection refused, through the proxy 127.0.0.1"
    wrong = post_by(url, [], b"{}", 5.0, [], {"HTTPS_PROXY": "socks5://me:hush@proxy:1080"})
    assert wrong == Reply(error="HTTPS_PROXY is no proxy's address")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_stop_ends_the_wait_for_a_proxy(
    scheme: str, stop: StopEvent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, context = server_tls(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    monkeypatch.setattr("covenq.tasks.execution.post.CONNECT_S", 3600.0)
    with proxying(Proxy(0)) as proxy:
        if scheme == "https":
            proxy.socket = context.wrap_socket(proxy.socket, server_side=True)
        proxy.silent = threading.Event()
        assert replied_after_a_stop(stop, proxy.silent, {"HTTPS_PROXY": f"{scheme}://{proxy.netloc}"}).status is None


def test_a_stop_ends_the_wait_for_an_answer_through_tls_in_tls(
    tmp_path: Path, receiver: Receiver, stop: StopEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, context = server_tls(tmp_path, ELSEWHERE)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    receiver.handle_error = lambda *_: None  # type: ignore[method-assign]
    asked, go = threading.Event(), threading.Event()

    def answer(_: int) -> tuple[int, dict[str, str], bytes]:
        asked.set()
        go.wait(60)
        return 200, {}, b""

    receiver.answer = answer
    with proxying(Proxy(receiver.server_address[1])) as proxy:
        proxy.socket = context.wrap_socket(proxy.socket, server_side=True)
        reply = replied_after_a_stop(stop, asked, {"HTTPS_PROXY": f"https://{proxy.netloc}"})
        go.set()
    assert reply.status is None


def test_the_daemon_forwards_by_the_proxy_of_its_environment(
    make_daemon: Callable[..., Daemon], receiver: Receiver
) -> None:
    config = f'[[route]]\nname = "f"\nmatch = "event:issues"\nforward = "http://{ELSEWHERE}/hook?app=1"\n'
    with proxying(Proxy(receiver.server_address[1])) as proxy:
        daemon = make_daemon(config=config, env={"HTTP_PROXY": f"http://{proxy.netloc}"})
        daemon.post("issues", issue(7), guid="g-1")
        eventually(lambda: receiver.seen)
        daemon.wait_all_done(30)
    ((headers, _, good),) = receiver.seen
    assert (headers["x-github-delivery"], good) == ("g-1", True)
    assert len(daemon.records("task.completed")) == 1


def test_a_receivers_odd_headers_put_no_address_into_the_log(make_daemon: Callable[..., Daemon]) -> None:
    """urllib3 warns of them, and quotes the whole address: what is after the ? may be a secret."""
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def talk() -> None:
            connection, _ = odd.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nno header at all\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        address = f"http://127.0.0.1:{odd.getsockname()[1]}/hook?key=s3cret"
        daemon = make_daemon(config=f'[[route]]\nname = "f"\nmatch = ""\nforward = "{address}"\n')
        daemon.post("issues", issue(7))
        thread.join()
        daemon.wait_all_done(30)
    assert len(daemon.records("task.completed")) == 1
    assert "s3cret" not in daemon.log_tail(100_000)


def test_urllib3_is_imported_where_something_is_forwarded_alone() -> None:
    code = "import sys, covenq.tasks.execution.pool, covenq.net.outgoing; print('urllib3' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert said.stdout == "False\n"


@pytest.mark.parametrize("env", [{}, {"HTTP_PROXY": "http://127.0.0.1:1"}])
def test_a_shortage_is_no_answer_of_the_receivers(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: Any) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "socket", short)
    with pytest.raises(OSError) as caught:
        post_by("http://192.0.2.1/", [], b"{}", 30.0, [], env)
    assert caught.value.errno == errno.EMFILE


def test_authorities_are_read_for_tls_alone(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: Any) -> ssl.SSLContext:
        raise AssertionError("the system's authorities are read")

    monkeypatch.setattr(ssl, "create_default_context", read)
    assert post(receiver.url, [], b"{}", 30.0, []).status == 200
