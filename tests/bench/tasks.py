"""How fast tasks are done, as ratios within one run: `python tests/bench/tasks.py [--tasks N] [--rounds N] [--dir DIR]`.

No-op tasks of a pull route, done by pull workers (processes, over the daemon's socket), which ask for 32 at once and end
them at once, and, to see what that is worth, one by one; claim and end are each a record that is fsynced before it is
answered. The yardsticks do the same number of no-op tasks: huey on SQLite with fsync (one worker or as many, as threads or
processes, the best counts), and procrastinate with its defaults on a PostgreSQL of its own. Ratios are taken round by round,
and the median counts. The huey that the bar is about keeps each task's result, whereupon its end is durable, as covenq's is. As
it comes it makes one durable change a task: it takes it out of the queue, and nothing tells that it ended; that is printed, too.

The yardsticks are not among the tests' requirements: `pip install huey 'procrastinate' 'psycopg[binary,pool]'` beside
covenq, and PostgreSQL's programs on the PATH; what isn't there is left out, with the reason.

Also: how long after its acceptance a run task's command starts, with an idle worker, beyond what starting it costs anybody.

Bars: ≥ 1.5 × huey that stores its tasks' ends, ≥ 4 × procrastinate; accept to start ≤ 10 ms at the median. It ends with 1 if one
is missed, and with --check also if one could not be measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

# Beside this file stands one that bears the journal's name, and a script's folder comes first on the path.
HERE = Path(__file__).resolve().parent
sys.path[:] = [str(HERE.parents[1])] + [p for p in sys.path if Path(p or ".").resolve() != HERE]

from tests.bench.postgres import Postgres  # noqa: E402
from tests.support import slow_sync  # noqa: E402

POLICY = {"pull": True, "timeout_s": 600.0, "retry": {"max": 0, "backoff_s": 2.0, "cap_s": 300.0}, "env": []}
CONFIG = '[[route]]\nname = "p"\nmatch = "event:issues"\npull = true\n'
BATCH = 32
"""Tasks that a worker asks for, and ends, in one request."""
RUN = '[[route]]\nname = "r"\nmatch = "event:issues"\nrun = ["date", "+%s.%N"]\n'


# ---- covenq


def queue_tasks(data: Path, number: int) -> None:
    """Deliveries with a pull task each, as the intake appends them."""
    from journal.file.open import open_journal
    from tests.support.records import queued, received

    with open_journal(data / "journal") as journal:
        for start in range(0, number, 500):
            entries = []
            for one in range(start, min(start + 500, number)):
                entries += [
                    received(f"g{one}"),
                    queued(f"g{one}", route="p", kind="pull", policy=POLICY, installation=one % 8),
                ]
            journal.append(entries)


def puller(socket: Path, most: int, name: str) -> None:
    """One worker: does tasks, `most` a request, until there are none; prints how many."""
    from covenq.tasks.remote.client import ClaimsClient

    line = ClaimsClient(socket)
    done = 0
    print("ready", flush=True)
    sys.stdin.readline()
    while granted := line.claim_all(name, 60, most):
        if most == 1:
            line.report(granted[0], "complete")
        else:
            assert all(one["ok"] for one in line.complete_all(granted))
        done += len(granted)
    print(done, flush=True)


def covenq(base: Path, number: int, workers: int, most: int) -> float:
    """Tasks a second."""
    from tests.support.daemon import Daemon
    from tests.support.journal_json import records

    config = base / "covenq.toml"
    config.write_text(CONFIG)
    data = base / f"data-{most}"
    data.mkdir()
    queue_tasks(data, number)
    daemon = Daemon(data=data, config=config).start()
    try:
        done, taken = race([str(Path(__file__)), "--as", "puller", str(daemon.socket), str(most)], workers)
        assert done == number, f"{done} of {number}"
        assert len(records(data, "task.completed")) == number
        return number / taken
    finally:
        daemon.kill()


def race(argv: list[str], workers: int) -> tuple[int, float]:
    """Start processes, let them go at once; (what they did in all, seconds from the start to the last one's end)."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    every = [subprocess.Popen([sys.executable, *argv, f"w{n}"], **pipes) for n in range(workers)]  # type: ignore[call-overload]
    for one in every:
        assert one.stdout.readline() == "ready\n"
    begun = time.monotonic()
    for one in every:
        one.stdin.write("\n")
        one.stdin.flush()
    done = sum(int(one.stdout.readline()) for one in every)
    taken = time.monotonic() - begun
    for one in every:
        one.wait()
    return done, taken


# ---- huey

SLOWEST = 25
"""Tasks a second: a way of huey's that does fewer is not its best, and is ended."""
STARTING_S = 15.0
"""What starting one and queueing its tasks may take."""


def huey_worker(path: Path, number: int, workers: int, kind: str, *, ends: bool) -> None:
    """Queue the tasks, run huey's own consumer until they are done; prints tasks a second. `ends`: it stores their results."""
    import logging
    import threading

    from huey import SqliteHuey

    logging.getLogger("huey").setLevel(logging.ERROR)
    app = SqliteHuey(filename=str(path), fsync=True, store_none=ends)

    @app.task()
    def nothing() -> None:
        pass

    with app.storage.db(commit=True) as cursor:  # queueing is not measured
        cursor.executemany(
            "insert into task (queue, data, priority) values (?, ?, 0)",
            [(app.name, app.serialize_task(nothing.s())) for _ in range(number)],
        )
    consumer = app.create_consumer(workers=workers, worker_type=kind, initial_delay=0.01, periodic=False)
    begun = time.monotonic()

    def watch() -> None:
        while app.storage.queue_size() or (ends and app.storage.result_store_size() < number):
            time.sleep(0.005)
        print(number / (time.monotonic() - begun), flush=True)
        os.killpg(0, signal.SIGKILL)  # with the workers that are processes, which keep the pipe open

    threading.Thread(target=watch).start()
    consumer.run()


def huey(base: Path, number: int, workers: int, *, ends: bool) -> float:
    """The best of its ways: one worker or several, threads or processes."""
    role = "huey-ends" if ends else "huey"
    rates = []
    for kind, several in (("thread", 1), ("thread", workers), ("process", 1), ("process", workers)):
        path = base / f"{role}-{kind}-{several}.db"
        words = [sys.executable, __file__, "--as", role, str(path), str(number), str(several), kind]
        worker = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        )
        # What takes longer than the best so far, and its start, is not the best.
        longest = number / max(rates) + STARTING_S if rates else max(20.0, number / SLOWEST)
        try:
            said, _ = worker.communicate(timeout=longest)
        except subprocess.TimeoutExpired:  # several processes may stand in each other's way forever: database is locked
            os.killpg(worker.pid, signal.SIGKILL)
            said, _ = worker.communicate()
        if said.strip():
            rates.append(float(said.split()[-1]))
    if not rates:
        raise LookupError("none of its ways came to an end")
    return max(rates)


