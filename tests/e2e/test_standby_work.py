"""`[worker] on_standby`: a node that stands by runs tasks too, and goes on with them when it leads."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, free_port
from tests.support.postgres.lines import lines
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
[worker]
concurrency = 1
lease = "10s"
on_standby = true
token_file = "{base}/token"
[[route]]
name = "r"
match = "event:issues"
run = ["{python}", "-S", "{base}/command.py", "{base}"]
"""

WAITS = """
import fcntl, os, sys, time
from pathlib import Path
scratch = Path(sys.argv[1])
node = Path.cwd().relative_to(scratch).parts[0]
lock = open(scratch / f"lock-{node}", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    (scratch / "doubled").touch()
with open(scratch / "begun", "a") as file:
    file.write(f"{node}\\n")
while not (scratch / f"go-{node}").exists():
    time.sleep(0.01)
print("its output")
Path(os.environ["COVENQ_RESULT"]).write_text('{"it": "ended"}')
"""


@dataclass
class Nodes:
    servers: Cluster
    base: Path
    daemons: list[Daemon] = field(default_factory=list)

    def add(self) -> Daemon:
        name = "ab"[len(self.daemons)]
        config = self.base / f"{name}.toml"
        config.write_text(CONFIG.format(name=name, port=free_port(), base=self.base, python=sys.executable))
        env = {"COVENQ_JOURNAL_URL": self.servers.url}
        self.daemons.append(Daemon(self.base / name, config=config, env=env, forked=True))
        return self.daemons[-1]

    def make_token(self) -> None:
        made = self.daemons[0].cli("tokens", "new", "--name", "nodes", "--role", "worker")
        (self.base / "token").write_bytes(made.stdout.split()[-1])

    def begun(self) -> list[str]:
        path = self.base / "begun"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    (tmp_path / "command.py").write_text(WAITS)
    made = Nodes(Cluster(standby=False), tmp_path)
    yield made
    for name in "ab":
        (tmp_path / f"go-{name}").touch()
    for daemon in made.daemons:
        daemon.kill()
    made.servers.close()


def start_standby(daemon: Daemon) -> None:
    daemon.start(wait=False)
    eventually(lambda: "a leads." in daemon.get("/readyz").json["detail"], 60, daemon.log_tail())


def worker_of(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = daemon.api("/api/v1/status").json["worker"]
    return found


def test_a_node_runs_tasks_while_it_stands_by_and_goes_on_with_them_when_it_leads(nodes: Nodes) -> None:
    first, second = nodes.add().start(), nodes.add()
    nodes.make_token()
    start_standby(second)
    tasks = [first.post("issues", issue(number), new_guid()).json["tasks"][0] for number in range(3)]
    eventually(lambda: sorted(nodes.begun()) == ["a", "b"], 60, first.log_tail() + second.log_tail())
    (held,) = eventually(lambda: worker_of(second)["running"], 30, "the status shows what it runs")
    assert worker_of(second)["on_standby"] and worker_of(second)["standby_problem"] is None
    assert b"1 of 1 busy" in second.cli("status").stdout and b"on standby, too" in second.cli("status").stdout
    (attempt,) = first.api(f"/api/v1/tasks/{held['task']}/attempts").json["items"]
    assert (attempt["node"], attempt["worker"]) == ("b", worker_of(second)["id"])
    first.kill()
    eventually(lambda: second.get("/readyz").status == 200, 60, second.log_tail())
    assert [one["task"] for one in worker_of(second)["running"]] == [held["task"]]
    (nodes.base / "go-b").touch()

    def done() -> bool:
        rows = {one["id"]: one["state"] for one in second.api("/api/v1/tasks").json["items"]}
        return rows == dict.fromkeys(tasks, "completed")

    eventually(done, 90, second.log_tail())
    (attempt,) = second.api(f"/api/v1/tasks/{held['task']}/attempts").json["items"]
    assert (attempt["node"], attempt["outcome"]) == ("b", "completed")
    assert json.loads((second.data / attempt["result"]).read_text()) == {"it": "ended"}
    assert second.cli("logs", held["task"]).stdout == b"its output\n"
    assert nodes.begun().count("b") == 3 and not (nodes.base / "doubled").exists()
    kinds = [json.loads(line)["kind"] for line in lines(nodes.servers.url)]
    assert kinds.count("task.completed") == 3 and "ops.late" not in kinds
    eventually(lambda: not any((second.data / "standby" / "running").iterdir()), 30, "nothing is noted as running")


def test_a_node_that_stops_while_it_stands_by_gives_back_what_it_ran(nodes: Nodes) -> None:
    first, second = nodes.add().start(), nodes.add()
    nodes.make_token()
    start_standby(second)
    for number in range(2):
        first.post("issues", issue(number), new_guid())
    eventually(lambda: sorted(nodes.begun()) == ["a", "b"], 60, first.log_tail() + second.log_tail())
    (held,) = eventually(lambda: worker_of(second)["running"], 30, "the status shows what it runs")
    assert second.stop(60) == 0
    row = first.api(f"/api/v1/tasks/{held['task']}").json
    assert (row["state"], row["retries"], row["interruptions"]) == ("queued", 0, 0)
    (nodes.base / "go-a").touch()
    eventually(lambda: first.api("/api/v1/status").json["tasks"] == {"completed": 2}, 60, first.log_tail())


def test_a_node_that_can_not_ask_the_one_that_leads_says_why(nodes: Nodes) -> None:
    nodes.add().start()
    second = nodes.add()
    (nodes.base / "token").write_text("cqw_" + "x" * 40)
    start_standby(second)
    eventually(lambda: "[worker] token_file" in str(worker_of(second)["standby_problem"]), 60, second.log_tail())
    doctor = second.cli("doctor", exit_code=None).stdout.decode()
    assert "runs no task of the one that leads" in " ".join(doctor.split())
    nodes.make_token()
    eventually(lambda: worker_of(second)["standby_problem"] is None, 60, second.log_tail())
