"""Durable appends a second of each engine, in one run: python tests/bench/engines.py [--threads 64] [--seconds 3] [--rounds 3].

Each append is what a delivery becomes: its record with a body of 8 KiB, and a task's, both new. The engines take turns, round by
round, on this machine's disk: the file engine, PostgreSQL alone, and PostgreSQL with a synchronous standby that commits wait for
(`synchronous_commit = remote_apply`). Ratios are to the file engine of the same round. Then, of each, the records a second that a
fold of them reads from the start. A server that can't be run is left out, with the reason.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import pytest  # noqa: E402

from covenq.state.store import StateStore  # noqa: E402
from journal.append import append_known  # noqa: E402
from journal.engines import open_reader  # noqa: E402
from journal.file.open import open_journal  # noqa: E402
from journal.interface import Engine, Reader  # noqa: E402
from journal.records import Appended, Entry  # noqa: E402

BODY = b'{"pad":"' + b"0123456789abcdef" * 511 + b'"}'


def work(journal: Engine, threads: int, seconds: float, name: str) -> tuple[float, float]:
    """(appends a second, the 99th percentile of an append in seconds)"""
    took: list[float] = []
    lock = threading.Lock()
    ends = time.monotonic() + seconds

    def one(number: int) -> None:
        mine: list[float] = []
        count = 0
        while time.monotonic() < ends:
            guid = f"{name}-{number}-{count}"
            count += 1
            began = time.monotonic()
            answer = append_known(
                journal,
                [
                    Entry(f"delivery.9.{guid}", "delivery.received", {"event": "push"}, {"repo": "o/r"}, BODY, 0),
                    Entry(f"task.{guid}", "task.queued", {"route": "r"}, expect=0),
                ],
            )
            assert isinstance(answer, Appended)
            mine.append(time.monotonic() - began)
        with lock:
            took.extend(mine)

    workers = [threading.Thread(target=one, args=(number,)) for number in range(threads)]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return len(took) / (time.monotonic() - began), statistics.quantiles(took, n=100)[98]


def engines(base: Path) -> dict[str, tuple[Engine, Callable[[], Reader]]]:
    found: dict[str, tuple[Engine, Callable[[], Reader]]] = {
        "file": (open_journal(base / "journal", force_filesystem=True), lambda: open_reader(base / "journal"))
    }
    try:
        from journal.postgres.open import open_journal as open_database
        from journal.postgres.reader import open_reader as read_database
        from tests.support.postgres.server import cluster

        for name, standby in (("postgres", False), ("postgres+sync standby", True)):
            servers = cluster(standby=standby)
            if standby:
                servers.primary.sql("ALTER SYSTEM SET synchronous_commit = 'remote_apply'")
                servers.primary.sql("SELECT pg_reload_conf()")
            url = servers.url
            found[name] = (open_database(url), lambda url=url: read_database(url))
    except pytest.skip.Exception as reason:
        print(f"PostgreSQL is left out: {reason}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="covenq-bench-", dir=Path.cwd()) as scratch:
        opened = engines(Path(scratch))
        rates: dict[str, list[float]] = {name: [] for name in opened}
        slow: dict[str, list[float]] = {name: [] for name in opened}
        for number in range(given.rounds):
            for name, (journal, _) in opened.items():
                rate, late = work(journal, given.threads, given.seconds, f"r{number}")
                rates[name].append(rate)
                slow[name].append(late)
        for name in opened:
            ratios = [ours / file for ours, file in zip(rates[name], rates["file"], strict=True)]
            print(
                f"{name:22} {statistics.median(rates[name]):7.0f} appends/s  {statistics.median(ratios):5.2f} × file"
                f" ({min(ratios):.2f}–{max(ratios):.2f})  p99 {1000 * statistics.median(slow[name]):.0f} ms"
            )
        folds: dict[str, float] = {}
        for name, (journal, reader) in opened.items():
            journal.close()
            with reader() as opened_reader:
                state = Path(scratch) / f"{name.replace(' ', '')}.db"
                began = time.perf_counter()
                with StateStore(state, opened_reader) as store:
                    store.catch_up()
                folds[name] = opened_reader.head().seq / (time.perf_counter() - began)
            print(f"{name:22} {folds[name]:7.0f} records/s folded  {folds[name] / folds['file']:5.2f} × file")


if __name__ == "__main__":
    main()
