"""How fast the journal is, as ratios within one run: `python tests/bench/journal.py [--records N] [--dir DIR]`.

Single figures mean little on a shared machine, so every measurement has its yardstick beside it, run in turn, and the
median of the ratios is printed. Bars (see the design): appends ≥ 0.8 × a bare loop that writes and syncs the same bytes in the
same batches, ≥ 5 × SQLite with synchronous=FULL; verify ≥ 0.5 × sha256sum at 8 KB a payload, ≥ 0.25 × at 300-byte lines;
opening with its caches ≤ 1 s at a million records.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

# This file bears the package's name, and a script's folder comes first on the path.
HERE = Path(__file__).resolve().parent
sys.path[:] = [str(HERE.parents[1]), *(entry for entry in sys.path if Path(entry or ".").resolve() != HERE)]

from journal.file.open import open_journal  # noqa: E402
from journal.file.settings import WriteSettings  # noqa: E402
from journal.file.verify import verify  # noqa: E402
from journal.records import Appended, Entry  # noqa: E402
from tests.support import slow_sync  # noqa: E402

THREADS = 64
DATA = {"hook": "123456789", "event": "issues", "action": "opened", "headers": [["X-GitHub-Event", "issues"]] * 6}
ABOUT = {"repo": "octo-org/octo-repo", "owner": "octo-org", "sender": "octocat", "number": 1347, "title": "Found a bug"}


def payload(size: int) -> bytes:
    """A JSON object of about `size` bytes, shaped like GitHub's: many short strings, URLs with braces, numbers."""
    rng = random.Random(7)
    parts = []
    while sum(len(json.dumps(part)) for part in parts) < size - 200:
        name = f"user{rng.randrange(10**6)}"
        parts.append(
            {
                "login": name,
                "id": rng.randrange(10**8),
                "gists_url": f"https://api.github.com/users/{name}/gists{{/gist_id}}",
                "starred_url": f"https://api.github.com/users/{name}/starred{{/owner}}{{/repo}}",
                "site_admin": False,
            }
        )
    return json.dumps({"action": "opened", "users": parts}, separators=(",", ":")).encode()


