"""The dashboard through Textual's Pilot, over a real daemon, a real journal and the real source."""

from __future__ import annotations

import asyncio
import getpass
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import Button

from covenq.client.interface import Source
from covenq.client.local import LocalSource
from covenq.client.open import open_running, open_source
from covenq.config.load import Config
from covenq.model.rows import Delivery, Task
from covenq.model.status import Status
from covenq.tui.app import Dashboard
from covenq.tui.screens.detail import DetailScreen
from covenq.tui.screens.dialogs import Confirm
from covenq.tui.screens.help import Help
from covenq.tui.screens.verify import VerifyScreen
from covenq.tui.widgets.lines import Lines, plain
from tests.support.daemon import Daemon
from tests.support.dashboard import (
    ROUTES,
    SIZES,
    current_row,
    dashboard,
    document,
    drawn,
    enter_filter,
    first_row,
    loaded,
    on,
    row_count,
    rows,
    static_text,
    until,
)
from tests.support.requests import issue, new_guid


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    return make_daemon(ROUTES)


@pytest.mark.parametrize("size", SIZES)
async def test_deliveries_appear_while_it_is_open(daemon: Daemon, size: tuple[int, int]) -> None:
    app = dashboard(daemon.data)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: row_count(app) == 0, "an empty list")
        empty = static_text(app, "#deliveries #empty")
        assert f"{daemon.url}/webhook" in empty
        assert "covenq send" in empty
        assert daemon.post("issues", issue(41)).status == 202
        assert daemon.post("push", issue(42, action="x")).status == 202
        await until(pilot, lambda: row_count(app) == 2, "both deliveries")
        await until(pilot, lambda: "✓ completed" in first_row(app), "the first one's task completes")
        assert "issues.opened" in first_row(app)
        assert "octo/hello" in first_row(app)
        assert "– ignored" in rows(app)[1]
        assert rows(app)[1].startswith("▸"), "the newest row is the current one"
        assert "FOLLOWING" in drawn(app)
        assert "● live" in drawn(app)
        assert all(len(line) <= size[0] for line in drawn(app).splitlines())
        await pilot.press("q")
    assert app.return_code == 0


async def test_any_move_up_pauses_and_capital_g_follows(daemon: Daemon) -> None:
    for number in range(1, 31):
        assert daemon.post("push", issue(number)).status == 202
    app = dashboard(daemon.data)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) == 30, "30 deliveries")
        table = app.pane.table if app.pane else None
        assert table is not None
        await pilot.press("up", "k")
        current = table.current
        assert current is not None
        assert current.number == 28
        assert "BROWSING" in drawn(app)
        top = first_row(app)
        for number in range(31, 34):
            daemon.post("push", issue(number))
        await until(pilot, lambda: "(+3 new, G)" in drawn(app), "what came is counted")
        assert table.current == current, "what is looked at stays"
        assert first_row(app).split()[-1] == top.split()[-1]
        await pilot.press("g")
        await until(pilot, lambda: table.current and table.current.number == 1, "the oldest")
        await pilot.press("G")
        await until(pilot, lambda: table.current and table.current.number == 33, "the newest")
        assert "FOLLOWING" in drawn(app)
        await pilot.press("pageup")
        assert "BROWSING" in drawn(app)


async def test_a_filter_shows_just_what_the_command_line_shows(daemon: Daemon) -> None:
    for number in range(1, 4):
        daemon.post("issues", issue(number, repo="octo/a"))
        daemon.post("push", issue(number, repo="octo/b"))
    app = dashboard(daemon.data)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) == 6, "all")
        for words in ("repo:octo/b", "event:issues -number:2", "state:ignored", "*/a"):
            await enter_filter(pilot, words)
            assert app.pane is not None
            assert app.pane.filter == words
            expected = {
                item["guid"] for item in (await asyncio.to_thread(daemon.cli_json, "deliveries", words))["items"]
            }
            assert expected

            def shown() -> set[str]:
                return {row.guid for row in loaded(app, Delivery)}

            await until(pilot, lambda expected=expected: shown() == expected, words)  # type: ignore[misc]
            await until(pilot, lambda words=words: f"match /{words}" in drawn(app), "the filter is shown")  # type: ignore[misc]
            await pilot.press("escape")
            await until(pilot, lambda: row_count(app) == 6, "Esc clears the filter")
        await enter_filter(pilot, "repo:nowhere")
        await until(pilot, lambda: "Nothing matches" in drawn(app), "the empty result says so")


