"""What the dashboard's keys do to marked rows, to all that match and to what is open, over a real daemon."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, OptionList, Static

from covenq.tui.app import Dashboard
from covenq.tui.screens.detail import DetailScreen
from covenq.tui.screens.dialogs import Confirm
from covenq.tui.screens.diff import DiffScreen
from covenq.tui.screens.help import Help
from covenq.tui.screens.logs import LogScreen
from covenq.tui.screens.menus import Menu
from covenq.tui.screens.pauses import IntakeDialog, PauseMenu
from covenq.tui.screens.payload import PayloadScreen
from covenq.tui.screens.why import StoryScreen
from tests.support.daemon import Daemon
from tests.support.dashboard import (
    ROUTES,
    SIZES,
    dashboard,
    document,
    drawn,
    enter_filter,
    first_row,
    notices,
    on,
    row_count,
    rows,
    static_text,
    until,
)
from tests.support.requests import issue, new_guid

BY = f"tui:{getpass.getuser()}"

LOUD = ROUTES.replace(
    '"raise SystemExit(3)"', "\"import sys; print('the cause', file=sys.stderr); raise SystemExit(3)\""
)


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    return make_daemon(LOUD)


async def planned(pilot: Pilot[int], words: str) -> None:
    app = pilot.app
    assert isinstance(app, Dashboard)
    await until(
        pilot, lambda: on(app, Confirm)() and words in static_text(app, "#dialog-body"), f"a plan with {words!r}"
    )


async def go(pilot: Pilot[int], words: str) -> None:
    """Press the dialog's second button, and wait for what it says then."""
    app = pilot.app
    assert isinstance(app, Dashboard)
    assert not app.screen.query_one("#go", Button).disabled
    await pilot.press("tab", "enter")
    await until(pilot, lambda: words in static_text(app, "#dialog-body"), words)


async def choose(pilot: Pilot[int], start: str) -> None:
    """Choose the line of the open menu that starts so."""
    app = pilot.app
    await until(pilot, lambda: isinstance(app.screen, Menu | PauseMenu), "a menu")  # type: ignore[arg-type]
    menu = app.screen.query_one(OptionList)
    lines = [str(menu.get_option_at_index(n).prompt) for n in range(menu.option_count)]
    assert any(line.startswith(start) for line in lines), lines
    menu.highlighted = next(n for n, line in enumerate(lines) if line.startswith(start))
    await pilot.press("enter")


async def test_marked_rows_are_acted_on_together(daemon: Daemon) -> None:
    for number in (1, 2, 3):
        daemon.post("issues", issue(number, action="closed"))
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: row_count(app) == 3 and "✗ failed" in rows(app)[2], "all failed")
        await pilot.press("g", "space", "space")
        await until(pilot, lambda: "2 marked" in drawn(app), "the line says so")
        assert [row[1] for row in rows(app)] == ["●", "●", " "], "the marks are drawn"
        await pilot.press("r")
        await planned(pilot, "eligible  2 deliveries")
        await go(pilot, "done      2 deliveries")
        assert "--yes" in static_text(app, "#dialog-body"), "the equivalent command"
        await pilot.press("escape")
        await until(pilot, lambda: "marked" not in drawn(app), "the marks are gone with what they were for")
        assert len(daemon.records("delivery.replayed")) == 2


@pytest.mark.parametrize("size", SIZES)
async def test_all_that_match_are_requeued(daemon: Daemon, size: tuple[int, int]) -> None:
    for number in (1, 2, 3):
        daemon.post("issues", issue(number, action="closed"))
    daemon.post("issues", issue(4))
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=size) as pilot:
        await pilot.press("3")
        await until(pilot, lambda: row_count(app) == 4, "the tasks")
        await enter_filter(pilot, "state:failed")
        await until(pilot, lambda: row_count(app) == 3, "the failed ones")
        await until(pilot, lambda: "3 of 4 match" in drawn(app), "counted")
        await pilot.press("A")
        await until(pilot, lambda: "ALL MARKED" in drawn(app), "it says so")
        await pilot.press("u")
        await planned(pilot, "eligible  3 tasks")
        assert re.search(r"^  3  \S+ +failed: exit +oldest ", static_text(app, "#dialog-body"), re.M), (
            "by route and reason"
        )
        assert static_text(app, "#question") == "Requeue 3 tasks?", "the question comes last"
        await go(pilot, "done      3 tasks")
        assert "covenq requeue state:failed --yes" in static_text(app, "#dialog-body")
        await pilot.press("escape", "escape")
        assert len(daemon.records("task.requeued")) == 3


