"""How long the commands take on a large directory, start-up included: python tests/bench/cli.py [DELIVERIES] [DIRECTORY].

Makes the directory if it isn't there or is empty (a million deliveries take some minutes and 2 GiB), then runs each command so
many times and prints the median, beside what an empty Typer program takes on the same machine; where there is a bar, in turn with
it, and the median of the ratios. Its deliveries came within moments, or with --days=7 evenly over so many days until now.
`--only=status` runs only what begins so. Its rollups are made, as a daemon does it within minutes. Of a directory with fewer
deliveries, and of a command that fails, nothing is measured: it ends with 1.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from covenq.client.open import open_source  # noqa: E402
from covenq.config.load import Config  # noqa: E402
from covenq.state.store import StateStore  # noqa: E402
from journal.file.open import open_journal  # noqa: E402
from journal.file.settings import WriteSettings  # noqa: E402
from journal.records import Entry  # noqa: E402
from tests.bench.figures import Spread  # noqa: E402
from tests.support.records import moved, note, of, queued, received  # noqa: E402

RUNS = 7
BATCH = 500
EVENTS = ("issues", "push", "pull_request", "issue_comment", "check_run", "star")
EXITS = {"why (unknown)": (3,), "status": (0, 6)}
"""What a command exits with, if not with 0: nobody knows that id, and no daemon runs."""
BARS = {"status": 1.5}
"""Of the processor time of an empty Typer program."""
EMPTY = "import typer\napp = typer.Typer()\n@app.command()\ndef main() -> None: ...\napp()\n"


def sha_of(number: int) -> str:
    """A commit's hash: its first digits are as different as those of any others."""
    return hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()


def entries(number: int) -> list[Entry]:
    """A delivery and what became of it: a sixth ignored; of the others one in fifty failed, one in a hundred waits."""
    guid = f"{number:08x}-0000-4000-8000-{number:012x}"
    event = EVENTS[number % len(EVENTS)]
    repo, sha = f"org{number % 50}/repo{number % 2000}", sha_of(number)
    about = {"repo": repo, "owner": f"org{number % 50}", "number": number % 5000, "head_sha": sha}
    about |= {
        "sender": f"user{number % 3000}",
        "title": f"Number {number} of them",
        "label": "bug" if number % 7 == 0 else None,
    }
    body = b'{"n":%d,"pad":"%s"}' % (number, b"x" * 300)
    data = {"event": event, "installation": number % 100, "repo_id": number % 2000}
    found = [received(guid, payload=body, about=about, **data)]
    if event == "star":
        return [*found, note("ignored", guid, reason="no_match", detail="No route matches event star.")]
    found.append(queued(guid, about={"repo": repo, "number": number % 5000, "head_sha": sha}, **data))
    if number % 100 == 1:
        return found
    task = of(guid)
    found.append(moved("claimed", task, attempt=1, worker="w1"))
    kind, more = ("failed", {"category": "exit", "exit_code": 1}) if number % 50 == 2 else ("completed", {})
    return [*found, moved(kind, task, attempt=1, **more)]


