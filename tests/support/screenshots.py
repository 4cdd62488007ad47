"""Screenshots of the real dashboard for the README, as SVG: python tests/support/screenshots.py DIRECTORY (make screenshots).

The journal is a real one, written and folded by the product under a fake clock; the dashboard reads it through the source of
the files, which here reports a running daemon. The pictures don't depend on the time, the directory or the machine.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import orjson

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from msgspec.structs import replace  # noqa: E402
from textual.pilot import Pilot  # noqa: E402

from covenq.client.local import LocalSource  # noqa: E402
from covenq.config import load as configuration  # noqa: E402
from covenq.model import at_text  # noqa: E402
from covenq.model.answers import Event  # noqa: E402
from covenq.model.journal_status import BatchSizes, SyncTimes  # noqa: E402
from covenq.model.status import (  # noqa: E402
    ActivePause,
    Disk,
    Status,
    UpkeepStatus,
    Verified,
)
from covenq.model.waiting import WaitingTasks  # noqa: E402
from covenq.model.worker_status import WorkerAttempt, WorkerStatus  # noqa: E402
from covenq.tui.app import Dashboard  # noqa: E402
from covenq.tui.panes.table import RowTable  # noqa: E402
from covenq.tui.screens.detail import DetailScreen  # noqa: E402
from covenq.tui.screens.dialogs import Confirm  # noqa: E402
from covenq.tui.screens.payload import PayloadScreen  # noqa: E402
from journal.file.open import open_journal  # noqa: E402
from journal.file.settings import WriteSettings  # noqa: E402
from journal.records import Entry  # noqa: E402
from tests.support.records import moved, note, of, queued, received  # noqa: E402

SIZE = (120, 32)
NOW = 1_800_000_000.0
REPOS = ("octo/hello", "octo/spoon", "hubot/knife", "octo/cave")
TITLES = (
    "Crash when the path has a space",
    "Retry uploads that time out",
    "Docs: how to rotate a secret",
    "Flaky test on arm64",
    "Support TLS 1.3 only",
    "Wrong total on the invoice page",
    "Bump the parser to 2.1",
    "Slow start with many plugins",
)
SENDERS = ("mona", "hubot", "octocat", "lee")
CONFIG = {
    "worker": {"concurrency": 4},
    "route": [
        {"name": "triage", "match": "event:issues", "run": ["triage"]},
        {"name": "review", "match": "event:pull_request", "run": ["review"]},
    ],
}


def entries() -> Iterator[tuple[float, list[Entry]]]:
    """(seconds before NOW, records) of an hour and a half."""
    for number in range(90):
        ago = (90 - number) * 61.0 - (number % 7) * 5
        guid = f"{0x5EED0000 + number:08x}-1f2e-4d3c-8b5a-{0x0C0FFEE + number * 7919:012x}"
        event = ("issues", "pull_request", "issues", "push", "issues", "check_run")[number % 6]
        repo, sender = REPOS[number % 4], SENDERS[number % 3]
        title = None if event in ("push", "check_run") else TITLES[number % len(TITLES)]
        payload = {
            "action": "opened",
            "issue": {"number": 100 + number, "title": title, "labels": [{"name": "bug"}], "user": {"login": sender}},
            "repository": {"full_name": repo, "private": False},
            "sender": {"login": sender},
        }
        about = {"repo": repo, "sender": sender, "number": 100 + number if title else None, "title": title}
        route = {"issues": "triage", "pull_request": "review"}.get(event)
        some = {"event": event, "action": "opened" if title else None}
        found = [received(guid, "446581321", payload=orjson.dumps(payload), about=about, **some)]
        if route is None:
            yield ago, [*found, note("ignored", guid, "446581321", reason="no_match", detail="No route matches.")]
            continue
        task = of(guid, "446581321", route)
        found.append(queued(guid, "446581321", route, about={"repo": repo, "number": about["number"]}, **some))
        if number == 88:
            yield ago, found
            continue
        found.append(moved("claimed", task, attempt=1, worker="w1"))
        if number not in (84, 86):
            found.append(moved("phase", task, attempt=1, phase="prepared"))
            failed = number % 17 == 4
            end = {"category": "exit", "exit_code": 1} if failed else {}
            found.append(moved("failed" if failed else "completed", task, attempt=1, **end))
        yield ago, found


class DemoDaemon(LocalSource):
    """The source of the files, with the status that a running daemon would give."""

    live = True  # type: ignore[assignment]

    @property
    def where(self) -> str:
        return "/var/lib/covenq"

    def status(self) -> Status:
        found = super().status()
        running = [WorkerAttempt(one.task, one.attempt, one.route, one.since or "") for one in found.running]
        journal = replace(
            found.journal,
            id="5eed" * 8,
            epoch="5eed" * 4,
            head=replace(found.journal.head, sum="5eedc0de" * 8),  # of a chain whose salts are random
            bytes=212_000,  # ids and salts change the size by some bytes
            last_sync_ms=1.1,
            recent_syncs_ms=SyncTimes(1024, median=1.2, p99=4.6, slowest=9.8),
            recent_batches=BatchSizes(1024, median=2, largest=41),
        )
        return replace(
            found,
            ready=True,
            reasons=[],
            pid=4711,
            started_at=at_text(NOW - 3 * 86400),
            data=self.where,
            webhook_url="http://127.0.0.1:8787/webhook",
            journal=journal,
            segments=[replace(one, bytes=journal.bytes) for one in found.segments],
            disk=Disk(free=61 << 30, total=100 << 30),
            worker=WorkerStatus("w1", concurrency=4, running=running, error=None),
            upkeep=UpkeepStatus(doing=None, error=None),
            refused={"signature_wrong": 3, "body_not_json": 1},
            verified=Verified(at_text(NOW - 5400), ok=True, records=300, findings=0, seq=300, seconds=0.1),
            waiting=[
                WaitingTasks(
                    cause="paused",
                    scope="repo octo/spoon",
                    count=found.tasks["queued"],
                    oldest=found.oldest.tasks["queued"],
                    until=None,
                    command="covenq resume repo octo/spoon",
                    why="paused by mona: a release is going out",
                    since=at_text(NOW - 720),
                )
            ],
            pauses=[
                ActivePause(
                    "repo",
                    name="6",
                    repo="octo/spoon",
                    since=at_text(NOW - 720),
                    seq=9,
                    by="mona",
                    reason="a release is going out",
                )
            ],
        )

    def events(self, after: int | None = None) -> Iterator[Event]:
        import threading

        threading.Event().wait()  # nothing more happens; the thread is a daemon
        yield from ()


@contextmanager
def stopped_clock(at: list[float]) -> Iterator[None]:
    """`time.time` returns `at[0]`, everywhere."""
    with mock.patch("time.time", lambda: at[0]):
        yield


def make(data: Path, records: Iterable[tuple[float, list[Entry]]] | None = None) -> None:
    """The journal of an hour and a half, or of other records."""
    at = [NOW]
    data.mkdir(parents=True)
    with open_journal(data / "journal", settings=WriteSettings(clock=lambda: at[0])) as journal:
        for ago, found in entries() if records is None else records:
            for number, entry in enumerate(found):
                at[0] = NOW - ago + number * (0.4 if number < 3 else 2.9)
                journal.append([entry])


async def until(pilot: Pilot[int], true: Any, what: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, what
        await pilot.pause(0.02)
    await pilot.pause()


async def take(data: Path) -> dict[str, str]:
    """Name → SVG."""
    shots: dict[str, str] = {}
    source = DemoDaemon(data, configuration.build(CONFIG, None, {}))
    app = Dashboard(lambda: source, data, filters=data / "filters.json")

    def shoot(name: str, title: str) -> None:
        shots[name] = app.export_screenshot(title=f"covenq tui: {title}", simplify=True)

    async with app.run_test(size=SIZE) as pilot:
        for table in app.query(RowTable):
            table._clock = lambda: NOW
        await until(pilot, lambda: app.pane and app.pane.table.rows.loaded and app.status, "the list")
        await until(pilot, lambda: "90" in str(app.pane.status_line() if app.pane else ""), "the count")
        shoot("deliveries", "deliveries, live")
        await pilot.press("slash")
        app.query_one("#deliveries #filter").value = "state:failed event:issues"  # type: ignore[attr-defined]
        await pilot.press("enter")
        await until(pilot, lambda: app.pane and "failed" in app.pane.filter and app.pane._match_count, "filtered")
        await pilot.press("A", "r")
        await until(
            pilot,
            lambda: (
                isinstance(app.screen, Confirm) and "eligible" in str(app.screen.query("#dialog-body").first().content)
            ),
            "plan",
        )  # type: ignore[attr-defined]
        shoot("replay", "replay all that match")
        await pilot.press("escape", "escape", "enter")
        await until(pilot, lambda: isinstance(app.screen, DetailScreen) and app.screen.delivery is not None, "open")
        await pilot.pause(0.3)
        shoot("delivery", "one delivery")
        await pilot.press("escape", "t")
        await until(pilot, lambda: isinstance(app.screen, PayloadScreen), "the payload")
        await pilot.pause(0.3)
        await pilot.press("plus")
        shoot("payload", "a payload as a tree")
        await pilot.press("escape", "1")
        await until(pilot, lambda: app.refresher.throughput is not None, "the last hour")
        shoot("overview", "overview")
        await pilot.press("5")
        await pilot.pause()
        shoot("journal", "journal")
        await pilot.press("q")
    return shots


def normalize(svg: str) -> str:
    """The picture without what differs from run to run: the ids that Rich makes, and trailing spaces."""
    names = dict.fromkeys(re.findall(r"terminal-\d+", svg))
    for name in names:
        svg = svg.replace(name, "covenq")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def shots() -> dict[str, str]:
    """Name → SVG, normalized."""
    with tempfile.TemporaryDirectory(prefix="cq-shots-") as directory, stopped_clock([NOW]):
        data = Path(directory) / "data"
        make(data)
        return {name: normalize(svg) for name, svg in asyncio.run(take(data)).items()}


def main() -> None:
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for name, svg in shots().items():
        (target / f"{name}.svg").write_text(svg)
        print(target / f"{name}.svg")


if __name__ == "__main__":
    main()
