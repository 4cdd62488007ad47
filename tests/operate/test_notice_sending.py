"""One try of a notice: a real command and a real receiver, what they get, and what is said of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from covenq.config.notify import Notify
from covenq.config.secret_keys import Key
from covenq.config.secret_source import SecretSource
from covenq.model.notices import Notice
from covenq.operate.notify import command
from covenq.operate.notify.conditions import Condition
from covenq.operate.notify.send import Sender, encoded
from covenq.operate.notify.transitions import Change
from covenq.operate.notify.wording import notice_of
from covenq.tasks.execution.command import StopEvent
from tests.support.receiver import Receiver, receiving
from tests.support.requests import SECRET
from tests.support.waiting import eventually

NOTICE: Notice = notice_of(
    Change("began", Condition("failures", "route a\nb", "5 of 5 failed"), 1.0), 2.0, lambda: "n1"
)
ENV = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "COVENQ_WEBHOOK_SECRET": SECRET, "API_TOKEN": "x" * 20}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as server:
        yield server


def shell(script: str, timeout_s: float = 20.0, stop: StopEvent | None = None) -> Sender:
    keys = (Key("a", SECRET.encode()),)
    return Sender(Notify(run=("sh", "-c", script), timeout_s=timeout_s), ENV, keys, (), stop)


def url(server_url: str, secret: str = SECRET, env: dict[str, str] | None = None) -> Sender:
    source = SecretSource("notify", env="NOTIFY_SECRET")
    given = ENV | {"NOTIFY_SECRET": secret} if env is None else env
    return Sender(Notify(url=server_url, secret=source, timeout_s=20.0), given)


def test_a_command_gets_the_notice_on_its_input_and_ids_in_its_environment_and_nothing_else(tmp_path: Path) -> None:
    said = shell(
        f'cat > {tmp_path}/in; env > {tmp_path}/env; pwd > {tmp_path}/pwd; echo "$0 $*" > {tmp_path}/argv'
    ).send("run", NOTICE)
    assert said.ok and said.detail == "sh took it"
    assert (tmp_path / "in").read_bytes() == encoded(NOTICE) + b"\n"
    assert json.loads((tmp_path / "in").read_text())["text"] == "5 of 5 failed"
    env = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    own = {name: value for name, value in env.items() if name.startswith("COVENQ_")}
    assert own == {
        "COVENQ_NOTICE": "n1",
        "COVENQ_KIND": "failures",
        "COVENQ_STATE": "began",
        "COVENQ_SCOPE": "route ab",
    }
    assert env.keys() - own.keys() <= {"PATH", "HOME", "LANG", "TZ", "PWD", "SHLVL", "_", "OLDPWD"}
    assert (tmp_path / "argv").read_text() == "sh \n" and (tmp_path / "pwd").read_text() == "/\n"


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        ("echo it is full >&2; exit 3", "sh: it exited with 3; it said: it is full"),
        ("kill -9 $$", "sh: it was ended by signal 9"),
        (f'echo "key {SECRET}" ghp_{"a" * 30}; exit 1', "sh: it exited with 1; it said: key *** ghp_***"),
        ("exec < /dev/null; exit 0", "sh took it"),
    ],
)
def test_what_became_of_a_command_is_said_in_one_line_without_secrets(script: str, detail: str) -> None:
    assert shell(script).send("run", NOTICE).detail == detail


def test_of_much_output_the_end_is_kept_and_a_program_that_is_not_there_is_said_so() -> None:
    end = command.run(["sh", "-c", "yes abcdefg | head -c 3000000; printf '\\nthe end'; exit 1"], ENV, b"", 30.0)
    assert end.output.endswith(b"the end") and len(end.output) == command.OUTPUT_MAX
    said = Sender(Notify(run=("/no/such/program",)), ENV).send("run", NOTICE)
    assert not said.ok and said.detail == "/no/such/program: it could not be started: No such file or directory"


def test_a_command_that_takes_too_long_is_ended_with_its_whole_group(tmp_path: Path) -> None:
    script = f"trap '' TERM; sleep 1000 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/own; wait; sleep 1000"
    for timeout_s in (0.3, 3.0, 30.0):  # until it has come so far meanwhile
        said = shell(script, timeout_s=timeout_s).send("run", NOTICE)
        assert not said.ok and said.detail == f"sh: it ran longer than {timeout_s:g} s"
        if (tmp_path / "own").exists() and (tmp_path / "own").read_text():
            break
    for name in ("own", "child"):
        pid = int((tmp_path / name).read_text())
        eventually(lambda pid=pid: not _is_alive(pid), 10, f"{name} is dead")


def test_a_stop_ends_a_command_that_runs(tmp_path: Path) -> None:
    stop = StopEvent()
    found: list[str] = []
    sender = shell(f"echo > {tmp_path}/began; sleep 1000", timeout_s=100.0, stop=stop)
    thread = threading.Thread(target=lambda: found.append(sender.send("run", NOTICE).detail))
    thread.start()
    eventually((tmp_path / "began").exists, 20, "it runs")
    stop.set(1.0)
    thread.join(20)
    assert found == ["sh: the daemon was stopped"]
    stop.close()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIG_DFL)
        return not (sys.platform == "linux" and " Z " in Path(f"/proc/{pid}/stat").read_text())
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_receiver_gets_the_same_bytes_signed_as_github_signs_and_the_id(receiver: Receiver) -> None:
    said = url(receiver.url).send("url", NOTICE)
    assert said.ok and said.detail == "127.0.0.1 answered 200"
    ((headers, body, good),) = receiver.seen
    assert good and body == encoded(NOTICE) and headers["covenq-notice"] == "n1"
    assert headers["content-type"] == "application/json" and headers[":path"] == "/hook?app=1"
    url(receiver.url, "another secret").send("url", NOTICE)
    assert not receiver.seen[1][2]


@pytest.mark.parametrize(
    ("status", "detail"),
    [(500, "127.0.0.1 answered 500"), (302, "127.0.0.1 answered 302; a redirect is not followed")],
)
def test_an_answer_that_is_no_success_is_none(receiver: Receiver, status: int, detail: str) -> None:
    receiver.answer = lambda number: (status, {"Location": receiver.url}, b"no")
    said = url(receiver.url).send("url", NOTICE)
    assert (said.ok, said.detail, len(receiver.seen)) == (False, detail, 1)


def test_a_machine_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "h\udcff\n" + "x" * 100)
    found = notice_of(Change("began", Condition("disk", "disk", "full"), 1.0), 2.0)
    assert json.loads(encoded(found))["host"] == "h  " + "x" * 61


@pytest.mark.parametrize(
    ("headers", "rest"),
    [({}, b"x" * 100_000), ({"Content-Length": "100"}, b"cut"), ({"Content-Encoding": "gzip"}, b"none"), ({}, b"")],
)
def test_whatever_follows_its_status_an_answer_has_come(
    receiver: Receiver, headers: dict[str, str], rest: bytes
) -> None:
    """Else whoever took a notice would be told again and again, for ever."""
    for status in (200, 500):
        receiver.answer = lambda number, status=status: (status, headers, rest)
        said = url(receiver.url).send("url", NOTICE)
        assert (said.ok, said.detail) == (status == 200, f"127.0.0.1 answered {status}")


def test_nobody_there_and_no_secret_are_said_without_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and listens not
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/T0KEN/x"
        assert url(address).send("url", NOTICE).detail == "127.0.0.1 takes no connection"
        said = url(address, env=ENV)
        assert (
            said.send("url", NOTICE).detail
            == "secret of [notify] 'notify': environment variable NOTIFY_SECRET is not set"
        )
