"""No crash, at any point of any workload, costs an acknowledged record. `simdisk` has the states, `explorer` the checks."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.support.journals.explorer import Checker, Count, Plan, Run, explore, scratch
from tests.support.journals.simdisk import Density
from tests.support.journals.workloads import WORKLOADS

SHALLOW = Density(stride=61, sets=4, subsets=16, combinations=256)
FULL = Density(stride=1, sets=64, subsets=256, combinations=8192)
SHARDS = 4
SAMPLE = Plan(SHALLOW, positions=1, limit=25, again=25, inner=25)
"""Of each workload's shallow crashes: what every run of the suite explores."""
SHALLOW_WHOLE = Plan(SHALLOW, positions=1, limit=80, again=40, inner=80)
DEEP = int(os.environ.get("COVENQ_TEST_CRASHES", "600"))
"""Distinct journals that each shard of a deep run draws from the 400,000 there are; 0 takes them all, which takes hours."""


def run_and_explore(name: str, plan: Plan) -> Count:
    with scratch() as root:
        run = Run(root, seed=1000 * list(WORKLOADS).index(name))  # no two workloads share a salt, nor a state
        WORKLOADS[name](run)
        base, trace = run.disk.base, list(run.disk.trace)
        if run.journal is not None:
            run.journal.close()
        return explore(base, trace, Checker(root), plan)


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_crash_loses_an_acknowledged_record(name: str, record_property: Any) -> None:
    """25 distinct journals of each workload, and 25 crashes of one recovery: `SAMPLE`. The deep tests have more of both."""
    count = run_and_explore(name, SAMPLE)
    tell(name, count, record_property)
    assert count.states >= 80, "1,000 in all"


@pytest.mark.deep
@pytest.mark.parametrize("name", WORKLOADS)
def test_no_shallow_crash_loses_an_acknowledged_record(name: str, record_property: Any) -> None:
    """What the sample is of, with the crashes of two recoveries."""
    count = run_and_explore(name, SHALLOW_WHOLE)
    tell(name, count, record_property)
    assert count.states >= 350, "5,000 in all"


@pytest.mark.deep
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("name", WORKLOADS)
def test_no_crash_anywhere_loses_an_acknowledged_record(name: str, shard: int, record_property: Any) -> None:
    limit = DEEP or None
    plan = Plan(FULL, positions=2, limit=limit, again=100, inner=75, depth=2, shard=(shard, SHARDS))
    tell(f"{name} {shard + 1}/{SHARDS}", run_and_explore(name, plan), record_property)


def tell(name: str, count: Count, record_property: Any) -> None:
    assert count.states > 0, "nothing was explored"
    record_property("distinct_disk_states", count.states)
    record_property("distinct_journals", count.journals)
    print(
        f"{name}: {count.states} distinct disk states ({count.journals} without the caches), {count.points} crash points"
    )