async def test_a_waiting_task_is_cancelled_and_its_route_paused(daemon: Daemon) -> None:
    app = dashboard(daemon.data)
    async with app.run_test(size=(120, 30)) as pilot:
        daemon.post("issues", issue(1))
        daemon.wait_all_done()
        await until(pilot, lambda: row_count(app) == 1 and "✓" in first_row(app), "completed")
        await pilot.press("p")
        await choose(pilot, "pause route fine")
        await until(pilot, lambda: daemon.records("ops.paused"), "recorded")
        daemon.post("issues", issue(2))
        await until(pilot, lambda: row_count(app) == 2 and "○ queued" in rows(app)[1], "it waits")
        await pilot.press("G", "c")
        await planned(pilot, "eligible  1 task")
        await go(pilot, "done      1 task")
        await pilot.press("escape")
        await until(pilot, lambda: "⊘ cancelled" in rows(app)[1], "cancelled")
        cancelled = [one["data"] for one in daemon.records("task.cancelled")]
        assert [(one["by"], one["reason"]) for one in cancelled] == [(BY, None)]
        await pilot.press("p")
        await until(pilot, on(app, PauseMenu), "the menu")
        await pilot.press("down")
        told = "0 tasks would go on\nWhat runs already is left alone."
        await until(pilot, lambda: static_text(app, "#dialog-body") == told, "what it comes to")
        await choose(pilot, "resume route fine")
        await until(pilot, lambda: daemon.records("ops.resumed"), "recorded")


async def test_the_intake_is_closed_only_after_a_question(daemon: Daemon) -> None:
    daemon.post("push", issue(1))
    app = dashboard(daemon.data)

    async def menu(pilot: Pilot[int]) -> None:
        await pilot.press("p")
        await until(pilot, lambda: on(app, PauseMenu)() and isinstance(app.focused, OptionList), "the menu")

    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await until(pilot, lambda: row_count(app) == 1 and app.status, "listed")
        for keys in (["enter"], ["up", "enter"], ["down", "up", "up", "up", "enter"]):
            await menu(pilot)
            await pilot.press(*keys)
            await until(pilot, lambda: len(app.screen_stack) == 1, "it is closed")
        await menu(pilot)
        await choose(pilot, "pause intake")
        await until(pilot, on(app, IntakeDialog), "the question")
        assert "GitHub does not send it again by itself" in static_text(app, "#warning")
        assert "covenq resume intake" in static_text(app, "#dialog-body")
        await pilot.press("enter")
        await until(pilot, lambda: len(app.screen_stack) == 1, "Cancel had the focus")
        assert daemon.records("ops.paused") == []
        await menu(pilot)
        await choose(pilot, "pause intake")
        await until(pilot, on(app, IntakeDialog), "the question")
        await pilot.press("shift+tab", *"moving", "enter", "tab", "enter")
        await until(pilot, lambda: "covenq resume intake ends it" in notices(app), "what ends it is told")
        alarm = re.compile(rf"intake is paused for \S+ by {re.escape(BY)}: moving")  # since when depends on the machine
        await until(pilot, lambda: alarm.search(static_text(app, "#alarm")), "an alarm")
        assert daemon.post("push", issue(2)).status == 503
        await menu(pilot)
        await choose(pilot, "resume intake")
        await until(pilot, lambda: daemon.records("ops.resumed"), "recorded")
    paused, resumed = daemon.records("ops.paused")[0]["data"], daemon.records("ops.resumed")[0]["data"]
    assert (paused["what"], paused["by"], paused["reason"]) == ("intake", BY, "moving")
    assert (resumed["by"], resumed["reason"]) == (BY, None)


async def test_a_reason_is_recorded_with_what_is_done(daemon: Daemon) -> None:
    daemon.post("issues", issue(1, action="closed"))
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) == 1 and "✗" in first_row(app), "failed")
        await pilot.press("r")
        await planned(pilot, "eligible  1 delivery")
        await pilot.press("shift+tab", *"fixed [q]", "enter")
        await go(pilot, "done      1 delivery")
        assert "--reason 'fixed [q]'" in static_text(app, "#dialog-body")
        await pilot.press("escape", "p")
        await until(pilot, on(app, PauseMenu), "the menu")
        await pilot.press("tab", *"later", "enter")
        await choose(pilot, "pause worker")
        await until(pilot, lambda: daemon.records("ops.paused"), "recorded")
    replayed, paused = daemon.records("delivery.replayed")[0]["data"], daemon.records("ops.paused")[0]["data"]
    assert (replayed["by"], replayed["reason"]) == (BY, "fixed [q]")
    assert (paused["what"], paused["by"], paused["reason"]) == ("worker", BY, "later")


