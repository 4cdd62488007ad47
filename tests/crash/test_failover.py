"""The database fails over under a running command: the command goes on, and its task ends as if nothing had been."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.postgres.server import Cluster
from tests.support.requests import issue
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres

CONFIG = """
[worker]
lease = "{lease}"
[[route]]
name = "all"
match = "event:issues"
run = ["sh", "-c", "echo $$ >>{scratch}/begun; until [ -e {scratch}/go ]; do sleep 0.02; done"]
retry = {{ max = 0 }}
"""


@pytest.mark.parametrize(
    ("lease", "away_s"),
    [pytest.param("12s", 4.0, id="of 4 s"), pytest.param("120s", 30.0, id="of 30 s", marks=pytest.mark.deep)],
)
def test_a_failover_ends_no_running_command_and_no_task(tmp_path: Path, lease: str, away_s: float) -> None:
    servers = Cluster(standby=True)
    standby = servers.standby
    assert standby is not None
    config = tmp_path / "covenq.toml"
    config.write_text(CONFIG.format(lease=lease, scratch=tmp_path))
    ports = f"{servers.primary.port},{standby.port}"
    where = f"host={servers.base},{servers.base}&port={ports}&target_session_attrs=read-write"
    env = {"COVENQ_JOURNAL_URL": f"postgresql://covenq@/postgres?{where}"}
    first, second = (Daemon(tmp_path / name, config=config, env=env, forked=True) for name in ("first", "second"))
    begun = tmp_path / "begun"
    try:
        first.start()
        second.start(wait=False)
        assert first.post("issues", issue(1)).status == 202
        eventually(begun.exists, 60, "the command has begun")
        eventually(lambda: "leads" in second.get("/readyz").json["detail"], 60, "the other stands by")
        servers.primary.kill()
        threading.Event().wait(away_s)
        standby.run("pg_ctl", "promote", "-w", "-D", str(standby.data))
        standby.sql("ALTER SYSTEM SET synchronous_standby_names = ''")
        standby.sql("SELECT pg_reload_conf()")

        def leader() -> Daemon | None:
            ready = [node for node in (first, second) if node.running and node.get("/readyz").status == 200]
            return ready[0] if ready else None

        eventually(leader, 60, "a node leads")
        (tmp_path / "go").touch()

        def ended() -> bool:
            node = leader()
            return node is not None and node.api("/api/v1/status").json["tasks"] == {"completed": 1}

        eventually(ended, 60, "its task has ended")
        node = leader()
        assert node is not None
        [task] = node.api("/api/v1/tasks").json["items"]
        assert task["attempts"] == 1 and len(begun.read_text().split()) == 1
    finally:
        (tmp_path / "go").touch()
        for node in (first, second):
            node.kill()
        servers.primary = standby
        servers.standby = None
        servers.close()
