"""`covenq worker` with two nodes that share a journal: what it runs goes on when one is lost, and the other records its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import ROOT
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
tokens = "{tokens}"
[[route]]
name = "p"
match = "event:issues"
pull = true
"""

ENDS = ("task.completed", "task.failed", "task.retry", "task.requeued", "ops.late")

WAITS = """
import os, sys, time
scratch = sys.argv[1]
with open(scratch + "/begun", "a") as file:
    file.write(f"{os.getpid()}\\n")
while not os.path.exists(scratch + "/go"):
    time.sleep(0.01)
print("done")
"""


@dataclass
class Nodes:
    servers: Cluster
    base: Path
    daemons: list[Daemon] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add(self) -> Daemon:
        name, port = "ab"[len(self.daemons)], free_port()
        config = self.base / f"{name}.toml"
        config.write_text(CONFIG.format(name=name, port=port, tokens=self.base / "tokens.json"))
        env = {"COVENQ_JOURNAL_URL": self.servers.url}
        self.daemons.append(Daemon(self.base / name, config=config, env=env, forked=True))
        self.urls.append(f"http://127.0.0.1:{port}")
        return self.daemons[-1]

    def work(self, lease: str) -> Path:
        """Start a worker that knows the nodes in the order in which the last comes first; its log."""
        made = self.daemons[0].cli("tokens", "new", "--name", "w", "--role", "worker")
        env = {**self.daemons[0].environment(), "COVENQ_TOKEN": made.stdout.decode().split()[-1]}
        script, log = self.base / "command.py", self.base / "worker.log"
        script.write_text(WAITS)
        urls = [word for url in reversed(self.urls) for word in ("--url", url)]
        words = ["--work", str(self.base / "work"), "--name", "w1", "--lease", lease, *urls]
        argv = [
            sys.executable,
            "-m",
            "covenq",
            "worker",
            *words,
            "--",
            sys.executable,
            "-S",
            str(script),
            str(self.base),
        ]
        with log.open("wb") as file:
            self.workers.append(subprocess.Popen(argv, env=env, stderr=file, stdout=file, cwd=ROOT))
        return log

    def begun(self) -> list[int]:
        path = self.base / "begun"
        return [int(word) for word in path.read_text().split()] if path.exists() else []


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(Cluster(standby=False), tmp_path)
    yield made
    (tmp_path / "go").touch()
    for one in made.workers:
        one.kill()
        one.wait()
    for daemon in made.daemons:
        if daemon.running:
            os.kill(daemon.pid, signal.SIGCONT)
        daemon.kill()
    made.servers.close()


def start_standby(daemon: Daemon) -> None:
    daemon.start(wait=False)
    eventually(lambda: "a leads." in daemon.get("/readyz").json["detail"], 60, daemon.log_tail())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_what_a_worker_runs_goes_on_when_the_node_that_gave_it_is_lost(nodes: Nodes, number: signal.Signals) -> None:
    first, second = nodes.add().start(), nodes.add()
    start_standby(second)
    log = nodes.work("30s")
    task = first.post("issues", issue(1), new_guid()).json["tasks"][0]
    eventually(lambda: len(nodes.begun()) == 1, 60, "it runs")
    if number == signal.SIGKILL:
        first.kill()
    else:
        os.kill(first.pid, number)
    eventually(lambda: second.get("/readyz").status == 200, 60, second.log_tail())
    (nodes.base / "go").touch()

    def ended() -> dict[str, Any] | None:
        row: dict[str, Any] = second.api(f"/api/v1/tasks/{task}").json
        return row if row["state"] == "completed" else None

    row = eventually(ended, 60, log.read_text())
    assert row["attempts"] == 1 and len(nodes.begun()) == 1
    (attempt,) = second.api(f"/api/v1/tasks/{task}/attempts").json["items"]
    assert (attempt["worker"], attempt["node"], attempt["outcome"]) == ("w1", "a", "completed")
    assert "collected" in [name for name, _ in attempt["phases"]]  # said to the node that leads now
    kinds = [json.loads(line)["kind"] for line in lines(nodes.servers.url)]
    assert [one for one in kinds if one in ENDS] == ["task.completed"]
    again = second.post("issues", issue(2), new_guid()).json["tasks"][0]
    eventually(lambda: second.api(f"/api/v1/tasks/{again}").json["state"] == "completed", 60, log.read_text())


def test_a_node_that_stands_by_hands_out_nothing_and_judges_no_claim(nodes: Nodes) -> None:
    first, second = nodes.add().start(), nodes.add()
    start_standby(second)
    task = first.post("issues", issue(1), new_guid()).json["tasks"][0]
    asked = {"worker": "w", "lease_s": 60, "wait_s": 20}
    refused = second.api("/api/v1/claims", "POST", asked)
    assert (refused.status, refused.json["error"]) == (503, "standby")
    assert f"a leads, at 127.0.0.1:{first.port}" in refused.json["detail"]
    granted = first.api("/api/v1/claims", "POST", asked).json
    epoch, _, seq = granted["fence"].partition(".")
    unheard_of = f"{epoch}.{int(seq) + 1000}"  # as of a claim that the other node gave a moment ago
    for word, more in (("renew", {}), ("phase", {"phase": "x"}), ("complete", {}), ("fail", {})):
        for fence in (granted["fence"], unheard_of):
            answer = second.api(f"/api/v1/claims/{task}/{word}", "POST", {"fence": fence, **more})
            assert (answer.status, answer.json["error"]) == (503, "standby"), (word, answer.json)
            assert "a leads" in answer.json["detail"]
    assert first.api(f"/api/v1/claims/{task}/complete", "POST", {"fence": granted["fence"]}).status == 200
