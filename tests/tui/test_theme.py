"""What the dashboard draws is legible in every palette: the contrast is that of the cells, as the terminal gets them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.segment import Segment
from textual.pilot import Pilot

from covenq.config import load as configuration
from covenq.model import at_text
from covenq.model.palette import ANSI_DARK, DARK, LIGHT, PLAIN, Palette
from covenq.model.status import Status, Stuck
from covenq.tui.app import Dashboard
from covenq.tui.panes import window
from covenq.tui.panes.table import RowTable
from covenq.tui.screens.dialogs import Confirm
from covenq.tui.screens.help import Help
from covenq.tui.screens.why import StoryScreen
from covenq.tui.widgets.lines import Lines
from tests.support import screenshots
from tests.support.checkout import ROOT
from tests.support.contrast import ENOUGH, NAMES_16, TERMINALS, contrast, rgb
from tests.support.dashboard import drawn, until

GRAPHIC = re.compile(r"[─-╿▀-▟■-◿\s]+")
"""Borders, bars, marks: not text, which only says again what words beside it say."""


class Source(screenshots.DemoDaemon):
    """With what is alarming: many tasks of one route that wait for the same, and one of another."""

    def status(self) -> Status:
        since, refused = at_text(screenshots.NOW - 7200), "the receiver refuses; it is asked again in 105 s"
        stuck = [Stuck(f"t{n}", "mirror", "octo/hello", "queued", since, refused, "waits") for n in range(4)]
        stuck.append(Stuck("t9", "triage", "octo/hello", "running", since, "its command hangs", "timeout"))
        return replace(super().status(), stuck=stuck)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("theme") / "data"
    screenshots.make(found)
    return found


@pytest.fixture
def clock() -> Iterator[None]:
    with screenshots.stopped_clock([screenshots.NOW]):
        yield


def dashboard(data: Path, palette: Palette = DARK) -> Dashboard:
    source = Source(data, configuration.build(screenshots.CONFIG, None, {}))
    return Dashboard(lambda: source, data, filters=data / "filters.json", palette=palette)


async def opened(app: Dashboard, pilot: Pilot[int]) -> None:
    for table in app.query(RowTable):
        table._clock = lambda: screenshots.NOW
    await until(pilot, lambda: app.status and "✗ failed" in drawn(app) and "90 deliveries" in drawn(app), "the list")


def cells(app: Dashboard) -> list[tuple[int, Segment]]:
    """Each run of text on the screen with its line."""
    lines = app.screen._compositor.render_strips(app.size)
    return [(y, segment) for y, line in enumerate(lines) for segment in line if not GRAPHIC.fullmatch(segment.text)]


def worst(app: Dashboard, colours: int = 1 << 24) -> tuple[float, int, str]:
    """The least contrast of all text, its line, and the text."""
    found = []
    for y, segment in cells(app):
        assert segment.style is not None
        text, ground = segment.style.color, segment.style.bgcolor
        assert text is not None and ground is not None
        found.append((contrast(rgb(text, colours=colours), rgb(ground, colours=colours)), y, segment.text))
    return min(found)


async def every_page(app: Dashboard, pilot: Pilot[int], look: Callable[[str], None]) -> None:
    async def press(key: str, true: Callable[[], object], what: str) -> None:
        await pilot.press(key)
        await until(pilot, true, what)
        look(what)

    look("deliveries")
    await press("3", lambda: app.pane and app.pane.rows.loaded and app.pane.listing.name == "tasks", "tasks")
    await press("4", lambda: app.pane and app.pane.rows.loaded and app.pane.listing.name == "attempts", "attempts")
    await press("1", lambda: app.refresher.throughput is not None and "waited" in drawn(app), "overview")
    await press("5", lambda: "Segments" in drawn(app), "journal")
    await pilot.press("2")
    await press("enter", lambda: "X-GitHub-Event" in drawn(app), "a delivery")
    await press("w", lambda: isinstance(app.screen, StoryScreen) and "accepted?" in drawn(app), "its story")
    await pilot.press("escape", "escape")
    await press("t", lambda: "issue" in drawn(app) or "repository" in drawn(app), "its payload")
    await pilot.press("escape")


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("palette", [DARK, LIGHT], ids=lambda one: one.name)
async def test_all_text_is_legible(data: Path, palette: Palette) -> None:
    app = dashboard(data, palette)

    def look(what: str) -> None:
        for colours in (1 << 24, 256):
            found = worst(app, colours)
            assert found[0] >= ENOUGH, (what, colours, *found, drawn(app))

    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot)
        await every_page(app, pilot, look)


def failed(app: Dashboard) -> Segment:
    """A failed row's state, not under the cursor."""
    return next(one for _, one in cells(app) if "✗ failed" in one.text)


