"""What a daemon tells of its passes over GitHub's delivery logs, and what it received."""

from __future__ import annotations

from typing import Any

from tests.support.daemon import Daemon
from tests.support.waiting import eventually


def status_of(daemon: Daemon) -> Any:
    return daemon.api("/api/v1/status").json["reconcile"]


def last_of(daemon: Daemon) -> Any:
    """The newest pass over the first log."""
    return status_of(daemon)["logs"][0]["last"]


def received(daemon: Daemon) -> list[str]:
    """The GUIDs that are recorded, in their order."""
    return [record["data"]["guid"] for record in daemon.records("delivery.received")]


def wait_received(daemon: Daemon, wanted: set[str], timeout: float = 60.0) -> None:
    """Wait until these are recorded, and no others: each once."""
    eventually(lambda: set(received(daemon)) == wanted, timeout, daemon.log_tail())
    assert len(received(daemon)) == len(wanted)