# ---- procrastinate


def procrastinate_worker(dsn: str, number: int, workers: int) -> None:
    import asyncio

    from procrastinate import App, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=dsn, min_size=2, max_size=workers + 2))

    @app.task()
    async def nothing() -> None:
        pass

    async def main() -> None:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            await nothing.batch_defer_async(*({} for _ in range(number)))
            begun = time.monotonic()
            await app.run_worker_async(concurrency=workers, wait=False, install_signal_handlers=False)
            print(number / (time.monotonic() - begun), flush=True)

    asyncio.run(main())


def procrastinate(base: Path, number: int, workers: int) -> float:
    server = Postgres(base)
    try:
        words = [sys.executable, __file__, "--as", "procrastinate", server.dsn, str(number), str(workers)]
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise LookupError(f"it failed: {done.stderr.strip().splitlines()[-1]}")
        return float(done.stdout.split()[-1])
    finally:
        server.discard()


class Yardstick(NamedTuple):
    package: str
    title: str
    measure: Callable[[Path, int, int], float]
    bar: float | None


YARDSTICKS = (
    Yardstick("huey", "huey, SQLite with fsync", partial(huey, ends=False), None),
    Yardstick("huey", "huey, which stores their ends too", partial(huey, ends=True), 1.5),
    Yardstick("procrastinate", "procrastinate, PostgreSQL", procrastinate, 4.0),
)


# ---- from acceptance to start


