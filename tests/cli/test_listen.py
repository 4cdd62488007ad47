"""`covenq listen` as a process on a terminal of its own, against the stand-in for GitHub."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from covenq.cli import listening
from covenq.config.load import load
from covenq.errors import CovenqError, DaemonUnreachable, StateBehind
from tests.support import chosen_engine
from tests.support.checkout import clean_env
from tests.support.commands import run_command
from tests.support.daemon import Daemon
from tests.support.github_log import Fault, GithubLog, app_table, github
from tests.support.journal_json import records
from tests.support.waiting import eventually


@pytest.fixture
def server() -> Iterator[GithubLog]:
    with github() as found:
        yield found
        assert [one for one in found.asked if not one.startswith("GET ")] == []


def config_of(server: GithubLog, directory: Path, github_: str = "") -> str:
    route = '[[route]]\nname = "fix"\nmatch = "event:issues"\nrun = ["true"]\n'
    return f'[github]\n{github_}\n{app_table(server, directory)}\n[reconcile]\nevery = "1s"\n{route}'


@dataclass
class Terminal:
    """A command on a terminal; `text` is what it has shown so far."""

    process: subprocess.Popen[bytes]
    leader: int
    shown: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        while True:
            try:
                got = os.read(self.leader, 65536)
            except OSError:  # every descriptor of the other side is closed
                return
            if not got:
                return
            self.shown += got

    @property
    def text(self) -> str:
        return self.shown.decode("utf-8", "replace").replace("\r\n", "\n")

    def wait_for(self, words: str) -> str:
        eventually(lambda: words in self.text, 60, self.text)
        return self.text

    def interrupt(self) -> int:
        """Ctrl-C, as the terminal's driver has it; the exit code."""
        os.write(self.leader, b"\x03")
        code = self.process.wait(60)
        self.thread.join(30)
        return code


Listen = Callable[..., Terminal]


@pytest.fixture
def listen(data: Path, tmp_path: Path, write_config: Callable[[str], Path], server: GithubLog) -> Iterator[Listen]:
    made: list[Terminal] = []
    config = write_config(config_of(server, tmp_path))

    def start(*words: str) -> Terminal:
        leader, follower = pty.openpty()
        argv = [sys.executable, "-m", "covenq", "listen", "--data", str(data), "--config", str(config), *words]
        env = clean_env(**chosen_engine.variables(data))
        process = subprocess.Popen(
            argv, env=env, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
            preexec_fn=_control,
        )  # fmt: skip
        os.close(follower)
        made.append(Terminal(process, leader))
        return made[-1]

    yield start
    for one in made:
        one.process.kill()
        one.process.wait(30)
        one.thread.join(30)
        os.close(one.leader)


def _control() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_it_prints_what_comes_and_goes_on_where_it_last_stopped(listen: Listen, server: GithubLog, data: Path) -> None:
    terminal = listen()
    terminal.wait_for("from now on.")
    terminal.wait_for("Caught up: 0 deliveries")
    one = server.add()
    other = server.add("push")
    text = terminal.wait_for("task.completed")
    text = terminal.wait_for("delivery.ignored")
    (line,) = [line for line in text.splitlines() if "delivery.received" in line and one.guid[:8] in line]
    assert "issues" in line
    assert "task.queued" not in text and "task.claimed" not in text
    assert terminal.interrupt() == 0
    assert terminal.text.rstrip().endswith("goes on from here.") and "Traceback" not in terminal.text
    missed = [server.add() for _ in range(3)]
    again = listen()
    text = again.wait_for("Caught up: 3 deliveries came since then.")
    assert "(where it last stopped)" in text and one.guid[:8] not in text
    assert again.interrupt() == 0
    guids = [record["data"]["guid"] for record in records(data, "delivery.received")]
    assert sorted(guids) == sorted([one.guid, other.guid, *(each.guid for each in missed)])


def test_a_filter_is_of_what_is_printed(listen: Listen, server: GithubLog, data: Path) -> None:
    terminal = listen("event:push")
    terminal.wait_for("Caught up")
    server.add()
    server.add("push")
    text = terminal.wait_for("delivery.ignored")
    assert "issues" not in text
    eventually(lambda: len(records(data, "delivery.received")) == 2, 60)
    assert terminal.interrupt() == 0
    for event in ("issues", "push", "issues"):
        server.add(event)
    again = listen("event:push")
    again.wait_for("Caught up: 3 deliveries came since then, 1 of them shown.")
    assert again.interrupt() == 0


