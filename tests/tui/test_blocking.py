"""Nothing that the dashboard does blocks its event loop for over 50 ms; and what would is named."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Callable, Iterator

import pytest
from textual.pilot import Pilot

from covenq.tui.app import freeze_garbage
from covenq.tui.screens.detail import DetailScreen
from covenq.tui.screens.help import Help
from covenq.tui.screens.payload import PayloadScreen
from covenq.tui.screens.verify import VerifyScreen
from covenq.tui.widgets.treeview import TreeView
from tests.support.daemon import Daemon
from tests.support.dashboard import ROUTES, dashboard, document, enter_filter, on, row_count, until
from tests.support.requests import issue
from tests.support.watchdog import slowdown, watch_event_loop

LIMIT_MS = 50.0
ROUNDS = 4


async def test_the_watchdog_names_who_blocks() -> None:
    def busy() -> None:
        until = time.thread_time() + 0.06
        while time.thread_time() < until:
            sum(range(1000))

    def asleep() -> None:
        time.sleep(0.3)

    with watch_event_loop(50, asleep_ms=200) as found:
        asyncio.get_running_loop().call_soon(busy)
        asyncio.get_running_loop().call_soon(asleep)
        await asyncio.sleep(0.5)
    assert len(found.slow) == 2
    assert "in busy" in found.slow[0].stack or "never seen" in found.slow[0].stack
    assert "in asleep" in found.slow[1].stack
    assert found.callbacks >= 3


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    daemon = make_daemon(ROUTES)
    wide = {f"field{n}": {"values": list(range(50)), "words": "x" * 200} for n in range(500)}
    assert daemon.post("push", issue(1, wide=wide)).status == 202
    assert len(json.dumps(wide)) > 200_000
    for number in range(2, 40):
        daemon.post("issues", issue(number))
    daemon.wait_all_done()
    return daemon


@pytest.fixture
def thawed() -> Iterator[None]:
    """What the test freezes is collected after it, and the rest is left frozen, as it was before."""
    yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()


async def test_nothing_blocks_the_event_loop(daemon: Daemon, thawed: None) -> None:
    app = dashboard(daemon.data)
    async with app.run_test(size=(160, 50)) as pilot:
        await until(pilot, lambda: row_count(app) == 39, "listed")
        await until(pilot, lambda: app.status, "the status")
        # A first round fills imports and caches. Then until one round finds nothing: code that blocks does so in each round,
        # another process that takes the processor's caches does not.
        for _ in range(ROUNDS + 1):
            freeze_garbage()
            with watch_event_loop(LIMIT_MS * slowdown()) as found:
                await used(daemon, pilot)
            if not found.slow:
                break
        await pilot.press("q")
    assert found.callbacks > 500
    assert not found.slow, "\n".join(map(str, found.slow))


async def used(daemon: Daemon, pilot: Pilot[int]) -> None:
    """Most of what people do, on a large payload, while more comes in."""
    app = pilot.app
    posts = asyncio.create_task(asyncio.to_thread(post, daemon))
    await pilot.press("G", "up", "pageup", "g", "pagedown", "G")
    await enter_filter(pilot, "event:push")  # type: ignore[arg-type]
    await until(pilot, lambda: row_count(app) == 1, "the large one")  # type: ignore[arg-type]
    await pilot.press("enter")
    await until(pilot, lambda: on(app, DetailScreen)() and "Payload" in document(app), "its story")  # type: ignore[arg-type]
    await pilot.press("G", "g", "escape", "t")
    await until(pilot, lambda: on(app, PayloadScreen)() and isinstance(app.focused, TreeView), "the tree")  # type: ignore[arg-type]
    await pilot.press("plus", "G", "g", "minus", "escape", "escape")
    await pilot.press("1", "3", "4", "5", "v")
    await until(pilot, lambda: on(app, VerifyScreen)() and "damage" in document(app), "verified")  # type: ignore[arg-type]
    await pilot.press("escape", "2", "question_mark")
    await until(pilot, on(app, Help), "help")  # type: ignore[arg-type]
    await pilot.press("escape")
    await posts


def post(daemon: Daemon) -> None:
    for number in range(20):
        daemon.post("issues", issue(number))