def starts(base: Path, number: int) -> tuple[float, float]:
    """Milliseconds at the median: from the delivery's record to the command's first doing, and of starting it alone."""
    from tests.support.daemon import Daemon
    from tests.support.journal_json import records
    from tests.support.requests import issue
    from tests.support.waiting import eventually

    config = base / "run.toml"
    config.write_text(RUN)
    data = base / "run"
    alone = []
    daemon = Daemon(data=data, config=config).start()
    took = []
    try:
        for one in range(number):
            answer = daemon.post("issues", issue(one + 1)).json
            place = data / "attempts" / answer["tasks"][0] / "1" / "stdout"
            began = float(eventually(lambda place=place: place.read_text().endswith("\n") and place.read_text()))
            took.append((answer["seq"], began))
            before = time.time()
            alone.append(float(subprocess.run(["date", "+%s.%N"], check=True, capture_output=True).stdout) - before)
        from covenq.model import seconds_of

        at = {record["seq"]: seconds_of(record["at"]) for record in records(data, "delivery.received")}
        return (
            1000 * statistics.median(began - at[seq] for seq, began in took),
            1000 * statistics.median(alone),
        )
    finally:
        daemon.kill()


# ---- all of it


def measure(top: Path, number: int, workers: int, rounds: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Tasks a second by name, a value a round; and why what isn't there was left out."""
    missing = {one.title: "not installed" for one in YARDSTICKS if importlib.util.find_spec(one.package) is None}
    rates: dict[str, list[float]] = {"covenq": []}
    for turn in range(rounds):
        base = top / f"tasks-{turn}"
        base.mkdir(mode=0o711)
        rates["covenq"].append(covenq(base, number, workers, BATCH))
        rates.setdefault("covenq, one a request", []).append(covenq(base, number, workers, 1))
        for one in YARDSTICKS:
            if one.title in missing:
                continue
            try:
                rates.setdefault(one.title, []).append(one.measure(base, number, workers))
            except LookupError as error:
                missing[one.title] = str(error)
    return rates, missing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=40)
    parser.add_argument("--dir", type=Path, default=None, help="on the disk that is to be measured")
    parser.add_argument("--check", action="store_true", help="exit 1 also if a bar could not be measured")
    parser.add_argument("--json", action="store_true")
    slow_sync.add_option(parser)
    parser.add_argument("--as", dest="role", nargs="+", default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        role, *words = args.role
        {
            "puller": lambda: puller(Path(words[0]), int(words[1]), words[2]),
            "huey": lambda: huey_worker(Path(words[0]), int(words[1]), int(words[2]), words[3], ends=False),
            "huey-ends": lambda: huey_worker(Path(words[0]), int(words[1]), int(words[2]), words[3], ends=True),
            "procrastinate": lambda: procrastinate_worker(words[0], int(words[1]), int(words[2])),
        }[role]()
        return 0
    if min(args.tasks, args.workers, args.rounds, args.starts) < 1:
        parser.error("--tasks, --workers, --rounds and --starts are at least 1: of nothing there are no figures")
    slow_sync.apply(args.sync_us)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir, ignore_cleanup_errors=True) as top:
        rates, missing = measure(Path(top), args.tasks, args.workers, args.rounds)
        start_ms, alone_ms = starts(Path(top), args.starts)
    result = report(rates, missing, start_ms - alone_ms, check=args.check)
    if args.json:
        print(json.dumps({"rates": rates, "missing": missing, "start_ms": start_ms, "spawn_ms": alone_ms}))
    return result


def report(rates: dict[str, list[float]], missing: dict[str, str], beyond_ms: float, *, check: bool) -> int:
    """Print it; 0 if every bar is met, 1 if one is not, or no bar could be measured at all; `check`: or one could not."""
    ours: list[float] = rates["covenq"]
    print(f"{f'covenq, pull workers, {BATCH} a request':36} {statistics.median(ours):8.0f} tasks/s")
    single = statistics.median(rates["covenq, one a request"])
    print(f"{'covenq, pull workers, 1 a request':36} {single:8.0f} tasks/s")
    met = True
    for one in YARDSTICKS:
        theirs = rates.get(one.title)
        if not theirs:
            print(f"{one.title:36} left out: {missing.get(one.title, 'no figure')}")
            met &= one.bar is None or not check
            continue
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=False))
        met &= one.bar is None or ratio >= one.bar
        against = "not what the bar is about" if one.bar is None else f"bar {one.bar}"
        print(f"{one.title:36} {statistics.median(theirs):8.0f} tasks/s   covenq is {ratio:.2f} × ({against})")
    if not any(rates.get(one.title) for one in YARDSTICKS if one.bar is not None):
        print("no yardstick was measured: whether the bars are met is not known")
        met = False
    met &= beyond_ms <= 10.0
    print(f"{'accept to start, beyond the spawn':36} {beyond_ms:8.1f} ms at the median (bar 10)")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
