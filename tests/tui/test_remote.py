"""The dashboard over a daemon elsewhere, by its URL and a token; and what stays in place when the daemon restarts."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import Button

from covenq.client.open import open_remote
from covenq.model.rows import Delivery
from covenq.net.address import Remote
from covenq.tui.app import Dashboard
from covenq.tui.screens.dialogs import Confirm
from covenq.tui.screens.maintenance import CompactDialog
from covenq.tui.widgets.lines import Lines, plain
from tests.support.daemon import Daemon, free_port
from tests.support.dashboard import ROUTES, drawn, enter_filter, first_row, on, row_count, static_text, until
from tests.support.requests import issue


@pytest.fixture
def elsewhere(make_daemon: Callable[..., Daemon], tmp_path: Path) -> Callable[[str], Dashboard]:
    """Make a dashboard for the daemon, with a token of a role."""
    port = free_port()
    daemon = make_daemon(f'[api]\nbind = "127.0.0.1:{port}"\n' + ROUTES)

    def make(role: str) -> Dashboard:
        made = daemon.cli("tokens", "new", "--name", f"the-{role}", "--role", role)
        remote = Remote(f"http://127.0.0.1:{port}", made.stdout.decode().strip())
        app = Dashboard(lambda: open_remote(remote), None, filters=tmp_path / "filters.json")
        app.daemon = daemon  # type: ignore[attr-defined]
        return app

    return make


async def test_a_daemon_elsewhere_is_watched_and_acted_on(elsewhere: Callable[[str], Dashboard]) -> None:
    app = elsewhere("operate")
    daemon: Daemon = app.daemon  # type: ignore[attr-defined]
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await until(pilot, lambda: row_count(app) == 0, "an empty list")
        daemon.post("issues", issue(1, action="closed"))
        await until(pilot, lambda: row_count(app) == 1 and "✗ failed" in first_row(app), "live")
        assert "● live" in drawn(app)
        await pilot.press("r")
        await until(pilot, lambda: on(app, Confirm)() and not app.screen.query_one("#go", Button).disabled, "a plan")
        await pilot.press("tab", "enter")
        await until(pilot, lambda: "done      1 delivery" in static_text(app, "#dialog-body"), "done")
        await pilot.press("escape", "1")
        await until(pilot, lambda: "accepted" in drawn(app), "the pace of the last hour comes over the wire")
        await pilot.press("5")
        await until(pilot, lambda: "covenq verify, covenq backup" in drawn(app), "what can't be done from here")
        for key, words in (("v", "`covenq verify` on the daemon's"), ("B", "`covenq backup` on the daemon's")):
            await pilot.press(key)
            await until(pilot, lambda words=words: words in remarks(app), words)  # type: ignore[misc]
        await pilot.press("K")
        await until(
            pilot,
            lambda: on(app, CompactDialog)() and "everything is kept" in static_text(app, "#dialog-body"),
            "a plan",
        )
        await pilot.press("escape")
    assert [one["data"]["by"] for one in daemon.records("delivery.replayed")] == [
        f"token:the-operate (tui:{getpass.getuser()})"
    ]


async def test_a_token_that_may_only_read_is_refused(elsewhere: Callable[[str], Dashboard]) -> None:
    app = elsewhere("read")
    daemon: Daemon = app.daemon  # type: ignore[attr-defined]
    daemon.post("issues", issue(1, action="closed"))
    daemon.wait_all_done()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) == 1, "listed")
        await pilot.press("r")
        await until(pilot, lambda: on(app, Confirm)() and "refused" in static_text(app, "#dialog-body"), "refused")
        assert "role" in static_text(app, "#dialog-body")
        await pilot.press("escape")
    assert daemon.records("delivery.replayed") == []


async def test_a_wrong_token_says_so_and_what_to_do(elsewhere: Callable[[str], Dashboard]) -> None:
    elsewhere("read")
    url = open_url(elsewhere)
    app = Dashboard(lambda: open_remote(Remote(url, "cq_wrong")), None)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "✗" in plain(app.query_one("#opening", Lines).lines), "why not")
        assert "token" in drawn(app)
        assert "no source" in drawn(app)
        await pilot.press("q")
    assert app.return_code == 0


def remarks(app: Dashboard) -> str:
    return "\n".join(one.message for one in app._notifications)


def open_url(elsewhere: Callable[[str], Dashboard]) -> str:
    opener = elsewhere("operate").connection._opener
    return opener().where


async def test_a_restart_keeps_filter_cursor_and_page(elsewhere: Callable[[str], Dashboard]) -> None:
    app = elsewhere("operate")
    daemon: Daemon = app.daemon  # type: ignore[attr-defined]
    for number in range(1, 31):
        daemon.post("push", issue(number))
    daemon.post("star", issue(99))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) == 31, "all")
        await enter_filter(pilot, "event:push")
        await until(pilot, lambda: row_count(app) == 30, "filtered")
        await pilot.press("up", "up", "up")
        table = app.pane.table if app.pane is not None else None
        assert table is not None
        current, top = table.current, first_row(app).split()[-1]
        assert isinstance(current, Delivery)
        await asyncio.to_thread(daemon.kill)
        await until(pilot, lambda: "no source" in drawn(app), "it is noticed")
        assert table.current == current, "what was listed stays"
        await asyncio.to_thread(daemon.start)
        await until(pilot, lambda: "● live" in drawn(app), "found again", 60)
        daemon.post("push", issue(31))
        await until(pilot, lambda: "+1 new" in drawn(app), "what came since is counted")
        assert app.pane is not None
        assert app.pane.filter == "event:push"
        assert isinstance(table.current, Delivery)
        assert table.current.seq == current.seq
        assert first_row(app).split()[-1] == top