async def test_without_a_daemon_nothing_is_asked_that_is_refused(daemon: Daemon) -> None:
    daemon.post("push", issue(1))
    assert daemon.stop() == 0
    app = dashboard(daemon.data)
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await until(pilot, lambda: row_count(app) == 1, "listed")
        await pilot.press("p")
        await until(pilot, lambda: "the dashboard is read-only" in notices(app), "told")
        assert len(app.screen_stack) == 1


async def test_redacting_says_that_nothing_brings_it_back(daemon: Daemon) -> None:
    daemon.post("issues", issue(1))
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: row_count(app) == 1 and "✓" in first_row(app), "listed")
        await pilot.press("x")
        await planned(pilot, "eligible  1 delivery")
        assert "nothing brings them back" in static_text(app, "#warning")
        await go(pilot, "done      1 delivery")
        await pilot.press("escape")
        assert len(daemon.records("delivery.redacted")) == 1


async def test_read_only_has_no_key_that_acts(daemon: Daemon) -> None:
    daemon.post("issues", issue(1))
    daemon.wait_all_done()
    app = dashboard(daemon.data, read_only=True)
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await until(pilot, lambda: row_count(app) == 1, "listed")
        assert "read-only" in drawn(app)
        await pilot.press("r", "u", "c", "R", "x", "p", "K", "B")
        await pilot.pause()
        assert len(app.screen_stack) == 1, "nothing is asked"
        shown = drawn(app)
        assert "Why" in shown
        assert not re.search("Replay|Requeue|Cancel", shown), "the last line names no key that acts"
        await pilot.press("question_mark")
        await until(pilot, on(app, Help), "the keys")
        words = str(app.screen.query_one("#help", Static).content)
        assert "the story that covenq why tells" in words
        assert not re.search("replay|requeue|cancel|redact|pause|compact", words)
        assert daemon.records("ops.paused") == []


@pytest.mark.parametrize("size", SIZES)
async def test_a_delivery_opens_onto_its_payload_story_and_log(daemon: Daemon, size: tuple[int, int]) -> None:
    guid = new_guid()
    daemon.post("issues", issue(5, action="closed"), guid)
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: row_count(app) == 1 and "✗ failed" in first_row(app), "failed")
        await pilot.press("enter")
        await until(pilot, lambda: on(app, DetailScreen)() and "attempt 1" in document(app), "open")
        await pilot.press("l")
        await until(pilot, lambda: on(app, LogScreen)() and "the cause" in document(app), "what it wrote to stderr")
        await pilot.press("tab")
        await until(pilot, lambda: "wrote nothing to stdout; it failed" in document(app), "its stdout")
        await pilot.press("escape", "w")
        await until(pilot, lambda: on(app, StoryScreen)() and "exit" in document(app), "the story")
        assert "the cause" in document(app), "which quotes what failed"
        assert guid in document(app)
        await pilot.press("escape", "t")
        await until(pilot, lambda: on(app, PayloadScreen)() and "issue" in drawn(app), "the payload's tree")
        screen = app.screen
        assert isinstance(screen, PayloadScreen)
        await pilot.press("slash", *"number", "enter")
        await until(pilot, lambda: screen.view.current.name == "number", "found, though it was folded")
        path = screen.view.current.path
        await pilot.press("y")
        assert app.clipboard == path
        await pilot.press("Y")
        assert json.loads(app.clipboard) == screen.view.current.value
        await pilot.press("escape")
        assert on(app, DetailScreen)()


async def test_a_number_beyond_a_double_is_not_copied_and_said_to_be_one(daemon: Daemon) -> None:
    assert daemon.post("issues", b'{"action":"closed","huge":1e999}').status == 202
    app = dashboard(daemon.data)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: row_count(app) == 1, "listed")
        await pilot.press("enter")
        await until(pilot, on(app, DetailScreen), "open")
        await pilot.press("t")
        await until(pilot, lambda: on(app, PayloadScreen)() and "huge" in drawn(app), "the payload's tree")
        await pilot.press("Y")
        await until(pilot, lambda: "too large to be read exactly" in static_text(app, "#payload-line"), "said")
        assert on(app, PayloadScreen)() and app.clipboard == ""


