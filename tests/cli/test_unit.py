"""The unit that is written: systemd accepts it, and what it starts works as it says."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from covenq.cli import unit
from covenq.errors import Refused
from tests.support.checkout import ROOT, clean_env
from tests.support.daemon import Daemon
from tests.support.requests import issue
from tests.support.service_manager import manager

Make = Callable[..., Daemon]
CONFIG = """\
[github]
webhook_secrets = [{ name = "github", credential = "webhook-secret" }]
"""


def lines(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def test_systemd_itself_finds_nothing_wrong(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / "covenq.service"
    daemon = Daemon(tmp_path / "data")
    done = daemon.cli("init", "--systemd", "--to", str(path))
    assert stat.S_IMODE(path.stat().st_mode) & 0o111 == 0
    assert b"systemctl enable --now covenq" in done.stderr
    found = subprocess.run(
        [analyze, "verify", "--man=no", str(path)], capture_output=True, text=True, env=clean_env(), check=False
    )
    said = [line for line in found.stderr.splitlines() if "covenq.service" in line]
    assert said == []
    daemon.cli("init", "--systemd", "--to", str(path), exit_code=4)
    daemon.cli("init", "--systemd", "--to", str(path), "--force")
    security = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=30", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Unknown" not in security.stderr and "unrecognized" not in security.stderr:
        assert security.returncode == 0, security.stdout[-2000:]


def test_what_the_unit_starts_works_as_written(make_daemon: Make, data: Path, tmp_path: Path) -> None:
    """Its command line, environment and credential, without systemd."""
    config = tmp_path / "covenq.toml"
    config.write_text(CONFIG)
    text = Daemon(data).cli("init", "--systemd", "--config", str(config)).stdout.decode()
    said = lines(text)
    assert said["Type"] == "notify" and said["StateDirectory"] == "covenq"
    assert said["LoadCredential"] == f"webhook-secret:{tmp_path}/webhook-secret"
    name, _, variable = said["Environment"].partition("=")
    assert (name, variable) == ("COVENQ_DATA", "%S/covenq")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "webhook-secret").write_text("from systemd\n")
    with manager(str(data.parent / "notify")) as heard:
        process = subprocess.Popen(
            [*said["ExecStart"].split(), "--bind", "127.0.0.1:0"],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "COVENQ_DATA": str(data),
                "CREDENTIALS_DIRECTORY": str(credentials),
                "NOTIFY_SOCKET": str(data.parent / "notify"),
                "WATCHDOG_USEC": "30000000",
            },
            stderr=subprocess.DEVNULL,
        )
        try:
            ready = heard.until("READY=1")
            daemon = Daemon(data, port=int(ready.rsplit(":", 1)[1].partition("/")[0]))
            assert daemon.post("issues", issue(1), secret="from systemd").status == 202
            assert daemon.post("issues", issue(2), secret="another").status == 401
            assert not (data / "secret").exists(), "none is made where one is configured"
            assert said["ExecReload"] == "/bin/kill -HUP $MAINPID"
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait(30)


def test_paths_that_systemd_would_read_otherwise_are_refused() -> None:
    for path in ("/opt/a b/covenq", "/opt/%h/covenq", "/opt/$x/covenq", '/opt/"/covenq', "/opt/é/covenq"):
        with pytest.raises(Refused):
            unit.unit([path], unit.CONFIG)
        with pytest.raises(Refused):
            unit.unit(["/usr/bin/covenq"], Path(path))


def test_a_home_is_readable_where_the_program_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/usr")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    assert lines(unit.unit(["/usr/bin/covenq"], unit.CONFIG))["ProtectHome"] == "yes"
    assert lines(unit.unit(["/home/me/.venv/bin/covenq"], unit.CONFIG))["ProtectHome"] == "read-only"
    assert "@" not in unit.unit(["/usr/bin/covenq"], unit.CONFIG).replace("@system-service", "")


def test_a_path_for_the_unit_needs_the_unit(data: Path) -> None:
    assert b"--systemd" in Daemon(data).cli("init", "--to", "/x", exit_code=2).stderr
