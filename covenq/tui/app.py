"""The dashboard: which pages there are, and what each key does.

It talks to covenq through a `Source` alone, on background threads; the event loop never waits for a read. The app has the
bindings and their `action_*` methods, as Textual looks for them there; what they do is in the parts it is composed of.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.console import Console
from textual import constants
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.containers import Horizontal
from textual.widgets import ContentSwitcher, Static

from covenq.client.interface import Source
from covenq.config.journal import IN_FILES, JournalSettings
from covenq.model.palette import DARK, Palette, palette_of
from covenq.tui import journal_actions, row_actions, saved, text
from covenq.tui.background import BackgroundThread
from covenq.tui.commands import Commands
from covenq.tui.connection import Connection, Opener
from covenq.tui.filter_menu import FilterMenu
from covenq.tui.journal_actions import JournalActions
from covenq.tui.panes import alarms, empty, header, listings, overview, pages
from covenq.tui.panes.alarms import Alarm
from covenq.tui.panes.header import PAGES
from covenq.tui.panes.overview_page import OverviewPage
from covenq.tui.panes.pane import AnyPane, ListPane
from covenq.tui.panes.story import StoryPane
from covenq.tui.panes.table import RowTable
from covenq.tui.refresh import Refresher
from covenq.tui.row_actions import RowActions
from covenq.tui.rows import subject_of
from covenq.tui.screens import help
from covenq.tui.screens.detail import DetailScreen
from covenq.tui.screens.why import StoryScreen
from covenq.tui.story_choice import StoryChoice
from covenq.tui.theme import theme_of
from covenq.tui.unexpected import as_failure
from covenq.tui.widgets.key_footer import KeyFooter
from covenq.tui.widgets.lines import Line, Lines
from covenq.tui.widgets.static_text import set_text

if TYPE_CHECKING:
    from covenq.model.status import Status

TICK_S = 0.1
"""Seconds between checks whether something changed: new rows are drawn no more often than this."""
FIRST_ROWS_S = 1.0
"""Seconds that the first status waits for the first rows."""


STORY_FROM = 140
"""Cells of the screen from which on a list has room for a story beside it."""
WRITES = frozenset({"act", "pause", "compact", "backup"})
"""Actions that --read-only leaves out: their keys do nothing, and are named nowhere."""


class Dashboard(App[int]):
    """`covenq tui`.

    `opener` is called on another thread, again whenever the daemon comes or goes; `data` is the data directory, for verifying,
    None where it is on another machine. `filters` is the file of saved filters.
    """

    TITLE = "covenq"
    CSS_PATH = "style.tcss"
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {Commands}

    BINDINGS: ClassVar[list[BindingType]] = [
        *row_actions.BINDINGS,
        *(Binding(key, f"page('{name}')", title, show=False) for key, name, title in PAGES),
        journal_actions.VERIFY,
        Binding("a", "acknowledge", "Acknowledge", show=False, tooltip="hide the alarms until one of them changes"),
        Binding("F", "saved", "Filters", show=False, tooltip="saved filters: choose one, or save this one"),
        Binding(
            "s",
            "story",
            "Story",
            show=False,
            tooltip="the story of the row beside the list, where there is room, or not",
        ),
        Binding("escape", "clear_one", "Back", show=False, tooltip="peel a layer: marks, then the filter"),
        Binding("question_mark", "help", "Help"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(
        self,
        opener: Opener,
        data: Path | None,
        *,
        journal: JournalSettings = IN_FILES,
        read_only: bool = False,
        filters: Path | None = None,
        palette: Palette = DARK,
    ) -> None:
        super().__init__(ansi_color=palette.native or None)
        self.register_theme(theme_of(palette))
        self.theme = palette.name
        self.connection = Connection(opener, data, journal=journal, read_only=read_only)
        self.refresher = Refresher(self.connection, self)
        thread = BackgroundThread("action")
        self._row_actions = RowActions(self, self.connection, thread, pane=lambda: self.pane, changed=self.mark_changed)
        self._journal_actions = JournalActions(self, self.connection, thread)
        self._filter_menu = FilterMenu(self, thread, filters or saved.path_of(os.environ))
        self._story_choice = StoryChoice(self, thread, saved.shown_path_of(filters or saved.path_of(os.environ)))
        self._acknowledged = alarms.Acknowledged()
        self.page = "deliveries"
        self._opened = False
        """Something has been shown: if the source is lost, that stays, with the reason above it."""

    @property
    def status(self) -> Status | None:
        """The newest status read, None before the first."""
        return self.refresher.status

    def compose(self) -> ComposeResult:
        yield header.Tabs(id="tabs")
        yield Static(id="alarm")
        with Horizontal(id="body"):
            with ContentSwitcher(initial="opening"):
                yield Lines([[("… opening", "muted")]], id="opening")
                yield OverviewPage(id="overview")
                yield ListPane(listings.DELIVERIES, lambda: empty.no_deliveries(self.status), id="deliveries")
                yield ListPane(listings.TASKS, lambda: empty.no_tasks(self.status), id="tasks")
                yield ListPane(listings.ATTEMPTS, lambda: empty.no_tasks(self.status), id="attempts")
                yield pages.JournalPage(id="journal")
            yield StoryPane(id="story")
        yield KeyFooter()

    def on_mount(self) -> None:
        self.show_header()
        self._story_choice.read(self.show_story)
        self.set_interval(TICK_S, lambda: self.refresher.tick(throughput_in_view=self.page == "overview"))
        self.refresher.open()

    # What the refresher asks for

    def mark_changed(self) -> None:
        """The journal has grown: what is shown may be old. Nothing is while the dashboard starts, or ends."""
        for pane in self.panes:
            pane.mark_changed()
        for screen in self.screen_stack:
            if isinstance(screen, DetailScreen | StoryScreen) and screen.is_current:
                screen.mark_changed()
        for story in self.screen_stack[0].query(StoryPane) if self.screen_stack else ():
            if story.display:
                story.mark_changed()

    async def source_opened(self, source: Source) -> None:
        """Read from this source from now on, and wait for the first rows of the list in view.

        The status, read at the same time, would only delay them.
        """
        self._opened = True
        for pane in self.panes:
            pane.attach(source)
        self._story.attach(source)
        self._show_page()
        pane_in_view, deadline = self.pane, time.monotonic() + FIRST_ROWS_S
        while pane_in_view and not pane_in_view.settled and self.is_running and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    def source_failed(self, error: BaseException) -> None:
        self.query_one("#opening", Lines).show(pages.broken(error, here=self.connection.data is not None))
        self._show_page()

    def status_read(self) -> None:
        self._draw_page()
        status = self.status
        counts = {} if status is None else {"deliveries": status.deliveries, "tasks": status.tasks}
        for pane in self.panes:
            of = counts.get(pane.listing.name)
            pane.total = None if of is None else sum(of.values())
            pane.routes = () if status is None else status.routes
            pane.refresh_state()

    def throughput_read(self) -> None:
        self._draw_page()

    def on_list_pane_unreachable(self, message: ListPane.Unreachable) -> None:
        self.refresher.source_lost(message.source)

    def show_header(self) -> None:
        """The tabs with the source's state, and the alarms."""
        if not self.is_running:
            return
        screen, connection, error = self.screen_stack[0], self.connection, self.refresher.error
        source = connection.source
        state = header.source_state(source, error, read_only=connection.read_only)
        where = "" if source is None else text.clean(source.where)
        shown_tabs = header.tabs(self.page, state, where, self.size.width)
        screen.query_one("#tabs", Static).update(shown_tabs, layout=False)
        of_source, of_status = self._alarms()
        self._acknowledged.keep([*of_source, *of_status])
        in_bar = of_source if self.page == "overview" else alarms.in_bar(of_source, of_status, self.status)
        shown = screen.query_one("#alarm", Static)
        words = alarms.bar([one for one in in_bar if one not in self._acknowledged], self.size.width)
        shown.display = bool(words)
        set_text(shown, words, layout=False)

    def _alarms(self) -> tuple[list[Alarm], list[Alarm]]:
        """Of reading, which every page tells, and of what was read, which the Overview lists itself."""
        connection, read, status = self.connection, self.refresher, self.status
        error = read.error if self._opened else None
        try:
            of_source = alarms.of_source(connection.source, status, error, age=read.status_age)
            of_status = [] if status is None else alarms.of_status(status, time.time(), writable=connection.writable)
        except Exception as fault:  # noqa: BLE001 - a status has the right types, and may be nonsense all the same
            return [Alarm(text.clean(as_failure(fault)), "undrawn")], []
        return of_source, of_status

    # Pages

    @property
    def panes(self) -> list[AnyPane]:
        return list(self.screen_stack[0].query(ListPane)) if self.screen_stack else []

    @property
    def pane(self) -> AnyPane | None:
        """The list in view, None if the page is no list."""
        return next((pane for pane in self.panes if pane.id == self.page), None)

    def action_page(self, name: str) -> None:
        self.page = name
        self._draw_page()
        self._show_page()

    def _show_page(self) -> None:
        switcher = self.screen_stack[0].query_one(ContentSwitcher)
        name = self.page if self._opened else "opening"
        if switcher.current != name:
            switcher.current = name
        pane = self.pane
        if pane is not None and self._opened:
            pane.resume_reading()
            if self.screen is self.screen_stack[0]:
                pane.table.focus()
        elif self.screen is self.screen_stack[0]:
            self.screen.query_one(f"#{name}").focus()
        self.show_story()
        self.show_header()
        self.refresh_bindings()

    @property
    def _story(self) -> StoryPane:
        return self.screen_stack[0].query_one(StoryPane)

    def show_story(self) -> None:
        """The story of the row under the cursor, beside a list that has room."""
        if not self.screen_stack:  # what is remembered of it may be read when the dashboard has ended
            return
        pane = self.pane
        row = pane.table.current if pane is not None else None
        story, had = self._story, self._story.display
        story.display = (
            pane is not None and self._opened and self._story_choice.wanted and self.size.width >= STORY_FROM
        )
        if not story.display and had and story.has_focus_within and pane is not None:
            pane.table.focus()
        story.tell(subject_of(row).delivery if story.display and row is not None and row.guid else None)

    def on_row_table_viewport_changed(self) -> None:
        self.show_story()

    def _draw_page(self) -> None:
        """Draw the page in view again if it is made of the status. The scroll position stays."""
        if self.status is None or self.page not in ("overview", "journal"):
            return
        try:
            drawn = self._drawn_page(self.status)
        except Exception as fault:  # noqa: BLE001 - a status has the right types, and may be nonsense all the same
            drawn = pages.undrawn(as_failure(fault))
        self.screen_stack[0].query_one(f"#{self.page}", Lines).show(drawn)

    def _drawn_page(self, status: Status) -> list[Line]:
        now, connection, read = time.time(), self.connection, self.refresher
        if self.page == "journal":
            return pages.journal(
                status,
                now,
                here=connection.data is not None,
                writable=connection.writable,
                read_only=connection.read_only,
            )
        return overview.overview(
            status,
            read.throughput,
            now,
            self.size.width - 1,
            problem=read.throughput_error,
            writable=connection.writable,
            here=connection.data is not None,
            seen=self._acknowledged,
        )

    def on_resize(self) -> None:
        self.show_story()
        self._draw_page()
        self.show_header()

    # Keys

    def get_key_display(self, binding: Binding) -> str:
        """As the help and the manual write it."""
        return help.key_name(binding.key)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in WRITES and self.connection.read_only:
            return False
        return self._row_actions.available() if action in row_actions.NEED_ROWS else True

    def action_clear_one(self) -> None:
        pane = self.pane
        if pane is not None:
            pane.clear_one()

    def action_story(self) -> None:
        self._story_choice.change(self.show_story)

    def action_acknowledge(self) -> None:
        of_source, of_status = self._alarms()
        self._acknowledged.add([*of_source, *of_status])
        self.show_header()
        self._draw_page()

    def on_overview_page_opened(self, message: OverviewPage.Opened) -> None:
        self.page = message.link.page
        self._show_page()
        pane = self.pane
        if pane is not None:
            pane.apply_filter(message.link.filter)

    def action_help(self) -> None:
        if not isinstance(self.screen, help.Help):
            listing = self.screen is self.screen_stack[0] and self.pane is not None
            self.push_screen(help.Help(help.sections_of(self.screen), grammar=listing))

    async def action_quit(self) -> None:
        self.exit(0)

    def action_saved(self) -> None:
        pane = self.pane
        if pane is not None:
            self._filter_menu.open(pane)

    async def saved_filters(self) -> dict[str, str]:
        """For the command palette."""
        return await self._filter_menu.saved_filters()

    def on_row_table_row_opened(self, message: RowTable.RowOpened) -> None:
        self._row_actions.open(message.row)

    def action_act(self, name: str) -> None:
        self._row_actions.act(name)

    def action_pause(self) -> None:
        self._row_actions.pause()

    def action_why(self) -> None:
        self._row_actions.why()

    def action_payload(self) -> None:
        self._row_actions.payload()

    def action_diff(self) -> None:
        self._row_actions.diff()

    def action_copy(self) -> None:
        self._row_actions.copy()

    def action_verify(self) -> None:
        self._journal_actions.verify()

    def action_compact(self) -> None:
        self._journal_actions.compact()

    def action_backup(self) -> None:
        self._journal_actions.back_up()