async def test_stepping_from_delivery_to_delivery_and_comparing_two(daemon: Daemon) -> None:
    guids = [new_guid() for _ in range(3)]
    for number, guid in enumerate(guids):
        daemon.post("issues", issue(number), guid)
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: row_count(app) == 3 and "✓" in rows(app)[2], "listed")
        await pilot.press("enter")
        await until(
            pilot, lambda: on(app, DetailScreen)() and guids[2] in static_text(app, "#detail-title"), "the newest"
        )
        await pilot.press("left_square_bracket")
        await until(
            pilot, lambda: guids[1] in static_text(app, "#detail-title") and '"number": 1' in document(app), "older"
        )
        await pilot.press("right_square_bracket")
        await until(
            pilot, lambda: guids[2] in static_text(app, "#detail-title") and '"number": 2' in document(app), "newer"
        )
        await pilot.press("escape", "g", "space", "G", "d")
        await until(pilot, lambda: on(app, DiffScreen)() and ".issue.number" in document(app), "compared")
        assert "- 0" in document(app) and "+ 2" in document(app)


async def test_attempts_are_listed_by_their_tasks_filter(daemon: Daemon) -> None:
    daemon.post("issues", issue(1))
    daemon.post("issues", issue(2, action="closed"))
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=(160, 30)) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: row_count(app) == 2, "both attempts")
        await enter_filter(pilot, "route:bad")
        await until(pilot, lambda: row_count(app) == 1, "one")
        assert "✗ failed" in first_row(app) and "exit" in first_row(app) and "collected" in first_row(app)
        await pilot.press("enter")
        await until(pilot, lambda: on(app, DetailScreen)() and "route bad" in document(app), "its delivery")


async def test_copying(daemon: Daemon) -> None:
    guid = new_guid()
    daemon.post("issues", issue(1), guid)
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: row_count(app) == 1 and "✓" in first_row(app), "listed")
        for key, expected in (("i", guid), ("s", f"covenq show 446581321/{guid}"), ("c", "X-Hub-Signature-256")):
            await pilot.press("y")
            await until(pilot, on(app, Menu), "the menu")
            await pilot.press(key)
            await until(pilot, lambda expected=expected: expected in app.clipboard, expected)  # type: ignore[misc]
        await pilot.press("y")
        await until(pilot, on(app, Menu), "the menu")
        await pilot.press("j", "j", "enter")
        await until(pilot, lambda: app.clipboard.startswith("{"), "as JSON")
        assert json.loads(app.clipboard)["guid"] == guid


async def test_filters_are_completed_saved_and_used_again(daemon: Daemon, tmp_path: Path) -> None:
    daemon.post("issues", issue(1))
    daemon.post("issues", issue(2, action="closed"))
    daemon.wait_all_done()
    app = dashboard(daemon.data, filters=tmp_path / "filters.json")
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: row_count(app) == 2, "listed")
        await pilot.press("slash", *"sta", "tab", *"fai", "tab", "enter")
        await until(pilot, lambda: row_count(app) == 1, "the filter was completed")
        assert app.pane is not None and app.pane.filter == "state:failed"
        await pilot.press("F")
        await choose(pilot, "save")
        await until(pilot, (tmp_path / "filters.json").exists, "saved")
        await pilot.press("escape")
        await until(pilot, lambda: row_count(app) == 2, "without the filter")
        await pilot.press("F")
        await choose(pilot, "state:failed")
        await until(pilot, lambda: row_count(app) == 1, "used again")


@pytest.mark.parametrize("size", SIZES)
async def test_help_tells_the_keys_of_what_has_the_focus(daemon: Daemon, size: tuple[int, int]) -> None:
    daemon.post("issues", issue(1))
    app = dashboard(daemon.data)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: row_count(app) == 1, "listed")
        await pilot.press("question_mark")
        await until(pilot, on(app, Help), "help")
        listing = static_text(app, "#help")
        for words in ("r ", "replay: new tasks", "A ", "G End", "F ", "payload.*", "age"):
            assert words in listing, words
        await pilot.press("escape", "t", "question_mark")
        await until(pilot, on(app, Help), "help of the tree")
        assert "Copy path" in static_text(app, "#help") and "Open all" in static_text(app, "#help")
        assert "payload.*" not in static_text(app, "#help")
        await pilot.press("escape", "escape", "1", "question_mark")
        await until(pilot, on(app, Help), "help of the Overview")
        assert "The overview" in static_text(app, "#help") and "OverviewPage" not in static_text(app, "#help")
