"""What lies on the nodes of one journal: outputs are read over any of them, and an erasure reaches the files of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, free_port
from tests.support.postgres.server import Cluster
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres

CONFIG = """
[worker]
lease = "10s"
[api]
bind = "127.0.0.1:{api}"
[node]
name = "{name}"
[[route]]
name = "hello"
match = "event:issues"
run = ["sh", "-c", "echo HUSH from $0; echo aside >&2; echo KEPT by $0 > $COVENQ_RESULT", "{name}"]
[[route]]
name = "far"
match = "event:push"
pull = true
"""


@pytest.fixture(scope="module")
def servers() -> Iterator[Cluster]:
    made = Cluster(standby=False)
    yield made
    made.close()


@pytest.fixture
def nodes(servers: Cluster, tmp_path: Path) -> Iterator[tuple[Daemon, Daemon]]:
    """Two daemons of one journal, none of which runs."""
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    made = []
    for name in ("a", "b"):
        config = tmp_path / f"{name}.toml"
        config.write_text(CONFIG.format(api=free_port(), name=name))
        env = {"COVENQ_JOURNAL_URL": servers.url}
        made.append(Daemon(tmp_path / name, config=config, env=env, forked=True))
    yield made[0], made[1]
    for one in made:
        one.kill()


def start_standby(daemon: Daemon) -> Daemon:
    daemon.start(wait=False)

    def stands_by() -> bool:
        assert daemon.running, daemon.log_tail()
        answer = daemon.get("/readyz")
        return answer.status == 503 and "leads" in answer.json["detail"]

    eventually(stands_by, 60, daemon.log_tail())
    return daemon


def done_task(daemon: Daemon, number: int) -> tuple[str, str]:
    """(GUID, task) of a delivery whose task has ended."""
    guid = new_guid()
    (task,) = daemon.post("issues", issue(number), guid).json["tasks"]
    wait_state(daemon, task, "completed")
    return guid, str(task)


def wait_state(daemon: Daemon, task: str, state: str) -> None:
    eventually(lambda: daemon.cli_json("show", task)["state"] == state, 60, daemon.log_tail())


def owed(daemon: Daemon) -> dict[str, tuple[str, int]]:
    return {one["name"]: (one["state"], one["owes"]) for one in daemon.cli_json("nodes")["items"]}


def test_an_output_is_read_over_the_other_node(nodes: tuple[Daemon, Daemon]) -> None:
    active, standby = nodes
    active.start()
    _, task = done_task(active, 1)
    start_standby(standby)
    eventually(lambda: all(one["api"] for one in standby.cli_json("nodes")["items"]), 60, "both say where their API is")
    refused = standby.cli("logs", task, exit_code=6).stderr.decode()
    assert f"lies on node a (127.0.0.1:{active.port}), whose API needs a bearer token" in refused
    assert f"covenq logs {task} 1" in refused
    token = active.cli("tokens", "new", "--name", "reader", "--role", "read").stdout.decode().strip()
    standby.env["COVENQ_TOKEN"] = token
    assert standby.cli("logs", task).stdout == b"HUSH from a\naside\n"
    assert standby.cli("logs", task, "--stderr", "-f").stdout == b"aside\n"
    stranger = standby.cli("tokens", "new", "--name", "reader", "--role", "read").stdout.decode().strip()
    standby.env["COVENQ_TOKEN"] = stranger
    refused = standby.cli("logs", task, exit_code=6).stderr.decode()
    assert "which refuses this token" in refused and "Each node has its own tokens" in refused
    assert not any(secret in standby.log.read_text() + active.log.read_text() for secret in (token, stranger))
    path = f"/api/v1/tasks/{task}/attempts/1/stdout"
    passed = standby.api(path, headers={"Covenq-Passed": "1000", "Authorization": f"Bearer {token}"})
    assert (passed.status, passed.json["error"]) == (404, "not_found"), "what was passed on is not passed again"
    active.kill()
    eventually(lambda: owed(standby)["a"][0] == "away", 60, "it is missed")
    standby.env["COVENQ_TOKEN"] = token
    gone = standby.cli("logs", task, exit_code=6).stderr.decode()
    assert f"what attempt 1 of {task} wrote lies on node a (127.0.0.1:{active.port}), which is away since 20" in gone
    assert f"covenq logs {task} 1" in gone
    standby.stop()
    alone = standby.cli("logs", task, exit_code=6).stderr.decode()
    assert f"attempt 1 of {task} ran on node a, and no daemon runs here" in alone


def test_an_erasure_reaches_the_files_of_every_node(nodes: tuple[Daemon, Daemon]) -> None:
    first, second = nodes
    first.start()
    here, task = done_task(first, 1)
    later, kept = done_task(first, 2)
    start_standby(second)
    first.stop()
    eventually(lambda: second.get("/readyz").status == 200, 60, second.log_tail())
    directory = first.data / "attempts" / task
    assert b"HUSH" in (directory / "1" / "stdout").read_bytes()
    said = second.cli("redact", here, "--yes").stderr.decode()
    assert "Node a (" in said and "was stopped at" in said and "removes it when it is back" in said
    eventually(lambda: owed(second) == {"a": ("stopped", 1), "b": ("leads", 0)}, 60, "it is shown")
    assert "node a (" in second.cli("nodes").stderr.decode()
    assert "has to remove what was erased of 1 delivery: it was stopped at" in second.cli("status").stdout.decode()
    assert directory.exists()
    start_standby(first)
    eventually(lambda: owed(second) == {"a": ("standby", 0), "b": ("leads", 0)}, 60, first.log_tail())
    assert not directory.exists() and (first.data / "attempts" / kept / "1" / "stdout").exists()
    directory = first.data / "attempts" / kept
    answer = second.cli_json("redact", later, "--yes")
    assert answer["nodes"] == []
    eventually(lambda: not directory.exists(), 60, first.log_tail())
    eventually(lambda: {one[1] for one in owed(first).values()} == {0}, 60, first.log_tail())


def test_results_are_in_the_journal_until_they_are_erased(nodes: tuple[Daemon, Daemon], servers: Cluster) -> None:
    active, standby = nodes
    active.start()
    ran, task = done_task(active, 1)
    posted = new_guid()
    (pulled,) = active.post("push", {"ref": "refs/heads/main"}, posted).json["tasks"]
    claim = active.api("/api/v1/claims", "POST", {"worker": "elsewhere", "lease_s": 600, "wait_s": 20}).json
    done = {"fence": claim["fence"], "result": {"built": ["KEPT"]}}
    assert active.api(f"/api/v1/claims/{pulled}/complete", "POST", done).status == 200
    start_standby(standby)
    wait_state(standby, pulled, "completed")
    assert standby.cli("logs", task, "--result").stdout == b"KEPT by a\n"
    assert standby.cli("logs", pulled, "--result").stdout == b'{"built":["KEPT"]}'
    path = f"/api/v1/tasks/{task}/attempts/1/result?last=2&offset=5"
    answer = standby.api(path)
    assert (answer.body, answer.headers["content-type"]) == (b"by", "application/octet-stream")
    held = "SELECT count(*) FROM covenq.content WHERE convert_from(payload, 'UTF8') LIKE '%KEPT%'"
    assert servers.sql(held) == [(2,)]
    active.cli("redact", ran, posted, "--yes")
    assert servers.sql(held) == [(0,)]
    gone = standby.cli("logs", task, "--result", exit_code=3).stderr.decode()
    assert "was erased" in gone
    assert standby.cli_json("verify")["ok"]
