"""No test reaches the covenq of whoever runs it: neither its port, nor its data, nor its settings."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT, clean_env
from tests.support.guard.sitecustomize import PORT
from tests.support.own_covenq import KEPT, NOTE, silent_address, users_places

COVENQ = [sys.executable, "-m", "covenq"]
USUAL = f"127.0.0.1:{PORT}"


@pytest.fixture
def user(tmp_path: Path) -> dict[str, str]:
    """The environment of a user whose covenq is guarded, with a file of its own for what the guard notes."""
    home = tmp_path / "user"
    (home / ".local" / "state" / "covenq").mkdir(parents=True)
    plain = {"HOME": str(home), KEPT: os.pathsep.join(users_places({"HOME": str(home)})), NOTE: str(tmp_path / "note")}
    env = {**clean_env(), "COVENQ_WEBHOOK_SECRET": "x" * 32, **plain}
    del env["COVENQ_BIND"], env["XDG_STATE_HOME"]
    return env


def noted(env: dict[str, str], *words: str) -> str:
    """What the guard notes while the command runs."""
    subprocess.run([*COVENQ, *words], env=env, capture_output=True, timeout=60, check=False)
    note = Path(env[NOTE])
    return note.read_text() if note.exists() else ""


@pytest.mark.parametrize(
    "words",
    [["send", "issues", "--url", f"http://{USUAL}/webhook"], ["serve", "--bind", USUAL], ["doctor"]],
    ids=lambda words: words[0],
)
def test_a_program_that_would_use_the_usual_port_is_kept_from_it_and_noted(
    user: dict[str, str], tmp_path: Path, words: list[str]
) -> None:
    assert f" {USUAL} by: " in noted({**user, "COVENQ_DATA": str(tmp_path / "own")}, *words)


@pytest.mark.parametrize(
    "words", [["serve"], ["init"], ["deliveries"], ["pause", "worker"]], ids=lambda words: words[0]
)
def test_a_program_that_would_use_the_users_directory_is_kept_from_it_and_noted(
    user: dict[str, str], words: list[str]
) -> None:
    directory = Path(user["HOME"]) / ".local" / "state" / "covenq"
    (directory / "journal").mkdir()
    assert f" {directory}" in noted({**user, "COVENQ_BIND": silent_address()}, *words)
    assert [one.name for one in directory.iterdir()] == ["journal"]


def test_what_names_no_place_of_its_own_uses_none_of_the_users(tmp_path: Path) -> None:
    for words in (["init"], ["doctor"], ["send", "issues"], ["deliveries"]):
        done = subprocess.run([*COVENQ, *words], env=clean_env(), capture_output=True, text=True, timeout=60)
        assert "Traceback" not in done.stderr
    assert (tmp_path / "state" / "covenq" / "covenq.toml").exists()
    assert not os.environ[NOTE].startswith(str(tmp_path))


def test_a_server_finds_the_address_of_nobody_free_and_a_client_finds_nobody() -> None:
    host, _, port = silent_address().rpartition(":")
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, int(port)))
    with pytest.raises(ConnectionRefusedError), socket.create_connection((host, int(port)), 5):
        pass


@pytest.mark.skipif(not os.access(ROOT / "covenq", os.W_OK), reason="nothing can be written into the checkout")
def test_covenq_is_compiled_once_and_not_by_each_process_that_is_started() -> None:
    modules = [*(ROOT / "covenq").rglob("*.py"), *(ROOT / "journal").rglob("*.py")]
    assert modules and all(Path(importlib.util.cache_from_source(one)).exists() for one in map(str, modules))
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ and not sys.dont_write_bytecode
