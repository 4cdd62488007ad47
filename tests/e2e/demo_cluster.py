"""`make demo-cluster`: two nodes on a database with a synchronous standby, under load, losing one part after another.

Everything runs here, on sockets of this machine. Deliveries come as from GitHub behind a balancer: each is posted once, to the
next node that takes the connection. The node that leads is killed, or stopped in order; the primary is killed, and its standby
promoted; and the node that leads by then is paused in the middle of what it does, and believes that it leads when it goes on. At
the end a program that shares no code with covenq counts in the tables what is held.
"""

from __future__ import annotations

import itertools
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.postgres.audit import audit
from tests.support.postgres.server import Cluster
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually

CONFIG = """
[worker]
concurrency = 4
lease = "10s"
[[route]]
name = "all"
match = "event:issues"
run = ["true"]
"""
SENDERS = 4
HANG_S = 120.0


@dataclass
class Load:
    """Senders that post one delivery after another, each once, to the next node that takes the connection."""

    nodes: list[Daemon]
    accepted: list[str] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    unanswered: int = 0
    """Posts to a node that ended before it answered: GitHub would show them as failed."""

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._turn = itertools.count()
        self._newest = time.monotonic()
        self._longest = 0.0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send) for _ in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        while not self._over.is_set():
            guid, number = new_guid(), next(self._turn)
            try:
                status = self.nodes[number % len(self.nodes)].post("issues", issue(number), guid).status
            except ConnectionRefusedError:
                continue
            except OSError:
                self.unanswered += 1
                continue
            if status not in (200, 202):
                self.refused.append(status)
                continue
            with self._lock:
                now = time.monotonic()
                self._longest = max(self._longest, now - self._newest)
                self._newest = now
                self.accepted.append(guid)

    def wait_for_more(self, count: int = 200) -> None:
        wanted = len(self.accepted) + count
        eventually(lambda: len(self.accepted) >= wanted, HANG_S, "deliveries are accepted")

    def longest_gap(self) -> float:
        """Seconds between two answers `accepted`, at most, since it was last asked."""
        with self._lock:
            longest, self._longest = self._longest, 0.0
        return longest

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(HANG_S)


class Demo:
    """The servers and the nodes; each act ends with everything running again that is not lost for good."""

    def __init__(self, base: Path) -> None:
        self.servers = Cluster(standby=True)
        self.nodes = []
        config = base / "covenq.toml"
        config.write_text(CONFIG)
        standby = self.servers.standby
        assert standby is not None
        self.standby = standby
        ports = f"{self.servers.primary.port},{standby.port}"
        where = f"host={self.servers.base},{self.servers.base}&port={ports}&target_session_attrs=read-write"
        env = {"COVENQ_JOURNAL_URL": f"postgresql://covenq@/postgres?{where}"}
        for name in ("node-a", "node-b"):
            self.nodes.append(Daemon(base / name, config=config, env={**env, "COVENQ_NODE_NAME": name}))

    def start(self) -> None:
        for node in self.nodes:
            if not node.running:
                node.start(wait=False)
        eventually(lambda: all(map(self._answers, self.nodes)), HANG_S, "both nodes answer")

    def _answers(self, node: Daemon) -> bool:
        if not node.running:
            node.start(wait=False)  # as its service manager would: it had lost the lead
        said = node.get("/readyz")
        return said.status == 200 or " leads." in said.json["detail"]

    def leader(self) -> Daemon:
        def leads() -> Daemon | None:
            return next((node for node in self.nodes if node.running and node.get("/readyz").status == 200), None)

        return eventually(leads, HANG_S, "a node leads")

    def kill_leader(self) -> None:
        self.leader().kill()

    def stop_leader(self) -> None:
        assert self.leader().stop(HANG_S) == 0

    def promote(self) -> None:
        self.servers.primary.kill()
        self.standby.run("pg_ctl", "promote", "-w", "-D", str(self.standby.data))
        self.servers.primary, self.servers.standby = self.standby, None
        self.standby.sql("ALTER SYSTEM SET synchronous_standby_names = ''")
        self.standby.sql("SELECT pg_reload_conf()")

    def pause_leader(self) -> None:
        leader = self.leader()
        other = next(node for node in self.nodes if node is not leader)
        assert leader.process is not None
        leader.process.send_signal(signal.SIGSTOP)
        try:
            eventually(lambda: other.get("/readyz").status == 200, HANG_S, "the other leads")
        finally:
            leader.process.send_signal(signal.SIGCONT)
        leader.wait_exit(HANG_S)

    def close(self) -> None:
        for node in self.nodes:
            node.kill()
        self.servers.close()


def show(*cells: object) -> None:
    name, *figures = map(str, cells)
    print(f"{name:<54}" + "".join(f"{one:>12}" for one in figures), flush=True)


def main() -> int:
    """0 if nothing was lost or done twice, 1 if something was, 4 where PostgreSQL's programs are not installed."""
    base = Path(tempfile.mkdtemp(prefix="covenq-demo-"))
    try:
        demo = Demo(base)
    except pytest.skip.Exception as reason:
        print(f"{reason}. On Debian and Ubuntu: apt install postgresql.", file=sys.stderr)
        return 4
    try:
        demo.nodes[0].start()
        demo.start()
        return play(demo)
    finally:
        demo.close()
        shutil.rmtree(base, ignore_errors=True)


def play(demo: Demo) -> int:
    """The acts, one after another under load, and what the tables hold at the end."""
    acts: list[tuple[str, Callable[[], None]]] = [
        ("nothing happens", lambda: None),
        ("the node that leads is killed", demo.kill_leader),
        ("the node that leads is stopped, and hands over", demo.stop_leader),
        ("the primary is lost, and its standby promoted", demo.promote),
        ("the node that leads is paused, and goes on", demo.pause_leader),
    ]
    show("", "accepted", "refused", "no answer", "longest gap")
    load = Load(demo.nodes)
    try:
        load.wait_for_more()
        for name, act in acts:
            load.longest_gap()
            before = (len(load.accepted), len(load.refused), load.unanswered)
            act()
            load.wait_for_more()
            demo.start()
            told = (len(load.accepted) - before[0], len(load.refused) - before[1], load.unanswered - before[2])
            show(name, *told, f"{load.longest_gap():.1f} s")
    finally:
        load.stop()
    leader = demo.leader()
    counts = eventually(lambda: _ended(leader), HANG_S, "all tasks end")
    found = audit(demo.servers.url)
    lost = set(load.accepted) - set(found["deliveries"])
    held, faults = len(found["deliveries"]), found["faults"]
    print(f"\naccepted {len(load.accepted)}, of which held {len(load.accepted) - len(lost)}; held in all {held};")
    print(f"tasks {found['tasks']}, of which ended once {found['ended']}: {counts}; faults of the chain: {len(faults)}")
    whole = not lost and not faults and found["tasks"] == found["ended"] == held
    print("Nothing was lost, and nothing done twice." if whole else f"FAILED: {faults[:5]} {sorted(lost)[:5]}")
    return 0 if whole else 1


def _ended(node: Daemon) -> dict[str, int] | None:
    counts: dict[str, int] = node.api("/api/v1/status").json["tasks"]
    return counts if counts and set(counts) <= {"completed", "failed"} else None


if __name__ == "__main__":
    sys.exit(main())
