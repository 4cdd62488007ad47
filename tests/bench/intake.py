"""How fast deliveries are accepted, as ratios within one run: `python tests/bench/intake.py [--rounds N] [--dir DIR]`.

64 connections, 8 KB bodies, all distinct, every one fsynced before its 202. Each makes a task, as users have it, which waits for
a worker; a second covenq is sent what no route wants. The yardsticks are Falcon applications on the same waitress with the same
settings and threads: one that does nothing; one that checks the HMAC, parses and answers; that one with an insert and a commit
into SQLite, synchronous=FULL and NORMAL, and into a PostgreSQL of its own with its defaults, by psycopg's pool (left out where
either isn't installed). Each is a process of its own; they are measured in turn, so that a machine whose speed
drifts changes the figures, not the ratios: those are taken round by round, and the median counts.

The processor time of a covenq is that of its daemon and its follower together. After a round its fold is waited for; where it was
further behind at the end than it rests, of the round's deliveries only as many count as were folded: what is left for later
wins nothing.

Bars: ≥ 0.9 × the HMAC handler, ≥ 4 × FULL, ≥ 1.5 × NORMAL (none is set for PostgreSQL); the moon is ≥ 1.0 × the one that does
nothing.
"""

from __future__ import annotations

import argparse
import hmac
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

# Beside this file stands one that bears the journal's name, and a script's folder comes first on the path.
HERE = Path(__file__).resolve().parent
sys.path[:] = [str(HERE.parents[1]), *(entry for entry in sys.path if Path(entry or ".").resolve() != HERE)]
os.environ["PYTHONPATH"] = str(HERE.parents[1])  # for the processes it starts: this checkout is what is measured

from covenq.cli import bench_client, bench_usage  # noqa: E402
from covenq.cli.processor_time import children_cpu_s, cpu_s  # noqa: E402
from covenq.errors import CovenqError  # noqa: E402
from covenq.net.http_client import Client  # noqa: E402
from covenq.paths import SOCKET_NAME  # noqa: E402
from tests.bench.figures import Spread  # noqa: E402
from tests.bench.postgres import Postgres  # noqa: E402
from tests.bench.processes import kill_tree, tree  # noqa: E402
from tests.support import slow_sync  # noqa: E402

SECRET = "a benchmark's secret"
BARS = {"hmac": 0.9, "full": 4.0, "normal": 1.5, "noop": 1.0}
TITLES = {
    "covenq": "covenq: fsynced before its 202",
    "unrouted": "covenq, no route matches",
    "noop": "Falcon, does nothing",
    "hmac": "Falcon, HMAC and JSON",
    "full": "… and SQLite, synchronous=FULL",
    "normal": "… and SQLite, synchronous=NORMAL",
    "postgres": "… and PostgreSQL, its defaults",
}

OURS = ("covenq", "unrouted")
BEHIND_S = 0.25
"""Seconds' worth of records that the fold may have before it at the end of a round: it rests between its transactions."""
FOLD_S = 60.0

# ---- the yardsticks


DELIVERIES = "CREATE TABLE IF NOT EXISTS deliveries (guid TEXT PRIMARY KEY, event TEXT, headers TEXT, body {blob})"
"""What the databases hold. A GUID that is there already is answered as the first was, and nothing is inserted."""
Insert = Callable[[tuple[str | None, str | None, str, bytes]], object]


