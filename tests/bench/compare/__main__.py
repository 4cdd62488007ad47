"""covenq beside what one would glue together instead, in one run: `python -m tests.bench.compare man [OPTIONS]` (`make bench`).

The same front end (Falcon on waitress, the signature verified in the same way) on SQLite with synchronous=FULL and NORMAL and on
PostgreSQL with its defaults; huey and procrastinate for tasks, as their documents say for durability. Beside each one's speed
stands what it lost, and did twice, when it was killed under load, and what a power cut would take besides. Then what holding
10³ to 10⁶ deliveries costs.

All take turns within a round, ratios are taken round by round, and medians are printed with their spread: single figures are
those of the machine. It writes figures.json and the plots into man/bench, and the manual page covenq-bench(7) of them. What isn't
installed is left out, with the reason. `--from` makes all of that again from figures that were measured before.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import intake, processes, tasks
from tests.bench.compare import kill_intake, kill_tasks, machine, page, plots, sizes, table
from tests.bench.compare.losses import Loss
from tests.bench.compare.power_cut import PowerCut
from tests.bench.compare.results import Intake, Results, dump, load
from tests.bench.intake import TITLES, Contender
from tests.support import slow_sync

PARTS = ("intake", "kills", "tasks", "sizes")
SERVERS = ("covenq", "hmac", "normal", "full", "postgres")
THREADS = 32
SEED = 20261130
"""Of the moments of the kills, counted from when work was seen to go on."""


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("man", type=Path, help="where the page and the folder bench go")
    parser.add_argument("--sizes", type=numbers, default="1000,10000,100000", help="of %(default)s deliveries")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="of the load; half as many of the tasks")
    parser.add_argument("--seconds", type=int, default=2, help="each server in each round")
    parser.add_argument("--tasks", type=int, default=2000, help="in each of their rounds")
    parser.add_argument("--kills", type=int, default=5, help="of each system")
    parser.add_argument("--killed-tasks", type=int, default=1000, help="queued before the kills")
    parser.add_argument("--client", choices=("wrk", "python"), default="wrk" if shutil.which("wrk") else "python")
    parser.add_argument("--dir", type=Path, default=None, help="where data goes: another disk, say")
    parser.add_argument(
        "--from", dest="source", type=Path, default=None, help="figures.json of another run: measure nothing"
    )
    slow_sync.add_option(parser)
    args = parser.parse_args()
    if args.source is not None:
        write(load(args.source), args.man)
        return 0
    parts = args.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--parts {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    if (
        min(args.rounds, args.seconds, args.tasks, args.kills) < 1
        or min(args.sizes) < 100
        or args.killed_tasks < 100 * args.kills
    ):
        parser.error(
            "of nothing there are no figures: 100 deliveries, 100 tasks a kill, and 1 of all else, are the least"
        )
    if not processes.PROC.is_dir():
        raise SystemExit("the comparison needs Linux: whom it kills, and what they hold, it finds in /proc")
    slow_sync.apply(args.sync_us)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled already, and starts as such
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir, ignore_cleanup_errors=True) as top:
        base = Path(top)
        base.chmod(0o711)
        said = {"rounds": str(args.rounds), "kills": str(args.kills), "client": args.client}
        if args.sync_us:
            said["each sync slower by"] = f"{args.sync_us} µs"
        results = Results(machine.look(base), said)
        failed = [part for part in PARTS if part in parts and not measure(part, results, base, args)]
    results.took_s = time.monotonic() - began
    write(results, args.man)
    return 1 if failed else 0


def numbers(text: str) -> list[int]:
    """Of an option: whole numbers between commas."""
    return [int(one) for one in text.split(",")]


def measure(part: str, results: Results, base: Path, args: argparse.Namespace) -> bool:
    """Whether it could be measured; if not, why is in the results, which have what was measured before."""
    try:
        {"intake": measure_intake, "kills": kill, "tasks": measure_tasks, "sizes": measure_sizes}[part](
            results, base, args
        )
    except (RuntimeError, AssertionError, SystemExit) as error:
        results.skipped[part] = f"failed: {error}"
        say(f"{part} failed: {error}")
        return False
    return True


def measure_intake(results: Results, base: Path, args: argparse.Namespace) -> None:
    """The servers under load, in turn."""
    contenders: list[Contender] = []
    (base / "load").mkdir(mode=0o711)
    try:
        for name in SERVERS:
            try:
                contenders.append(Contender(name, base / "load" / name, THREADS, 1))
            except LookupError as error:
                results.skipped[name] = str(error)
        say(f"{', '.join(one.name for one in contenders)} under load")
        found = intake.measure(contenders, args, base)
    finally:
        for one in contenders:
            one.stop()
    for name in found.peaks:
        results.intake[name] = Intake(
            rate=[rate for rate, *_ in found.peaks[name]],
            cpu_us=found.cpu[name],
            p50_half_ms=[p50 for _, p50, _, _ in found.halves[name]],
            p99_half_ms=[p99 for _, _, p99, _ in found.halves[name]],
        )


def kill(results: Results, base: Path, args: argparse.Namespace) -> None:
    """Each system alone, killed while it works."""
    (base / "killed").mkdir(mode=0o711)
    try:
        power = PowerCut(base / "killed")
    except LookupError as error:
        power = None
        results.skipped["power cut"] = str(error)
    for name in SERVERS:
        if name != "hmac":
            lose(name, results.intake_losses, results, base / "killed" / name, args)
            if power is not None:
                lose(name, results.power_cuts, results, base / "killed" / f"{name}-cut", args, power)
    for name in kill_tasks.SYSTEMS:
        say(f"{name}, killed while it does tasks")
        place = base / "killed" / f"tasks-{name}"
        try:
            results.task_losses[name] = kill_tasks.losses(name, place, args.killed_tasks, args.kills, SEED)
        except LookupError as error:
            results.skipped[name] = str(error)


def lose(
    name: str,
    found: dict[str, Loss],
    results: Results,
    place: Path,
    args: argparse.Namespace,
    power: PowerCut | None = None,
) -> None:
    """What a server loses when it is killed, or the power is cut, in `found`."""
    if name in results.skipped:
        return
    say(f"{TITLES[name]}, {'killed' if power is None else 'its power cut'}")
    try:
        one = Contender(name, place, THREADS, 1, env={} if power is None else power.environment)
    except LookupError as error:
        results.skipped[name] = str(error)
        return
    try:
        found[name] = kill_intake.losses(one, args.kills, SEED, power)
    finally:
        one.stop()


def measure_tasks(results: Results, base: Path, args: argparse.Namespace) -> None:
    """Rounds of tasks/s, as tests/bench/tasks.py has them."""
    say("tasks")
    rates, missing = tasks.measure(base, args.tasks, 4, (args.rounds + 1) // 2)
    results.tasks = rates
    results.skipped |= missing


def measure_sizes(results: Results, base: Path, args: argparse.Namespace) -> None:
    """Each size by itself."""
    for count in args.sizes:
        results.sizes[count] = sizes.measure(base / str(count), count, results.skipped, say)
        shutil.rmtree(base / str(count))


def write(results: Results, man: Path) -> None:
    """The figures, the plots, and the page; and the table to standard output."""
    folder = man / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures.json").write_bytes(dump(results))
    results = load(folder / "figures.json")  # as whoever makes it again from there
    for name, content in plots.plots(results):
        (folder / name).write_text(content)
    (man / "covenq-bench.7").write_text(page.page(results))
    for line in table.machine_lines(results):
        print(line)
    for block in table.blocks(results):
        print(f"\n{block.title}")
        for line in block.lines:
            print(f"  {line}".rstrip())
    for name, why in sorted(results.skipped.items()):
        print(f"left out: {name}: {why}")


if __name__ == "__main__":
    sys.exit(main())
