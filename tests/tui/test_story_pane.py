"""From 140 columns on the story of the row under the cursor stands beside a list; no key waits for it, and `s` is remembered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from covenq.client.local import LocalSource
from covenq.config import load as configuration
from covenq.errors import CovenqError
from covenq.model.rows import Delivery
from covenq.operate.inspect.history import Why
from covenq.tui import saved
from covenq.tui.app import STORY_FROM, Dashboard
from covenq.tui.panes.story import StoryPane
from covenq.tui.widgets.lines import Lines, plain
from tests.support.dashboard import current_row, drawn, notices, row_count, static_text, until
from tests.support.screenshots import CONFIG, make


class Source(LocalSource):
    """The source of the files, which notes whose story was asked for, and waits before it tells that of `slow`."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, configuration.build(CONFIG, None, {}))
        self.asked: list[str] = []
        self.slow = ""
        self.go_on = threading.Event()

    def why(self, id: str) -> Why:
        self.asked.append(id)
        if id == self.slow:
            assert self.go_on.wait(60)
        return super().why(id)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 deliveries, 4 failed."""
    data = tmp_path_factory.mktemp("stories") / "data"
    make(data)
    return data


@pytest.fixture
def source(data: Path) -> Iterator[Source]:
    with Source(data) as source:
        yield source
        source.go_on.set()


def story(app: Dashboard) -> str:
    return plain(app.query_one(StoryPane).query_one(Lines).lines)


def id_of(app: Dashboard) -> str:
    row = current_row(app, Delivery)
    return "" if row is None else f"{row.hook}/{row.guid}"


async def test_the_story_stands_beside_the_list_and_no_key_waits_for_it(
    source: Source, data: Path, tmp_path: Path
) -> None:
    app = Dashboard(lambda: source, data, filters=tmp_path / "filters.json")
    async with app.run_test(size=(160, 40)) as pilot:
        await until(pilot, lambda: "Ignored: no route matches" in story(app), "the verdict of the newest")
        assert source.asked == [id_of(app)]
        assert static_text(app, "#story-title") == "why 5eed0059"
        await pilot.press("up")
        await until(pilot, lambda: "Queued" in story(app), "that of the one above")
        lines = drawn(app).split("\n")
        assert any("queued" in one and "Queued" not in one for one in lines) and any("Queued: " in one for one in lines)
        shown = app.query_one(StoryPane).query_one(Lines)
        assert all(len(one) < shown.outer_size.width for one in story(app).split("\n")), "nothing is cut"

        # A slow one: the cursor goes on, and only where it rests is read.
        source.asked.clear()
        await pilot.press("up")
        source.slow = id_of(app)
        await until(pilot, lambda: source.asked == [source.slow], "it is read")
        for _ in range(5):
            await pilot.press("up")
        assert app.pane is not None and app.pane.table.cursor == row_count(app) - 8
        assert story(app) == "…", "nothing of another row is shown"
        source.go_on.set()
        await until(pilot, lambda: "what happened" in story(app), "the story where it rests")
        assert source.asked == [source.slow, id_of(app)]
        assert f"why {id_of(app).split('/')[1][:8]}" == static_text(app, "#story-title")

        # What is recorded later is read again, the story staying meanwhile.
        source.asked.clear()
        app.mark_changed()
        await until(pilot, lambda: source.asked == [id_of(app)], "it is read again")

        # The same of tasks and attempts; no list, no story.
        await pilot.press("3")
        await until(pilot, lambda: "what happened" in story(app), "that of a task's delivery")
        await pilot.press("1")
        assert not app.query_one(StoryPane).display


async def test_where_there_is_no_room_there_is_none_and_nothing_is_read(
    source: Source, data: Path, tmp_path: Path
) -> None:
    app = Dashboard(lambda: source, data, filters=tmp_path / "filters.json")
    async with app.run_test(size=(STORY_FROM - 1, 30)) as pilot:
        await until(pilot, lambda: row_count(app) > 0 and app.status, "the list")
        assert not app.query_one(StoryPane).display
        wide = app.pane.table.size.width if app.pane else 0
        assert wide >= STORY_FROM - 2, "the list has all of it"
        assert source.asked == []
        await pilot.resize_terminal(STORY_FROM, 30)
        await until(pilot, lambda: "Ignored: no route matches" in story(app), "with room it is there")
        assert app.pane is not None and app.pane.table.size.width < wide
        await pilot.press("tab")
        assert isinstance(app.focused, Lines), "it can be scrolled"
        await pilot.resize_terminal(STORY_FROM - 1, 30)
        await until(pilot, lambda: not app.query_one(StoryPane).display, "and without it is gone")
        assert app.focused is app.pane.table


async def test_that_it_was_taken_away_is_remembered(source: Source, data: Path, tmp_path: Path) -> None:
    filters = tmp_path / "config" / "filters.json"
    view = saved.shown_path_of(filters)
    app = Dashboard(lambda: source, data, filters=filters)
    async with app.run_test(size=(160, 30)) as pilot:
        await until(pilot, lambda: app.query_one(StoryPane).display, "it is there")
        await pilot.press("s")
        assert not app.query_one(StoryPane).display
        await until(pilot, view.exists, "it is remembered")
    app = Dashboard(lambda: source, data, filters=filters)
    async with app.run_test(size=(160, 30)) as pilot:
        await until(pilot, lambda: row_count(app) > 0 and not app._story_choice.wanted, "as it was left")
        assert not app.query_one(StoryPane).display
        await pilot.press("s")
        await until(pilot, lambda: saved.read_story_wanted(view), "and back")
        assert app.query_one(StoryPane).display
    view.write_text("[]")
    with pytest.raises(CovenqError, match=r"view\.json"):
        saved.read_story_wanted(view)
    app = Dashboard(lambda: source, data, filters=filters)
    async with app.run_test(size=(160, 30)) as pilot:
        await until(pilot, lambda: "view.json" in notices(app), "what can't be read is told")
        assert app.query_one(StoryPane).display
