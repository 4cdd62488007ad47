"""Two nodes that share a journal in PostgreSQL: what one runs is run by the other only when nothing of it is left."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.pool import alive
from tests.support.postgres.server import Cluster
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres

CONFIG = """
[worker]
lease = "10s"
[[route]]
name = "all"
match = "event:issues"
run = ["{python}", "-S", "{script}", "{scratch}"]
"""

HOLDS_A_LOCK = """
import fcntl, os, signal, sys, time
scratch = sys.argv[1]
lock = open(scratch + "/lock", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    open(scratch + "/doubled", "w").close()
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # and its child, in no group of this command's, has the lock as well
if os.fork() == 0:
    os.setsid()
with open(scratch + "/begun", "a") as file:
    file.write(f"{os.getpid()}\\n")
while not os.path.exists(scratch + "/go"):
    time.sleep(0.01)
"""


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_task_runs_on_one_node_at_a_time(tmp_path: Path, number: signal.Signals) -> None:
    """Its node is stopped, or killed and not started again; the command outlives it, but not its lease."""
    servers = Cluster(standby=False)
    script, config = tmp_path / "command.py", tmp_path / "covenq.toml"
    script.write_text(HOLDS_A_LOCK)
    config.write_text(
        CONFIG.replace("{python}", sys.executable).replace("{script}", str(script)).replace("{scratch}", str(tmp_path))
    )
    env = {"COVENQ_JOURNAL_URL": servers.url}
    first, second = (Daemon(tmp_path / name, config=config, env=env, forked=True) for name in ("first", "second"))

    def begun(count: int) -> list[int]:
        def read() -> list[int] | None:
            words = (tmp_path / "begun").read_text().split() if (tmp_path / "begun").exists() else []
            return [int(word) for word in words] if len(words) >= count else None

        return eventually(read, 60, f"{count} processes have begun")

    pid = None
    try:
        first.start()
        assert first.post("issues", issue(1), new_guid()).status == 202
        pids = begun(2)
        pid = first.pid
        os.kill(pid, number)
        if number == signal.SIGKILL:
            first.kill()
        servers.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'covenq'")
        eventually(
            lambda: servers.sql("SELECT until < clock_timestamp() FROM covenq.lease") == [(True,)],
            60,
            "it leads no more",
        )
        second.start()
        begun(4)  # once the lease is over
        assert not any(alive(one) for one in pids)
        assert not (tmp_path / "doubled").exists()
        (task,) = second.api("/api/v1/tasks").json["items"]
        lost, _ = second.api(f"/api/v1/tasks/{task['id']}/attempts").json["items"]
        assert (lost["outcome"], lost["category"]) == ("failed", "lease_lost")  # nobody else has ended it
        if number == signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
            eventually(lambda: not first.running, 60, "a node that leads no more ends")
        (tmp_path / "go").touch()
        eventually(
            lambda: all(one["state"] == "completed" for one in second.cli_json("tasks")["items"]), 60, "all is done"
        )
    finally:
        (tmp_path / "go").touch()
        if pid is not None and first.running:
            os.kill(pid, signal.SIGCONT)
        first.kill()
        second.kill()
        servers.close()
