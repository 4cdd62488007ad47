"""How a node that stands by follows: what it says of itself while the server hangs."""

from __future__ import annotations

import threading

import pytest

from journal.postgres import follow
from journal.postgres.follow import HeadFollower
from journal.postgres.nodes import Heartbeat
from journal.records import NOBODY

HANG_S = 60.0


class Hanging:
    """A connection to a server that takes what it is asked, and says nothing until it may."""

    def __init__(self) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()

    def execute(self, query: str, values: object = None) -> Hanging:
        self.asked.set()
        assert self.answers.wait(HANG_S)
        return self

    def fetchone(self) -> None:
        return None

    def close(self) -> None:
        pass


def test_a_server_that_hangs_is_told_of_and_is_no_reason_for_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service manager ends a daemon whose beat stands still, and with it what it runs: for nothing."""
    conn, now = Hanging(), 1000.0
    monkeypatch.setattr(follow, "connect", lambda url, **more: conn)
    follower = HeadFollower(
        "",
        lambda head, epoch, leader: None,
        lambda conn: None,
        lambda error: None,
        Heartbeat(NOBODY),
        monotonic=lambda: now,
    )
    follower.start()
    try:
        assert conn.asked.wait(HANG_S)
        assert follower.unreachable is None
        now += 100.0
        assert follower.beat == now
        assert follower.unreachable == "the database has not answered for 100 s"
    finally:
        conn.answers.set()
        follower.stop()
    beat = follower.beat
    now += 100.0
    assert follower.beat == beat, "one that has ended shows nothing any more"
