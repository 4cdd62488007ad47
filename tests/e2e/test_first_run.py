"""The first run: what `serve` creates and prints without any configuration, and its errors in one sentence."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checkout import ROOT, clean_env
from tests.support.daemon import Daemon
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually

Make = Callable[..., Daemon]


@pytest.fixture
def forked() -> bool:
    return False  # as somebody starts it first


def test_a_first_start_makes_a_private_directory_and_secret_and_says_what_comes_next(make_daemon: Make) -> None:
    daemon = make_daemon(secret=None)
    assert stat.S_IMODE(daemon.data.stat().st_mode) == 0o700
    secret = daemon.data / "secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(daemon.socket.stat().st_mode) & 0o077 == 0
    # It is ready a moment before it says so. The commands to try are spelled as they work, here through the module.
    said = eventually(lambda: "Try next" in daemon.log_tail() and daemon.log_tail(), 10, "the greeting")
    for words in (f"{daemon.url}/webhook", str(secret), "init", "send issues", "deliveries", "no routes"):
        assert words in said
    value = secret.read_text().strip()
    assert value not in said, "the secret is never printed"
    guid = new_guid()
    assert daemon.post("issues", issue(), guid, secret=value).status == 202
    assert daemon.post("issues", issue(), secret="a guess").status == 401
    assert daemon.restart().post("issues", issue(), guid, secret=value).json["duplicate"] is True
    assert secret.read_text().strip() == value


def test_a_busy_port_is_one_sentence_with_its_fix(make_daemon: Make) -> None:
    daemon = make_daemon(start=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = daemon.cli("serve", "--bind", f"127.0.0.1:{port}", exit_code=4).stderr.decode()
    assert str(port) in said
    assert "--bind" in said
    assert "COVENQ_BIND" in said
    assert "Traceback" not in said


def test_a_port_that_this_covenq_has_is_no_other_programs(make_daemon: Make) -> None:
    daemon = make_daemon()
    said = daemon.cli("serve", "--bind", f"127.0.0.1:{daemon.port}", exit_code=4).stderr.decode()
    assert f"covenq runs on {daemon.data} already: pid {daemon.pid}, receiving on {daemon.url}/webhook\n" in said
    assert "another program" not in said
    with tempfile.TemporaryDirectory(prefix="cq-") as other:
        arguments = ["serve", "--bind", f"127.0.0.1:{daemon.port}", "--data", other]
        assert "is taken by another program" in daemon.cli(*arguments, exit_code=4).stderr.decode()


def test_the_commands_speak_before_there_is_any_data(make_daemon: Make) -> None:
    daemon = make_daemon(start=False)
    for command in ("deliveries", "tasks", "status", "verify"):
        done = daemon.cli(command, exit_code=None)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        assert done.returncode in (0, 3, 4, 6)


def make(directory: Path, path: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`make` in a copy of the Makefile, with this PATH, and without the words that the tests' own `make` was given."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, directory / name)
    tool = shutil.which("make")
    if tool is None:
        pytest.skip("make is not installed")
    given = {"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "PYTHON", "ARGS"}
    env = {name: value for name, value in clean_env(PATH=path).items() if name not in given}
    return subprocess.run([tool, *words], cwd=directory, env=env, capture_output=True, text=True, check=False)


def fake_python(directory: Path, script: str) -> str:
    """A directory for PATH with the shell's tools and a stub python3."""
    tools = directory / "bin"
    tools.mkdir()
    for name in ("sh", "touch", "rm", "mkdir", "cp"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    python = tools / "python3"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return str(tools)


def test_make_says_that_python_is_too_old(tmp_path: Path) -> None:
    old = fake_python(tmp_path, 'case "$2" in *print*) echo 3.9;; *) exit 1;; esac')
    done = make(tmp_path, old, "run")
    assert done.returncode == 2
    assert "covenq needs Python 3.11 or newer (python3 is 3.9)" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_make_says_that_there_is_no_python(tmp_path: Path) -> None:
    none = fake_python(tmp_path, "exit 127")
    done = make(tmp_path, none, "test")
    assert "covenq needs Python 3.11 or newer (no Python found)" in done.stderr


def test_make_says_that_venv_is_missing_and_how_to_install_it(tmp_path: Path) -> None:
    bare = fake_python(tmp_path, 'case "$2" in *print*) echo 3.12;; *ensurepip*) exit 1;; *) exit 0;; esac')
    done = make(tmp_path, bare, "run")
    assert done.returncode == 2
    assert "apt install python3.12-venv" in done.stderr


MAKES_VENVS = """
case "$2 $3" in
  *print*) echo VERSION;;
  "venv --clear") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python;;
esac
"""


def test_make_uses_the_python_that_is_named(tmp_path: Path) -> None:
    tools = fake_python(tmp_path, MAKES_VENVS.replace("VERSION", "3.11"))
    named = tmp_path / "bin" / "python3.14"
    named.write_text((tmp_path / "bin" / "python3").read_text().replace("3.11", "3.14"))
    named.chmod(0o755)

    def version() -> str:
        return subprocess.run(
            [tmp_path / ".venv/bin/python", "-c", "print"], capture_output=True, text=True
        ).stdout.strip()

    for words, makes, used in (
        ([], "Making .venv with python3 (3.11)", "3.11"),
        (["PYTHON=python3.14"], "Making .venv with python3.14 (3.14)", "3.14"),
        (["PYTHON=python3.14"], "", "3.14"),
        ([], "", "3.14"),
        (["PYTHON=nowhere python3"], "Making .venv with python3 (3.11)", "3.11"),
    ):
        done = make(tmp_path, tools, "test", *words)
        assert done.returncode == 0, done.stderr
        assert ("Making" in done.stderr, version()) == (bool(makes), used), words
        assert makes in done.stderr
    done = make(tmp_path, tools, "test", "PYTHON=nowhere")
    assert "no Python found" in done.stderr
    assert version() == "3.11"


def test_make_passes_bind_and_data_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "$(touch pwned) ; x"
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    installed = tmp_path / ".venv" / ".installed"
    installed.touch()
    os.utime(installed, (4e9, 4e9))  # newer than any pyproject.toml
    program = tmp_path / ".venv" / "bin" / "covenq"
    program.write_text('#!/bin/sh\necho "$COVENQ_BIND|$COVENQ_DATA|$*"\n')
    program.chmod(0o755)
    done = make(tmp_path, os.environ["PATH"], "run", "BIND=127.0.0.1:9000", f"DATA={hostile.replace('$', '$$')}")
    assert f"127.0.0.1:9000|{hostile}|serve" in done.stdout
    assert not (tmp_path / "pwned").exists()
    monkeypatch.setenv("DATA", "/somewhere/else")
    quiet = make(tmp_path, os.environ["PATH"], "run")
    assert "||serve" in quiet.stdout, "a DATA that merely stands in the environment is not ours"


def test_make_help_fits_a_terminal_and_its_words_stand_in_one_column(tmp_path: Path) -> None:
    lines = make(tmp_path, os.environ["PATH"], "help").stdout.splitlines()
    assert lines and max(map(len, lines)) <= 80
    assert len({re.match(r"make \S+ +", line).end() for line in lines}) == 1  # type: ignore[union-attr]
