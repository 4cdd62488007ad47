"""`covenq handover`: another node leads, no request is refused meanwhile, and the node that led stands by again."""

from __future__ import annotations

import json
import signal
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.anywhere import AnywhereLoad
from tests.support.daemon import Daemon
from tests.support.postgres.server import Cluster, cluster
from tests.support.requests import issue
from tests.support.service_manager import activated, manager
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres

CONFIG = """
[worker]
concurrency = 2
[node]
name = "{name}"
[[route]]
name = "slow"
match = "event:issues number:0"
run = ["/bin/sh", "-c", "trap 'touch {base}/ending' TERM; until [ -e {base}/go ]; do sleep 0.05; done"]
"""
END_OF = """SELECT seq FROM covenq.record WHERE subject = 'task.{task}' AND encode(envelope, 'escape') LIKE '%"task.retry"%'"""


@pytest.fixture
def servers() -> Cluster:
    servers = cluster(standby=False)
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    return servers


@pytest.fixture
def pair(servers: Cluster, tmp_path: Path) -> Iterator[tuple[Daemon, Daemon]]:
    """Alpha, which leads, and beta. Not forked: they start again as the programs that they were started as."""
    made = []
    for name in ("alpha", "beta"):
        config = tmp_path / f"{name}.toml"
        config.write_text(CONFIG.format(name=name, base=tmp_path))
        made.append(Daemon(tmp_path / name, config=config, env={"COVENQ_JOURNAL_URL": servers.url}))
    made[0].start()
    made[1].start(wait=False)
    yield made[0], made[1]
    for one in made:
        one.kill()


def states(node: Daemon) -> dict[str, str]:
    """By name; a node that still starts says no version."""
    seen = node.api("/api/v1/status").json["nodes"]
    return {one["name"]: one["state"] if one["version"] else "starts" for one in seen}


def started_at(node: Daemon) -> str:
    return str(node.api("/api/v1/status").json["started_at"])


def standing_by(leader: Daemon) -> str:
    return f"This node stands by: {leader.data.name} leads."


def wait_for(node: Daemon, wanted: dict[str, str]) -> None:
    eventually(lambda: states(node) == wanted, 60, node.log_tail())


def test_a_handover_refuses_no_request_and_the_node_that_led_stands_by_again(pair: tuple[Daemon, Daemon]) -> None:
    alpha, beta = pair
    wait_for(alpha, {"alpha": "leads", "beta": "standby"})
    refused = beta.cli("handover", exit_code=4).stderr.decode()
    assert "alpha leads" in refused and "`covenq handover` on its machine" in " ".join(refused.split())
    first, pid = started_at(alpha), alpha.pid
    with AnywhereLoad([alpha, beta]) as load:
        eventually(lambda: len(load.accepted) > 20, 60)
        done = json.loads(alpha.cli("handover", "--json").stdout)
        assert (done["node"], done["address"]) == ("beta", f"127.0.0.1:{beta.port}")
        wait_for(beta, {"alpha": "standby", "beta": "leads"})
        eventually(lambda: started_at(alpha) != first, 60, "alpha has started again")
        eventually(lambda: alpha.get("/readyz").json["reasons"] == [standing_by(beta)], 60, alpha.log_tail())
        assert alpha.api("/api/v1/status").json["pid"] == pid
        wait_for(beta, {"alpha": "standby", "beta": "leads"})
        # And back, by a process that was started by itself.
        said = beta.cli("handover").stdout.decode()
        assert said.startswith("alpha leads now, at 127.0.0.1:")
        wait_for(alpha, {"alpha": "leads", "beta": "standby"})
        seen = len(load.accepted)
        eventually(lambda: len(load.accepted) > seen + 20, 60)
    assert (load.refused, load.cut) == ([], [])
    held = [one["guid"] for one in alpha.cli_json("deliveries", "--limit", "0")["items"]]
    assert sorted(held) == sorted(guid for _, guid in load.accepted)
    assert alpha.running and alpha.stop() == 0 and "Traceback" not in alpha.log_tail(100_000)


def test_deliveries_are_taken_in_while_the_commands_of_a_node_that_hands_over_end(
    pair: tuple[Daemon, Daemon], servers: Cluster, tmp_path: Path
) -> None:
    """Only the last step closes the door: what runs may take seconds to end."""
    alpha, beta = pair
    wait_for(alpha, {"alpha": "leads", "beta": "standby"})
    task = alpha.post("issues", issue(0)).json["tasks"][0]
    eventually(lambda: "started" in alpha.cli("show", task).stdout.decode(), 60, "the command runs")
    alpha.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
    eventually((tmp_path / "ending").exists, 60, alpha.log_tail())
    taken, ready = alpha.post("issues", issue(1)), alpha.get("/readyz")
    (tmp_path / "go").touch()
    assert (taken.status, ready.status) == (202, 200)
    assert alpha.wait_exit(60) == 0, alpha.log_tail()
    ((ended,),) = servers.sql(END_OF.format(task=task))
    assert isinstance(ended, int) and taken.json["seq"] < ended, "it was recorded before the command had ended"
    wait_for(beta, {"alpha": "stopped", "beta": "leads"})


def test_a_service_manager_sees_one_process_that_reloads_and_holds_its_socket_meanwhile(
    servers: Cluster, tmp_path: Path
) -> None:
    env = {"COVENQ_JOURNAL_URL": servers.url}
    name = f"covenq-test-{uuid.uuid4().hex}"
    watched = {"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "300000000"}
    beta = Daemon(tmp_path / "beta", env=env, forked=True)
    with manager(b"\0" + name.encode()) as heard, socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        alpha = Daemon(tmp_path / "alpha", env={**env, **watched}, port=listening.getsockname()[1])
        alpha.wrapper, alpha.pass_fds = activated(listening), (listening.fileno(),)
        try:
            alpha.start()
            beta.start(wait=False)
            eventually(lambda: sorted(states(alpha).values()) == ["leads", "standby"], 60, beta.log_tail())
            alpha.cli("handover")
            assert alpha.post("issues", issue(1)).status == 202, "made while it may not listen yet, and passed on"
            heard.until("RELOADING=1")
            assert heard.until("WATCHDOG_USEC").startswith("WATCHDOG_USEC=900000000"), "nothing feeds it in a start"
            ready = heard.until("READY=1")
            assert "stands by" in ready and ready.endswith("WATCHDOG_USEC=300000000"), "and then it is as it was"
            assert not any("STOPPING" in one for one in heard.heard)
            assert alpha.api("/api/v1/status").json["pid"] == alpha.pid and alpha.stop() == 0
        finally:
            alpha.kill()
            beta.kill()


def test_a_handover_without_another_node_is_refused(servers: Cluster, tmp_path: Path) -> None:
    alone = Daemon(tmp_path / "alone", env={"COVENQ_JOURNAL_URL": servers.url}, forked=True).start()
    try:
        said = " ".join(alone.cli("handover", exit_code=4).stderr.decode().split())
        assert "no other node stands by" in said and "`covenq nodes`" in said
        assert alone.get("/readyz").status == 200
    finally:
        alone.kill()
