"""A new node starts from another's state.db, and where that doesn't verify it folds the journal: the same answers either way."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.daemon import Daemon, free_port
from tests.support.postgres.server import Cluster
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres

CONFIG = """
[node]
name = "{name}"
[api]
bind = "127.0.0.1:{port}"
tokens = "{base}/tokens.json"
[[route]]
name = "r"
match = "event:issues"
pull = true
"""
EAGER = ROOT / "tests" / "support" / "eager_node.py"


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Daemon, Daemon]]:
    """One that leads, and one that is new, with the other's token in its environment."""
    servers = Cluster(standby=False)
    made = []
    for name in "ab":
        config = tmp_path / f"{name}.toml"
        config.write_text(CONFIG.format(name=name, port=free_port(), base=tmp_path))
        made.append(Daemon(tmp_path / name, config=config, env={"COVENQ_JOURNAL_URL": servers.url}, forked=name == "a"))
    first, second = made
    second.wrapper = [sys.executable, str(EAGER)]
    second.env["COVENQ_TOKEN_FILE"] = str(tmp_path / "token")
    yield first, second
    for daemon in made:
        daemon.kill()
    servers.close()


def start_new(daemon: Daemon) -> str:
    """Start it, and wait until it stands by; what it logged."""
    before = len(daemon.log_tail(1 << 20))
    daemon.start(wait=False)
    eventually(lambda: "a leads." in daemon.get("/readyz").json["detail"], 60, daemon.log_tail())
    return daemon.log_tail(1 << 20)[before:]


def answers_of(daemon: Daemon) -> list[object]:
    return [daemon.api(f"/api/v1/{what}").json["items"] for what in ("deliveries", "tasks")]


def test_a_new_node_starts_from_another_s_state_if_that_verifies(nodes: tuple[Daemon, Daemon], tmp_path: Path) -> None:
    first, second = nodes
    first.start()
    made = first.cli("tokens", "new", "--name", "nodes", "--role", "operate")
    (tmp_path / "token").write_bytes(made.stdout.split()[-1])
    guids = [new_guid() for _ in range(5)]
    for number, guid in enumerate(guids):
        assert first.post("issues", issue(number), guid).status == 202
    assert first.cli("redact", guids[0], "--yes").returncode == 0
    known = answers_of(first)
    said = start_new(second)
    assert "state.db is that of node a (127.0.0.1:" in said and "folded from the start" not in said
    assert answers_of(second) == known
    first.post("issues", issue(9), new_guid())
    eventually(lambda: len(second.api("/api/v1/deliveries").json["items"]) == 6, 30, "it folds on")
    assert answers_of(second) == answers_of(first)

    assert second.stop() == 0
    with closing(sqlite3.connect(first.data / "state.db")) as conn:
        conn.execute("CREATE VIEW of_nobody AS SELECT 1")
    with closing(sqlite3.connect(second.data / "state.db")) as conn:
        conn.execute("PRAGMA user_version = 1")
    said = start_new(second)
    assert "state.db is not that of node a" in said and "its tables are not those that covenq makes" in said
    assert "state.db is folded from the start, " in said and "state.db is that of" not in said
    assert answers_of(second) == answers_of(first)
    for daemon in nodes:
        assert not [path.name for path in daemon.data.iterdir() if path.name.startswith(("state.snap", "state.fetch"))]