def has_few_colours() -> bool:
    """Whether the terminal shows 16 colours or less, as Textual finds by TERM and COLORTERM."""
    system = constants.COLOR_SYSTEM
    console = Console(color_system=system, force_terminal=True, legacy_windows=False)  # type: ignore[arg-type]  # Textual says str
    return console.color_system not in ("256", "truecolor")


def freeze_garbage() -> None:
    """Take every object that exists by now out of the garbage collector's generations (`gc.freeze`).

    Otherwise it traverses every module and style again and again: a tenth of a second, between a key and its paint.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000, 20, 20)


def run(opener: Opener, data: Path | None, *, journal: JournalSettings = IN_FILES, read_only: bool = False) -> int:
    """Show the dashboard until it is quit; the exit code: 0, or 1 if it crashed.

    `opener` opens the source (`lambda: open_source(data, config)`), on a thread, and again when the daemon comes or
    goes: what can't be opened is shown in the dashboard too. `data` is the data directory, whose journal `v` verifies,
    or None where it is on another machine; `journal` says where that is. `read_only`: whatever would write is refused.
    """
    palette = palette_of(os.environ, few_colours=has_few_colours())
    app = Dashboard(opener, data, journal=journal, read_only=read_only, palette=palette)
    app.refresher.after_first_status = freeze_garbage
    app.run()
    return app.return_code or 0
