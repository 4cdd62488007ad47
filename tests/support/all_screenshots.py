"""Pictures of every screen of the dashboard, at each size and in each palette, to be looked at: make all-screenshots.

python tests/support/all_screenshots.py DIRECTORY [WORD ...]: with words only those whose name has one of them, as in `080x24`,
`light` or `filter`. Nothing of it is kept in the repository: a change of what is drawn is looked at before it is committed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from msgspec.structs import replace  # noqa: E402
from textual.pilot import Pilot  # noqa: E402

from covenq.client.local import LocalSource  # noqa: E402
from covenq.config import load as configuration  # noqa: E402
from covenq.model.palette import ANSI_DARK, ANSI_LIGHT, DARK, LIGHT, PLAIN, Palette  # noqa: E402
from covenq.model.status import Status  # noqa: E402
from covenq.tui.app import Dashboard  # noqa: E402
from covenq.tui.panes.filter_input import FilterInput  # noqa: E402
from covenq.tui.panes.table import RowTable  # noqa: E402
from covenq.tui.widgets.lines import Lines, plain  # noqa: E402
from tests.support.screenshots import CONFIG, NOW, DemoDaemon, make, normalize, stopped_clock, until  # noqa: E402

SIZES = ((80, 24), (100, 30), (160, 50))
PALETTES = {"dark": DARK, "light": LIGHT, "no-color": PLAIN, "ansi-dark": ANSI_DARK, "ansi-light": ANSI_LIGHT}
REPOS = ("octo/hello", "octo-enterprise-services/payments-reconciliation-worker", "株式会社/受信箱", "octo/cave")
TITLES = (
    "Crash when the path has a space",
    "支払いの再試行が失敗する",
    "Docs: how to rotate a secret without losing what comes meanwhile, and what to do if it did",
    "Flaky test on arm64",
)
SENDERS = ("mona", "dependabot[bot]", "a-very-long-user-name-of-39-characters-x")
"""Names that are long, or wide, among plain ones."""

Shoot = Callable[[str], None]
Step = Callable[[Pilot[int], Shoot], Awaitable[None]]


class NewDaemon(DemoDaemon):
    """A daemon that has got nothing yet."""

    def status(self) -> Status:
        found = LocalSource.status(self)
        return replace(found, ready=True, reasons=[], pid=4711, webhook_url="http://127.0.0.1:8787/webhook")


def _dashboard(data: Path, palette: Palette) -> Dashboard:
    kind = NewDaemon if data.name == "empty" else DemoDaemon
    source = kind(data, configuration.build(CONFIG, None, {}))
    app = Dashboard(lambda: source, data, filters=data / "filters.json", palette=palette)
    app.animation_level = "none"
    return app


def _app(pilot: Pilot[int]) -> Dashboard:
    assert isinstance(pilot.app, Dashboard)
    return pilot.app


async def _settle(pilot: Pilot[int], holds: Callable[[str], bool] = lambda words: True) -> None:
    """Wait until the document in view is read, and holds what is looked for."""
    app = _app(pilot)

    def read() -> bool:
        found = app.screen.query(Lines)
        return not found or ("… reading" not in (words := plain(found.last().lines)) and holds(words))

    await until(pilot, read, "the document is read")
    await pilot.pause(0.15)


async def _typed(pilot: Pilot[int], words: str) -> None:
    app = _app(pilot)
    await pilot.press("slash")
    assert isinstance(app.focused, FilterInput)
    app.focused.value = words
    app.focused.cursor_position = len(words)
    await pilot.pause(0.6)  # longer than typing has to pause before it is looked up


async def lists(pilot: Pilot[int], shoot: Shoot) -> None:
    app = _app(pilot)
    shoot("deliveries")
    await pilot.press("up", "up", "up", "space", "space", "up")
    await pilot.pause(0.5)
    shoot("deliveries-marked")
    await pilot.press("escape", "G")
    for key, name in (("3", "tasks"), ("4", "attempts"), ("5", "journal"), ("1", "overview")):
        await pilot.press(key)
        await until(pilot, lambda: app.pane is None or app.pane.settled, name)
        if name == "overview":
            await until(pilot, lambda: app.refresher.throughput is not None, "the last hour")
        await pilot.pause(0.15)
        shoot(name)
    await pilot.press("2")


async def filters(pilot: Pilot[int], shoot: Shoot) -> None:
    for name, words in {
        "empty": "",
        "field": "event:issues re",
        "value": "state:",
        "count": "state:failed event:issues",
        "hint": "event:isues",
        "error": "event:push state:faild",
    }.items():
        await _typed(pilot, words)
        shoot(f"filter-{name}")
        await pilot.press("escape")
    await _typed(pilot, "state:")
    await pilot.press("down", "down")
    await pilot.pause(0.6)
    shoot("filter-chosen")
    await pilot.press("escape")
    await _typed(pilot, "repo:nowhere/at-all")
    await pilot.press("enter")
    await pilot.pause(0.3)
    shoot("filter-nothing")
    await pilot.press("escape")


async def screens(pilot: Pilot[int], shoot: Shoot) -> None:
    app = _app(pilot)
    assert app.pane is not None
    app.pane.apply_filter("state:failed")
    await until(pilot, lambda: app.pane and app.pane.rows.loaded and app.pane._match_count, "the failed ones")
    await pilot.pause(0.3)
    for key, name in (("enter", "detail"), ("w", "why"), ("t", "payload")):
        await pilot.press(key)
        await _settle(pilot)
        shoot(name)
        await pilot.press("escape")
    await pilot.press("enter")
    await _settle(pilot)
    await pilot.press("l")
    await _settle(pilot)
    shoot("output")
    await pilot.press("escape", "escape", "A", "d")
    await pilot.press("A", "up", "space", "down", "d")
    await _settle(pilot)
    shoot("diff")
    await pilot.press("escape", "escape")
    for key, name in (
        ("r", "replay"), ("u", "requeue"), ("x", "redact"), ("p", "pause"), ("y", "copy"), ("F", "saved"),
        ("question_mark", "help"), ("ctrl+p", "palette"), ("K", "compact"), ("B", "backup"), ("v", "verify"),
    ):  # fmt: skip
        if key in ("K", "B", "v"):
            await pilot.press("5")
        await pilot.press(key)
        await pilot.pause(0.5)
        shoot(name)
        await pilot.press("escape")
        await pilot.press("2")
    await pilot.press("escape")


async def nothing(pilot: Pilot[int], shoot: Shoot) -> None:
    app = _app(pilot)
    for key, name in (("2", "deliveries"), ("3", "tasks"), ("4", "attempts"), ("1", "overview")):
        await pilot.press(key)
        await until(pilot, lambda: app.pane is None or app.pane.settled, name)
        await pilot.pause(0.2)
        shoot(f"nothing-{name}")


async def _take(
    data: Path, size: tuple[int, int], palette: Palette, step: Step, keep: Callable[[str, str], None]
) -> None:
    app = _dashboard(data, palette)

    def shoot(name: str) -> None:
        keep(name, normalize(app.export_screenshot(title=f"{name} {size[0]}x{size[1]}", simplify=True)))

    async with app.run_test(size=size) as pilot:
        for table in app.query(RowTable):
            table._clock = lambda: NOW
        await until(pilot, lambda: app.pane and app.pane.settled and app.status, "the list")
        await pilot.pause(0.3)
        await step(pilot, shoot)
        await pilot.press("q")


def main() -> None:
    target, words = Path(sys.argv[1]), sys.argv[2:]
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cq-shots-") as directory, stopped_clock([NOW]):
        data, empty = Path(directory) / "data", Path(directory) / "empty"
        with mock.patch.multiple("tests.support.screenshots", REPOS=REPOS, TITLES=TITLES, SENDERS=SENDERS):
            make(data)
        make(empty, [])
        for size in SIZES:
            for name, palette in PALETTES.items():
                environment: dict[str, Any] = {"NO_COLOR": "1"} if palette is PLAIN else {}
                for where, step in ((data, lists), (data, filters), (data, screens), (empty, nothing)):
                    prefix = f"{size[0]:03}x{size[1]}-{name}-"
                    if words and not any(word in prefix or word in step.__name__ for word in words):
                        continue
                    with mock.patch.dict(os.environ, environment):

                        def keep(what: str, svg: str, prefix: str = prefix) -> None:
                            (target / f"{prefix}{what}.svg").write_text(svg)

                        asyncio.run(_take(where, size, palette, step, keep))
                    print(target / f"{prefix}*.svg", step.__name__, flush=True)


if __name__ == "__main__":
    main()
