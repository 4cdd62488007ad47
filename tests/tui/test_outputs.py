"""Whose output the dashboard shows, of a delivery with several tasks that were tried several times, and how to get to each."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from textual.pilot import Pilot

from covenq.client.interface import LOG_BYTES
from covenq.model.rows import LatestAttempt, Task
from covenq.tui.app import Dashboard
from covenq.tui.screens.detail import DetailScreen
from covenq.tui.screens.logs import LogScreen, output_lines
from covenq.tui.screens.why import StoryScreen
from covenq.tui.text import cells
from tests.support.daemon import Daemon
from tests.support.dashboard import (
    PYTHON,
    SIZES,
    current_row,
    dashboard,
    document,
    drawn,
    enter_filter,
    loaded,
    notices,
    on,
    row_count,
    static_text,
    until,
)
from tests.support.requests import issue

SAYS = "import os, sys; print({!r}, os.environ['COVENQ_ATTEMPT'], file=sys.stderr); raise SystemExit(3)"


def route(name: str, *, more: str = "") -> str:
    words = json.dumps(SAYS.format(name))
    return f'[[route]]\nname = "{name}"\nmatch = "event:issues"\nrun = [{PYTHON}, "-c", {words}]\n{more}\n'


RETRIED = 'retry = { max = 2, backoff = "1s", cap = "1s", on = ["exit"] }'
SEVERAL = "[worker]\nconcurrency = 1\n" + route("build", more=RETRIED) + route("lint")
OTHERS = "".join(route(f"other-{number}").replace("event:issues", "event:push") for number in range(5))
NEVER_BEGINS = '[[route]]\nname = "gone"\nmatch = "event:issues"\nrun = ["/no/such/program"]\n'

OLDER, NEWER = "left_square_bracket", "right_square_bracket"


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A delivery with two tasks, of which `build` was tried three times and ended last."""
    daemon = make_daemon(SEVERAL)
    daemon.post("issues", issue(44))
    daemon.wait_all_done()
    return daemon


async def open_row(pilot: Pilot[int], page: str, words: str, wanted: Callable[[Dashboard], bool]) -> None:
    """Open what the row is about that `wanted` holds for, of those that match."""
    app = pilot.app
    assert isinstance(app, Dashboard)
    await pilot.press(page)
    await until(pilot, lambda: row_count(app) > 0, "the list")
    await enter_filter(pilot, words)
    await until(pilot, lambda: row_count(app) > 0 and app.pane is not None and app.pane.table.current, "what matches")
    for _ in range(row_count(app)):
        if wanted(app):
            break
        await pilot.press("up")
    assert wanted(app)
    await pilot.press("enter")
    await until(pilot, lambda: on(app, DetailScreen)() and "Payload" in document(app), "open")


def of_route(name: str) -> Callable[[Dashboard], bool]:
    return lambda app: (row := current_row(app, Task)) is not None and row.route == name


def attempt_of(name: str, number: int) -> Callable[[Dashboard], bool]:
    def wanted(app: Dashboard) -> bool:
        row = current_row(app, LatestAttempt)
        return row is not None and (row.route, row.attempt) == (name, number)

    return wanted


def shows(app: Dashboard, words: str) -> Callable[[], bool]:
    return lambda: on(app, LogScreen)() and document(app).strip() == words


@pytest.mark.parametrize("size", SIZES)
async def test_the_log_of_a_task_is_its_own(daemon: Daemon, size: tuple[int, int]) -> None:
    app = dashboard(daemon.data)
    async with app.run_test(size=size) as pilot:
        await open_row(pilot, "3", "number:44", of_route("lint"))
        await pilot.press("l")
        await until(pilot, on(app, LogScreen), "the output")
        await until(pilot, shows(app, "lint 1"), "what lint wrote, not the newer attempt of build")
        title = static_text(app, "#detail-title")
        assert "attempt 1 of " in title and "route lint" in title


@pytest.mark.parametrize(("name", "number"), [("build", 1), ("build", 2), ("build", 3), ("lint", 1)])
async def test_the_log_of_an_attempt_is_its_own(daemon: Daemon, name: str, number: int) -> None:
    app = dashboard(daemon.data)
    async with app.run_test(size=(100, 30)) as pilot:
        await open_row(pilot, "4", "number:44", attempt_of(name, number))
        await pilot.press("l")
        await until(pilot, shows(app, f"{name} {number}"), "what that attempt wrote")


