"""What holding many deliveries costs: start, memory, disk, questions, claims and verification, at each of several sizes.

At each size the systems take turns, question by question, so that a drift of the machine's speed is in all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.bench.compare import stores
from tests.bench.compare.stores import CLAIMS, FILTERS, STORES, Store
from tests.bench.intake import Contender
from tests.bench.processes import pss_mib

STARTS = 3
"""How often each is started, and verified."""
ROUNDS, ASKED = 7, 5
"""Of questions and claims: of a round's, the median is the round's value."""
THREADS = 32

T = TypeVar("T")
Figures = dict[str, list[float]]
"""Values by measure: start_ms, memory_mib, disk_mib, target_ms, failed_ms, why_ms, claim_ms, verify_s."""


def measure(base: Path, count: int, skipped: dict[str, str], say: Callable[[str], None]) -> dict[str, Figures]:
    """By system. What can't be had is told in `skipped`."""
    base.mkdir()
    base.chmod(0o711)
    every: dict[str, Store] = {}
    try:
        for name, make in STORES.items():
            if name in skipped:
                continue
            began = time.monotonic()
            try:
                contender = Contender(name, base / name, THREADS, 1, running=False)
                every[name] = make(contender)
                every[name].fill(count)
            except LookupError as error:
                skipped[name] = str(error)
                if name in every:
                    every.pop(name).contender.stop()
                continue
            if contender.database is not None:
                contender.database.stop()
            say(f"{count:,} deliveries in {name} after {time.monotonic() - began:.0f} s")
        return _measured(every, count)
    finally:
        for store in every.values():
            store.contender.stop()


def _measured(every: dict[str, Store], count: int) -> dict[str, Figures]:
    found: dict[str, Figures] = {name: {} for name in every}

    def note(name: str, measure: str, value: float) -> None:
        found[name].setdefault(measure, []).append(value)

    for number in range(STARTS):
        for name, store in every.items():
            if number:
                store.contender.end()
            note(name, "start_ms", stores.start(store) * 1000)
    for store in every.values():
        store.contender.settle()
        store.connect()
        store.queue(CLAIMS)
        store.contender.settle()
    failed = stores.failed_in(count)
    for _ in range(ROUNDS):
        for name, store in every.items():
            for question in FILTERS:
                took, rows = _timed(lambda store=store, question=question: store.filter(question))  # type: ignore[misc]
                note(name, f"{question}_ms", took)
                _all_alike(every, name, f"{question}_rows", len(rows), found)
            note(name, "why_ms", _timed(lambda store=store: store.why(failed))[0])  # type: ignore[misc]
            note(name, "claim_ms", _timed(store.claim)[0])
    for name, store in every.items():
        note(name, "memory_mib", pss_mib(store.contender.pids()))
        note(name, "disk_mib", stores.on_disk_mib(store.path()))
    for _ in range(STARTS):
        for name, store in every.items():
            note(name, "verify_s", _timed(store.verify, 1)[0] / 1000)
    for store in every.values():
        store.disconnect()
    return found


def _all_alike(every: dict[str, Store], name: str, measure: str, rows: int, found: dict[str, Figures]) -> None:
    """Raises RuntimeError where another system finds other rows: then they weren't asked the same."""
    found[name][measure] = [float(rows)]
    for other in every:
        if found[other].get(measure, [float(rows)]) != [float(rows)]:
            raise RuntimeError(f"{measure}: {rows} in {name}, {found[other][measure][0]:.0f} in {other}")


def _timed(call: Callable[[], T], times: int = ASKED) -> tuple[float, T]:
    """Milliseconds, the median of so many calls, and what the last one answered."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        found = call()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took), found