def build(data: Path, count: int, days: float = 0.0) -> None:
    """Make the directory, all of it or (interrupted) none that the next run would take for it.

    With all of its rollups, which a daemon makes by the same method (`StateStore.make_rollup`) within minutes.
    """
    making = data.with_name(data.name + ".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700, parents=True)
    began = time.monotonic()
    done, now = 0, time.time()
    settings = WriteSettings(clock=lambda: now - days * 86_400 * (1 - done / count)) if days else WriteSettings()
    batch = BATCH // 10 if days else BATCH  # whatever is appended together came at the same time
    with (
        open_journal(making / "journal", settings=settings) as journal,
        StateStore(making / "state.db", journal) as store,
    ):
        for start in range(0, count, batch):
            done = min(start + batch, count)
            journal.append([entry for n in range(start, done) for entry in entries(n)])
            if start % 100_000 == 0:
                print(f"  {start:,} after {time.monotonic() - began:.0f} s", file=sys.stderr)
        store.catch_up()
        make_rollups(store)
    making.rename(data)
    print(f"  {count:,} deliveries made in {time.monotonic() - began:.0f} s", file=sys.stderr)


def make_rollups(store: StateStore) -> None:
    """Those that are missing."""
    for block in sorted(store.missing_rollups()):
        store.make_rollup(block)


def prepare(data: Path, count: int, days: float = 0.0) -> int:
    """Make the directory unless it is there with something in it; how many deliveries it has.

    A state.db that lacks rollups gets them. Raises SystemExit where the deliveries are fewer than `count`: the figures would be
    those of another directory than was asked for.
    """
    if not data.exists() or (data.is_dir() and not any(data.iterdir())):
        build(data, count, days)
    with open_source(data, Config()) as source:
        found = sum(source.status().deliveries.values())
    if found < count:
        raise SystemExit(f"{data} has {found:,} deliveries and not {count:,}: remove it, or name another")
    with open_journal(data / "journal") as journal, StateStore(data / "state.db", journal) as store:
        store.catch_up()
        make_rollups(store)
    return found


def commands(count: int) -> Iterator[tuple[str, list[str]]]:
    middle = count // 2
    middle += (2 - middle) % 50  # one that failed
    guid = f"{middle:08x}-0000-4000-8000-{middle:012x}"
    for filter in (
        [], [f"guid:{guid}"], ["state:failed"], ["state:queued"], ["event:push"], ["event:issues", "action:opened"],
        ["repo:org7/repo7"], ["repo:org7/repo7", "number:7"], ["sender:user7"], ["since:1h"], ["before:1h"],
        [f"seq>{count}"], ["state:none-such*"], ["number:4999"], [f"sha:{sha_of(middle)}"], ["installation:7"],
        ["repo_id:7"], ["owner:org7"], ["label:bug"], ["reason:no_match"], ["route:fix"], ["category:exit"],
        ["worker:w1"], ["secret:app"], ["source:http"], ["twin:*"], ["duplicates>0"], ["size>1000"], ["size>100000"],
        ["attempts>1"], ["kind:run"], ["hook:9"], ["-event:push"], ["repo:org7/repo7", "-state:completed"],
    ):  # fmt: skip
        yield f"deliveries {' '.join(filter)}", ["deliveries", *filter]
    yield "tasks state:failed", ["tasks", "state:failed"]
    yield "tasks route:fix category:exit", ["tasks", "route:fix", "category:exit"]
    yield "why GUID", ["why", guid]
    yield "why owner/repo#n", ["why", f"org{middle % 50}/repo{middle % 2000}#{middle % 5000}"]
    yield "why (unknown)", ["why", "nobody-knows-it"]
    yield "show GUID", ["show", guid]
    yield "tail", ["tail"]
    yield "status", ["status"]
    yield "stats --since 7d", ["stats", "--since", "7d"]
    yield "audit", ["audit"]
    yield "usage --month all", ["usage", "--month", "all"]


def timed(command: list[str], codes: tuple[int, ...] = (0,), runs: int = 0) -> tuple[float, float]:
    """Milliseconds that passed, and of processor, the medians of `runs`, or else of RUNS: on a busy machine the second says more.

    Raises SystemExit if it exits with anything but `codes`: what failed did not do what is measured.
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled already
    passed, worked = [], []
    for _ in range(runs or RUNS):
        began, before = time.perf_counter(), os.times()
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        passed.append(time.perf_counter() - began)
        after = os.times()
        worked.append(after.children_user - before.children_user + after.children_system - before.children_system)
        if done.returncode not in codes:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise SystemExit(f"{' '.join(command[1:])} exits with {done.returncode}, not {codes[0]}: {said[-500:]}")
    return statistics.median(passed) * 1000, statistics.median(worked) * 1000


def in_turn(command: list[str], codes: tuple[int, ...]) -> Spread:
    """Its processor time as ratios to that of the empty one, run right before it."""
    pairs = [(timed(command, codes, 1)[1], timed([sys.executable, "-c", EMPTY], runs=1)[1]) for _ in range(RUNS)]
    return Spread.of_ratios(*zip(*pairs, strict=True))


def main() -> None:
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    options = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:] if word not in words)
    days, only = float(options.pop("days", 0.0)), options.pop("only", "")
    if options:
        raise SystemExit(f"--{' --'.join(options)}: there are --days and --only")
    count = int(words[0]) if words else 1_000_000
    with tempfile.TemporaryDirectory(prefix="covenq-bench-") as scratch:
        data = Path(words[1]) if len(words) > 1 else Path(scratch) / "data"
        found = prepare(data, count, days)
        print(f"{found:,} deliveries in {data}, {RUNS} runs of each")
        empty = timed([sys.executable, "-c", EMPTY])
        print("  passed   worked  of the empty one's")
        print(f"{empty[0]:5.0f} ms {empty[1]:5.0f} ms  1.00  an empty Typer program")
        for name, words in [("--help", ["--help"]), *commands(count)]:
            if not name.startswith(only):
                continue
            where = [] if words == ["--help"] else ["--data", str(data)]
            command, codes = [sys.executable, "-m", "covenq", *words, *where], EXITS.get(name, (0,))
            took = timed(command, codes)
            print(f"{took[0]:5.0f} ms {took[1]:5.0f} ms  {took[1] / empty[1]:.2f}  covenq {name}", flush=True)
            if name in BARS:
                ratio = in_turn(command, codes)
                span = f"{ratio.low:.2f} to {ratio.high:.2f}"
                print(f"{'':18}{ratio.middle:.2f}  in turn with the empty one ({span}; bar {BARS[name]})", flush=True)


if __name__ == "__main__":
    main()
