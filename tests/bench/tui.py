"""What the dashboard costs on a large directory: python tests/bench/tui.py [DELIVERIES] [DIRECTORY].

Makes the directory if it isn't there, as tests/bench/cli.py does (a million deliveries take some minutes and 2 GiB; one with
fewer is refused), then
opens the real dashboard on it, headless, at 160 × 50, and prints: the first paint of rows after the imports, a key to its
paint (the median and the slowest of 100), a filter to its rows, resident memory, and what 5,000 new rows a second cost of a core.
Bars are printed beside, and the processor time that this process took meanwhile: on a busy machine that says more. How long
`covenq status` takes beside an empty Typer program is told by tests/bench/cli.py.

`COVENQ_BENCH_FRESH=N` rows a second, for `COVENQ_BENCH_SECONDS` seconds; 0 leaves that part out, which needs a copy of the
journal's writer in another process and grows the directory.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from textual.pilot import Pilot  # noqa: E402

from covenq.client.open import open_source  # noqa: E402
from covenq.config.load import Config  # noqa: E402
from covenq.tui.app import Dashboard, freeze_garbage  # noqa: E402
from covenq.tui.panes.filter_input import FilterInput  # noqa: E402
from covenq.tui.panes.table import RowTable  # noqa: E402
from tests.bench.cli import prepare  # noqa: E402

KEYS = (("up", "up", "pageup", "pageup", "down", "pagedown", "g", "G") * 13)[:100]
FILTERS = (
    "state:failed", "event:push", "repo:org7/repo7", "sender:user7 event:issues", "guid:000f*", "-event:push",
    "repo:org7/repo7 number:7", "state:none-such*",
)  # fmt: skip
FRESH = int(os.environ.get("COVENQ_BENCH_FRESH", "5000"))
SECONDS = int(os.environ.get("COVENQ_BENCH_SECONDS", "10"))

WRITER = """
import sys, time
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from tests.support.serving import serving
from tests.support.records import note, received
rate, seconds = int(sys.argv[2]), 3600.0
with serving(Path(sys.argv[1]), routes=False) as served:
    fold_thread, journal = served.storage.fold, served.journal
    assert fold_thread.wait_for(journal.head().seq, 3600.0)
    print("ready", flush=True)
    sys.stdin.readline()
    print("go", flush=True)
    began, made = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - began) * rate)
        while made < due:
            upto = min(due, made + 250)
            run = time.time_ns()
            journal.append([received(f"{run:x}-{n:x}", event="push") for n in range(made, upto)])
            made = upto
        while fold_thread.lag > 20_000:  # what isn't folded, nobody can list
            time.sleep(0.02)
        print(made, flush=True)
        time.sleep(0.02)
"""


def rss_mib() -> float:
    """Resident now, of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def say(what: str, value: str, bar: str, worked_ms: float | None = None) -> None:
    worked = "" if worked_ms is None else f"{worked_ms:6.0f} ms worked"
    print(f"{what:<48} {value:>10} {worked:>17}   {bar}".rstrip(), flush=True)


class Stopwatch:
    """Milliseconds that passed since it was made, and that this process worked meanwhile, all of its threads."""

    def __init__(self) -> None:
        self._began, self._worked = time.perf_counter(), time.process_time()

    def passed_ms(self) -> float:
        return (time.perf_counter() - self._began) * 1000

    def worked_ms(self) -> float:
        return (time.process_time() - self._worked) * 1000


