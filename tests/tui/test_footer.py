"""The footer at each width: no key is cut, help and quit are always there, and what there is room for is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets._footer import FooterKey

from covenq.client.local import LocalSource
from covenq.config import load as configuration
from covenq.tui.app import Dashboard
from covenq.tui.widgets.key_footer import fitting
from tests.support.dashboard import drawn, row_count, until
from tests.support.screenshots import CONFIG, make

OVER = {
    "a list": [],
    "tasks": ["3"],
    "the overview": ["1"],
    "the journal": ["5"],
    "a delivery": ["enter"],
    "its output": ["enter", "l"],
    "why": ["w"],
    "a payload": ["t"],
    "a difference": ["up", "space", "up", "up", "d"],
    "a check": ["5", "v"],
}
"""Screen to the keys that open it."""
RESIZED = {"a list", "a payload"}
"""Those with more keys than 80 columns have room for."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("footers") / "data"
    make(data)
    return data


def key(action: str, shown: str, description: str) -> FooterKey:
    return FooterKey("k", shown, description, action)


def test_the_first_are_kept_that_fit_and_help_and_quit() -> None:
    keys = [key("a", "a", "Alpha"), key("app.quit", "q", "Quit"), key("b", "b", "Beta"), key("app.help", "?", "Help")]
    for width, shown in (
        (27, "a Alpha b Beta ? Help q Quit"),
        (28, "a Alpha b Beta ? Help q Quit"),
        (20, ""),
        (21, "a"),
    ):
        found = " ".join(f"{one.key_display} {one.description}" for one in fitting(keys, width))
        assert len(found) <= max(width, len("? Help q Quit")), (width, shown, found)
    assert [one.action for one in fitting(keys, 28)] == ["a", "b", "app.help", "app.quit"]
    assert [one.action for one in fitting(keys, 27)] == ["a", "app.help", "app.quit"]
    assert [one.action for one in fitting(keys, 20)] == ["app.help", "app.quit"]


async def footer(pilot: Pilot[int]) -> str:
    """The last line, once it is drawn."""
    app = pilot.app
    assert isinstance(app, Dashboard)
    await until(pilot, lambda: drawn(app).rstrip().endswith("q Quit"), "the footer")
    return drawn(app).split("\n")[-1].rstrip()


async def test_no_key_is_cut_on_any_screen_at_any_size(data: Path) -> None:
    with LocalSource(data, configuration.build(CONFIG, None, {})) as source:
        app = Dashboard(lambda: source, data, filters=data / "filters.json")
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: row_count(app) > 0 and app.status, "the list")
            for name, keys in OVER.items():
                await pilot.press("2", "G", *keys)
                bindings = [one.binding for one in app.screen.active_bindings.values() if one.binding.show]
                by_action = {one.action: one for one in reversed(bindings)}  # of two keys of one the first is shown
                known = {f"{app.get_key_display(one)} {one.description}" for one in by_action.values()}
                widths = [len(" ".join(known))] if name in RESIZED else []
                for width in (80, *widths, 100, 160) if widths else (80,):
                    if width != app.size.width:
                        await pilot.resize_terminal(width, 24)
                    shown = await footer(pilot)
                    rest = shown
                    for one in sorted(known, key=len, reverse=True):
                        rest = rest.replace(one, "", 1)
                    assert not rest.strip(), f"{name} at {width}: {shown!r} has {rest.strip()!r}, which is no key of it"
                    assert shown.endswith("? Help q Quit"), f"{name} at {width}: {shown!r}"
                    if width in (*widths, 160):
                        assert len(shown) == len(" ".join(known)), f"{name} at {width} has room for all: {shown!r}"
                if widths:
                    await pilot.resize_terminal(80, 24)
                while len(app.screen_stack) > 1:
                    await pilot.press("escape")
                await pilot.press("escape")
            await pilot.press("q")
