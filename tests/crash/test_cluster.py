"""Two nodes on a primary with a synchronous standby, under load, while one part after another is killed, stopped or promoted.

Deliveries go to any node that runs, each once: nobody repeats a POST for GitHub. After each run all that was ever answered 2xx is
looked for in the tables, by a program that shares no code with covenq, and both nodes have to show the same.
Seeded: COVENQ_TEST_TORTURES has more seeds for the deep run, COVENQ_TEST_ROUNDS the rounds of each.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.postgres.audit import audit
from tests.support.postgres.proxy import Proxy
from tests.support.postgres.server import Cluster, Server
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres

CONFIG = """
[worker]
concurrency = 4
lease = "{lease_s:g}s"
[[route]]
name = "all"
match = "event:issues"
run = [
  "sh", "-c",
  "cd {base}; flock -n -E 99 locks/$COVENQ_TASK sleep $(cat long || echo 0.02); [ $? -ne 99 ] || echo $COVENQ_TASK >>doubled",
]
retry = {{ max = 3, backoff = "50ms" }}
"""
SENDERS = 6
LEASE_S = 10.0
SHIFTED_CLOCK = Path(__file__).resolve().parents[1] / "support" / "shifted_clock.py"
CLOCK_OFF_S = 4.0
"""Seconds that each machine's clock is off; with more than 5 a start is refused."""


