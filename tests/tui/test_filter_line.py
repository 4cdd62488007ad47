"""The filter line while it is typed in: what it may become, what is wrong, how much it would list; and no key waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from covenq.client.interface import Counted, Filter
from covenq.client.local import LocalSource
from covenq.config import load as configuration
from covenq.tui.app import Dashboard
from covenq.tui.panes import filter_line
from covenq.tui.panes.filter_input import FilterInput
from covenq.tui.panes.filter_line import KEYS, LISTED_MAX
from covenq.tui.widgets.lines import Lines, plain
from tests.support.dashboard import drawn, row_count, static_text, until
from tests.support.screenshots import CONFIG, make


class Source(LocalSource):
    """The source of the files, which notes what it counted, and waits before it counts what is in `slow`."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, configuration.build(CONFIG, None, {}))
        self.counted: list[tuple[Filter, int]] = []
        self.slow = ""
        self.go_on = threading.Event()

    def count(self, what: Counted, filter: Filter = "", *, limit: int = 0) -> int:
        if limit:  # else it is the list's own
            self.counted.append((filter, limit))
            if filter == self.slow:
                assert self.go_on.wait(60)
        return super().count(what, filter, limit=limit)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 deliveries, 4 failed."""
    data = tmp_path_factory.mktemp("filtered") / "data"
    make(data)
    return data


@pytest.fixture
def source(data: Path) -> Iterator[Source]:
    with Source(data) as source:
        yield source
        source.go_on.set()


def listed(app: Dashboard) -> list[str]:
    """The terms below the line, as they are drawn."""
    assert app.pane is not None
    return plain(app.pane.query_one("#filter-list", Lines).lines).split("\n")


def told(app: Dashboard) -> str:
    """How much it would list."""
    assert app.pane is not None
    words = plain(app.pane.query_one("#filter-keys", Lines).lines)
    assert words.endswith(KEYS)
    return words.removesuffix(KEYS).strip()


def line(app: Dashboard) -> str:
    assert isinstance(app.focused, FilterInput)
    return app.focused.value


async def typed(pilot: Pilot[int], words: str) -> None:
    """These words stand in the line, at once: Pilot takes long for single keys."""
    app = pilot.app
    assert isinstance(app.focused, FilterInput)
    app.focused.value = words
    app.focused.cursor_position = len(words)
    await pilot.pause()


async def test_what_may_be_typed_is_listed_chosen_and_completed(source: Source, data: Path) -> None:
    app = Dashboard(lambda: source, data, filters=data / "filters.json")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) > 0 and app.status, "the list")
        await pilot.press("slash")
        await until(pilot, lambda: told(app) == "90 deliveries", "all of them")
        cut = "  state:          received, ignored, queued, running, completed, failed …"
        await until(pilot, lambda: listed(app)[0] == cut, "what a field means, cut between two words")
        assert len(listed(app)) == LISTED_MAX + 1 and listed(app)[-1].endswith("more")
        assert KEYS in drawn(app)
        await typed(pilot, "event:issues -st")
        assert [one.split()[0] for one in listed(app)] == ["state:"]
        await pilot.press("tab")
        await until(pilot, lambda: len(listed(app)) == LISTED_MAX, "the states")
        assert line(app) == "event:issues -state:"
        await pilot.press("down", "down", "down")
        assert line(app) == "event:issues -state:failed"
        assert listed(app)[2].split() == ["▸", "state:failed"]
        await pilot.press("up")
        assert line(app) == "event:issues -state:completed"
        await pilot.press("up", "up")
        assert line(app) == "event:issues -state:", "above the first is what was typed"
        await pilot.press("down", "tab")
        await until(pilot, lambda: listed(app) == [""], "the term is whole")
        assert line(app) == "event:issues -state:cancelled"
        lines = drawn(app).split("\n")
        row = next(number for number, one in enumerate(lines) if one.startswith("event:issues -state:cancelled"))
        assert KEYS in lines[row + 1], "the list is below what is typed, and gone where there is none"
        await typed(pilot, "route:")
        assert {one.strip() for one in listed(app)} == {"route:review", "route:triage"}, "the configuration's"
        await typed(pilot, "guid:5eed0059")
        assert [one.split("-")[0].strip() for one in listed(app)] == ["guid:5eed0059"]
        await typed(pilot, "event:issues -state:cancelled")
        await pilot.press("enter")
        assert app.pane is not None
        assert app.pane.filter == "event:issues -state:cancelled"
        assert not app.pane.filter_line.display


async def test_what_it_would_list_is_counted_within_a_bound(
    source: Source, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Dashboard(lambda: source, data, filters=data / "filters.json")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) > 0 and app.status, "the list")
        await pilot.press("slash")
        await typed(pilot, "event:issues")
        await until(pilot, lambda: told(app) == "45 of 90 match", "the count")
        assert source.counted == [("event:issues", 10_001)]
        monkeypatch.setattr(filter_line, "COUNTED_MAX", 30)
        await typed(pilot, "event:issues,push")
        await until(pilot, lambda: told(app) == "30+ of 90 match", "no more than that is counted")
        await typed(pilot, "repo:nowhere")
        await until(pilot, lambda: told(app) == "nothing matches", "that nothing does")
        await typed(pilot, "payload.action:opened")
        await until(pilot, lambda: told(app) == "not counted: payloads", "what can't be counted")
        assert app.pane is not None
        assert app.pane.filter == "", "only Enter applies it"
        await pilot.press("escape", "3", "slash")
        await typed(pilot, "state:failed")
        await until(pilot, lambda: told(app) == "4 of 60 match", "of tasks the tasks")
        await pilot.press("escape", "4", "slash")
        await typed(pilot, "state:failed")
        await until(pilot, lambda: told(app) == "4 match", "of attempts the attempts")


async def test_a_count_is_given_up_when_typing_goes_on_and_no_key_waits_for_it(source: Source, data: Path) -> None:
    source.slow = "event:issues"
    app = Dashboard(lambda: source, data, filters=data / "filters.json")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) > 0 and app.status, "the list")
        await pilot.press("slash")
        await typed(pilot, "event:issues")
        await until(pilot, lambda: source.counted, "it is counted, which takes long")
        for words in ("event:issues state:queued", "event:issues state:running", "event:push"):
            await typed(pilot, words)
            assert line(app) == words
        assert told(app) == "…"
        source.go_on.set()
        await until(pilot, lambda: told(app) == "15 of 90 match", "the last one's count")
        assert [words for words, _ in source.counted] == ["event:issues", "event:push"], "none in between"


async def test_what_is_mistyped_is_told_as_the_commands_tell_it(source: Source, data: Path) -> None:
    app = Dashboard(lambda: source, data, filters=data / "filters.json")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) > 0 and app.status, "the list")
        await pilot.press("slash")

        def error() -> str:
            return static_text(app, "#deliveries #filter-error") if app.query_one("#filter-error").display else ""

        await typed(pilot, "event:isues -route:triag re")
        hint = "no event is called `isues`; did you mean issues?\nno route is called `triag`; did you mean triage?"
        await until(pilot, lambda: error() == hint, "the hints")
        assert [one.split()[0] for one in listed(app)][:2] == ["repo:", "ref:"], "beside what is typed may become"
        await typed(pilot, "event:pus")
        await until(pilot, lambda: told(app) == "nothing matches", "it is looked up")
        assert error() == "", "an event that begins so is known: it is still typed"
        await typed(pilot, "event:push stat:failed")
        await until(pilot, lambda: "(column 12)" in error(), "what doesn't parse")
        assert error().startswith(" " * 11 + "^")
        await typed(pilot, "event:push state:fa")
        assert error() == ""
