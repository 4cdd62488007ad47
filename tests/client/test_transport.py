"""Requests to a daemon over both transports: what a client makes of bad answers, slow ones and none, and the way by a proxy."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from covenq.client.open import open_source
from covenq.errors import CovenqError, DaemonUnreachable, UsageError
from covenq.net import http_client
from covenq.net.address import Remote
from covenq.net.http_client import Client
from covenq.tasks.remote.client import ClaimGrant, ClaimsClient
from tests.support.certificates import server_tls
from tests.support.checkout import clean_env
from tests.support.daemon import Daemon, free_port
from tests.support.proxy import Proxy, proxying, tls_front
from tests.support.raw_server import Answer, drip, head_of, ok, raw_server, request_of, reset
from tests.support.requests import issue

ELSEWHERE = "covenq.invalid"
"""A host that no name server knows, so that nobody but a proxy leads there."""
TOKEN = "covenq_sesame"

Serving = Callable[[Answer], AbstractContextManager[Path | Remote]]


@pytest.fixture(params=["tcp", "unix"])
def serving(request: pytest.FixtureRequest, data: Path) -> Serving:
    """Serve raw answers over one of the transports, and give what a client is made with."""
    data.mkdir(exist_ok=True)

    @contextmanager
    def serve(answer: Answer) -> Iterator[Path | Remote]:
        path = data / "raw.sock" if request.param == "unix" else None
        with raw_server(answer, path=path) as port:
            yield path or Remote(f"http://127.0.0.1:{port}", TOKEN)

    return serve


def asked(target: Path | Remote) -> object:
    return Client(target, env={}).get("/api/v1/status")


# ---- bad answers, slow ones and none


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        f"HTTP/1.1 2\x1b[31m {TOKEN}\r\n\r\n".encode(),
        f"\x1b[31m{TOKEN}\r\n\r\n".encode(),
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + TOKEN.encode() * 8000 + b"\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\x1b\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{}",
    ],
)
def test_what_is_no_whole_answer_is_told_in_words_of_our_own(serving: Serving, answer: bytes) -> None:
    def say(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(answer)

    with serving(say) as target, pytest.raises(DaemonUnreachable, match="no daemon answers at") as caught:
        asked(target)
    shown = f"{caught.value} {caught.value.hint}"
    assert TOKEN not in shown and "\x1b" not in shown


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{"])
def test_a_reset_in_the_middle_is_told(serving: Serving, begun: bytes) -> None:
    def say(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(begun)
        reset(connection)

    with serving(say) as target, pytest.raises(DaemonUnreachable):
        asked(target)


@pytest.mark.parametrize(
    ("begun", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
    ],
)
def test_an_answer_that_drips_is_given_up(
    serving: Serving, begun: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece comes in time, the end never does: without a deadline this test doesn't end."""
    monkeypatch.setattr(http_client, "WHOLE_S", 0.1)
    ended = threading.Event()

    def say(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(begun)
        drip(connection, piece)
        ended.set()

    with serving(say) as target:
        with pytest.raises(DaemonUnreachable, match="it took too long"):
            Client(target, timeout=0.2, env={}).get("/")
        assert ended.wait(30), "the connection is closed"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("begun", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    ],
)
def test_no_part_of_an_answer_that_drips_outlives_the_deadline_elsewhere(
    scheme: str, begun: bytes, piece: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the head, nor a chunk's size: within one read of the library's."""
    monkeypatch.setattr(http_client, "WHOLE_S", 0.1)
    monkeypatch.setattr(http_client, "STREAM_TIMEOUT_S", 0.3)
    cert, context = server_tls(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))

    def say(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(begun)
        drip(connection, piece)

    with raw_server(say, context if scheme == "https" else None) as port:
        client = Client(f"{scheme}://localhost:{port}", timeout=0.2, env={})
        with pytest.raises(DaemonUnreachable, match="it took too long"):
            client.get("/")
        if b"X: " in begun:
            with pytest.raises(DaemonUnreachable, match="it took too long"):
                client.stream("/")


def test_an_answer_has_a_bound(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "ANSWER_MAX", 1 << 20)

    def say(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        drip(connection, b" " * 65536)

    with serving(say) as target, pytest.raises(CovenqError, match="more than 1 MiB"):
        asked(target)


def test_an_answer_before_the_whole_request_was_read_counts(serving: Serving) -> None:
    said = b'{"ok":false,"error":"body_too_large","detail":"too much"}'

    def say(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(
            f"HTTP/1.1 413 X\r\nContent-Length: {len(said)}\r\nConnection: close\r\n\r\n".encode() + said
        )

    with serving(say) as target, pytest.raises(CovenqError, match="too much"):
        Client(target, env={}).post("/", {"body": "x" * (8 << 20)})


# ---- a connection that is kept, and streams


def test_a_worker_keeps_its_connection_and_makes_another_for_one_that_was_closed(serving: Serving) -> None:
    connections: list[int] = []

    def say(connection: socket.socket) -> None:
        connections.append(0)
        while True:
            request_of(connection)
            connections[-1] += 1
            if len(connections) == 2 and connections[-1] == 2:
                return  # the request is taken, and the connection closed without a word
            if connections == [2]:
                connection.sendall(ok(b'{"ok":true}', "Connection: close"))
                return
            connection.sendall(ok())

    with serving(say) as target:
        client = ClaimsClient(target, env={})
        for _ in range(4):
            assert client.get("/") == {"ok": True}
        assert connections == [2, 2, 1]
        client.close()


def test_a_payload_that_breaks_off_is_never_taken_for_the_whole(serving: Serving) -> None:
    def say(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n{}")

    with serving(say) as target:
        client = ClaimsClient(target, env={})
        with pytest.raises(DaemonUnreachable, match="broke off"):
            client.payload(ClaimGrant({"id": "t"}, 1, "f", "", "/payload"))


def test_a_stream_ends_when_it_is_closed_elsewhere_and_a_line_of_it_has_a_bound(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "EVENT_MAX", 1 << 16)
    chunks = [b'data: {"n":1}\n\ndata: {"n"', b":2}\n: a comment\n\n"]
    more = [b""]

    def say(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for one in chunks:
            connection.sendall(f"{len(one):x}\r\n".encode() + one + b"\r\n")
        drip(connection, b"1000\r\n" + more[0] * 4096 + b"\r\n") if more[0] else connection.recv(1)

    with serving(say) as target:
        stream = Client(target, env={}).stream("/api/v1/events")
        events = iter(stream)
        assert [next(events), next(events)] == [{"n": 1}, {"n": 2}]
        rest: list[object] = []
        reader = threading.Thread(target=lambda: rest.extend(events), daemon=True)
        reader.start()
        stream.close()
        reader.join(30)
        assert not reader.is_alive() and rest == []
        more[0] = b"x"
        with pytest.raises(DaemonUnreachable, match="ended the stream"):
            list(Client(target, env={}).stream("/api/v1/events"))


def test_a_stream_that_is_refused_drips_no_longer_than_another_answer(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "STREAM_TIMEOUT_S", 0.3)

    def say(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(b"HTTP/1.1 503 X\r\nContent-Length: 100000\r\n\r\n")
        drip(connection, b" ")

    with serving(say) as target, pytest.raises(DaemonUnreachable, match="it took too long"):
        Client(target, env={}).stream("/")


def test_a_stream_that_is_refused_leaves_nothing_open(serving: Serving) -> None:
    """Whoever follows a daemon asks for it again and again."""

    def say(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(b"HTTP/1.1 401 X\r\nContent-Length: 2\r\n\r\n{}")

    def watching() -> set[threading.Thread]:
        return {one for one in threading.enumerate() if one.name == "connection-watch"}

    with serving(say) as target:
        before = watching()
        with pytest.raises(CovenqError):
            Client(target, env={}).stream("/")
        assert watching() <= before


def test_a_stream_that_is_refused_or_breaks_off_says_so(serving: Serving) -> None:
    answers = [
        b'HTTP/1.1 401 X\r\nContent-Length: 58\r\n\r\n{"ok":false,"error":"token_wrong","detail":"no such token"}'[:-1],
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\ndata: {}\n\n",
    ]

    def say(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(answers.pop(0))

    with serving(say) as target:
        with pytest.raises(CovenqError):
            Client(target, env={}).stream("/")
        with pytest.raises(DaemonUnreachable, match="broke off"):
            list(Client(target, env={}).stream("/"))


# ---- the way by a proxy


def test_a_token_passes_a_proxy_unseen_and_nothing_for_this_machine_passes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, context = server_tls(tmp_path, ELSEWHERE)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    got: list[bytes] = []

    def say(connection: socket.socket) -> None:
        got.append(request_of(connection))
        connection.sendall(ok())

    remote = Remote(f"https://{ELSEWHERE}/base", TOKEN)
    with raw_server(say, context) as port, proxying(Proxy(port)) as proxy:
        env = {"HTTPS_PROXY": f"http://me:h%75sh@{proxy.netloc}"}
        assert Client(remote, env=env).get("/api/v1/status") == {"ok": True}
        assert proxy.asked == [("CONNECT", f"{ELSEWHERE}:443", "Basic bWU6aHVzaA==")]
        assert Client(Remote(f"https://localhost:{port}"), env=env).answers(30) is False, "it is no certificate's name"
        with pytest.raises(DaemonUnreachable, match="its name can't be resolved"):
            Client(remote, env={**env, "NO_PROXY": "example.org,.invalid"}).get("/")
        assert len(proxy.asked) == 1
    assert got[0].startswith(b"GET /base/api/v1/status HTTP/1.1\r\n")
    assert f"Authorization: Bearer {TOKEN}\r\n".encode() in got[0] and b"Proxy-Authorization" not in got[0]


def test_a_certificate_that_does_not_hold_is_refused_through_a_proxy_too(tmp_path: Path) -> None:
    _, context = server_tls(tmp_path, ELSEWHERE)
    with raw_server(lambda _: None, context) as port, proxying(Proxy(port)) as proxy:
        client = Client(Remote(f"https://{ELSEWHERE}", TOKEN), env={"HTTPS_PROXY": proxy.netloc})
        with pytest.raises(DaemonUnreachable, match="certificate is not trusted"):
            client.get("/")


def test_a_proxy_that_leads_nowhere_is_named_without_its_password_and_words() -> None:
    remote = Remote(f"https://{ELSEWHERE}", TOKEN)
    with proxying(Proxy(0)) as proxy:
        proxy.refusal = (407, "hush, too")
        env = {"HTTPS_PROXY": f"http://me:hush@{proxy.netloc}"}
        with pytest.raises(DaemonUnreachable, match=r"the proxy 127\.0\.0\.1 makes no way there") as refused:
            Client(remote, env=env).get("/")
    with pytest.raises(DaemonUnreachable, match=r"refused, through the proxy 127\.0\.0\.1") as nobody:
        Client(remote, env=env).get("/")
    for one in (refused, nobody):
        shown = f"{one.value} {one.value.hint}"
        assert "hush" not in shown and TOKEN not in shown and "NO_PROXY" in shown
    with pytest.raises(UsageError, match="HTTPS_PROXY is no proxy's address"):
        Client(remote, env={"HTTPS_PROXY": "socks5://me:hush@proxy"})


CONFIG = """
[api]
bind = "127.0.0.1:{port}"

[[route]]
name = "p"
match = "event:issues"
pull = true
"""


def test_commands_workers_and_streams_reach_a_daemon_by_proxy_and_tls(
    make_daemon: Callable[..., Daemon], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon's API behind a server of TLS, whose name nobody but the proxy knows."""
    cert, context = server_tls(tmp_path, ELSEWHERE)
    port = free_port()
    daemon = make_daemon(config=CONFIG.format(port=port))
    tokens = {
        role: daemon.cli("tokens", "new", "--name", role, "--role", role).stdout.decode().strip()
        for role in ("read", "worker")
    }
    with tls_front(context, port) as front, proxying(Proxy(front)) as proxy:
        env = {
            "HTTPS_PROXY": f"http://{proxy.netloc}",
            "SSL_CERT_FILE": str(cert),
            "COVENQ_URL": f"https://{ELSEWHERE}",
        }
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        source = open_source(daemon.data, url=Remote(f"https://{ELSEWHERE}", tokens["read"]))
        kinds: list[str] = []
        ended = threading.Event()

        def follow() -> None:
            with contextlib.suppress(DaemonUnreachable):
                kinds.extend(event.kind for event in source.events(0))
            ended.set()

        threading.Thread(target=follow, daemon=True).start()
        tail = subprocess.Popen(
            [sys.executable, "-m", "covenq", "tail", "-f", "--jsonl"],
            stdout=subprocess.PIPE,
            env=clean_env() | env | {"COVENQ_TOKEN": tokens["read"]},
        )
        worker = subprocess.Popen(
            [sys.executable, "-m", "covenq", "worker", "--work", str(tmp_path / "work"), "--", "true"],
            stderr=subprocess.DEVNULL,
            env=clean_env() | env | {"COVENQ_TOKEN": tokens["worker"]},
        )
        try:
            daemon.post("issues", issue(1))
            daemon.wait_all_done(60)
            assert tail.stdout is not None
            while b"task.completed" not in tail.stdout.readline():
                assert tail.poll() is None
            daemon.restart()  # both go on
            daemon.post("issues", issue(2))
            daemon.wait_all_done(60)
            while b"task.completed" not in tail.stdout.readline():
                assert tail.poll() is None
        finally:
            for process in (tail, worker):
                process.terminate()
                process.wait(30)
            tail.stdout and tail.stdout.close()
        assert ended.wait(60), "the stream ended with its daemon"
        assert "task.completed" in kinds
        assert {one[:2] for one in proxy.asked} == {("CONNECT", f"{ELSEWHERE}:443")}
    log = daemon.log.read_text()
    assert not any(token in log for token in tokens.values())


def test_urllib3_is_not_imported_for_this_machines_daemon(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(config="")
    code = (
        "import atexit, sys; from covenq.cli.main import main; "
        "atexit.register(lambda: print('imported' if 'urllib3' in sys.modules else 'not')); main()"
    )
    for words in (["status"], ["deliveries"], ["tail"], ["cancel", "state:queued", "--yes"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words, "--json"],
            capture_output=True,
            text=True,
            env={**os.environ, "COVENQ_DATA": str(daemon.data)},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("\nnot\n"), words