async def test_a_filter_that_does_not_parse_says_where(daemon: Daemon) -> None:
    app = dashboard(daemon.data)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) == 0, "open")
        await pilot.press("slash", *"event:push", "space", *"stat:failed", "enter")
        error = static_text(app, "#deliveries #filter-error").split("\n")
        assert error[0] == " " * 11 + "^"
        assert "(column 12)" in error[1]
        assert app.pane is not None
        assert app.pane.filter == "", "nothing was applied"
        await pilot.press("escape")
        assert not app.pane.filter_line.display
        await pilot.press("q")
    assert app.return_code == 0


@pytest.mark.parametrize("size", SIZES)
async def test_enter_opens_a_delivery_whole(daemon: Daemon, size: tuple[int, int]) -> None:
    guid = new_guid()
    hostile = "\x1b]0;owned\x07 \x1b[2J[bold]not markup[/bold]\u202e"
    payload = issue(5, action="closed", extra=hostile)
    payload["issue"]["title"] = hostile
    daemon.post("issues", payload, guid)
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: row_count(app) == 1, "one delivery")
        await until(pilot, lambda: "✗ failed" in first_row(app), "failed")
        await pilot.press("enter")
        await until(pilot, lambda: on(app, DetailScreen)() and "Payload\n" in document(app), "its story")
        story = document(app)
        assert "✗ failed" in story
        assert "route bad" in story
        assert "category exit  exit_code 3" in story
        assert "prepared +" in story
        assert f"X-GitHub-Delivery: {guid}" in story
        assert '"number": 5' in story
        assert "[bold]not markup[/bold]" in story
        for text in (story, drawn(app)):
            assert not set(text) & {"\x1b", "\x07", "\u202e"}
        await pilot.press("escape")
        assert not on(app, DetailScreen)()
        assert not set("".join(rows(app))) & {"\x1b", "\x07", "\u202e"}


@pytest.mark.parametrize("size", SIZES)
async def test_replay_asks_first_and_says_what_it_did(daemon: Daemon, size: tuple[int, int]) -> None:
    guid = new_guid()
    daemon.post("issues", issue(6, action="closed"), guid)
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: row_count(app) == 1 and "✗ failed" in first_row(app), "failed")
        await pilot.press("r")
        await until(
            pilot, lambda: on(app, Confirm)() and "eligible  1 delivery" in static_text(app, "#dialog-body"), "plan"
        )
        assert static_text(app, "#dialog-title") == f"Replay {guid[:8]}"
        assert guid[:8] in static_text(app, "#dialog-body"), "short, as the list has it"
        assert guid not in static_text(app, "#dialog-body")
        assert "Esc closes" in drawn(app)
        assert app.focused is app.screen.query_one("#cancel"), "Enter does nothing destructive"
        await pilot.press("enter")
        assert not on(app, Confirm)()
        assert daemon.records("delivery.replayed") == []

        await pilot.press("r")
        await until(pilot, lambda: on(app, Confirm)() and not app.screen.query_one("#go", Button).disabled, "plan")
        await pilot.press("tab", "enter")
        await until(pilot, lambda: "done      1 delivery" in static_text(app, "#dialog-body"), "done")
        assert f"covenq replay 446581321/{guid}" in static_text(app, "#dialog-body")
        await pilot.press("enter")
        replayed = [record["data"] for record in daemon.records("delivery.replayed")]
        assert [(one["replay"], one["by"]) for one in replayed] == [(1, f"tui:{getpass.getuser()}")]
        assert len(daemon.records("task.queued")) == 2
        await pilot.press("3")
        await until(pilot, lambda: row_count(app) == 2, "the new task is listed")
        await until(pilot, lambda: "✗ failed" in rows(app)[1], "and has run")


async def test_a_completed_delivery_is_replayed_only_by_force(daemon: Daemon) -> None:
    daemon.post("issues", issue(6))
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) == 1 and "✓ completed" in first_row(app), "completed")
        await pilot.press("r")
        await until(pilot, lambda: on(app, Confirm)() and "eligible  0" in static_text(app, "#dialog-body"), "skipped")
        assert app.screen.query_one("#go", Button).disabled
        await pilot.press("f")
        await until(pilot, lambda: "eligible  1" in static_text(app, "#dialog-body"), "forced")
        await pilot.press("tab", "enter")
        await until(pilot, lambda: "--force" in static_text(app, "#dialog-body"), "done, and the command says how")
        assert len(daemon.records("delivery.replayed")) == 1
        await pilot.press("escape")


