"""What a daemon has used and done so far: processor time, syncs, records and the fold, seen from outside.

Of two such readings the difference is what a run used. The daemon is asked for its metrics, which wait for nothing: a status
would have the fold hurry.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from covenq.cli.processor_time import children_cpu_s, cpu_s
from covenq.net.http_client import Client

POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Reading:
    """The state of a daemon at one moment. Seconds of processor time are None where the system doesn't show them."""

    daemon_cpu_s: float | None
    follower_cpu_s: float | None
    head: int
    lag: int
    syncs: int
    journal_bytes: int


def read(client: Client, pid: int) -> Reading:
    """What the daemon of that process is at. Raises DaemonUnreachable, and whatever else it answers."""
    daemon, follower = cpu_s(pid), children_cpu_s(pid)
    values = _metrics(client.get_bytes("/metrics").decode())
    return Reading(
        daemon,
        follower,
        head=int(values.get("covenq_journal_head_seq", 0)),
        lag=int(values.get("covenq_fold_lag_records", 0)),
        syncs=int(values.get("covenq_journal_sync_seconds_count", 0)),
        journal_bytes=int(values.get("covenq_journal_bytes", 0)),
    )


def wait_folded(client: Client, within_s: float) -> bool:
    """Wait until the fold has nothing before it, for so many seconds at most; whether it has."""
    until = time.monotonic() + within_s
    while _metrics(client.get_bytes("/metrics").decode()).get("covenq_fold_lag_records", 0):
        if time.monotonic() > until:
            return False
        time.sleep(POLL_S)
    return True


def _metrics(text: str) -> dict[str, float]:
    """The metrics without labels, by name."""
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines if "{" not in name}
