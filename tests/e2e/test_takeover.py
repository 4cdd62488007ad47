"""A restart refuses no connection: a new process takes the listening socket over from the running one, or has it from systemd.

Everything here is real: processes, signals, sockets. GitHub gives up after ten seconds. The senders wait longer: how long a
loaded machine takes to start a process is not what is tested.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import stat
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from covenq.http.server.held import HELD_S
from tests.support.daemon import Daemon, free_port
from tests.support.requests import ask, issue, new_guid, signed
from tests.support.service_manager import activated
from tests.support.waiting import eventually

Make = Callable[..., Daemon]
GITHUB_S = 10.0
"""As long as GitHub waits for an answer."""

CONFIG = """
[worker]
concurrency = 2

[[route]]
name = "all"
match = "event:issues number:0"
run = ["true"]
"""
SLEEPER = """
[[route]]
name = "sleeper"
match = "event:issues"
run = ["/bin/sleep", "600"]
"""


@dataclass
class Load:
    """Senders that send one delivery after another, some on a connection of its own each, some on one that is kept."""

    daemon: Daemon
    answers: list[tuple[str, int]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def send(self, kept: bool) -> None:
        connection = self.daemon.connect(60)
        while not self._over.is_set():
            guid = new_guid()
            body, headers = signed("issues", issue(len(self.answers) % 20), guid)
            try:
                answer = ask(connection, "POST", "/webhook", body, headers)
                self.answers.append((guid, answer.status))
            except Exception as error:  # noqa: BLE001 - each is a delivery that GitHub would not send again
                self.failures.append(f"{guid}: {error!r}")
                connection.close()
            if not kept:
                connection.close()
        connection.close()

    @contextmanager
    def running(self, *, kept: int) -> Iterator[None]:
        """Four senders, so many of them on a connection that is kept."""
        threads = [threading.Thread(target=self.send, args=(number < kept,)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join(60)

    def go_on(self, more: int = 20) -> None:
        """Wait for so many more answers."""
        wanted = len(self.answers) + more
        eventually(lambda: len(self.answers) >= wanted or bool(self.failures), 60)


def accepted_once(daemon: Daemon, answers: list[tuple[str, int]]) -> None:
    """Every answer was 202, each of these deliveries is recorded once and made one task, and the journal verifies."""
    assert {status for _, status in answers} == {202}
    received = Counter(record["data"]["guid"] for record in daemon.records("delivery.received"))
    assert {guid: received[guid] for guid, _ in answers if received[guid] != 1} == {}
    assert set(received.values()) == {1}
    wanted = [record for record in daemon.records("delivery.received") if record["about"]["number"] == 0]
    assert len(daemon.records("task.queued")) == len(wanted) > 0
    assert daemon.cli_json("verify")["ok"] is True


def test_three_restarts_under_load_answer_every_send(make_daemon: Make) -> None:
    daemon = make_daemon(CONFIG)
    load = Load(daemon)
    with load.running(kept=2):
        for _ in range(3):
            load.go_on()
            assert daemon.take_over() == 0, daemon.log_tail()
            load.go_on()
    assert load.failures == []
    daemon.wait_all_done()
    assert daemon.stop() == 0
    accepted_once(daemon, load.answers)
    assert "Traceback" not in daemon.log_tail(100_000)


def test_restarts_by_a_service_manager_that_keeps_the_socket_answer_every_send(make_daemon: Make) -> None:
    """The connection is made whether a daemon runs or not; while none does, it waits in the kernel's queue."""
    daemon = make_daemon(CONFIG, start=False)
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        daemon.port = listening.getsockname()[1]
        daemon.wrapper = activated(listening)
        daemon.pass_fds = (listening.fileno(),)
        daemon.start()
        load = Load(daemon)
        with load.running(kept=0):
            for _ in range(3):
                load.go_on()
                daemon.restart()
                load.go_on()
        assert load.failures == []
        daemon.wait_all_done()
        assert daemon.stop() == 0
        accepted_once(daemon, load.answers)