async def test_requeue_runs_the_same_task_again(daemon: Daemon) -> None:
    daemon.post("issues", issue(7, action="closed"))
    daemon.wait_all_done()
    task = daemon.records("task.queued")[0]["subject"].removeprefix("task.")
    app = dashboard(daemon.data)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("3")
        await until(pilot, lambda: row_count(app) == 1 and "✗ failed" in first_row(app), "failed")
        await pilot.press("u")
        await until(pilot, lambda: on(app, Confirm)() and not app.screen.query_one("#go", Button).disabled, "plan")
        await pilot.press("tab", "enter")
        await until(pilot, lambda: "done      1 task" in static_text(app, "#dialog-body"), "done")
        assert f"covenq requeue {task}" in static_text(app, "#dialog-body")
        await pilot.press("escape")
        assert [record["subject"] for record in daemon.records("task.requeued")] == [f"task.{task}"]

        def attempts() -> object:
            row = current_row(app, Task)
            return row and row.attempts == 2 and row.state == "failed"

        await until(pilot, attempts, "it ran again")


@pytest.mark.parametrize("size", SIZES)
async def test_verify_names_what_is_damaged(daemon: Daemon, size: tuple[int, int]) -> None:
    for number in range(3):
        daemon.post("push", issue(number))
    app = dashboard(daemon.data)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: row_count(app) == 3, "open")
        await pilot.press("v")
        await until(pilot, lambda: on(app, VerifyScreen)() and "no damage" in document(app), "a clean journal")
        await pilot.press("escape")
        assert not on(app, VerifyScreen)()
        segment = next((daemon.data / "journal").glob("*.jsonl"))
        content = segment.read_bytes()
        at = content.index(b'"number":1')
        with segment.open("r+b") as file:
            file.seek(at + len(b'"number":'))
            file.write(b"8")
        await pilot.press("v")
        await until(pilot, lambda: on(app, VerifyScreen)() and "1 findings" in document(app), "the damage")
        assert segment.name in document(app)
        assert "delivery 446581321/" in document(app)


async def test_without_a_daemon_it_reads_and_writes_nothing(daemon: Daemon) -> None:
    daemon.post("issues", issue(8, action="closed"))
    daemon.wait_all_done()
    assert daemon.stop() == 0
    before = {path: path.read_bytes() for path in (daemon.data / "journal").glob("*.jsonl")}
    app = dashboard(daemon.data)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) == 1 and "✗ failed" in first_row(app), "the delivery")
        assert "no daemon is running" in static_text(app, "#alarm")
        assert "○ stopped" in drawn(app)
        await pilot.press("r")
        await until(pilot, lambda: on(app, Confirm)() and "refused" in static_text(app, "#dialog-body"), "read-only")
        assert app.screen.query_one("#go", Button).disabled
        await pilot.press("escape", "enter")
        await until(pilot, lambda: on(app, DetailScreen)() and '"number": 8' in document(app), "its story")
        await pilot.press("escape", "v")
        await until(pilot, lambda: on(app, VerifyScreen)() and "no damage" in document(app), "verified")
        await pilot.press("q")
    assert app.return_code == 0
    assert {path: path.read_bytes() for path in (daemon.data / "journal").glob("*.jsonl")} == before


async def test_a_pause_is_no_damage_and_says_what_ends_it_here(daemon: Daemon) -> None:
    daemon.post("push", issue(1))
    for what in (("worker",), ("repo", "octo/hello")):
        daemon.cli("pause", *what, "--reason", "deploying")
    app = dashboard(daemon.data)
    async with app.run_test(size=(160, 50)) as pilot:
        await until(pilot, lambda: "worker is paused" in static_text(app, "#alarm"), "the alarm")
        assert "(p resumes it)" in static_text(app, "#alarm")
        assert daemon.stop() == 0
        await until(pilot, lambda: "no daemon is running" in static_text(app, "#alarm"), "the files")
        await pilot.press("1")
        await until(pilot, lambda: "covenq resume repo octo/hello ends it" in drawn(app), "what works without")
        assert "(covenq resume worker ends it)" in drawn(app)
        assert "damage" not in drawn(app)
        assert "p resumes" not in drawn(app)
        await pilot.press("q")