def test_a_reader_that_leaves_ends_it(
    data: Path, tmp_path: Path, write_config: Callable[[str], Path], server: GithubLog
) -> None:
    config = write_config(config_of(server, tmp_path))
    argv = [sys.executable, "-m", "covenq", "listen", "--data", str(data), "--config", str(config)]
    process = subprocess.Popen(
        argv, env=clean_env(**chosen_engine.variables(data)), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    eventually(lambda: "Caught up" in _line(process), 60)
    server.add()
    assert b"delivery.received" in process.stdout.readline()
    process.stdout.close()
    server.add()
    assert process.wait(60) == 1
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


def _line(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    return process.stderr.readline().decode()


def ended(data: Path, config: Path | None, *words: str) -> tuple[int, str]:
    named = [] if config is None else ["--config", str(config)]
    done = run_command(["listen", "--data", str(data), *named, *words], clean_env(**chosen_engine.variables(data)))
    return done.returncode, done.stderr.decode()


def test_without_a_log_it_says_how_to_get_one(data: Path, write_config: Callable[[str], Path]) -> None:
    for config in (None, write_config("[github]\n")):
        code, said = ended(data, config)
        assert code == 2 and "covenq init --github-app --ingress log" in said
    assert not data.exists()


def test_a_configuration_that_deliveries_are_posted_by_is_refused(
    data: Path, tmp_path: Path, write_config: Callable[[str], Path], server: GithubLog
) -> None:
    config = write_config('[server]\npublic_url = "https://covenq.example.org"\n' + config_of(server, tmp_path))
    code, said = ended(data, config)
    assert code == 4 and "would come twice" in said and 'ingress = "log"' in said
    assert ended(data, config, "event:")[0] == 2
    assert ended(data, config, "--log-level", "loud")[0] == 2


def test_beside_a_daemon_of_the_same_data_it_is_refused(
    make_daemon: Callable[..., Daemon], tmp_path: Path, server: GithubLog
) -> None:
    daemon = make_daemon(config_of(server, tmp_path))
    code, said = ended(daemon.data, daemon.config)
    assert code == 4 and str(daemon.pid) in said
    assert daemon.stop() == 0


# ---- a daemon that is slow to answer


class Slow:
    """Stands for a daemon: what is asked of it after which seq is in `asked`, and `answers` says what comes of each time."""

    def __init__(self, answers: list[CovenqError | None], ended: Callable[[], None]) -> None:
        self.asked: list[int] = []
        self._answers = answers
        self._ended = ended

    def __enter__(self) -> Slow:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def status(self) -> Any:
        return SimpleNamespace(reconcile=None)

    def tail(self, filter: object, *, after: int, wait_s: float) -> Any:
        self.asked.append(after)
        error = self._answers.pop(0)
        if not self._answers:
            self._ended()
        if error is not None:
            raise error
        return SimpleNamespace(items=[], next=after + 1)


def test_a_daemon_that_does_not_answer_in_time_is_asked_again_from_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listened = listening.Listening(tmp_path, load(None, {}), [])
    slow = Slow([None, DaemonUnreachable("busy"), None, StateBehind("behind"), None], listened.finish)
    found = iter([None, *[slow] * 3])
    monkeypatch.setattr(listening, "open_running", lambda data: next(found))
    monkeypatch.setattr(listening, "CATCHING_UP_S", 0.01)
    listened.run()
    assert listened.error is None and slow.asked == [0, 1, 1, 2, 2]


def test_what_github_leaves_unanswered_is_said_and_that_it_is_over(listen: Listen, server: GithubLog) -> None:
    terminal = listen()
    terminal.wait_for("Caught up")
    server.faults = [Fault(500, on="/deliveries", whole=True)] * 2
    terminal.wait_for("GitHub is asked again: 127.0.0.1 answered 500")
    text = terminal.wait_for("is compared again")
    assert text.count("GitHub is asked again") == 1
    assert terminal.interrupt() == 0
