"""The dashboard in a real terminal, from start to quit: `covenq tui` in tmux, keys sent, the screen read back."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from journal.file.open import open_journal
from journal.file.verify import PARALLEL_FROM
from tests.support.daemon import Daemon
from tests.support.dashboard import ROUTES
from tests.support.records import received
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed (.ci/run installs it)")


class Terminal:
    """A tmux server of its own with one window, which stays when its command has ended."""

    def __init__(
        self, socket: Path, env: dict[str, str], command: list[str], width: int = 80, height: int = 24
    ) -> None:
        self._socket = socket
        self._env = env
        words = shlex.join(command) + "; echo exit=$?; cat"
        self.tmux("new-session", "-d", "-x", str(width), "-y", str(height), words)

    def tmux(self, *words: str) -> str:
        command = ["tmux", "-f", "/dev/null", "-S", str(self._socket), *words]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, check=True, timeout=60).stdout

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def sees(self, *words: str) -> str:
        """Wait until the screen has all of these, and return it."""

        def look() -> str | None:
            shown = self.screen()
            assert all(word in shown for word in words), f"{words} not in\n{shown}"
            return shown

        return eventually(look, 60, f"the screen shows {words}")

    def line(self, words: str) -> str:
        """The line with these words, with its colours."""
        return next(line for line in self.tmux("capture-pane", "-p", "-e").splitlines() if words in line)

    def loses(self, words: str) -> None:
        """Wait until the screen has these no more."""
        eventually(lambda: words not in self.screen(), 60, f"{words} is gone")

    def end(self) -> None:
        self.tmux("kill-server")


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    return make_daemon(ROUTES)


@pytest.fixture
def terminal(daemon: Daemon, data: Path) -> Iterator[Terminal]:
    with dashboard_in_terminal(daemon.environment(), data) as terminal:
        yield terminal


@contextmanager
def dashboard_in_terminal(env: dict[str, str], data: Path) -> Iterator[Terminal]:
    env = {**env, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    env.pop("NO_COLOR", None)
    env.pop("COLUMNS", None)
    command = ["env", "TERM=xterm", sys.executable, "-m", "covenq", "tui"]
    terminal = Terminal(data.with_name("tmux"), env, command)
    try:
        yield terminal
    finally:
        terminal.end()


def test_from_start_to_quit_in_sixteen_colours(daemon: Daemon, terminal: Terminal) -> None:
    terminal.sees("No deliveries yet", f"{daemon.url}/webhook", "covenq send")
    daemon.post("issues", issue(1, action="closed"))
    for number in (2, 3):
        daemon.post("push", issue(number))
    terminal.sees("✗ failed", "– ignored", "FOLLOWING", "3 deliveries")
    terminal.keys("/")
    terminal.keys("-l", "event:issues")
    terminal.keys("Enter")
    terminal.sees("1 of 3 match /event:issues")
    terminal.keys("Enter")
    terminal.sees("route bad", "category exit")
    terminal.keys("Escape")
    terminal.loses("category exit")
    terminal.sees("match /event:issues")
    terminal.keys("r")
    terminal.sees("eligible  1 delivery", "Cancel")
    buttons = terminal.line("Cancel")
    terminal.keys(
        "Tab"
    )  # and Enter only when the focus is seen to have moved: keys that come at once are all the old one's
    eventually(lambda: terminal.line("Cancel") != buttons, 60, "the other button has the focus")
    terminal.keys("Enter")
    terminal.sees("done      1 delivery", "covenq replay")
    terminal.keys("Escape")  # and nothing more until it was taken: a terminal means Alt by an escape and a key
    terminal.loses("covenq replay")
    terminal.keys("3")
    daemon.wait_all_done()
    shown = terminal.sees("2 tasks")
    eventually(lambda: terminal.screen().count("✗ failed") == 2, 60, f"the new task has run\n{shown}")
    terminal.keys("q")
    terminal.sees("exit=0")
    assert len(daemon.records("delivery.replayed")) == 1


def test_a_journal_that_several_processes_verify(data: Path) -> None:
    body = b'{"words":"' + b"x" * (1 << 20) + b'"}'
    with open_journal(data / "journal") as journal:
        for _ in range(PARALLEL_FROM // len(body) + 1):
            journal.append([received(new_guid(), "1", payload=body)])
    with dashboard_in_terminal({**os.environ, "COVENQ_DATA": str(data)}, data) as terminal:
        terminal.sees("FOLLOWING", "stopped")
        terminal.keys("v")
        terminal.sees("no damage", "records verify")
        terminal.keys("Escape")
        terminal.sees("FOLLOWING", "stopped")
        terminal.keys("q")
        terminal.sees("exit=0")