def test_no_command_inherits_a_socket(make_daemon: Make, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    script = f"ls -l /proc/self/fd > {seen}.tmp; env >> {seen}.tmp; mv {seen}.tmp {seen}"
    route = (
        f'[[route]]\nname = "a"\nmatch = "event:issues"\nrun = ["/bin/sh", "-c", "{script}"]\nenv = ["LISTEN_FDS"]\n'
    )
    daemon = make_daemon(route, start=False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        daemon.port = listening.getsockname()[1]
        daemon.wrapper = activated(listening)
        daemon.pass_fds = (listening.fileno(),)
        daemon.start()
        daemon.post("issues", issue())
        text = eventually(seen.read_text)
        assert "socket:" not in text
        daemon.wait_all_done()
        daemon.stop()
    seen.unlink()
    daemon.wrapper = daemon.pass_fds = ()
    daemon.start()
    assert daemon.take_over() == 0
    daemon.post("issues", issue())
    assert "socket:" not in eventually(seen.read_text)


def test_a_socket_at_another_address_than_the_configured_one_is_refused(make_daemon: Make) -> None:
    daemon = make_daemon(start=False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        daemon.port = free_port()
        daemon.wrapper = activated(listening)
        daemon.pass_fds = (listening.fileno(),)
        daemon.start(wait=False)
        assert daemon.wait_exit(30) == 2
        said = daemon.log_tail()
        assert f"127.0.0.1:{listening.getsockname()[1]}" in said and "ListenStream=" in said
        assert not (daemon.data / "journal").exists(), "nothing was touched"


def test_what_runs_is_ended_as_at_any_stop_and_run_again(make_daemon: Make) -> None:
    daemon = make_daemon(SLEEPER)
    task = daemon.post("issues", issue()).json["tasks"][0]
    eventually(lambda: daemon.records("task.phase"), 30, "the command runs")
    assert daemon.take_over() == 0
    (retry,) = daemon.records("task.retry")
    assert (retry["subject"], retry["data"]["category"]) == (f"task.{task}", "interrupted")
    eventually(lambda: len(daemon.records("task.claimed")) == 2, 30, "the new one runs it again")


def test_a_half_sent_request_is_answered_by_the_one_that_began_it_and_an_idle_connection_goes_on(
    make_daemon: Make,
) -> None:
    daemon = make_daemon()
    kept, fresh = daemon.connect(), daemon.connect()
    fresh.connect()  # not a byte yet
    body, headers = signed("issues", issue(1))
    assert ask(kept, "POST", "/webhook", body, headers).status == 202
    body, headers = signed("issues", issue(2))
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=30) as half:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        half.sendall(f"POST /webhook HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode())
        half.sendall(body[:10])
        daemon.get("/healthz")  # the half is there before the other process is
        before = daemon.start_successor()
        eventually(lambda: "stopping" in daemon.log_tail(), 30)
        half.sendall(body[10:])
        assert half.recv(65536).startswith(b"HTTP/1.1 202 ")
        assert before.wait(30) == 0
    daemon.wait_taken_over()
    for connection in (kept, fresh):
        sock = connection.sock
        body, headers = signed("issues", issue(3))
        assert ask(connection, "POST", "/webhook", body, headers).status == 202
        assert connection.sock is sock, "the same connection, which the other process answers now"
        connection.close()


def test_the_api_s_connections_are_not_refused_either(make_daemon: Make) -> None:
    port = free_port()
    daemon = make_daemon(f'[api]\nbind = "127.0.0.1:{port}"\n')
    over, answers = threading.Event(), []

    def ask_on() -> None:
        while not over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            answers.append(ask(connection, "GET", "/healthz").status)
            connection.close()

    asking = threading.Thread(target=ask_on)
    asking.start()
    eventually(lambda: len(answers) > 10)
    assert daemon.take_over() == 0
    seen = len(answers)
    eventually(lambda: len(answers) > seen + 10 or not asking.is_alive())
    over.set()
    asking.join(30)
    assert set(answers) == {200} and len(answers) > seen + 10


def test_another_address_is_bound_beside_and_the_one_before_given_up(make_daemon: Make) -> None:
    daemon = make_daemon()
    before, daemon.port = daemon.port, free_port()
    assert daemon.take_over() == 0
    assert daemon.post("issues", issue()).status == 202
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", before), timeout=10)


def test_a_passed_socket_leaves_nothing_to_take_over(make_daemon: Make) -> None:
    daemon = make_daemon()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        other = Daemon(daemon.data, port=listening.getsockname()[1], args=["--take-over"])
        other.wrapper, other.pass_fds = activated(listening), (listening.fileno(),)
        other.start(wait=False)
        assert other.wait_exit(30) == 2
    assert daemon.post("issues", issue()).status == 202


def test_without_a_running_daemon_it_starts_like_any(make_daemon: Make) -> None:
    daemon = make_daemon(args=["--take-over"])
    assert daemon.post("issues", issue()).status == 202
    daemon.kill()
    assert (daemon.data / "takeover.sock").exists()
    daemon.start()
    assert daemon.post("issues", issue()).status == 202


def test_the_socket_is_for_this_user_alone_and_goes_with_the_daemon(make_daemon: Make) -> None:
    daemon = make_daemon()
    path = daemon.data / "takeover.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert daemon.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("wrong", ['[[route]]\nname = "a"\n', "[api]\nbind = '127.0.0.1:{port}'\n"])
def test_one_that_fails_before_it_is_ready_leaves_the_running_daemon_untouched(
    make_daemon: Make, tmp_path: Path, wrong: str
) -> None:
    """A configuration that can't be read, and an address that is taken: found before the running daemon is told anything."""
    daemon = make_daemon(CONFIG)
    other = tmp_path / "other.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        other.write_text(wrong.replace("{port}", str(taken.getsockname()[1])))
        done = daemon.cli(
            "serve", "--take-over", "--bind", f"127.0.0.1:{daemon.port}", "--config", str(other), exit_code=None
        )
    assert done.returncode in (2, 4) and b"Traceback" not in done.stderr
    assert (b"is taken by another program" in done.stderr) == (done.returncode == 4), done.stderr
    pid = daemon.pid
    assert daemon.get("/readyz").status == 200
    assert daemon.post("issues", issue()).status == 202
    assert daemon.api("/api/v1/status").json["pid"] == pid
    assert daemon.take_over() == 0, "and another may still take over"


def test_one_that_dies_in_the_middle_of_asking_leaves_it_untouched(make_daemon: Make) -> None:
    daemon = make_daemon(CONFIG)
    for said in (b"\n", b"no JSON\n", b'{"take_over":1}\n', b"x" * 100_000):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(daemon.data / "takeover.sock"))
            connection.settimeout(30)
            try:
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
                _, descriptors, _, _ = socket.recv_fds(connection, 4096, 8)
            except OSError:
                descriptors = []
            for descriptor in descriptors:
                os.close(descriptor)
    assert daemon.post("issues", issue()).status == 202
    assert daemon.take_over() == 0


def test_one_that_dies_after_it_was_ready_loses_nothing_that_was_accepted(make_daemon: Make) -> None:
    """The one before has begun to stop, and ends: the next start, by whom ever, has everything."""
    daemon = make_daemon(SLEEPER)
    guids = [new_guid() for _ in range(5)]
    for guid in guids:
        assert daemon.post("issues", issue(), guid).status == 202
    before = daemon.start_successor()
    eventually(lambda: "stopping" in daemon.log_tail(), 30)
    daemon.kill()
    assert before.wait(60) == 0
    daemon.start()
    recorded = [record["data"]["guid"] for record in daemon.records("delivery.received")]
    assert sorted(recorded) == sorted(guids)
    assert daemon.cli_json("verify")["ok"] is True


def test_a_command_of_a_route_is_refused_the_socket(make_daemon: Make, tmp_path: Path) -> None:
    """It would be ended together with the daemon that it ends; and a payload's command has no business with the port."""
    seen = tmp_path / "seen"
    script = tmp_path / "script.py"
    script.write_text(
        "import os, socket, sys\n"
        "connection = socket.socket(socket.AF_UNIX)\n"
        "connection.connect(sys.argv[1])\n"
        "connection.sendall(b'{\"take_over\":1}\\n')\n"
        "said, fds, _, _ = socket.recv_fds(connection, 4096, 8)\n"
        "open(sys.argv[2] + '.tmp', 'wb').write(b'%d ' % len(fds) + said)\n"
        "os.rename(sys.argv[2] + '.tmp', sys.argv[2])\n"
    )
    words = [sys.executable, str(script), "DATA/takeover.sock", str(seen)]
    daemon = make_daemon(start=False)
    run = str(words).replace("DATA", str(daemon.data)).replace("'", '"')
    config = tmp_path / "c.toml"
    config.write_text(f'[[route]]\nname = "a"\nmatch = "event:issues"\nrun = {run}\n')
    daemon.config = config
    daemon.start()
    daemon.post("issues", issue())
    said = eventually(seen.read_text)
    assert said.startswith("0 ") and "refused" in said
    assert daemon.get("/readyz").status == 200


def test_a_daemon_of_a_service_manager_is_not_taken_from_it(make_daemon: Make, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        daemon = make_daemon(env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        done = daemon.cli("serve", "--take-over", "--bind", f"127.0.0.1:{daemon.port}", exit_code=4)
        assert b"systemctl restart" in done.stderr
        assert daemon.get("/readyz").status == 200


def test_requests_are_held_until_the_one_before_has_ended_and_no_longer_than_eight_seconds(make_daemon: Make) -> None:
    """The one before is stopped in the middle (SIGSTOP): what comes is answered 503, in time and with Retry-After."""
    assert HELD_S == 8.0 < GITHUB_S
    daemon = make_daemon(CONFIG)
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=30) as half:
        half.sendall(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
        daemon.get("/healthz")  # the half is there, and keeps the one before from ending
        before = daemon.start_successor()
        eventually(lambda: "stopping" in daemon.log_tail(), 30)
        before.send_signal(signal.SIGSTOP)
    try:
        answer = daemon.request("POST", "/webhook", *signed("issues", issue()), timeout=60)
        assert answer.status == 503 and answer.json["error"] == "starting"
        assert int(answer.headers["retry-after"]) > 0
        answers: list[int] = []
        guid = new_guid()
        sender = threading.Thread(target=lambda: answers.append(daemon.post("issues", issue(), guid).status))
        sender.start()
        eventually(lambda: _connected(daemon.port) > 0, 30, "the request is held")
        assert answers == []
    finally:
        before.send_signal(signal.SIGTERM)  # the first one, of a script that stops the old one too: it ends in order
        before.send_signal(signal.SIGCONT)
    sender.join(60)
    assert answers == [202]
    assert before.wait(60) == 0
    daemon.wait_taken_over()
    refused = daemon.cli_json("refused")["items"]
    assert [one["error"] for one in refused] == ["starting"], (
        "it is told of, though nothing was open when it was refused"
    )
    assert [record["data"]["guid"] for record in daemon.records("delivery.received")] == [guid]


def _connected(port: int) -> int:
    """How many connections there are to the port on this machine."""
    wanted = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(wanted) and line.split()[3] == "01" for line in lines)
