"""Files that a command is given, where the file is a pipe: read once, waited for with a word and a bound, and never twice."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from covenq import given_file
from tests.support.checkout import clean_env
from tests.support.commands import run_command
from tests.support.requests import encode, issue
from tests.support.waiting import eventually

CONFIG = '[[route]]\nname = "fix"\nmatch = "event:issues"\nrun = ["true"]\n'
SUBSTITUTED: dict[str, tuple[list[str], str]] = {
    "routes --config": (["routes", "--config", "{}"], CONFIG),
    "routes check --config": (["routes", "check", "--config", "{}"], CONFIG),
    "routes diff --config": (["routes", "diff", "--config", "{}"], CONFIG),
    "routes diff --old": (["routes", "diff", "--config", "covenq.toml", "--old", "{}"], CONFIG),
    "info --config": (["info", "--config", "{}"], CONFIG),
    "doctor --config": (["doctor", "--config", "{}"], CONFIG),
    "status --config": (["status", "--config", "{}"], CONFIG),
    "routes test --file": (["routes", "test", "--event", "issues", "--file", "{}"], encode(issue(1)).decode()),
    "send --file": (["send", "issues", "--file", "{}", "--url", "http://127.0.0.1:9/webhook"], "{}"),
    "send --secret-file": (["send", "issues", "--secret-file", "{}", "--url", "http://127.0.0.1:9/webhook"], "s"),
    "--token-file": (["status", "--url", "http://127.0.0.1:9", "--token-file", "{}"], "token"),
    "import": (["import", "{}", "--dry-run"], '{"id":1,"request":{"headers":{},"payload":{}}}\n'),
}
"""What takes a file that may be a pipe, and what to put into it."""


@pytest.fixture
def room(tmp_path: Path) -> Path:
    (tmp_path / "covenq.toml").write_text(CONFIG)
    (tmp_path / "data").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def environment(room: Path) -> dict[str, str]:
    return clean_env(COVENQ_DATA=str(room / "data"), COVENQ_WEBHOOK_SECRET="s" * 40)


def start(room: Path, words: list[str], name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "covenq", *(word.replace("{}", name) for word in words)]
    env = environment(room)
    with (room / "said").open("wb") as said:
        return subprocess.Popen(
            command, env=env, cwd=room, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        )


@pytest.mark.parametrize("name", SUBSTITUTED)
def test_a_pipe_that_nobody_writes_to_is_waited_for_with_a_word_and_then_read(
    room: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, content = SUBSTITUTED[name]
    (room / "file").write_text(content)
    monkeypatch.chdir(room)
    of_file = run_command([word.replace("{}", "file") for word in words], environment(room))
    process = start(room, words, "pipe")
    try:
        eventually(lambda: b"waiting for pipe" in (room / "said").read_bytes(), 30, "it says what it waits for")
        (room / "pipe").write_text(content)
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == of_file.returncode, (room / "said").read_text()
    assert "Traceback" not in (room / "said").read_text()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(given_file, "SILENT_S", 0.01)
    monkeypatch.setattr(given_file, "PATIENCE_S", 0.02)
    yield


def test_a_pipe_is_not_waited_for_for_ever_and_is_read_once(room: Path, impatient: None) -> None:
    pipe = room / "pipe"
    with pytest.raises(TimeoutError, match="nothing came from it"):
        given_file.read(pipe, 100)
    with pytest.raises(TimeoutError):
        given_file.opened(pipe, wait=True)
    holder = os.open(pipe, os.O_RDWR)  # a writer that writes nothing
    with pytest.raises(TimeoutError):
        given_file.read(pipe, 100)
    os.write(holder, b"abc")
    closing = threading.Timer(0.2, os.close, [holder])
    closing.start()
    assert given_file.read(pipe, 100) == b"abc"
    closing.join()
    assert given_file.read(pipe, 100) == b"abc", "what it held is known still"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_pipe_is_waited_for_also_where_that_can_not_be_said(
    room: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Path("/dev/full").open("w")  # noqa: SIM115 - what it holds can't be written when it is closed
    monkeypatch.setattr(sys, "stderr", full)
    with pytest.raises(TimeoutError, match="nothing came from it"):
        given_file.read(room / "pipe", 100)
    with suppress(OSError):
        full.close()


def test_other_files_are_read_at_once_and_a_directory_is_none(room: Path) -> None:
    assert given_file.read(room / "covenq.toml", 7) == CONFIG[:7].encode()
    assert given_file.read(Path(os.devnull), 100) == b""
    assert given_file.read(Path("/dev/zero"), 100) == bytes(100)
    with pytest.raises(IsADirectoryError):
        given_file.read(room, 100)


def test_a_pipe_that_is_to_be_imported_leaves_nobody_to_ask(room: Path) -> None:
    process = start(room, ["import", "{}"], "pipe")
    process.communicate(timeout=60)
    assert process.returncode == 2
    assert "pipe is a pipe, which can't be looked through" in (room / "said").read_text()