def inserter(name: str, base: Path, threads: int, dsn: str) -> Insert | None:
    """What makes a delivery durable, made ready; None of a yardstick that makes none."""
    if name in ("full", "normal"):
        # One connection behind a lock: connections of their own would wait for each other in SQLite's sleeps, and be slower.
        db = sqlite3.connect(base / "deliveries.db", isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {name.upper()}")
        db.execute(DELIVERIES.format(blob="BLOB"))
        writing = threading.Lock()

        def into_sqlite(row: tuple[str | None, str | None, str, bytes]) -> None:
            with writing:
                db.execute("INSERT OR IGNORE INTO deliveries (guid, event, headers, body) VALUES (?, ?, ?, ?)", row)

        return into_sqlite
    if name == "postgres":
        from psycopg_pool import ConnectionPool

        pool = ConnectionPool(dsn, min_size=threads, max_size=threads, kwargs={"autocommit": True}, open=True)
        pool.wait(60.0)
        with pool.connection() as connection:
            connection.execute(DELIVERIES.format(blob="BYTEA"))

        def into_postgres(row: tuple[str | None, str | None, str, bytes]) -> None:
            with pool.connection() as connection:
                connection.execute(
                    "INSERT INTO deliveries (guid, event, headers, body) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                    row,
                )

        return into_postgres
    return None


def yardstick(name: str, base: Path, threads: int, dsn: str) -> None:
    """Serve one of them until killed; the port is the first line on standard output."""
    import falcon
    import orjson
    import waitress

    key = SECRET.encode()
    insert = inserter(name, base, threads, dsn)

    class Handler:
        def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
            resp.status = falcon.HTTP_202
            resp.content_type = "application/json"
            if name == "noop":
                resp.data = b'{"ok":true}'
                return
            body = req.bounded_stream.read()
            signature = "sha256=" + hmac.digest(key, body, "sha256").hex()
            if not hmac.compare_digest(signature, req.get_header("X-Hub-Signature-256") or ""):
                resp.status = falcon.HTTP_401
                return
            guid, event = req.get_header("X-GitHub-Delivery"), req.get_header("X-GitHub-Event")
            payload = orjson.loads(body)
            if insert is not None:
                insert((guid, event, json.dumps(dict(req.headers)), body))
            resp.data = orjson.dumps({"ok": True, "delivery": guid, "event": event, "action": payload["action"]})

    app = falcon.App()
    app.add_route("/webhook", Handler())
    bound = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(bound.getsockname()[1], flush=True)
    # As covenq's own listener is set.
    waitress.serve(
        app,
        sockets=[bound],
        threads=threads,
        backlog=1024,
        connection_limit=1000,
        channel_timeout=60,
        recv_bytes=65536,
        ident="covenq",
        asyncore_use_poll=True,
        clear_untrusted_proxy_headers=False,
        _quiet=True,
    )


# ---- the contenders


class Fold(NamedTuple):
    """How the fold stood at the end of a round."""

    appended: int
    """Records of the round."""
    lag: int
    """Of them, not folded yet."""
    behind_s: float
    """How many seconds' worth of the round's records that is."""
    waited_s: float
    """Until they were."""

    def counted(self, rate: float) -> float:
        """The rate of a round's deliveries, of which only the folded ones count if the fold was too far behind."""
        return rate if self.behind_s <= BEHIND_S else rate * (self.appended - self.lag) / self.appended


Env = Mapping[str, str]
NONE: Env = {}


class Contender:
    """One server, in a process of its own, `env` beside its environment. Raises LookupError where what it needs isn't there."""

    def __init__(
        self, name: str, base: Path, threads: int, routes: int, *, running: bool = True, env: Env = NONE
    ) -> None:
        self.name, self.base, self.threads, self.env = name, base, threads, env
        base.mkdir(exist_ok=True)
        self.database: Postgres | None = None
        if name == "postgres":
            if importlib.util.find_spec("psycopg_pool") is None:
                raise LookupError("psycopg and psycopg_pool are not installed")
            self.database = Postgres(base, env)
        if name in OURS:
            rules = "".join(f'[[route]]\nname = "r{n}"\nmatch = "event:push"\nrun = ["true"]\n' for n in range(routes))
            if name == "covenq":
                rules += '[[route]]\nname = "each"\nmatch = "event:issues"\npull = true\n'
            (base / "covenq.toml").write_text(f'[server]\nbind = "127.0.0.1:0"\nthreads = {threads}\n{rules}')
        self.process: subprocess.Popen[str] | None = None
        if running:
            try:
                self.start()
                self.settle()
            except BaseException:  # nobody else knows of its processes yet
                self.stop()
                raise

    def start(self) -> None:
        """Start its front end, and wait until it listens."""
        env = {**os.environ, "COVENQ_WEBHOOK_SECRET": SECRET, **self.env}
        if self.name in OURS:
            argv = [
                "-m",
                "covenq",
                "serve",
                "--config",
                str(self.base / "covenq.toml"),
                "--data",
                str(self.base / "data"),
            ]
            self.process = subprocess.Popen([sys.executable, *argv], env=env, stderr=subprocess.PIPE, text=True)
            assert self.process.stderr is not None
            said = self.process.stderr
        else:
            argv = [__file__, "--serve", self.name, "--threads", str(self.threads), "--dir", str(self.base)]
            argv += ["--dsn", "" if self.database is None else self.database.dsn]
            self.process = subprocess.Popen(
                [sys.executable, *argv], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            assert self.process.stdout is not None
            said = self.process.stdout
        self.port = _port(said)
        self.client = Client(self.base / "data" / SOCKET_NAME) if self.name in OURS else None
        threading.Thread(target=said.read, daemon=True).start()

    def kill(self) -> None:
        """SIGKILL to all of its processes at once, a database server's among them."""
        kill_tree(*self.roots())
        assert self.process is not None
        self.process.wait()
        if self.database is not None:
            self.database.process.wait()

    def restart(self) -> None:
        """As a supervisor does."""
        if self.database is not None and self.database.process.poll() is not None:
            self.database.start()
        self.start()

    def end(self) -> None:
        """Stop it as a supervisor does; it can be started again."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.database is not None and self.database.process.poll() is None:
            self.database.stop()

    def pids(self) -> list[int]:
        """All of its processes."""
        return [pid for root in self.roots() for pid in tree(root)]

    def roots(self) -> list[int]:
        """The processes that were started: its front end, and its database server."""
        assert self.process is not None
        return [self.process.pid, *([] if self.database is None else [self.database.pid])]

    def cpu_s(self) -> float:
        """Seconds of processor time so far, a daemon's follower and a database server's processes included."""
        return sum((cpu_s(pid) or 0.0) + (children_cpu_s(pid) or 0.0) for pid in self.roots())

    def head(self) -> int:
        """The newest record of a covenq; 0 of the others."""
        return 0 if self.client is None else bench_usage.read(self.client, self.roots()[0]).head

    def fold(self, before: int, seconds: float) -> Fold:
        """How the fold stands at the end of a round that began at the head `before`; returns when it has nothing before it."""
        if self.client is None:
            return Fold(0, 0, 0.0, 0.0)
        found = bench_usage.read(self.client, self.roots()[0])
        began = time.perf_counter()
        try:
            folded = bench_usage.wait_folded(self.client, FOLD_S)
        except CovenqError as error:
            raise SystemExit(f"{self.name} doesn't answer after a round: {error}") from error
        if not folded:
            raise SystemExit(f"the fold of {self.name} was not done {FOLD_S:.0f} s after a round")
        appended = found.head - before
        behind_s = seconds * found.lag / appended if appended else 0.0
        return Fold(appended, found.lag, behind_s, time.perf_counter() - began)

    def settle(self) -> float:
        """Wait until it does nothing any more: what is measured next owes it nothing."""
        began = time.perf_counter()
        while time.perf_counter() - began < 20:
            before = self.cpu_s()
            time.sleep(0.1)
            if self.cpu_s() - before <= 0.02:
                break
        return time.perf_counter() - began - 0.1

    def stop(self) -> None:
        self.end()
        if self.database is not None:
            self.database.discard()


def _port(said: Any) -> int:
    for line in said:
        found = re.search(r"http://127\.0\.0\.1:(\d+)/webhook", line) or re.match(r"(\d+)$", line)
        if found:
            return int(found[1])
    raise SystemExit("a contender did not start")


# ---- the clients

LUA = """
local file = assert(io.open("%s", "rb"))
request = function()
  local one = file:read(%d)
  if one == nil then io.stderr:write("exhausted\\n"); os.exit(3) end
  return one
end
done = function(summary, latency, requests)
  io.write(string.format("RESULT %%d %%d %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    summary.errors.status, summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"""
Figures = tuple[float, float, float, float]
"""(accepted a second, p50, p99, p99.9 in milliseconds)"""


def by_wrk(port: int, seconds: int, made: list[bytes], base: Path) -> Figures:
    # In memory, so that reading it costs the disk nothing.
    folder = Path("/dev/shm") if Path("/dev/shm").is_dir() else base
    with tempfile.NamedTemporaryFile(dir=folder) as file, tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        file.writelines(made)
        file.flush()
        script.write(LUA % (file.name, len(made[0])))
        script.flush()
        argv = [
            "wrk",
            "-t1",
            "-c64",
            f"-d{seconds}s",
            "--timeout",
            "10s",
            "-s",
            script.name,
            f"http://127.0.0.1:{port}",
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = re.search(r"RESULT (.*)", done.stdout)
    if found is None:
        raise SystemExit(f"wrk failed: {done.stdout}{done.stderr}")
    count, micros, refused, broken, *latencies = map(int, found[1].split())
    if refused or broken or not count:
        raise SystemExit(f"{count} requests were answered, {refused} of them refused, and {broken} broke")
    return count / micros * 1e6, *(one / 1000 for one in latencies)  # type: ignore[return-value]


def by_python(port: int, seconds: float, count: int, rate: float | None = None) -> Figures:
    outcome = bench_client.run(bench_client.LoadPlan("127.0.0.1", port, SECRET, seconds, rate=rate), count)
    if not outcome.accepted or outcome.accepted != sum(outcome.statuses.values()):
        raise SystemExit(f"not everything was accepted: {outcome.statuses}")
    return outcome.rate, outcome.percentile(0.5), outcome.percentile(0.99), outcome.percentile(0.999)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2, help="each contender in each round")
    parser.add_argument("--threads", type=int, default=32, help="of each server")
    parser.add_argument("--routes", type=int, default=1, help="covenq's that match nothing")
    parser.add_argument("--only", default=",".join(TITLES), help="some of: %(default)s")
    parser.add_argument("--client", choices=("wrk", "python"), default="wrk" if shutil.which("wrk") else "python")
    parser.add_argument("--check", action="store_true", help="exit 1 if a bar is missed (the moon is none)")
    parser.add_argument("--dir", type=Path, default=None, help="where data goes: another disk, say")
    slow_sync.add_option(parser)
    parser.add_argument("--serve", choices=tuple(TITLES), help=argparse.SUPPRESS)
    parser.add_argument("--dsn", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        yardstick(args.serve, args.dir, args.threads, args.dsn)
        return 0
    names = [name for name in TITLES if name in args.only.split(",")]
    if unknown := set(args.only.split(",")) - set(names):
        parser.error(f"--only {', '.join(sorted(unknown))}: there are {', '.join(TITLES)}")
    if args.check and not ("covenq" in names and set(names) & (set(BARS) - {"noop"})):
        parser.error("--check has nothing to compare: --only leaves out covenq, or all that has a bar")
    if args.rounds < 1:
        parser.error("--rounds is at least 1")
    slow_sync.apply(args.sync_us)
    base = Path(tempfile.mkdtemp(prefix="bench-", dir=args.dir))
    contenders: list[Contender] = []
    try:
        for name in names:
            try:
                contenders.append(Contender(name, base / name, args.threads, args.routes))
            except LookupError as error:
                print(f"{TITLES[name]:34}left out: {error}")
        measured = measure(contenders, args, base)
        missed = report(measured, args)
        return 1 if missed and args.check else 0
    finally:
        for one in contenders:
            one.stop()
        shutil.rmtree(base)


@dataclass
class Measured:
    """What the rounds found, by contender, a value a round."""

    peaks: dict[str, list[Figures]]
    halves: dict[str, list[Figures]]
    cpu: dict[str, list[float]]
    """Microseconds a delivery."""
    settling: dict[str, list[float]]
    folds: dict[str, list[Fold]]


def measure(contenders: list[Contender], args: argparse.Namespace, base: Path) -> Measured:
    """Load each of them in turn, `args.rounds` times beside a first that warms up, and then with half of what it bore."""
    names = [one.name for one in contenders]
    found = Measured(*({name: [] for name in names} for _ in range(5)))  # type: ignore[arg-type]
    plan = bench_client.LoadPlan("127.0.0.1", 0, SECRET, args.seconds)
    for number in range(args.rounds + 1):
        made = bench_client.requests(12_000 * args.seconds, replace(plan, port=10000)) if args.client == "wrk" else []
        # Each round begins with another of them, so that none always comes after the same.
        for one in contenders[number % len(contenders) :] + contenders[: number % len(contenders)]:
            before, head = one.cpu_s(), one.head()
            if args.client == "wrk":
                peak = by_wrk(one.port, args.seconds, made, base)
            else:
                peak = by_python(one.port, args.seconds, 8_000 * args.seconds)
            fold = one.fold(head, args.seconds)
            settled = fold.waited_s + one.settle()
            if number:  # the first warms up
                found.peaks[one.name].append((fold.counted(peak[0]), *peak[1:]))
                found.cpu[one.name].append((one.cpu_s() - before) / (peak[0] * args.seconds) * 1e6)
                if one.name in OURS:
                    found.settling[one.name].append(settled)
                    found.folds[one.name].append(fold)
    for one in contenders:
        rate = statistics.median(rate for rate, *_ in found.peaks[one.name]) / 2
        for _ in range(3):
            head = one.head()
            found.halves[one.name].append(by_python(one.port, args.seconds, int(rate * args.seconds), rate))
            one.fold(head, args.seconds)
            one.settle()
    return found


def report(measured: Measured, args: argparse.Namespace) -> int:
    """Print it; how many bars were missed."""
    size = bench_client.LoadPlan("127.0.0.1", 0, SECRET, args.seconds).size
    print(
        f"{args.client}, 64 connections, {size} bytes, {args.threads} threads, {args.rounds} rounds of {args.seconds} s"
    )
    print(
        f"{'':34}{'/s':>7}{'CPU µs':>8}   {'p50':>7}{'p99':>7}{'p99.9':>7}   at half: {'p50':>7}{'p99':>7}{'p99.9':>7}  (ms)"
    )
    for name in measured.peaks:
        at_peak, at_half = _middle(measured.peaks[name]), _middle(measured.halves[name])
        print(
            f"{TITLES[name]:34}{at_peak[0]:7,.0f}{statistics.median(measured.cpu[name]):8.0f}   "
            + "".join(f"{value:7.1f}" for value in at_peak[1:])
            + f"   {at_half[0]:8,.0f} "
            + "".join(f"{value:7.1f}" for value in at_half[1:])
        )
    for name, seconds in measured.settling.items():
        if seconds:
            lags = [fold.lag for fold in measured.folds[name]]
            late = sum(fold.behind_s > BEHIND_S for fold in measured.folds[name])
            print(
                f"after a round the fold of {name} was {statistics.median(lags):,.0f} records behind ({max(lags):,} at most), and"
                f" background work went on for {statistics.median(seconds):.2f} s"
                + (f"; of {late} rounds only what was folded counts" if late else "")
            )
    return sum(_compare(ours, measured.peaks) for ours in OURS if ours in measured.peaks)


def _compare(ours: str, peaks: dict[str, list[Figures]]) -> int:
    """Print one of ours beside each yardstick; how many bars it missed, of which only `covenq`'s count."""
    missed = 0
    for name, theirs in peaks.items():
        if name in OURS:
            continue
        ratio = Spread.of_ratios([rate for rate, *_ in peaks[ours]], [rate for rate, *_ in theirs])
        bar = BARS.get(name)
        if bar is None:
            word = "no bar"
        elif name == "noop":
            word = f"bar {bar}: the moon" + (", reached" if ratio.middle >= bar else "")
        else:
            word = f"bar {bar}: {'ok' if ratio.middle >= bar else 'below'}"
            missed += ours == "covenq" and ratio.middle < bar
        print(f"{ours + ' / ' + TITLES[name]:45}{ratio.middle:6.2f} ×   ({ratio.low:.2f} to {ratio.high:.2f}; {word})")
    return missed


def _middle(rows: list[Figures]) -> Figures:
    return tuple(statistics.median(column) for column in zip(*rows, strict=True))  # type: ignore[return-value]


if __name__ == "__main__":
    sys.exit(main())