async def test_a_daemon_is_found_while_the_files_are_still_being_read(daemon: Daemon) -> None:
    assert daemon.stop() == 0
    go_on = threading.Event()

    class Endless(LocalSource):
        def status(self) -> Status:
            go_on.wait()
            return super().status()

    def opener() -> Source:
        return open_running(daemon.data) or Endless(daemon.data, Config())

    app = Dashboard(opener, daemon.data, filters=daemon.data / "filters.json")
    async with app.run_test(size=(120, 24)) as pilot:
        try:
            await until(pilot, lambda: "○ stopped" in drawn(app) and row_count(app) == 0, "the files")
            await asyncio.to_thread(daemon.start)
            await asyncio.to_thread(daemon.post, "push", issue(2))
            await until(pilot, lambda: "● live" in drawn(app) and row_count(app) == 1, "live, with what came", 60.0)
            await until(pilot, lambda: app.status and app.status.pid == daemon.pid, "its status")
        finally:
            go_on.set()
        await pilot.press("q")


async def test_a_daemon_that_goes_and_comes_back_is_found_again(daemon: Daemon) -> None:
    daemon.post("push", issue(1))
    app = dashboard(daemon.data)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) == 1 and "● live" in drawn(app), "live")
        await asyncio.to_thread(daemon.kill)
        await until(pilot, lambda: "○ stopped" in drawn(app), "the files")
        assert len(rows(app)) == 1, "what is shown stays"
        await asyncio.to_thread(daemon.start)
        await asyncio.to_thread(daemon.post, "push", issue(2))
        await until(pilot, lambda: "● live" in drawn(app) and row_count(app) == 2, "live again, with what came")


async def test_a_damaged_journal_says_what_verify_would_say(daemon: Daemon) -> None:
    for number in range(3):
        daemon.post("push", issue(number))
    assert daemon.stop() == 0
    segment = next((daemon.data / "journal").glob("*.jsonl"))
    content = segment.read_bytes()
    segment.write_bytes(content[: content.index(b'"number":1')])
    app = dashboard(daemon.data)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "! damaged (v lists it): truncated" in static_text(app, "#alarm"), "the worst first")
        await pilot.press("1")
        await until(pilot, lambda: segment.name in drawn(app), "which segment")
        await pilot.press("v")
        await until(pilot, lambda: on(app, VerifyScreen)() and "findings" in document(app), "the findings")
        await pilot.press("escape", "q")
    assert app.return_code == 0


@pytest.mark.parametrize("size", SIZES)
async def test_the_other_pages_and_the_help(daemon: Daemon, size: tuple[int, int]) -> None:
    daemon.post("issues", issue(9))
    daemon.post("push", issue(9))
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: row_count(app) == 2, "open")
        await pilot.press("1")

        def page() -> str:
            """All of it: a small screen scrolls."""
            return plain(app.query_one("#overview", Lines).lines)

        await until(pilot, lambda: "✓ completed" in page() and "– ignored" in page(), "counts by state")
        assert "fine, bad" in page(), "the routes"
        await pilot.press("5")
        await until(pilot, lambda: "head seq" in drawn(app), "the journal")
        await until(pilot, lambda: str(len(daemon.records()) or "") in drawn(app), "its head")
        assert "✓ accepts writes" in drawn(app)
        await pilot.press("2", "question_mark")
        assert on(app, Help)()
        assert "Keys and filters" in drawn(app)
        await pilot.press("escape")
        assert not on(app, Help)()
        await pilot.press("q")
    assert app.return_code == 0


async def test_state_is_told_without_colour(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    daemon.post("push", issue(1))
    app = dashboard(daemon.data)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) == 1, "open")
        colours = {
            colour.triplet
            for line in app.screen._compositor.render_strips(app.size)
            for segment in line
            if segment.style is not None
            for colour in (segment.style.color, segment.style.bgcolor)
            if colour is not None and colour.triplet is not None
        }
        assert all(max(triplet) - min(triplet) <= 2 for triplet in colours), "greys only"
        assert "– ignored" in first_row(app)


async def test_quitting_waits_for_nothing(tmp_path: Path) -> None:
    release = threading.Event()

    def opener() -> Source:
        release.wait()
        return open_source(tmp_path, Config())

    app = Dashboard(opener, tmp_path)
    try:
        async with app.run_test(size=(80, 24)) as pilot:
            assert "opening" in drawn(app)
            await pilot.press("q")
        assert app.return_code == 0
    finally:
        release.set()
