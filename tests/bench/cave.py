"""What CovenCave's API costs on a large state.db: python tests/bench/cave.py [TASKS] [FILE].

Makes the file if it isn't there (a million tasks take some minutes and 1.5 GiB), by the fold of their records, without a journal.
Half of the tasks are of one installation; one repository of that, and another installation, have only the very first: theirs are
the farthest away. Prints the medians of so many rounds, and ends with 1 where a page of tasks takes over 50 ms.

With `--fold` it says instead what the indexes on tasks' newest records cost the fold: the same records folded with and without
them, in turn, a batch a transaction.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import msgspec  # noqa: E402

from covenq.operate.inspect import cave  # noqa: E402
from covenq.state import schema  # noqa: E402
from covenq.state.changed_tasks import changed_tasks, newest_change  # noqa: E402
from covenq.state.fold import fold  # noqa: E402
from covenq.state.readers import connect  # noqa: E402
from journal.records import Entry, Witness  # noqa: E402
from tests.support.records import as_records, moved, note, of, queued, received  # noqa: E402
from tests.support.scopes import Scope  # noqa: E402

ROUNDS = 15
FIRST = 100
"""So many tasks are of the quiet installation, and as many of the quiet repository."""
BUSY, QUIET, QUIET_REPO = 1, 2, 2
BAR_MS = 50.0
BATCH = 1500
"""Tasks of a transaction."""


def entries(number: int) -> list[Entry]:
    """A delivery and its task: of ten one has an ignored one beside it, one failed, one waits, the others are completed."""
    guid = f"{number:08x}-0000-4000-8000-{number:012x}"
    if number < FIRST:
        installation, repo = QUIET, 1
    elif number < 2 * FIRST:
        installation, repo = BUSY, QUIET_REPO
    elif number % 2:
        installation, repo = BUSY, 1000 + number % 500
    else:
        installation, repo = 10 + number % 100, 10_000 + number % 2000
    named = {"repo": f"org{installation}/repo{repo}", "number": 1 + number % 5000}
    ids = {"installation": installation, "repo_id": repo}
    found = [received(guid, payload=b"{}", about={**named, "title": f"Number {number} of them"}, **ids)]
    if number % 10 == 9:
        found += [
            received(f"{guid}-x", payload=b"{}", about=named, **ids),
            note("ignored", f"{guid}-x", reason="no_match"),
        ]
    found.append(queued(guid, about=named, familiar="cody", purpose="fix_issue", **ids))
    if number % 10 == 1 and number >= 2 * FIRST:
        return found
    found.append(moved("claimed", of(guid), attempt=1, worker="w1"))
    found.append(moved("failed" if number % 10 == 3 else "completed", of(guid), attempt=1))
    return found


def batches(count: int) -> Iterator[list[Entry]]:
    for start in range(0, count, BATCH):
        yield [entry for number in range(start, min(start + BATCH, count)) for entry in entries(number)]


def build(path: Path, count: int) -> None:
    """Make the file, with all of its indexes from the start: as a daemon folds, not as it is built anew."""
    making = path.with_name(path.name + ".making")
    making.unlink(missing_ok=True)
    conn = connect(making, "rwc")
    conn.execute("PRAGMA journal_mode = OFF")
    schema.create(conn)
    began, seq = time.monotonic(), 1
    for at, batch in enumerate(batches(count)):
        conn.execute("BEGIN")
        fold(conn, as_records(batch, first=seq))
        seq += len(batch)
        schema.set_position(conn, Witness("j" * 16, seq - 1, "0" * 64), "e" * 16)
        conn.execute("COMMIT")
        if at % 100 == 0:
            print(f"  {at * BATCH:,} after {time.monotonic() - began:.0f} s", file=sys.stderr)
    conn.close()
    making.rename(path)


def median_ms(ask: Callable[[], object]) -> tuple[float, float]:
    """The medians of the time, and of the processor's."""
    took, used = [], []
    for _ in range(ROUNDS):
        began, ran = time.perf_counter(), time.process_time()
        ask()
        took.append((time.perf_counter() - began) * 1000)
        used.append((time.process_time() - ran) * 1000)
    return statistics.median(took), statistics.median(used)


