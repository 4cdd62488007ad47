"""Every file of a data directory is its user's alone, also where the directory was there before and others may enter it."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.requests import issue
from tests.support.waiting import eventually

ROUTES = f"""
[[route]]
name = "all"
match = "event:issues"
run = ["{sys.executable}", "-S", "-c", "import time; print('said'); open('result', 'w').write('1'); time.sleep(600)"]
"""


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def readable_by_others(data: Path) -> list[str]:
    """What is not this user's alone in a data directory, but for its directories' own names, which lead nowhere without this."""
    found = []
    for path in data.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_IMODE(mode) & 0o077 and not path.is_symlink():
            found.append(f"{path.relative_to(data)} {stat.filemode(mode)}")
    return sorted(found)


@pytest.mark.usefixtures("open_umask")
def test_all_that_is_made_in_a_directory_that_others_may_enter_is_private(make_daemon: Any, tmp_path: Path) -> None:
    daemon: Daemon = make_daemon(config=ROUTES, start=False)
    daemon.secret = None
    daemon.data.mkdir(mode=0o755)
    daemon.start()
    secret = (daemon.data / "secret").read_text().strip()
    (task,) = daemon.post("issues", issue(1), secret=secret).json["tasks"]
    assert daemon.post("issues", issue(1), secret="wrong").status == 401
    daemon.cli("tokens", "new", "--name", "a", "--role", "read")
    daemon.cli("backup", str(tmp_path / "backup"))
    daemon.cli("verify")
    eventually((daemon.data / "refused.jsonl").exists)
    eventually(lambda: list(daemon.data.glob("running/*.json")), what="a command runs")
    assert {path.name for path in daemon.data.iterdir()} >= {"state.db-wal", "state.db-shm", "covenq.sock"}
    assert readable_by_others(daemon.data) == []
    daemon.cli("cancel", task)
    daemon.wait_all_done()
    daemon.cli("redact", "event:issues", "--yes")
    daemon.cli("compact", "--yes", exit_code=None)
    daemon.kill()
    assert readable_by_others(daemon.data) == []
    daemon.cli("tasks")
    daemon.cli("pause", "worker")
    assert readable_by_others(daemon.data) == []
    assert readable_by_others(tmp_path / "backup") == []


@pytest.mark.usefixtures("open_umask")
def test_files_that_an_earlier_version_left_readable_are_made_private(make_daemon: Any) -> None:
    daemon: Daemon = make_daemon(config=ROUTES)
    assert daemon.post("issues", issue(1)).status == 202
    daemon.kill()
    caches = [path for name in ("state.db*", "journal/index.sqlite*") for path in daemon.data.glob(name)]
    assert len(caches) == 6
    for path in caches:
        path.chmod(0o644)
    daemon.start()
    assert readable_by_others(daemon.data) == []
