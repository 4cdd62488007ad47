"""The daemon as a process, and the details of its start: directory, secret, greeting, signals, socket."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from covenq.client.open import open_source
from covenq.config import load as configuration
from covenq.config.load import Config
from covenq.daemon import greeting
from covenq.daemon.datadir import make_directory, make_secret
from covenq.errors import CovenqError, PortBusy, Refused
from covenq.http.api.status import DaemonInfo
from covenq.http.server.listener import bind_tcp
from covenq.intake.admission import Admission, ClosedJournal
from covenq.net import unix_socket
from journal.errors import JournalClosed
from journal.file.files import OsFiles
from journal.file.open import open_journal
from journal.health import Room
from journal.records import Conflict, Entry
from tests.support.checkout import clean_env
from tests.support.daemon import Daemon
from tests.support.requests import UnixConnection, ask, issue, new_guid
from tests.support.waiting import eventually

Make = Callable[..., Daemon]

SLEEPER = """
[[route]]
name = "sleeper"
match = "event:issues"
run = ["/bin/sleep", "600"]
"""


@pytest.fixture
def forked() -> bool:
    return False  # how the program starts and ends


def test_sigterm_ends_commands_as_interrupted_streams_and_the_socket(make_daemon: Make) -> None:
    daemon = make_daemon(SLEEPER)
    task = daemon.post("issues", issue()).json["tasks"][0]
    eventually(lambda: daemon.records("task.phase"), 30, "the command runs")
    stream = UnixConnection(daemon.socket, 30.0)
    stream.request("GET", "/api/v1/events")
    response = stream.getresponse()
    assert daemon.stop() == 0, daemon.log_tail()
    response.read()
    stream.close()
    assert not daemon.socket.exists()
    retries = daemon.records("task.retry")
    assert [(one["subject"], one["data"]["category"]) for one in retries] == [(f"task.{task}", "interrupted")]
    assert "Traceback" not in daemon.log_tail()


def test_a_daemon_that_is_started_without_standard_descriptors_opens_no_file_there(make_daemon: Make) -> None:
    daemon = make_daemon(SLEEPER, wrapper=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"])
    daemon.post("issues", issue())
    eventually(lambda: daemon.records("task.phase"), 30, "the command runs")
    for descriptor in (0, 1, 2):
        assert Path(f"/proc/{daemon.pid}/fd/{descriptor}").readlink() == Path(os.devnull)
    assert daemon.stop() == 0
    daemon.cli("verify")


def test_ctrl_c_twice_at_once_is_still_an_orderly_stop(make_daemon: Make) -> None:
    daemon = make_daemon()
    daemon.post("issues", issue())
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGINT)
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.wait_exit(30) == 0, daemon.log_tail()


def test_a_stop_answers_the_request_that_is_half_sent(make_daemon: Make) -> None:
    daemon = make_daemon()
    body = b"x" * 100
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=30) as connection:
        connection.sendall(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n" + body[:50])
        assert daemon.process is not None
        daemon.get("/healthz")  # the half is there before the signal
        daemon.process.send_signal(signal.SIGTERM)
        eventually(lambda: "stopping" in daemon.log_tail(), 30)
        connection.sendall(body[50:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 415 ")
    assert daemon.wait_exit(30) == 0


def test_a_socket_left_by_a_killed_daemon_is_replaced(make_daemon: Make) -> None:
    daemon = make_daemon()
    daemon.kill()
    assert stat.S_ISSOCK(daemon.socket.stat().st_mode)
    with open_source(daemon.data, Config()) as source:
        assert not source.live
    daemon.start()
    assert daemon.api("/api/v1/status").json["pid"] == daemon.pid


def test_a_data_directory_too_deep_for_a_socket_works(make_daemon: Make, data: Path) -> None:
    deep = data.parent / ("d" * 100) / ("e" * 100)
    daemon = make_daemon(data=deep, start=False)
    deep.parent.mkdir(parents=True)
    daemon.start()
    guid = new_guid()
    assert daemon.post("issues", issue(), guid).status == 202
    with open_source(deep, Config()) as source:
        assert source.live
        assert source.delivery(guid).guid == guid
    connection = UnixConnection(daemon.socket, 5.0)
    with pytest.raises(OSError, match="too long"):
        ask(connection, "GET", "/healthz")
    connection.close()
    assert daemon.cli_json("show", guid)["guid"] == guid


def test_a_poisoned_journal_ends_the_process_with_running_commands_within_five_seconds(
    make_daemon: Make, faults: Path
) -> None:
    daemon = make_daemon(SLEEPER, faults=faults)
    assert daemon.post("issues", issue()).status == 202
    eventually(lambda: daemon.records("task.phase"), 30, "the command runs")
    (faults / "fdatasync").write_text("EIO")
    assert daemon.post("issues", issue()).status == 503
    assert daemon.wait_exit(5) == 1, "the promise itself"
    said = daemon.log_tail()
    assert "dmesg" in said
    assert "Traceback" not in said


def test_deliveries_left_in_received_are_routed_at_the_next_start(make_daemon: Make) -> None:
    daemon = make_daemon(start=False)
    daemon.data.mkdir(mode=0o700)
    guid = new_guid()
    received = {
        "hook": "7",
        "guid": guid,
        "event": "star",
        "action": None,
        "installation": None,
        "repo_id": None,
        "secret": "env",
        "source": "http",
        "headers": [["Content-Type", "application/json"]],
        "twin": None,
        "tasks": None,
    }
    with open_journal(daemon.data / "journal") as journal:
        journal.append([Entry(f"delivery.7.{guid}", "delivery.received", received, {}, b"{}", expect=0)])
    with open_source(daemon.data, Config()) as source:
        assert source.delivery(guid).state == "received"
    daemon.start()
    eventually(lambda: daemon.api(f"/api/v1/deliveries/{guid}").json["state"] == "ignored")


def test_what_is_odd_in_one_delivery_keeps_no_other_in_received(make_daemon: Make) -> None:
    daemon = make_daemon(start=False)
    daemon.data.mkdir(mode=0o700)
    odd, good, newest = "a-odd", "b-good", "c-newest"
    told = {"hook": "7", "event": "star", "secret": "env", "source": "http", "headers": [], "tasks": None}
    with open_journal(daemon.data / "journal") as journal:
        journal.append([Entry(f"delivery.7.{odd}", "delivery.received", {"tasks": 7}, {}, b"{}", expect=0)])
        journal.append([Entry(f"delivery.7.{good}", "delivery.received", {**told, "guid": good}, {}, b"{}", expect=0)])
        named = {"tasks": [7, ["x"], "no task", "t1"], "headers": {}, "repo_id": "x" * 300, "installation": []}
        journal.append([Entry(f"delivery.7.{newest}", "delivery.received", named, {"repo": 7}, b"{}", expect=0)])
    daemon.start()
    eventually(lambda: daemon.api(f"/api/v1/deliveries/{good}").json["state"] == "ignored")
    assert daemon.get("/readyz").status == 200


def test_the_words_of_a_first_start_can_be_typed_as_they_are(make_daemon: Make) -> None:
    daemon = make_daemon(secret=None)

    def offered() -> list[str]:
        commands = [line.strip() for line in daemon.log_tail().splitlines() if " -m covenq " in line]
        assert len(commands) == 3
        return commands

    commands = eventually(offered, what="the greeting, which comes right behind readiness")
    plain = clean_env()
    for command in commands:
        assert os.waitstatus_to_exitcode(_shell(command, plain)) == 0, command
    assert len(daemon.records("delivery.received")) == 1
    daemon.restart()
    assert daemon.log_tail().count("Try next") == 1


def test_a_sample_is_not_to_be_tried_where_every_secrets_scope_leaves_it_out(make_daemon: Make) -> None:
    scoped = '[github]\nwebhook_secrets = [{ name = "docs", value = "long enough a secret", repositories = ["acme/docs"] }]\n'
    daemon = make_daemon(scoped, secret=None)

    def offered() -> list[str]:
        commands = [line.strip() for line in daemon.log_tail().splitlines() if " -m covenq " in line]
        assert len(commands) == 3
        return commands

    plain = clean_env()
    commands = eventually(offered, what="the greeting, which comes right behind readiness")
    assert " secrets" in commands[0]
    for command in commands:
        assert os.waitstatus_to_exitcode(_shell(command, plain)) == 0, command
    said = daemon.cli("send", "issues", exit_code=4).stderr.decode()
    assert "refused with 401 signature_out_of_scope: Secret 'docs' signed it, and repository " in said
    assert (
        "hint: A sample is of an invented repository and installation: send a body that is in the scope with --file"
        in said
    )


def _shell(command: str, env: dict[str, str]) -> int:
    """Run it as from another terminal; the wait status."""
    return os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", f"{command} >/dev/null 2>&1 </dev/null"], env), 0)[1]


# ---- the small decisions


def test_how_the_program_was_called_is_how_it_is_spelled() -> None:
    here = Path("/home/me/covenq")
    assert greeting.program(".venv/bin/covenq", None, Path.cwd()) == ".venv/bin/covenq"
    assert greeting.program(f"{here}/.venv/bin/covenq", None, here) == ".venv/bin/covenq"
    assert greeting.program("/usr/bin/covenq", "/usr/bin/covenq", here) == "covenq"
    assert greeting.program("/opt/a b/covenq", None, here) == "'/opt/a b/covenq'"
    assert greeting.program("/x/covenq/cli/main.py", None, here) == f"{sys.executable} -m covenq"


def test_words_name_what_another_terminal_lacks(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "COVENQ_DATA": str(tmp_path / "other")}
    usual = tmp_path / ".local" / "state" / "covenq"
    assert greeting.options(Config(), usual, home) == ""
    assert greeting.options(Config(), tmp_path / "my data", home) == f" --data '{tmp_path}/my data'"
    elsewhere = Config(path=tmp_path / "c.toml", data=tmp_path / "d")
    assert greeting.options(elsewhere, tmp_path / "d", home) == f" --config {tmp_path}/c.toml"


@pytest.mark.parametrize(
    ("path", "three"), [(None, ["init", "send", "tasks"]), (Path("/c.toml"), ["send", "deliveries", "tasks"])]
)
def test_init_is_tried_first_but_not_where_it_would_refuse(tmp_path: Path, path: Path | None, three: list[str]) -> None:
    info = DaemonInfo("1", "2026-11-23T00:00:00.000000Z", "u")
    text = greeting.render(Config(path=path), tmp_path, info, first=True, secret_made=True, argv=["covenq"], env={})
    said = text.splitlines()
    assert [line.split()[1] for line in said[-3:]] == three


def test_secrets_are_named_by_their_place_only() -> None:
    raw = {"github": {"webhook_secrets": [{"name": "a", "value": "hush"}, {"name": "b", "env": "B"}]}}
    config = configuration.build(raw, None, {"COVENQ_WEBHOOK_SECRET": "hush"})
    said = greeting.secret_location(config, Path("/data"), False)
    assert said == "a (in the configuration), b ($B), env ($COVENQ_WEBHOOK_SECRET)"


def test_the_secret_is_made_once_private_and_random(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        assert make_directory(tmp_path / "a" / "data") is True
        data = tmp_path / "a" / "data"
        assert make_secret(data) is True
    finally:
        os.umask(old)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    secret = data / "secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert len(bytes.fromhex(secret.read_text().strip())) == 32
    before = secret.read_text()
    assert (make_directory(data), make_secret(data)) == (False, False)
    assert secret.read_text() == before
    assert [path.name for path in data.iterdir()] == ["secret"]
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="is no directory"):
        make_directory(tmp_path / "file")
    with pytest.raises(Refused):
        make_directory(tmp_path / "file" / "below")
    with pytest.raises(CovenqError):
        make_secret(tmp_path / "not there")


def test_a_taken_port_an_unknown_host_and_a_bad_address_are_sentences() -> None:
    with bind_tcp("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortBusy, match=f"127.0.0.1:{port} is taken"):
            bind_tcp("127.0.0.1", port)
    for host in ("host.invalid", "203.0.113.7"):
        with pytest.raises(Refused):
            bind_tcp(host, 9)


def test_unix_sockets_bind_at_any_depth_over_stale_ones_and_over_nothing_else(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / ("x" * 120)):
        directory.mkdir(exist_ok=True)
        path = directory / "s"
        unix_socket.bind(path).close()  # left behind
        with unix_socket.bind(path) as bound:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            bound.listen()
            unix_socket.connect(path, 5.0).close()
        with pytest.raises(ConnectionRefusedError):
            unix_socket.connect(path, 5.0)
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="is no socket"):
        unix_socket.bind(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        unix_socket.connect(tmp_path / "nothing" / ("y" * 120), 5.0)


class FullDisk(OsFiles):
    """Writes fail while `full`."""

    full = False

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if self.full:
            raise OSError(28, os.strerror(28))
        return super().pwrite(fd, data, offset)


def test_the_gate_closes_in_time_and_opens_by_itself(tmp_path: Path) -> None:
    room = Room(1 << 40, 64 << 20)
    files = FullDisk()
    with open_journal(tmp_path / "journal", files=files) as journal:
        admission = Admission(journal, lambda: replace(journal.health(), room=room))
        assert admission.reasons() == []
        assert admission.intake(1 << 39) is None
        room = Room((64 << 20) + 100, 64 << 20)
        assert admission.intake(100) is None
        assert admission.intake(101) is not None, "what it would take counts"
        room = Room((64 << 20) - 1, 64 << 20)
        admission.check()
        assert [reason.word for reason in admission.reasons()] == ["disk_low"]
        room = Room(1 << 40, 64 << 20)

        files.full = True
        entry = Entry("ops.test", "ops.test", {})
        with pytest.raises(Exception, match="space"):
            journal.append([entry])
        assert [reason.word for reason in admission.reasons()] == ["journal_full"]
        admission.check()
        assert admission.reasons() and not admission.has_space()
        files.full = False
        admission.check()
        assert admission.reasons() == [], "it tried, and nobody had to post"
        newest = journal.last("ops.intake")
        assert newest is not None and newest.kind == "ops.intake_opened"
        admission.stopping = True
        assert [reason.word for reason in admission.reasons()] == ["stopping"]


def test_a_closed_journal_knows_what_it_holds_and_takes_nothing(tmp_path: Path) -> None:
    with open_journal(tmp_path / "journal") as journal:
        journal.append([Entry("ops.a", "ops.test", {}, expect=0)])
        closed = ClosedJournal(journal)
        assert closed.append([Entry("ops.a", "ops.test", {}, expect=0)]) == Conflict("ops.a", 1)
        with pytest.raises(JournalClosed):
            closed.append([Entry("ops.b", "ops.test", {}, expect=0)])
        with pytest.raises(JournalClosed):
            closed.append([Entry("ops.a", "ops.test", {})])
        assert (closed.id, closed.epoch, closed.head()) == (journal.id, journal.epoch, journal.head())
        assert closed.last("ops.a") == closed.get(1) == next(closed.read(0))
        assert closed.wait(0, 0)