def in_threads(count: int, each: int, work: Callable[[int], None]) -> float:
    """Seconds until `count` threads have each called `work` with `each` numbers of their own."""

    def run(start: int) -> None:
        for number in range(start, start + each):
            work(number)

    threads = [threading.Thread(target=run, args=(index * each,)) for index in range(count)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def held(what: str, found: int, wanted: int) -> None:
    """Raises SystemExit unless as much was done as is measured."""
    if found < wanted or not wanted:
        raise SystemExit(f"{found:,} were {what}, not {wanted:,}: there is nothing to measure")


def appends(base: Path, each: int, body: bytes) -> tuple[float, int, list[int]]:
    """(seconds, bytes written, batch sizes)"""
    directory = base / "journal"
    journal = open_journal(directory)
    sizes: list[int] = []
    journal._committer.stats.recent_batches = sizes  # type: ignore[assignment]  # all of them, not the newest

    def work(number: int) -> None:
        journal.append([Entry(f"delivery.1.g{number}", "delivery.received", DATA, ABOUT, body, 0)])

    took = in_threads(THREADS, each, work)
    held(
        "appended", journal.head().seq, THREADS * each
    )  # a thread that fails says so, and the others are the quicker for it
    written = sum(size for _, size in journal.parts())
    journal.close()
    shutil.rmtree(directory)
    return took, written, list(sizes)


def submitted(base: Path, count: int, body: bytes) -> tuple[float, int, list[int]]:
    """As `appends`, by one thread that waits for none: it submits 64 at a time, with up to 256 on their way."""
    directory = base / "journal"
    journal = open_journal(directory)
    sizes: list[int] = []
    journal._committer.stats.recent_batches = sizes  # type: ignore[assignment]
    on_the_way: deque[threading.Event] = deque()
    answers: list[object] = []
    began = time.perf_counter()
    for start in range(0, count, 64):
        settled = threading.Event()
        for number in range(start, min(start + 64, count)):
            entry = Entry(f"delivery.1.g{number}", "delivery.received", DATA, ABOUT, body, 0)
            journal.submit([entry], answers.append, settled.set)
        journal.start_batch()
        on_the_way.append(settled)
        if len(on_the_way) > 3:
            on_the_way.popleft().wait()
    while len(answers) < count:  # an `after` may come when a part of its 64 went with the next batch
        time.sleep(0.0005)
    took = time.perf_counter() - began
    held("appended", sum(isinstance(answer, Appended) for answer in answers), count)
    written = sum(size for _, size in journal.parts())
    journal.close()
    shutil.rmtree(directory)
    return took, written, list(sizes)


def bare(base: Path, written: int, sizes: list[int]) -> float:
    line = b"x" * (written // sum(sizes))
    fd = os.open(base / "bare", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    buffers = {size: line * size for size in set(sizes)}
    offset = 0
    began = time.perf_counter()
    for size in sizes:
        os.pwrite(fd, buffers[size], offset)
        os.fdatasync(fd)
        offset += len(buffers[size])
    took = time.perf_counter() - began
    os.close(fd)
    (base / "bare").unlink()
    return took


def sqlite_full(base: Path, each: int, body: bytes) -> float:
    path = base / "full.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE deliveries (id TEXT PRIMARY KEY, data TEXT, about TEXT, body BLOB)")
    db.close()
    local = threading.local()
    data, about = json.dumps(DATA), json.dumps(ABOUT)

    def work(number: int) -> None:
        if not hasattr(local, "db"):
            local.db = sqlite3.connect(path, isolation_level=None, timeout=60)
            local.db.execute("PRAGMA synchronous = FULL")
        local.db.execute("INSERT INTO deliveries VALUES (?, ?, ?, ?)", (f"g{number}", data, about, body))

    took = in_threads(THREADS, each, work)
    with closing(sqlite3.connect(path)) as db:
        held("inserted", db.execute("SELECT count(*) FROM deliveries").fetchone()[0], THREADS * each)
    for name in base.glob("full.db*"):
        name.unlink()
    return took


def proofs(base: Path, count: int, body: bytes | None) -> list[float]:
    """Ratios of verify's speed to sha256sum's over the same files."""
    directory = base / "verify"
    with open_journal(directory, settings=WriteSettings(idle_s=60)) as journal:
        for start in range(0, count, 500):
            if body is None:
                entries = [Entry(f"task.t{start + n}", "task.claimed", {"worker": "w", "n": n}) for n in range(500)]
            else:
                entries = [
                    Entry(f"delivery.1.g{start + n}", "delivery.received", DATA, ABOUT, body, 0) for n in range(500)
                ]
            journal.append(entries)
    names = sorted(map(str, directory.glob("*.jsonl")))
    ratios = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(["sha256sum", *names], stdout=subprocess.DEVNULL, check=True)
        yardstick = time.perf_counter() - began
        began = time.perf_counter()
        report = verify(directory)
        took = time.perf_counter() - began
        assert report.ok and report.records >= count
        ratios.append(yardstick / took)
    shutil.rmtree(directory)
    return ratios


def opening(base: Path, count: int) -> None:
    """Time and memory of opening, at a tenth of the records and at all of them, each in a process of its own."""
    directory = base / "open"
    done = 0
    for upto in (count // 10, count):
        with open_journal(directory, settings=WriteSettings(idle_s=60)) as journal:
            for start in range(done, upto, 1000):
                journal.append(
                    [
                        Entry(
                            f"delivery.1.{number:08d}-1111-2222-3333-444455556666",
                            "delivery.received",
                            DATA,
                            ABOUT,
                            b"{}",
                            0,
                        )
                        for number in range(start, min(start + 1000, upto))
                    ]
                )
        done = upto
        code = (
            "import sys,time;from pathlib import Path;from journal.file.open import open_journal;"
            "t=time.perf_counter();j=open_journal(Path(sys.argv[1]));took=time.perf_counter()-t;"
            "rss=[l.split()[1] for l in open('/proc/self/status') if l.startswith('VmRSS')][0];"
            "print(f'{took:.4f} {int(rss)/1024:.0f} {j.head().seq}');j.close()"
        )
        found = subprocess.run(
            [sys.executable, "-c", code, str(directory)], capture_output=True, text=True, check=True
        ).stdout.split()
        held("there to be opened", int(found[2]), upto)
        print(
            f"open at {upto:>9,} records     {float(found[0]) * 1000:8.1f} ms   {found[1]} MiB resident   (bar: 1000 ms)"
        )
    shutil.rmtree(directory)


def show(name: str, ratios: list[float], bar: float) -> None:
    middle = statistics.median(ratios)
    word = "ok" if middle >= bar else "below"
    print(f"{name:<32} {middle:6.2f} ×   ({min(ratios):.2f} to {max(ratios):.2f}; bar {bar} ×: {word})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000, help="for the opening")
    parser.add_argument("--each", type=int, default=150, help="appends by each of the 64 threads")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", type=Path, default=None)
    slow_sync.add_option(parser)
    args = parser.parse_args()
    slow_sync.apply(args.sync_us)
    base = Path(tempfile.mkdtemp(prefix="bench-", dir=args.dir))
    body = payload(8192)
    try:
        against_bare, against_full, rates = [], [], []
        submitting, submitting_rates = [], []
        for _ in range(args.rounds):
            took, written, sizes = appends(base, args.each, body)
            rates.append(THREADS * args.each / took)
            against_bare.append(bare(base, written, sizes) / took)
            against_full.append(sqlite_full(base, args.each // 4 or 1, body) * args.each / (args.each // 4 or 1) / took)
            took, more, lots = submitted(base, THREADS * args.each, body)
            submitting_rates.append(THREADS * args.each / took)
            submitting.append(bare(base, more, lots) / took)
        print(
            f"appends, 64 threads, {len(body)} bytes: {statistics.median(rates):,.0f}/s, {sum(sizes) / len(sizes):.1f} a batch"
        )
        show("  against a bare loop", against_bare, 0.8)
        show("  against SQLite FULL", against_full, 5)
        print(
            f"submitted by one thread that waits for none: {statistics.median(submitting_rates):,.0f}/s, "
            f"{sum(lots) / len(lots):.1f} a batch (not what the bar is about)"
        )
        show("  against a bare loop", submitting, 0.8)
        show("verify against sha256sum, 8 KB", proofs(base, 20_000, body), 0.5)
        show("verify against sha256sum, 300 B", proofs(base, 400_000, None), 0.25)
        opening(base, args.records)
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
