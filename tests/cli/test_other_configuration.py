"""A daemon that was started on a configuration which no command finds by itself: what they say of it is its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from covenq.cli import completion
from tests.support.daemon import Daemon
from tests.support.waiting import eventually

DEFAULT = '[[route]]\nname = "of-the-default"\nmatch = "event:push"\nrun = ["no-such-program"]\n'
USED = """
[github]
webhook_secrets = [{ name = "own", file = "own-secret" }]
hooks = ["77"]
[api]
bind = "127.0.0.1:0"
tokens = "own-tokens.json"
[[route]]
name = "of-the-daemon"
match = "event:issues"
run = ["true"]
"""


@pytest.fixture
def used(tmp_path: Path) -> Path:
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    (directory / "own-secret").write_text("s3cret" * 8)
    (directory / "own-secret").chmod(0o600)
    path = directory / "own.toml"
    path.write_text(USED)
    return path


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon], data: Path, used: Path) -> Daemon:
    data.mkdir(mode=0o700)
    (data / "covenq.toml").write_text(DEFAULT)
    return make_daemon(secret=None, args=("--config", str(used)))


def test_status_names_the_configuration_that_the_daemon_uses(daemon: Daemon, used: Path) -> None:
    assert daemon.api("/api/v1/status").json["config"] == daemon.cli_json("status")["config"] == str(used)
    assert f"config      {used}\n" in daemon.cli("status").stdout.decode()
    assert daemon.stop() == 0
    assert daemon.cli_json("status", exit_code=6)["config"] == str(daemon.data / "covenq.toml"), (
        "what the next start would find"
    )


def test_routes_are_the_daemons(daemon: Daemon, used: Path) -> None:
    said = daemon.cli("routes")
    assert b"of-the-daemon" in said.stdout and b"of-the-default" not in said.stdout
    assert said.stderr.decode() == f"The configuration is the running daemon's: {used}\n"
    listed = daemon.cli_json("routes")
    assert ([one["name"] for one in listed["items"]], listed["config"]) == (["of-the-daemon"], str(used))
    assert daemon.cli("routes", "check").stdout.decode().startswith(f"{used}: 1 route,")
    payload = b'{"action":"opened","issue":{"number":1}}'
    assert b"of-the-daemon" in daemon.cli("routes", "test", "--event", "issues", input=payload).stdout
    compared = daemon.cli_json("routes", "diff", "--config", str(daemon.data / "covenq.toml"))
    assert compared["deliveries"] == 0


def test_one_that_is_named_is_looked_at_and_the_daemons_is_told(daemon: Daemon, used: Path) -> None:
    default = str(daemon.data / "covenq.toml")
    for said in (
        daemon.cli("routes", "--config", default),
        daemon.cli("routes", env={"COVENQ_CONFIG": default}),
    ):
        assert b"of-the-default" in said.stdout
        assert f"The running daemon uses another configuration: {used}\n" in said.stderr.decode()
    assert daemon.cli("routes", "--config", str(used)).stderr == b""
    found = json.loads(daemon.cli("doctor", "--json", "--config", default, exit_code=None).stdout)["findings"]
    told = [one for one in found if one["check"] == "daemon" and one["level"] == "warning"]
    assert [one["next"] for one in told] == [f"covenq doctor --config {used}"]


def test_doctor_info_tokens_and_init_are_of_the_daemons(daemon: Daemon, used: Path) -> None:
    found = json.loads(daemon.cli("doctor", "--json", exit_code=None).stdout)["findings"]
    words = {one["words"] for one in found if one["check"] in ("configuration", "secret")}
    assert {f"{used}: 1 route", "own (48 bytes)"} <= words
    assert not [one for one in words if "no-such-program" in one]
    paths = {one["name"]: one for one in daemon.cli_json("info")["paths"]}
    assert paths["configuration"]["path"] == str(used)
    assert paths["configuration"]["what"] == "the running daemon's"
    daemon.cli("tokens", "new", "--name", "a", "--role", "read")
    assert (used.parent / "own-tokens.json").exists()
    assert b"The running daemon uses another: " in daemon.cli("init", "--force").stderr


def test_what_is_sent_is_signed_with_the_daemons_secret_for_a_hook_of_its_own(daemon: Daemon) -> None:
    daemon.cli("send", "issues")
    assert [one["data"]["hook"] for one in daemon.records("delivery.received")] == ["77"]


def test_a_default_one_that_is_broken_keeps_nobody_from_the_daemons(daemon: Daemon, used: Path) -> None:
    (daemon.data / "covenq.toml").write_text("[server\n")
    assert b"of-the-daemon" in daemon.cli("routes").stdout
    daemon.cli("send", "issues")
    daemon.kill()
    assert b"is not TOML" in daemon.cli("routes", exit_code=2).stderr


def test_its_routes_are_completed(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVENQ_DATA", str(daemon.data))
    assert completion.routes("of") == ["of-the-daemon"]
    daemon.kill()
    assert completion.routes("of") == ["of-the-default"]


def test_one_that_init_writes_is_taken_up_by_a_daemon_that_has_none(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(secret=None)
    assert daemon.cli_json("status")["config"] is None
    assert b"a running daemon takes them up" in daemon.cli("init").stderr
    eventually(lambda: daemon.cli_json("status")["config"] == str(daemon.data / "covenq.toml"), 30)
    daemon.wait_told("; 1 route\n")
