"""SIGKILL under load, over and over on one data directory. More of it: COVENQ_TEST_KILLS=10000 make test-deep."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.same_state import assert_state_is_a_fresh_fold
from tests.support.torture import check, config, torture

DEEP_KILLS = int(os.environ.get("COVENQ_TEST_KILLS", "1000"))
ROUND = 100
"""Kills on one data directory, in the deep test."""


def run(make_daemon: Callable[..., Daemon], runs: Path, kills: int, seed: int) -> None:
    daemon = make_daemon(config(runs), start=False)
    runs.touch()
    promises = torture(daemon, kills, seed)
    counts = check(daemon, promises, runs)
    print(f"{kills} kills, seed {seed}: {counts}")
    assert len(promises.accepted) >= 2 * kills, "hardly any load: the test proves nothing"
    assert counts["tasks"] > 0
    assert counts["erasures"] > kills // 4
    assert not sys.platform.startswith("linux") or promises.followers_killed >= kills // 6
    assert daemon.stop() == 0
    assert_state_is_a_fresh_fold(daemon.data)


def test_a_few_kills_under_load_lose_nothing_and_double_nothing(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """Many more in the deep tests."""
    run(make_daemon, tmp_path / "runs", kills=30, seed=1)


@pytest.mark.deep
@pytest.mark.parametrize("start", range(0, DEEP_KILLS, ROUND))
def test_many_kills_under_load_lose_nothing_and_double_nothing(
    make_daemon: Callable[..., Daemon], tmp_path: Path, start: int
) -> None:
    run(make_daemon, tmp_path / "runs", kills=min(ROUND, DEEP_KILLS - start), seed=1000 + start)