class Load:
    """Senders that post new deliveries to one node or the other, each once, until they are told to stop."""

    def __init__(self, nodes: list[Daemon], seed: int) -> None:
        self.accepted: set[str] = set()
        self.refused = 0
        self._nodes = nodes
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(seed * 100 + number,)) for number in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def _send(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._stop.is_set():
            guid, node = new_guid(), chance.choice(self._nodes)
            try:
                answer = node.post("issues", issue(int(guid[:6], 16)), guid)
            except (OSError, http.client.HTTPException):
                continue
            if answer.status in (200, 202):
                self.accepted.add(guid)
            else:
                assert answer.status == 503, answer.status
                self.refused += 1

    def wait_for_more(self, count: int = 15) -> None:
        wanted = len(self.accepted) + count
        eventually(lambda: len(self.accepted) >= wanted, 120, "deliveries are accepted again")

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


def leading(node: Daemon) -> bool:
    try:
        return node.get("/readyz").status == 200
    except OSError:
        return False


class Torture:
    """Two servers and two nodes, each with proxies of its own to the servers. Each act ends with everything running again."""

    def __init__(self, base: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.servers = Cluster(standby=True)
        assert self.servers.standby is not None
        self.standby = self.servers.standby
        config = base / "covenq.toml"
        self.locks, self.doubled, self.long = base / "locks", base / "doubled", base / "long"
        self.locks.mkdir()
        config.write_text(CONFIG.format(base=base, lease_s=LEASE_S))
        self.replication = Proxy(self.servers.base / "proxy-r", self.servers.base, self.servers.primary.port, seed)
        self._replicate_through(self.servers.base / "proxy-r")
        self.nodes: list[Daemon] = []
        self.proxies: list[Proxy] = []
        for name, off in (("a", CLOCK_OFF_S), ("b", -CLOCK_OFF_S)):
            where = self.servers.base / f"proxy-{name}"
            self.proxies += [
                Proxy(where, self.servers.base, server.port, seed) for server in (self.servers.primary, self.standby)
            ]
            url = f"postgresql://covenq@/postgres?host={where},{where}&port=5432,5433&target_session_attrs=read-write"
            shifted = [sys.executable, str(SHIFTED_CLOCK), str(off)]
            self.nodes.append(Daemon(base / name, config=config, env={"COVENQ_JOURNAL_URL": url}, wrapper=shifted))

    def _replicate_through(self, where: Path) -> None:
        for path in (where, *where.iterdir()):
            path.chmod(0o777)  # the servers may run as another user
        self.standby.sql(f"ALTER SYSTEM SET primary_conninfo = 'user=covenq host={where} application_name=standby'")
        self.standby.sql("SELECT pg_reload_conf()")

        def passes() -> bool:
            return self.replication.connections > 0 and self.servers.waits_for_the_standby()

        eventually(passes, 60, "the standby replicates through the proxy")

    def start(self) -> None:
        eventually(lambda: all(self._answers(node) for node in self.nodes), 60, "both answer")

    def _answers(self, node: Daemon) -> bool:
        self.restart_ended()
        said = node.get("/readyz")
        return said.status == 200 or "stands by" in said.json["detail"]

    def leader(self) -> Daemon:
        def leads() -> Daemon | None:
            self.restart_ended()
            return next(filter(leading, self.nodes), None)

        return eventually(leads, 120, "a node leads")

    def restart_ended(self) -> None:
        """Start what ended, as a service manager would: a node that lost the lead, or whose start found no database."""
        for node in self.nodes:
            if not node.running:
                node.start(wait=False)

    def acts(self) -> dict[str, Callable[[], object]]:
        return {
            "kill the leader": lambda: self._kill(self.leader()),
            "kill the other": lambda: self._kill(self._other(self.leader())),
            "stop the leader": self.stop_leader,
            "pause the leader": self.pause_leader,
            "pause the leader for longer than a lease": self.outlast_leases,
            "kill the primary": self.kill_primary,
            "pause the primary": lambda: self.pause_server(self.servers.primary),
            "pause the standby": lambda: self.pause_server(self.standby),
            "kill the standby": self.kill_standby,
            "cut connections": self.cut_connections,
            "cut in the middle": lambda: [proxy.cut() for proxy in self.proxies],
            "cut answers": lambda: [proxy.cut_answers() for proxy in self.proxies],
            "cut replication": self.replication.cut,
            "slow replication": self.slow_replication,
            "slow a node": self.slow_down,
        }

    def _other(self, node: Daemon) -> Daemon:
        return next(one for one in self.nodes if one is not node)

    def _kill(self, node: Daemon) -> None:
        node.kill()

    def stop_leader(self) -> None:
        leader = self.leader()
        assert leader.stop(60) in (0, 1), leader.log_tail()  # 1: it was poisoned meanwhile

    def outlast_leases(self) -> None:
        """Commands of its own run when it is stopped; their leases end, and another node runs the tasks again meanwhile."""
        self.long.write_text("30")
        begun = len(list(self.locks.iterdir()))
        eventually(lambda: len(list(self.locks.iterdir())) > begun, 60, "a long command runs")
        self.pause_leader(LEASE_S + 2.0)

    def pause_leader(self, at_least_s: float = 0.0) -> None:
        """It believes that it leads when it goes on, and has to find out."""
        leader = self.leader()
        assert leader.process is not None
        leader.process.send_signal(signal.SIGSTOP)
        other = self._other(leader)
        try:

            def succeeded() -> bool:
                self.restart_ended()
                return leading(other)

            eventually(succeeded, 120, other.log_tail())
            self.long.unlink(missing_ok=True)
            threading.Event().wait(at_least_s)
        finally:
            leader.process.send_signal(signal.SIGCONT)
        assert leader.wait_exit(60) == 1, leader.log_tail()

    def pause_server(self, server: Server) -> None:
        """Commits, and the lease, wait for it; it may be longer than the lease lasts."""
        server.pause()
        try:
            threading.Event().wait(self.chance.uniform(0.5, 5.0))
        finally:
            server.resume()

    def kill_primary(self) -> None:
        self.servers.primary.kill()
        self.servers.primary.start()

    def kill_standby(self) -> None:
        self.standby.kill()
        self.standby.start()

    def cut_connections(self) -> None:
        self.servers.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'covenq'")

    def slow_down(self) -> None:
        """From here on until it is chosen again: up to that much for each piece, either way."""
        first = self.chance.choice([0, 2])
        for proxy in self.proxies[first : first + 2]:
            proxy.slow_s = 0.0 if proxy.slow_s else 0.05

    def slow_replication(self) -> None:
        self.replication.slow_s = 0.0 if self.replication.slow_s else 0.02

    def promote(self) -> None:
        """The primary is lost for good, and the standby takes its place: it has all that was answered."""
        self.servers.primary.kill()
        self.standby.run("pg_ctl", "promote", "-w", "-D", str(self.standby.data))
        self.servers.primary, self.servers.standby = self.standby, None
        self.standby.sql("ALTER SYSTEM SET synchronous_standby_names = ''")
        self.standby.sql("SELECT pg_reload_conf()")

    def close(self) -> None:
        for node in self.nodes:
            node.kill()
        for proxy in (*self.proxies, self.replication):
            proxy.close()
        self.servers.close()


def states(node: Daemon) -> dict[str, str]:
    return {one["guid"]: one["state"] for one in node.cli_json("deliveries", "--limit", "0")["items"]}


def wait_all_ended(leader: Daemon) -> None:
    """As long as they do end, one after another: how many there are is a matter of luck."""
    left, ended = 1, -1

    def goes_on() -> bool:
        nonlocal left, ended
        counts = leader.api("/api/v1/status").json["tasks"]
        before, ended = ended, counts.get("completed", 0) + counts.get("failed", 0)
        left = sum(counts.values()) - ended
        assert ended > before or not left, counts
        return True

    while left:
        eventually(goes_on, 120, "another task ends")


def run(base: Path, seed: int, rounds: int) -> None:
    torture = Torture(base, seed)
    try:
        torture.start()
        load = Load(torture.nodes, seed)
        done = []
        try:
            for _ in range(rounds):
                load.wait_for_more()
                name = torture.chance.choice(sorted(torture.acts()))
                done.append(name)
                torture.acts()[name]()
                torture.start()
            load.wait_for_more()
            torture.promote()
            torture.start()
            load.wait_for_more()
        finally:
            load.stop()
        torture.start()
        leader = torture.leader()
        other = torture._other(leader)

        wait_all_ended(leader)
        found = audit(torture.servers.url)
        assert found["faults"] == [], (seed, done)
        lost = load.accepted - set(found["deliveries"])
        assert not lost, (seed, done, sorted(lost)[:5])
        assert not torture.doubled.exists(), (
            f"two commands of one task were alive at once: {torture.doubled.read_text()}"
        )
        assert found["tasks"] == len(found["deliveries"]) == found["ended"]
        shown = states(leader)
        eventually(lambda: states(other) == shown, 60, "both show the same")
        assert other.stop() == 0, other.log_tail()
        (other.data / "state.db").unlink()
        assert states(other) == shown and set(shown) == set(found["deliveries"])
        assert leader.cli_json("verify")["ok"]
    except BaseException as error:
        error.add_note(f"seed {seed}: {done}")
        raise
    finally:
        torture.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_acknowledged_is_lost_or_doubled_by_two_nodes(tmp_path: Path, seed: int) -> None:
    run(tmp_path, seed, rounds=4)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(300, 300 + int(os.environ.get("COVENQ_TEST_TORTURES", "10"))))
def test_two_nodes_lose_nothing_at_length(tmp_path: Path, seed: int) -> None:
    run(tmp_path, seed, rounds=int(os.environ.get("COVENQ_TEST_ROUNDS", "20")))