async def wait(true: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    """Until it holds, looked at a thousand times a second."""
    began = time.perf_counter()
    while not true():
        assert time.perf_counter() - began < seconds, what
        await asyncio.sleep(0.001)


def paints(app: Dashboard) -> Callable[[], int]:
    """How often something was painted."""
    count = 0
    real = app._display

    def display(*args: object, **more: object) -> None:
        nonlocal count
        count += 1
        real(*args, **more)  # type: ignore[arg-type]

    app._display = display  # type: ignore[method-assign]
    return lambda: count


async def keys(pilot: Pilot[int]) -> None:
    app = pilot.app
    painted = paints(app)  # type: ignore[arg-type]
    passed, worked = [], []
    for key in KEYS:
        before, watch = painted(), Stopwatch()
        app.simulate_key(key)
        await wait(lambda before=before: painted() > before, key)  # type: ignore[misc]
        passed.append((watch.passed_ms(), key))
        worked.append(watch.worked_ms())
        await asyncio.sleep(0.15)
    middle = statistics.median(took for took, _ in passed)
    slowest, key = max(passed)
    say("a key to its paint, median", f"{middle:.0f} ms", "", statistics.median(worked))
    say(f"a key to its paint, the slowest of {len(KEYS)}: {key}", f"{slowest:.0f} ms", "≤ 50 ms", max(worked))


async def filters(pilot: Pilot[int]) -> None:
    app = pilot.app
    assert isinstance(app, Dashboard)
    pane = app.pane
    assert pane is not None
    slowest, worst = 0.0, 0.0
    for words in FILTERS:
        pane.action_filter()
        pane.query_one(FilterInput).value = words
        await asyncio.sleep(0.2)
        watch = Stopwatch()
        app.simulate_key("enter")
        await wait(lambda words=words: pane.filter == words and pane.rows.loaded, words)  # type: ignore[misc]
        took, worked = watch.passed_ms(), watch.worked_ms()
        slowest, worst = max(slowest, took), max(worst, worked)
        say(f"/{words}", f"{took:.0f} ms", "", worked)
        await asyncio.sleep(0.3)
        pane.clear_one()
        await wait(lambda: pane.rows.loaded, "peeled")
    say(f"a filter to its rows, the slowest of {len(FILTERS)}", f"{slowest:.0f} ms", "≤ 250 ms", worst)


async def stand(data: Path, what: str, then: Callable[[Pilot[int]], object] | None) -> None:
    """Open it, tell the first paint, and do `then`."""
    app = Dashboard(lambda: open_source(data, Config()), data)
    app.refresher.after_first_status = (
        freeze_garbage  # as `run` does: else the collector is what the slowest key tells of
    )
    watch = Stopwatch()
    async with app.run_test(size=(160, 50)) as pilot:
        table = app.query_one("#deliveries").query_one(RowTable)
        await wait(lambda: table.rows.loaded and table.rows.count >= 20, "the first rows")
        say(f"first paint of rows, {what}", f"{watch.passed_ms():.0f} ms", "≤ 300 ms", watch.worked_ms())
        if then is not None:
            await wait(lambda: app.status, "its status")
            await asyncio.sleep(1.0)
            result = then(pilot)
            if asyncio.iscoroutine(result):
                await result
        await pilot.press("q")


async def measured(pilot: Pilot[int]) -> None:
    await keys(pilot)
    await filters(pilot)
    for page in "1345":
        await pilot.press(page)
        await asyncio.sleep(1.0)
    await pilot.press("2")
    say("resident memory", f"{rss_mib():.0f} MiB", "≤ 150 MiB")


async def stream(data: Path) -> None:
    """New rows while it follows, and what of a core this process takes for it."""
    command = [sys.executable, "-c", WRITER, str(data), str(FRESH), str(ROOT)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdin is not None
    assert writer.stdout is not None
    try:
        assert (await asyncio.to_thread(writer.stdout.readline)).strip() == "ready"

        async def follow(pilot: Pilot[int]) -> None:
            app = pilot.app
            assert isinstance(app, Dashboard)
            pane = app.pane
            assert pane is not None
            painted = paints(app)
            idle = time.process_time()
            await asyncio.sleep(3.0)
            idle = (time.process_time() - idle) / 3.0
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
            await asyncio.sleep(2.0)
            cpu, wall, drawn, first = time.process_time(), time.monotonic(), painted(), pane.rows.newest_key()
            await asyncio.sleep(SECONDS)
            cpu, wall = time.process_time() - cpu, time.monotonic() - wall
            rows = pane.rows.newest_key() - first
            if not rows:
                raise SystemExit("no new row came: there is nothing that following them could have cost")
            say("idle, of a core", f"{idle * 100:.0f} %", "")
            say(f"following {rows / wall:,.0f} new rows/s, of a core", f"{cpu / wall * 100:.0f} %", "≤ 25 %")
            say("paints a second meanwhile", f"{(painted() - drawn) / wall:.1f}", "≤ 10 and a status a second")
            say("resident memory after that", f"{rss_mib():.0f} MiB", "≤ 150 MiB")

        await stand(data, "from a daemon", follow)
    finally:
        writer.kill()
        writer.wait()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    data = Path(sys.argv[2] if len(sys.argv) > 2 else f"/var/tmp/covenq-bench-{count}")
    found = prepare(data, count)
    print(f"{found:,} deliveries in {data}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    asyncio.run(stand(data, "from the files", None))
    asyncio.run(stand(data, "from the files, again", measured))
    if FRESH:
        asyncio.run(stream(data))


if __name__ == "__main__":
    main()