def selected(app: Dashboard) -> Segment:
    """Of the row under the cursor."""
    assert app.pane is not None
    return next(one for y, one in cells(app) if y == app.pane.table.cursor_line)


@pytest.mark.usefixtures("clock")
async def test_without_colour_a_failure_has_weight_and_the_cursor_is_in_reverse(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = dashboard(data, PLAIN)

    def look(what: str) -> None:
        for _, segment in cells(app):
            style = segment.style
            assert style is None or ((style.color is None or style.color.is_default) and not style.dim), (what, segment)
            assert style is None or style.bgcolor is None or style.bgcolor.is_default, (what, segment)

    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot)
        style = failed(app).style
        assert style is not None and style.bold
        cursor = selected(app).style
        assert cursor is not None and cursor.reverse
        await pilot.press("p")
        await until(pilot, lambda: "pause worker" in drawn(app), "the menu")
        chosen = next(one for _, one in cells(app) if "leave everything" in one.text)
        assert chosen.style is not None and chosen.style.underline
        await pilot.press("escape")
        await every_page(app, pilot, look)


@pytest.mark.usefixtures("clock")
async def test_of_16_colours_red_is_red(data: Path) -> None:
    app = dashboard(data, ANSI_DARK)
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot)
        style = failed(app).style
        assert style is not None and style.color is not None and style.bgcolor is not None
        assert style.color.number == 9, "bright red, and left to the terminal"
        assert style.bgcolor.number == 0
        names = list(TERMINALS["xterm"])

        def look(what: str) -> None:
            for _, segment in cells(app):
                style = segment.style
                assert style is not None and style.color is not None and style.bgcolor is not None, (what, segment)
                assert style.color.triplet is None and style.bgcolor.triplet is None, (what, segment)
                for colours in TERMINALS.values():
                    text = "white" if style.color.number is None else names[style.color.number]
                    ground = "black" if style.bgcolor.number is None else names[style.bgcolor.number]
                    if style.bold and text in ("yellow", "cyan"):
                        text = f"bright_{text}"  # as the console does it; elsewhere they are bright enough
                    assert contrast(colours[text], colours[ground]) >= ENOUGH, (what, segment)

        await every_page(app, pilot, look)


