"""The client of `covenq send`: what it makes of answers, the way by a proxy, and that this machine's own daemon needs none."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from covenq.cli import webhook_client
from covenq.cli.commands import send
from covenq.cli.webhook_client import ANSWER_LIMIT, Reply, post
from covenq.errors import DaemonUnreachable, UsageError
from tests.support.certificates import server_tls
from tests.support.proxy import Proxy, proxying
from tests.support.raw_server import drip, ok, raw_server, request_of

ELSEWHERE = "hooks.invalid"
SIGNATURE = {"X-Hub-Signature-256": "sha256=00"}


def test_a_delivery_for_elsewhere_goes_by_the_proxy_and_a_redirect_is_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, context = server_tls(tmp_path, ELSEWHERE)
    got: list[bytes] = []
    says = [ok(b'{"ok":true}'), b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"]

    def say(connection: socket.socket) -> None:
        got.append(request_of(connection))
        connection.sendall(says.pop(0))

    url = f"https://{ELSEWHERE}/hook?x=1"
    with raw_server(say, context) as port, proxying(Proxy(port)) as proxy:
        env = {"HTTPS_PROXY": proxy.netloc}
        with pytest.raises(DaemonUnreachable, match="certificate does not hold"):
            post(url, b"{}", SIGNATURE, env)
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        assert post(url, b"{}", SIGNATURE, env).answer == {"ok": True}
        assert post(url, b"{}", SIGNATURE, env) == Reply(307, b"")
        with pytest.raises(DaemonUnreachable, match="its name can't be resolved"):
            post(url, b"{}", SIGNATURE)
        assert proxy.asked == [("CONNECT", f"{ELSEWHERE}:443", "")] * 3
    assert len(got) == 2 and got[0].startswith(b"POST /hook?x=1 HTTP/1.1\r\n")


def test_a_long_answer_is_cut_and_a_dripping_one_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_client, "UPLOAD_S", 0.1)
    begun = [ok(b"x" * (ANSWER_LIMIT + 70_000)), b"HTTP/1.1 202 X\r\nX: "]

    def say(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(begun.pop(0))
        drip(connection, b"x")

    with raw_server(say) as port:
        url = f"http://127.0.0.1:{port}/"
        assert len(post(url, b"{}", {}, timeout=30.0).body) == ANSWER_LIMIT
        with pytest.raises(DaemonUnreachable, match="it took too long"):
            post(url, b"{}", {}, timeout=0.1)


@pytest.mark.parametrize(
    ("url", "headers"),
    [("/a b", {}), ("/", {"X": "a\r\nY: b"}), (f"http://{'a' * 64}.b/", {}), ("http://h:x/", {}), ("ftp://h/", {})],
)
def test_what_can_not_be_sent_is_a_misuse(url: str, headers: dict[str, str]) -> None:
    got: list[bytes] = []
    with raw_server(lambda connection: got.append(request_of(connection))) as port, pytest.raises(UsageError):
        post(f"http://127.0.0.1:{port}{url}" if url.startswith("/") else url, b"{}", headers)
    assert got == []


def test_this_machines_daemon_is_never_sent_to_by_a_proxy(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address may be another than 127.0.0.1."""
    data.mkdir(exist_ok=True)
    config, secret = data / "covenq.toml", data / "given"
    config.touch()
    secret.write_text("s")
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.2:3128")
    asked: list[tuple[str, bool]] = []

    def noted(url: str, body: bytes, headers: Mapping[str, str], env: Mapping[str, str], **_: Any) -> Reply:
        asked.append((url, "HTTP_PROXY" in env))
        return Reply(202, b"{}")

    monkeypatch.setattr(send, "post", noted)
    for url in (None, "http://192.0.2.3/webhook"):
        send.send("issues", url=url, secret_file=str(secret), data=str(data), config=str(config))
    assert asked[0][1] is False and asked[1] == ("http://192.0.2.3/webhook", True)
