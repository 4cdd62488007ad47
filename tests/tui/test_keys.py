"""Every key that the help shows, pressed: each does something, at both sizes; and each of them is in the manual."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from textual.events import Key
from textual.pilot import Pilot
from textual.screen import Screen

from covenq.tui.app import Dashboard
from covenq.tui.panes.pages import JournalPage
from covenq.tui.panes.pane import ListPane
from covenq.tui.panes.table import RowTable
from covenq.tui.screens.detail import DetailScreen
from covenq.tui.screens.dialogs import Confirm
from covenq.tui.screens.diff import DiffScreen
from covenq.tui.screens.help import Help, enabled_bindings, key_name
from covenq.tui.screens.logs import LogScreen
from covenq.tui.screens.maintenance import BackupDialog, CompactDialog
from covenq.tui.screens.menus import Menu
from covenq.tui.screens.pauses import IntakeDialog, PauseMenu
from covenq.tui.screens.payload import PayloadScreen
from covenq.tui.screens.progress import ProgressScreen
from covenq.tui.screens.verify import VerifyScreen
from covenq.tui.screens.why import StoryScreen
from covenq.tui.widgets.lines import Lines
from covenq.tui.widgets.treeview import TreeView
from tests.support.checkout import ROOT
from tests.support.daemon import Daemon
from tests.support.dashboard import ROUTES, SIZES, dashboard, document, drawn, on, row_count, until
from tests.support.requests import issue

BOUND_CLASSES = (
    Dashboard, RowTable, ListPane, Lines, JournalPage, DetailScreen, PayloadScreen, TreeView, StoryScreen,
    DiffScreen, LogScreen, VerifyScreen, ProgressScreen, Confirm, Menu, PauseMenu, IntakeDialog, Help, CompactDialog,
    BackupDialog,
)  # fmt: skip
"""Every class that has bindings."""

SCROLLS = {"up", "down", "k", "j", "pageup", "pagedown", "home", "end", "g", "G", "left", "right", "ctrl+pageup"}
SCROLLS |= {"ctrl+pagedown", "ctrl+b", "ctrl+f"}
FOLDS = {"h", "l", "n", "N", "plus", "minus"}
"""Keys of a document or a tree, which do nothing where all of it is in view or its end is reached."""


def bindings(kind: type) -> list[tuple[str, str]]:
    """(key, action) of the keys that a class itself has."""
    found = []
    for one in kind.__dict__.get("BINDINGS", ()):
        found += [(key.strip(), one.action) for key in one.key.split(",")]
    return found


@pytest.mark.parametrize("kind", BOUND_CLASSES, ids=lambda kind: kind.__name__)
def test_every_binding_has_an_action(kind: type) -> None:
    for key, action in bindings(kind):
        name = action.partition("(")[0]
        of: Any = kind
        if name.startswith("app."):
            name, of = name.removeprefix("app."), Dashboard
        found = any(hasattr(of, f"{prefix}{name}") for prefix in ("action_", "_action_"))
        assert found, f"{kind.__name__}: {key} means {action}, which is no action of {of.__name__}"


def test_the_manual_has_every_key() -> None:
    page = (ROOT / "man" / "covenq.1").read_text()
    section = page.partition(".SH DASHBOARD")[2].partition("\n.SH ")[0]
    assert section, "covenq(1) has a section of the dashboard's keys"
    words = set(re.sub(r"\\f[BIRP]", " ", section).replace("\\-", "-").replace(",", " ").split())
    for kind in BOUND_CLASSES:
        for key, action in bindings(kind):
            name = key_name(key)
            assert {name, key} & words, (
                f"{name} ({kind.__name__}: {action}) is not among the dashboard's keys in covenq(1)"
            )


def state(app: App[Any]) -> object:
    """What a key may change: screens, page, focus, cursor, marks, filter, scroll position, open nodes, notices, clipboard."""
    assert isinstance(app, Dashboard)
    panes = [
        (
            pane.filter,
            pane.filter_line.display,
            pane.table.cursor,
            pane.table.following,
            frozenset(pane.table.marks),
            pane.table.all_marked,
        )
        for pane in app.panes
    ]
    focused = app.focused
    place = None if focused is None else (id(focused), focused.scroll_offset, getattr(focused, "cursor", None))
    tree = drawn(app) if isinstance(focused, TreeView) or isinstance(app.screen, LogScreen) else None
    return (
        [id(screen) for screen in app.screen_stack],
        app.page,
        panes,
        place,
        tree,
        len(app._notifications),
        getattr(app.screen, "_id", None),
        getattr(app.screen, "delivery", None) and app.screen.delivery.guid,  # type: ignore[attr-defined]
        app.clipboard,
    )


Prepare = Callable[[Pilot[int]], Any]


async def walk(pilot: Pilot[int], prepare: Prepare, *, all: bool = False) -> set[str]:
    """Press every key that is enabled on the screen that `prepare` opens, each from the same state; the keys pressed. The
    app's own keys, which are the same on every screen, are pressed only with `all`."""
    app = pilot.app
    assert isinstance(app, Dashboard)
    await prepare(pilot)
    screen_type = type(app.screen)
    keys = [
        (binding.key, type(node).__name__, binding.action)
        for node, binding in enabled_bindings(app.screen)
        if all or node is not app
    ]
    assert keys
    for key, owner, action in keys:
        if action in ("quit", "app.quit"):
            continue
        await prepare(pilot)
        if action == f"page('{app.page}')":
            continue  # it is there already
        before = state(app)
        still = isinstance(app.focused, Lines | TreeView) and key in SCROLLS | FOLDS
        await pilot.press(key)
        if not still:
            await until(
                pilot,
                lambda before=before: state(app) != before,
                f"{key} of {owner} ({action}) on {screen_type.__name__}",
            )  # type: ignore[misc]
        await home(pilot)
    return {key for key, _, _ in keys}


