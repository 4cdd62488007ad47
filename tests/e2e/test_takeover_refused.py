"""A take-over that can't succeed: it is found out while the running daemon still serves, and said in words that are true."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from covenq.daemon import takeover
from covenq.daemon.takeover import Predecessor, TakeoverServer
from covenq.errors import Refused
from covenq.net.descriptors import MessageConnection
from covenq.tasks.execution import process_tree
from tests.support.daemon import Daemon
from tests.support.requests import issue

Make = Callable[..., Daemon]


def refused(daemon: Daemon, *words: str, exit_code: int) -> str:
    """What a process that was to take over says; the running daemon has to serve as before."""
    pid = daemon.pid
    done = daemon.cli("serve", "--take-over", "--bind", f"127.0.0.1:{daemon.port}", *words, exit_code=exit_code)
    assert daemon.api("/api/v1/status").json["pid"] == pid
    assert daemon.get("/healthz").status == 200
    return done.stderr.decode()


def test_a_head_to_accept_makes_no_sense_beside_a_daemon_that_runs(make_daemon: Make) -> None:
    daemon = make_daemon()
    assert daemon.post("issues", issue()).status == 202
    said = refused(daemon, "--accept-head", "3", exit_code=4)
    assert "--accept-head" in said and "The running daemon goes on" in said
    assert daemon.post("issues", issue()).status == 202
    assert daemon.take_over() == 0, "without it, another may still take over"


def test_a_journal_that_could_not_be_opened_again_is_left_to_the_daemon_that_has_it_open(make_daemon: Make) -> None:
    daemon = make_daemon()
    for number in range(3):
        assert daemon.post("issues", issue(number)).status == 202
    (segment,) = (daemon.data / "journal").glob("*.jsonl")
    content = segment.read_bytes()
    lines = content.splitlines(keepends=True)
    at = len(b"".join(lines[:2])) + 40  # in a record that is durable, beyond the header
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(bytes([content[at] ^ 1]))
    # As an index does that was lost: all of it is read.
    (daemon.data / "journal" / "index.sqlite").rename(daemon.data / "index.sqlite")
    assert "damaged" in refused(daemon, exit_code=5)


def test_a_process_with_too_few_files_to_open_takes_nothing_over(make_daemon: Make) -> None:
    daemon = make_daemon()
    daemon.wrapper = ["/bin/sh", "-c", 'ulimit -n 40 && exec "$@"', "sh"]
    pid, before = daemon.pid, daemon.start_successor()
    assert daemon.wait_exit(60) == 4
    assert "40 open files are allowed, and covenq needs" in daemon.log_tail()
    assert before.poll() is None
    assert daemon.api("/api/v1/status").json["pid"] == pid
    before.terminate()
    assert before.wait(60) == 0


def test_a_daemon_that_has_no_socket_for_it_is_named(make_daemon: Make) -> None:
    """As one of an earlier version: its port is taken by no other program."""
    daemon = make_daemon()
    (daemon.data / "takeover.sock").unlink()
    said = refused(daemon, exit_code=4)
    assert f"pid {daemon.pid}" in said and "can't hand over" in said and "another program" not in said


class Failing(BaseHTTPRequestHandler):
    """A daemon that answers, and has no status to give."""

    def do_GET(self) -> None:
        healthy = self.path == "/healthz"
        said = {"ok": False, "error": "journal_poisoned", "detail": "the disk failed to sync", "hint": "Look at dmesg."}
        body = b"{}" if healthy else json.dumps(said).encode()
        self.send_response(200 if healthy else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def address_string(self) -> str:
        return "a Unix socket"


def test_a_daemon_that_can_not_say_how_it_is_is_named_with_what_it_answers(make_daemon: Make) -> None:
    daemon = make_daemon(start=False)
    daemon.data.mkdir(mode=0o700, exist_ok=True)
    with (
        socketserver.ThreadingUnixStreamServer(str(daemon.data / "covenq.sock"), Failing) as server,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            bind = f"127.0.0.1:{taken.getsockname()[1]}"
            said = daemon.cli("serve", "--bind", bind, exit_code=4).stderr.decode()
        finally:
            server.shutdown()
    assert "its status can't be had: the disk failed to sync" in said and "hint: Look at dmesg." in said


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TakeoverServer:
    monkeypatch.setattr(process_tree, "descends", lambda pid: False)  # this process asks itself
    return TakeoverServer(tmp_path / "takeover.sock", {}, lambda: None, managed=False)


def test_of_two_at_once_the_second_is_told_of_the_first(server: TakeoverServer, tmp_path: Path) -> None:
    server.start()
    try:
        first = takeover.connect(tmp_path)
        assert first is not None and first.listening() == []
        first.stop()
        second = takeover.connect(tmp_path)
        assert second is not None
        with pytest.raises(Refused, match=f"process {os.getpid()} takes over .* already") as caught:
            second.listening()
        assert "covenq status" in caught.value.hint
        first.close()
        second.close()
    finally:
        server.close()
        server.release()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a socket that is shut down wakes nobody")
def test_its_end_is_not_waited_for_until_somebody_might_ask(
    server: TakeoverServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be with `accept`, in a circle that takes a processor: of what is shut down, that asks until its time is over."""
    monkeypatch.setattr(takeover, "_POLL_S", 600.0)
    server.start()
    closing = threading.Thread(target=server.close, daemon=True)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()


def test_one_that_is_gone_before_it_is_answered_is_called_gone(
    server: TakeoverServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The daemon was stopped for longer than that one waited; its number may be another process's by now."""
    ours, theirs = socket.socketpair()
    MessageConnection(theirs).send({"take_over": takeover.PROTOCOL})
    theirs.close()
    with ours, caplog.at_level("INFO"):
        assert server._negotiate(MessageConnection(ours), (1, os.geteuid())) is False
    assert "did not wait" in caplog.text and "may not take over" not in caplog.text


def test_a_daemon_that_ends_instead_of_answering_leaves_nothing_to_take_over() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(b"what is unread makes the end a reset")
        theirs.close()
        assert Predecessor(MessageConnection(ours), 1).listening() is None