async def test_from_one_output_to_each_other_of_the_delivery(daemon: Daemon) -> None:
    app = dashboard(daemon.data)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await open_row(pilot, "2", "number:44", lambda app: True)
        quoted = [line.split() for line in document(app).split("\n") if line.strip().startswith("stderr")]
        assert sorted(quoted) == [["stderr", "build", "3"], ["stderr", "lint", "1"]], "of each task what it wrote last"
        await pilot.press("l")
        await until(pilot, shows(app, "build 3"), "the newest of all")
        assert "route build" in static_text(app, "#detail-title"), "and whose it is"
        assert "[ Above ] Below" in drawn(app), "the footer names the keys"
        seen = []
        for key, rest in ((NEWER, 1), (OLDER, 3)):
            for _ in range(rest):
                before = document(app)
                await pilot.press(key)
                await until(pilot, lambda before=before: document(app) not in (before, "… reading"), "another")  # type: ignore[misc]
                seen.append(document(app).strip())
            await pilot.press(key)
            await until(pilot, lambda: "no output" in notices(app), "told that there is none beyond it")
            app.clear_notifications()
        assert seen == ["lint 1", "build 3", "build 2", "build 1"]


async def test_what_never_ran_has_no_other_tasks_log(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(SEVERAL)
    daemon.cli("pause", "route", "lint")
    daemon.post("issues", issue(44))
    app = dashboard(daemon.data)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await open_row(pilot, "3", "number:44", of_route("lint"))
        await pilot.press("l")
        await until(pilot, lambda: "has run" in notices(app) or on(app, LogScreen)(), "told so")
        assert on(app, DetailScreen)(), "not the output of build"


async def test_an_attempt_that_never_began_says_why_it_wrote_nothing(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(NEVER_BEGINS)
    daemon.post("issues", issue(1))
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=(80, 30)) as pilot:
        await open_row(pilot, "3", "number:1", of_route("gone"))
        (task,) = loaded(app, Task)
        await pilot.press("l")
        await until(pilot, lambda: on(app, LogScreen)() and "spawn" in document(app), "the cause")
        said = daemon.cli("logs", task.id, "1", "--stderr").stderr.decode()
        assert document(app).replace("\n", " ") in said.replace("\n", " "), "in the words of `covenq logs`"


async def test_a_filter_of_the_attempts_is_not_measured_by_a_total_that_nobody_knows(daemon: Daemon) -> None:
    app = dashboard(daemon.data)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: row_count(app) == 4 and app.status is not None, "the attempts")
        await enter_filter(pilot, "state:failed")
        await until(pilot, lambda: row_count(app) == 4 and "match /state:failed" in drawn(app), "those that match")
        assert "4 match /state:failed" in drawn(app)
        assert " of 0" not in drawn(app)


async def test_what_was_opened_is_marked_and_in_view(daemon: Daemon) -> None:
    app = dashboard(daemon.data)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_row(pilot, "3", "number:44", of_route("lint"))
        await until(pilot, lambda: "▸ ✗ failed" in drawn(app), "the task is in view")
        assert "route lint" in next(line for line in drawn(app).split("\n") if "▸" in line)
        await pilot.press("left_square_bracket")
        await until(
            pilot, lambda: "route build" in next(line for line in drawn(app).split("\n") if "▸" in line), "build"
        )
        await pilot.press("l")
        await until(pilot, shows(app, "build 3"), "its newest attempt")


async def test_a_story_is_wrapped_where_the_screen_ends(daemon: Daemon) -> None:
    app = dashboard(daemon.data)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) == 1, "listed")
        await pilot.press("w")
        await until(pilot, lambda: on(app, StoryScreen)() and "what next" in document(app), "the story")
        lines = document(app).split("\n")
        assert max(cells(line) for line in lines) <= 80
        narrow = len(lines)
        await pilot.resize_terminal(160, 50)
        await until(pilot, lambda: len(document(app).split("\n")) < narrow, "with room, fewer lines")


async def test_a_story_begins_with_its_verdict_and_tells_all_rules_if_asked(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(SEVERAL + OTHERS)
    daemon.post("issues", issue(44))
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: row_count(app) == 1, "listed")
        await pilot.press("w")
        await until(pilot, lambda: on(app, StoryScreen)() and "what next" in document(app), "the story")
        verdict, command, *rest = document(app).split("\n")
        assert verdict == "Failed in route build: three attempts, each exited with 3; lint failed"
        assert command.startswith("· covenq requeue t")
        assert "2 others don't match; all of them: r" in "\n".join(rest)
        await pilot.press("r")
        await until(pilot, lambda: "others don't match" not in document(app) and "other-4" in document(app), "all")
        await pilot.press("r")
        await until(
            pilot, lambda: "others don't match" in document(app) and "other-4" not in document(app), "the nearest"
        )


def test_an_output_of_which_the_last_is_shown_begins_with_a_whole_character() -> None:
    first, then = output_lines(b"\x82\xac" + "\u20ac".encode() * (LOG_BYTES // 3))
    assert "covenq logs" in first[0][0] and then == [("\u20ac" * (LOG_BYTES // 3), "")]