async def home(pilot: Pilot[int]) -> None:
    """No screens over the pages, no marks, filters or notices; the page of deliveries."""
    app = pilot.app
    assert isinstance(app, Dashboard)
    while len(app.screen_stack) > 1:
        top = app.screen
        await pilot.press("escape")
        await until(pilot, lambda top=top: app.screen is not top or app.focused is not None, "one screen less")  # type: ignore[misc]
    for pane in app.panes:
        pane.close_filter_input()
        while pane.clear_one():
            pass
    app.clear_notifications()
    app._clipboard = ""
    app.action_page("deliveries")
    await until(pilot, lambda: isinstance(app.focused, RowTable) and row_count(app) == 30, "the list")


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    daemon = make_daemon(ROUTES)
    for number in range(1, 30):
        daemon.post("push", issue(number))
    daemon.post("issues", issue(30, action="closed"))
    daemon.wait_all_done()
    return daemon


@pytest.mark.parametrize("size", [pytest.param(SIZES[0], marks=pytest.mark.deep), SIZES[1]])
async def test_every_key_of_every_screen_does_something(daemon: Daemon, size: tuple[int, int], tmp_path: Path) -> None:
    filters = tmp_path / "filters.json"
    filters.write_text('{"mine": "event:issues"}')
    app = dashboard(daemon.data, filters=filters)

    def at(above: int) -> None:
        """The cursor that many rows above the newest."""
        assert app.pane is not None
        table = app.pane.table
        table.action_follow()
        table.action_move(-above)

    async def deliveries(pilot: Pilot[int]) -> None:
        """The cursor on a row with others above and below, two rows marked."""
        await home(pilot)
        app.action_page("deliveries")
        at(3)
        assert app.pane is not None
        table = app.pane.table
        table.action_mark()
        table.action_mark()
        table.action_move(-1)

    async def filtered(pilot: Pilot[int]) -> None:
        """The row that has a task, alone."""
        await home(pilot)
        assert app.pane is not None
        app.pane.apply_filter("event:issues")
        await until(pilot, lambda: row_count(app) == 1 and app.pane and app.pane.table.current, "one row")

    def over(key: str, kind: type[Screen[Any]], ready: Callable[[], bool]) -> Prepare:
        async def prepare(pilot: Pilot[int]) -> None:
            await filtered(pilot)
            await pilot.press(key)
            await until(pilot, lambda: on(app, kind)() and ready(), kind.__name__)

        return prepare

    async def logs(pilot: Pilot[int]) -> None:
        await over("enter", DetailScreen, lambda: "Payload" in document(app))(pilot)
        await pilot.press("l")
        await until(pilot, on(app, LogScreen), "the output")

    async def middle(pilot: Pilot[int]) -> None:
        """A delivery open that has others before and after it in the list."""
        await home(pilot)
        at(3)
        await pilot.press("enter")
        await until(pilot, lambda: on(app, DetailScreen)() and "Payload" in document(app), "its story")

    async def page(pilot: Pilot[int], name: str) -> None:
        await home(pilot)
        app.action_page(name)
        await until(pilot, lambda: isinstance(app.focused, Lines), name)

    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: row_count(app) == 30, "the list")
        pressed = await walk(pilot, deliveries, all=size == SIZES[0])
        if size != SIZES[0]:
            return  # the others don't depend on it
        assert {"r", "u", "c", "R", "x", "p", "w", "t", "d", "y", "F", "v", "A", "space", "slash", "1", "5"} <= pressed
        for name, own in (("overview", "j"), ("journal", "K")):
            assert own in await walk(pilot, lambda pilot, name=name: page(pilot, name))  # type: ignore[misc]
        assert {"l", "left_square_bracket"} <= await walk(pilot, middle, all=True)
        tree = over("t", PayloadScreen, lambda: isinstance(app.focused, TreeView))
        assert {"Y", "n", "plus", "h"} <= await walk(pilot, tree)
        await walk(pilot, over("w", StoryScreen, lambda: bool(document(app))))
        await walk(pilot, logs)
        await walk(pilot, over("v", VerifyScreen, lambda: "no damage" in document(app)))
        await pilot.press("q")
    assert app.return_code == 0


def press_at_once(app: App[int], keys: str) -> None:
    """Keys that have come before the first of them is looked at, as from a fast typist, or on a busy machine."""
    for character in keys:
        key = {"/": "slash", ":": "colon", "\r": "enter"}.get(character, character)
        app.post_message(Key(key, character))


async def test_a_filter_that_is_typed_in_one_go_is_a_filter(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(ROUTES)
    for number, event in enumerate(["push", "issues"]):
        daemon.post(event, issue(number + 1))
    async with dashboard(daemon.data).run_test(size=(80, 24)) as pilot:
        app = pilot.app
        assert isinstance(app, Dashboard)
        await until(pilot, lambda: row_count(app) == 2, "the deliveries are listed")
        press_at_once(app, "/event:push payload.ref:a/b\r")
        await until(pilot, lambda: app.pane is not None and app.pane.filter, "the filter is applied")
        assert app.pane is not None
        assert app.pane.filter == "event:push payload.ref:a/b"
        assert app.screen is app.screen_stack[0], "no key was taken for another"
        await pilot.press("escape")
        await until(pilot, lambda: row_count(app) == 2, "the filter is cleared")
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, PayloadScreen) and "issue  {" in drawn(app), "the payload")
        press_at_once(app, "/title\r")
        await until(pilot, lambda: "issue.title" in drawn(app), "it is found")