# ---- dialogs


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("size", [(80, 24), pytest.param((100, 30), marks=pytest.mark.deep), (160, 50)])
async def test_the_row_acted_on_stays_in_view_beside_the_dialog(data: Path, size: tuple[int, int]) -> None:
    app = dashboard(data)
    async with app.run_test(size=size) as pilot:
        await opened(app, pilot)
        assert app.pane is not None
        table = app.pane.table
        for up in (0, size[1] // 2 - 2, size[1] - 6):
            await pilot.press("G")
            await until(pilot, lambda: table.following, "at the newest")
            table.action_move(-up)
            await pilot.pause()
            line = table.cursor_line
            assert line is not None
            for key in ("r", "p", "y"):
                await pilot.press(key)
                await until(pilot, lambda: len(app.screen_stack) == 2 and app.screen.query("#dialog"), "the dialog")
                if isinstance(app.screen, Confirm):
                    await until(pilot, lambda: "eligible" in drawn(app), "the plan")
                shown = drawn(app).splitlines()
                assert "▸" in shown[line], (up, key, drawn(app))
                dialog = app.screen.query_one("#dialog").region
                assert not dialog.y <= line < dialog.bottom, (up, key)
                assert "╰" in drawn(app) and "╭" in drawn(app), "it is whole"
                await pilot.press("escape")
                await until(pilot, lambda: len(app.screen_stack) == 1, "closed")


# ---- the alarm bar


def bar(app: Dashboard) -> str:
    return next((line for line in drawn(app).splitlines() if line.startswith("! ")), "")


@pytest.mark.usefixtures("clock")
async def test_the_alarm_bar_is_one_line_and_stays_away_until_something_changes(data: Path) -> None:
    app = dashboard(data)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot)
        assert sum(line.startswith("! ") for line in drawn(app).splitlines()) == 1
        assert "4 tasks or more of mirror are queued" in bar(app)
        assert "on 1, a hides" in bar(app)
        await pilot.press("1")
        await until(pilot, lambda: "! task t9 (triage" in drawn(app), "the page lists them")
        assert drawn(app).count("of mirror are queued") == 1, "once"
        assert "t1" not in drawn(app), "not one by one"
        await pilot.press("2", "a")
        await until(pilot, lambda: not bar(app), "hidden")
        status = app.status
        assert status is not None
        later = [replace(one, why=one.why.replace("105", "90")) for one in status.stuck]
        app.refresher.status = replace(status, stuck=later)
        app.show_header()
        await pilot.pause()
        assert not bar(app), "the same, a second later"
        pause = replace(status.pauses[0], name="7", repo="octo/other", since=at_text(screenshots.NOW))
        app.refresher.status = replace(status, pauses=[*status.pauses, pause])
        app.show_header()
        await until(pilot, lambda: "octo/other is paused" in bar(app), "another one is shown")
        assert "mirror" not in bar(app)
        await pilot.press("1")
        await until(pilot, lambda: "· 4 tasks or more of mirror" in drawn(app), "and what was acknowledged is listed")


# ---- room


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("size", [(80, 24), (100, 30), (160, 50)])
async def test_no_page_has_a_bar_below_it_and_none_is_cut_by_the_one_beside_it(
    data: Path, size: tuple[int, int]
) -> None:
    app = dashboard(data)
    async with app.run_test(size=size) as pilot:
        await opened(app, pilot)

        def look(what: str) -> None:
            for lines in [*app.screen.query(Lines), *app.screen.query(RowTable)]:
                assert not lines.horizontal_scrollbar.region, (what, drawn(app))

        await every_page(app, pilot, look)
        await pilot.press("4")
        await until(pilot, lambda: app.pane and app.pane.listing.name == "attempts", "attempts")
        assert app.pane is not None
        table = app.pane.table
        assert len(table.render_line(0).text) == table.scrollable_content_region.width
        assert "Help" in drawn(app)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Help), "help")


# ---- how many


@pytest.mark.usefixtures("clock")
async def test_all_attempts_are_counted_and_never_fewer_than_are_listed(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "OPEN_RANGE_ROWS", 10)
    monkeypatch.setattr(window, "OLDER_RANGE_ROWS", 5)
    app = dashboard(data)
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot)
        source = app.connection.source
        assert source is not None
        every, failures = source.count("attempts"), source.count("attempts", "state:failed")
        assert every > 45 and failures > 2
        await pilot.press("4")
        await until(pilot, lambda: f"FOLLOWING  {every} attempts" in drawn(app), "all, not those alone that were read")
        assert app.pane is not None
        app.pane.apply_filter("state:failed")
        await until(pilot, lambda: f"  {failures} match /state:failed" in drawn(app), "those that match")
        app.pane.total = 0  # of a status from before they came
        assert f"{failures} of {failures} match" in app.pane.status_line()


# ---- the sources


def test_no_colour_is_named_but_in_the_palette() -> None:
    """What a run of text means is a tone; a colour named elsewhere is legible on nobody knows what."""
    named = re.compile(rf"\b(?:{'|'.join(NAMES_16)}|dim)\b")
    style = re.compile(rf"(?:(?:bold|{named.pattern})\s?)+")
    for path in sorted((ROOT / "covenq" / "tui").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and style.fullmatch(node.value):
                assert not named.search(node.value), f"{path.name}:{node.lineno}: {node.value}"
