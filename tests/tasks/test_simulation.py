"""Seeded histories of the scheduler. A failing one replays exactly: COVENQ_TEST_SEED=<seed> make test ARGS="-k simulation"."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.simulation import World
from tests.support.simulation_disk import DiskJournal

GIVEN = os.environ.get("COVENQ_TEST_SEED")
NORMAL = 300
DEEP = int(os.environ.get("COVENQ_TEST_SEEDS", "10240"))
SHARDS = 32


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No waiting for a journal that did not answer, and no log of what is done to it on purpose."""
    monkeypatch.setattr("journal.append.PAUSE_S", 0.0)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def run(seeds: range) -> None:
    assert seeds, "no history at all: COVENQ_TEST_SEEDS is at least 32"
    for seed in [int(GIVEN)] if GIVEN else seeds:
        world = World(seed)
        try:
            world.run()
        except Exception as error:
            error.add_note(f"COVENQ_TEST_SEED={seed} replays it; it ended with: {', '.join(world.said[-20:])}")
            raise
        finally:
            world.conn.close()


@pytest.mark.parametrize("shard", [0, *(pytest.param(shard, marks=pytest.mark.deep) for shard in range(1, 6))])
def test_histories_keep_every_promise(shard: int) -> None:
    """50 histories; the others of 300 are deep tests. `test_simulation_mutants` breaks each promise: 13 of them show all."""
    run(range(shard * NORMAL // 6, (shard + 1) * NORMAL // 6))


@pytest.mark.deep
@pytest.mark.parametrize("shard", range(SHARDS))
def test_many_histories_keep_every_promise(shard: int) -> None:
    run(range(1_000_000 + shard * DEEP // SHARDS, 1_000_000 + (shard + 1) * DEEP // SHARDS))


@pytest.mark.parametrize("seed", range(12))
def test_histories_on_the_real_journal(seed: int, tmp_path: Path) -> None:
    """The same over the file engine, whose disk is simulated: its recovery is what a crash is followed by."""
    world = World(seed, journal_of=lambda clock, fault: DiskJournal(tmp_path, clock, fault))
    world.run()
    world.journal.close()
    world.conn.close()


def test_a_seed_is_a_whole_history() -> None:
    one, other = World(7).run(), World(7).run()
    assert one.journal.records == other.journal.records
    assert one.said == other.said