def measure(path: Path) -> bool:
    """Print the figures; whether each page was answered in time."""
    conn = connect(path, "ro")
    (count,) = conn.execute("SELECT count(*) FROM tasks").fetchone()
    print(f"{count:,} tasks, SQLite {sqlite3.sqlite_version}; medians of {ROUNDS}, and what of it is the processor's")
    scopes = {
        "all": None,
        "the busy installation": Scope(frozenset({BUSY})),
        "the quiet installation": Scope(frozenset({QUIET})),
        "twenty installations": Scope(frozenset(range(10, 50, 2))),
        "a busy repository": Scope(frozenset({BUSY}), frozenset({1001})),
        "the quiet repository": Scope(frozenset({BUSY}), frozenset({QUIET_REPO})),
    }
    in_time = True
    for name, scope in scopes.items():
        middle, used = median_ms(lambda scope=scope: _page(conn, scope))
        tag, _ = median_ms(lambda scope=scope: newest_change(conn, scope))
        audit, _ = median_ms(lambda scope=scope: cave.audit(conn, scope))
        in_time = in_time and middle <= BAR_MS
        print(f"  {name:24} 500 tasks {middle:7.1f} ms ({used:.1f})   ETag {tag:6.2f} ms   audit {audit:7.1f} ms")
    for name in ("usage", "usage, again"):
        began, ran = time.perf_counter(), time.process_time()
        groups = len(cave.usage(conn, None))
        took, used = time.perf_counter() - began, time.process_time() - ran
        print(f"  {name:24} {took * 1000:7.0f} ms ({used * 1000:.0f}), {groups:,} rows")
    conn.close()
    return in_time


def _page(conn: sqlite3.Connection, scope: Scope | None) -> bytes:
    found = changed_tasks(conn, scope, None, 501)
    return msgspec.json.encode([cave.task_object(one, {}, "https://github.com") for one in found[:500]])


def compare_folds(count: int) -> None:
    """Seconds a fold of the same records takes, with and without the two indexes."""
    names = ("tasks_changed", "tasks_changed_of")
    took: dict[bool, list[float]] = {True: [], False: []}
    for number in range(6):
        kept = bool(number % 2)
        with tempfile.TemporaryDirectory() as directory:
            conn = connect(Path(directory) / "state.db", "rwc")
            conn.execute("PRAGMA journal_mode = WAL")
            conn.execute("PRAGMA synchronous = NORMAL")
            schema.create(conn)
            for name in () if kept else names:
                conn.execute(f"DROP INDEX {name}")
            seq, spent = 1, 0.0
            # Tasks are queued in one batch, and claimed and ended in later ones: each of these changes rows that are there.
            waves = [[entry for entry in batch if entry.kind != "x"] for batch in batches(count)]
            later: list[list[Entry]] = []
            for batch in waves:
                first = [one for one in batch if one.kind not in ("task.claimed", "task.completed", "task.failed")]
                later.append([one for one in batch if one.kind == "task.claimed"])
                later.append([one for one in batch if one.kind in ("task.completed", "task.failed")])
                for part in (first, *(later.pop(0) for _ in range(2) if len(later) > 4)):
                    records = as_records(part, first=seq)
                    seq += len(part)
                    began = time.process_time()
                    conn.execute("BEGIN")
                    fold(conn, records)
                    conn.execute("COMMIT")
                    spent += time.process_time() - began
            conn.close()
            took[kept].append(spent / seq * 1e6)
    print(f"fold of {seq:,} records: {statistics.median(took[True]):.1f} µs of processor a record,")
    print(f"without the indexes {statistics.median(took[False]):.1f} µs; {took}")


def main(arguments: list[str]) -> int:
    options = [one for one in arguments if one.startswith("--")]
    rest = [one for one in arguments if not one.startswith("--")]
    count = int(rest[0]) if rest else 1_000_000
    if "--fold" in options:
        compare_folds(min(count, 60_000))
        return 0
    with tempfile.TemporaryDirectory() as directory:
        path = Path(rest[1]) if len(rest) > 1 else Path(directory) / "state.db"
        if not path.exists():
            build(path, count)
        return 0 if measure(path) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
