"""The process that folds is stopped (SIGSTOP) under load for minutes: nothing waits for it but what shows the state."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.same_state import assert_state_is_a_fresh_fold
from tests.support.torture import Load, Promises, check, config, follower_of
from tests.support.waiting import eventually

WINDOW_S = 60.0
SILENT_S = 120.0
"""After which the daemon replaces it (`covenq.daemon.following`)."""


@pytest.mark.deep
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the process in /proc")
def test_a_fold_that_is_stopped_for_minutes_loses_and_doubles_nothing_and_is_replaced(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    runs.touch()
    daemon = make_daemon(config(runs))
    promises = Promises()
    pid = follower_of(daemon)
    assert pid is not None

    def accepted_within(seconds: float) -> int:
        before = len(promises.accepted)
        threading.Event().wait(seconds)
        return len(promises.accepted) - before

    with Load(daemon, promises, 7):
        normal = accepted_within(WINDOW_S / 2) * 2
        os.kill(pid, signal.SIGSTOP)
        stopped = accepted_within(WINDOW_S)
        behind = daemon.api("/api/v1/deliveries", timeout=60)
        assert behind.status == 503 and "behind the journal" in behind.json["detail"]
        assert daemon.get("/readyz").status == 200
        assert daemon.api("/api/v1/status").json["state"]["lag"] > 0
        print(f"accepted in {WINDOW_S:g} s: {normal} as ever, {stopped} with the follower stopped")
        assert stopped > normal // 4, "hardly any load: the test proves nothing"
        eventually(
            lambda: daemon.api("/api/v1/status").json["state"]["follower"]["pid"] != pid, 2 * SILENT_S, "replaced"
        )
    eventually(lambda: daemon.api("/api/v1/status").json["state"]["lag"] == 0, 300, "the next one catches up")
    check(daemon, promises, runs)
    assert daemon.stop() == 0
    assert_state_is_a_fresh_fold(daemon.data)
