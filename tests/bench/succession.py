"""How long nobody takes a delivery in when the node that leads is lost, or hands over: `python tests/bench/succession.py`.

Two nodes with one journal, on a PostgreSQL with a synchronous standby, all on this machine, and senders that try any node: where
one takes no connection they turn to the other, and nothing that was sent is sent again. Each round the leader is killed
(SIGKILL), started again once the other leads, and then `covenq handover` has that one hand over. A gap is the longest time
between two answers 2xx. A refusal is a delivery that got another answer, or none of any node; one is cut off where a node is lost
with the request in hand.

Bars: from SIGKILL to the next 2xx ≤ 6 s, at a handover ≤ 1 s, each the greatest of all rounds; no request is refused, and at a
handover none is cut off. It ends with 1 if one is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# Beside this file stands one that bears the journal's name, and a script's folder comes first on the path.
HERE = Path(__file__).resolve().parent
sys.path[:] = [str(HERE.parents[1])] + [p for p in sys.path if Path(p or ".").resolve() != HERE]

from tests.support.anywhere import AnywhereLoad  # noqa: E402
from tests.support.daemon import Daemon  # noqa: E402
from tests.support.postgres.server import Cluster  # noqa: E402
from tests.support.waiting import eventually  # noqa: E402

CONFIG = """
[worker]
concurrency = 2
lease = "10s"
[[route]]
name = "all"
match = "event:issues number:1"
run = ["sleep", "600"]
"""
"""Each sender's first delivery runs something, which a handover has to end."""
KILL_S, HANDOVER_S = 6.0, 1.0
WAIT_S = 120.0


class Nodes:
    """Two daemons; either may lead."""

    def __init__(self, base: Path, url: str) -> None:
        config = base / "covenq.toml"
        config.write_text(CONFIG)
        self.all = [Daemon(base / name, config=config, env={"COVENQ_JOURNAL_URL": url}) for name in "ab"]

    def start(self) -> None:
        for one in self.all:
            one.start(wait=False)
            eventually(lambda one=one: self.state_of(one) is not None, WAIT_S, one.log_tail())  # type: ignore[misc]

    def state_of(self, node: Daemon) -> str | None:
        """`leads`, or `standby` once the node that leads knows it; None for one that doesn't answer, or starts."""
        try:
            said = node.api("/api/v1/status").json
        except OSError:
            return None
        return next((one["state"] for one in said.get("nodes") or () if one["here"]), None)

    def started_at(self, node: Daemon) -> str:
        return str(node.api("/api/v1/status").json["started_at"])

    def serve(self) -> bool:
        """Whether both are known to: one that starts says no version yet."""
        return all(one["version"] for one in self.all[0].api("/api/v1/status").json["nodes"])

    def leader(self) -> Daemon:
        """The one that leads, once the other stands by."""
        return eventually(self._settled, WAIT_S, "one node leads, and the other stands by")

    def _settled(self) -> Daemon | None:
        states = [self.state_of(one) for one in self.all]
        ready = [one.get("/readyz").status for one in self.all]
        if sorted(map(str, states)) != ["leads", "standby"] or sorted(ready) != [200, 503] or not self.serve():
            return None
        return self.all[states.index("leads")]


def kill(nodes: Nodes, load: AnywhereLoad) -> float:
    """The gap, in seconds."""
    leader = nodes.leader()
    began = time.monotonic()
    leader.kill()
    eventually(lambda: load.accepted[-1][0] > began + 0.5, WAIT_S, "a delivery is accepted again")
    other = next(one for one in nodes.all if one is not leader)
    eventually(lambda: other.get("/readyz").status == 200, WAIT_S, other.log_tail())
    gap = load.longest_gap(began, time.monotonic())
    leader.start(wait=False)
    return gap


def hand_over(nodes: Nodes, load: AnywhereLoad) -> float:
    leader = nodes.leader()
    first, began = nodes.started_at(leader), time.monotonic()
    leader.cli("handover")
    eventually(lambda: nodes.started_at(leader) != first, WAIT_S, "the node that led starts again")
    nodes.leader()
    return load.longest_gap(began, time.monotonic())


class Tally:
    """What came of one kind of round."""

    def __init__(self, what: str, bar_s: float) -> None:
        self.what, self.bar_s = what, bar_s
        self.gaps: list[float] = []
        self.refused = self.cut = 0

    def add(self, run: Callable[[Nodes, AnywhereLoad], float], nodes: Nodes, load: AnywhereLoad) -> None:
        nodes.leader()
        before = len(load.refused), len(load.cut)
        self.gaps.append(run(nodes, load))
        self.refused += len(load.refused) - before[0]
        self.cut += len(load.cut) - before[1]
        print(f"{self.what} {self.gaps[-1]:.2f} s", flush=True)

    def __str__(self) -> str:
        low, middle, high = min(self.gaps), statistics.median(self.gaps), max(self.gaps)
        return (
            f"{self.what:8} {len(self.gaps)} rounds, longest gap between 2xx: min {low:.2f} s, median {middle:.2f} s, max "
            f"{high:.2f} s (bar {self.bar_s:g} s); refused {self.refused}, cut off {self.cut}"
        )

    @property
    def good(self) -> bool:
        return max(self.gaps) <= self.bar_s and not self.refused


def measure(nodes: Nodes, rounds: int, senders: int) -> int:
    """The exit code."""
    kills, handovers = Tally("SIGKILL", KILL_S), Tally("handover", HANDOVER_S)
    with AnywhereLoad(nodes.all, senders) as load:
        eventually(lambda: len(load.accepted) > 50, WAIT_S, "deliveries are accepted")
        for _ in range(rounds):
            kills.add(kill, nodes, load)
            handovers.add(hand_over, nodes, load)
    for one in load.refused[:20]:
        print(f"refused {one}")
    print(f"{len(load.accepted)} accepted by {senders} senders")
    print(kills)
    print(handovers)
    return 0 if kills.good and handovers.good and not handovers.cut else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--senders", type=int, default=4)
    given = parser.parse_args()
    servers = Cluster(standby=True)
    try:
        with tempfile.TemporaryDirectory(prefix="covenq-bench-") as base:
            nodes = Nodes(Path(base), servers.url)
            try:
                nodes.start()
                return measure(nodes, given.rounds, given.senders)
            finally:
                for one in nodes.all:
                    one.kill()
    finally:
        servers.close()


if __name__ == "__main__":
    sys.exit(main())
