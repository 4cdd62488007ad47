"""The dashboard: which pages there are, what the keys do, and the clock that keeps what is in view current.

It talks to covenq through a `Source` alone, on lanes (threads of their own); the event loop never waits for a read.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import ContentSwitcher, Footer, Static

from covenq.client.interface import Object, Source
from covenq.errors import CovenqError, DaemonUnreachable, Failure
from covenq.operate.maintain import backup_list
from covenq.tui import saved, text
from covenq.tui.actions_mixin import ActionsMixin
from covenq.tui.background import BackgroundThread
from covenq.tui.commands import Commands
from covenq.tui.connection import Connection, Opener
from covenq.tui.panes import columns, overview, pages
from covenq.tui.panes.detail import DetailScreen, identity
from covenq.tui.panes.pane import Listing, ListPane, say
from covenq.tui.panes.table import RowTable
from covenq.tui.screens import help, maintenance
from covenq.tui.screens.menus import Menu
from covenq.tui.screens.verify import VerifyScreen, runner
from covenq.tui.screens.why import StoryScreen
from covenq.tui.widgets.lines import Lines

TICK = 0.1
"""Seconds between looks at whether something changed: nothing is drawn more often for new rows."""
STATUS = 1.0
"""Seconds between reads of the status; changes are read at most this often too."""
FIRST_S = 1.0
"""Seconds that the status waits for the first rows."""
PACE = 2.0
"""Seconds between reads of the last hour's figures, while the Overview is in view."""
NO_DAEMON = "no daemon is running"
"""What a status without a daemon gives as its first reason; here it is said at greater length."""
RETRY = 2.0
"""Seconds between tries to open a source that can't be opened, or to find a daemon that went away."""

DELIVERIES = Listing(
    "deliveries",
    columns.DELIVERIES,
    lambda source, words, limit, after: source.deliveries(words, limit=limit, after=after),
    lambda row: int(row["seq"]),
    "deliveries",
)
TASKS = Listing(
    "tasks",
    columns.TASKS,
    lambda source, words, limit, after: source.tasks(words, limit=limit, after=after),
    lambda row: int(row["created_seq"]),
    "tasks",
)

ATTEMPTS = Listing(
    "attempts",
    columns.ATTEMPTS,
    lambda source, words, limit, after: source.latest_attempts(words, limit=limit, after=after),
    lambda row: int(row["claim_seq"]),
)

PAGES = (
    ("1", "overview", "Overview"),
    ("2", "deliveries", "Deliveries"),
    ("3", "tasks", "Tasks"),
    ("4", "attempts", "Attempts"),
    ("5", "journal", "Journal"),
)


class Journal(Lines):
    """The Journal page."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "app.verify", "Verify", tooltip="prove every record of the journal"),
        Binding("K", "app.compact", "Compact", tooltip="drop what [retention] keeps no longer"),
        Binding("B", "app.backup", "Back up", tooltip="copy the journal, and prove the copy"),
    ]


class Dashboard(ActionsMixin):
    """`covenq tui`. `opener` is called on another thread, again whenever the daemon comes or goes; `data` is the data
    directory, for verifying, None where it is another machine's. `filters` is the file of saved filters.
    """

    TITLE = "covenq"
    CSS_PATH = "style.tcss"
    COMMANDS = frozenset({Commands})  # type: ignore[assignment] # Textual asks for a set, and changes none

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"page('{name}')", title, show=False) for key, name, title in PAGES),
        Binding("v", "verify", "Verify", show=False, tooltip="prove every record of the journal"),
        Binding("F", "saved", "Filters", show=False, tooltip="saved filters: choose one, or save this one"),
        Binding("escape", "peel", "Back", show=False, tooltip="peel a layer: marks, then the filter"),
        Binding("question_mark", "help", "Help"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(
        self, opener: Opener, data: Path | None, *, read_only: bool = False, filters: Path | None = None
    ) -> None:
        super().__init__(Connection(opener, data), read_only=read_only)
        self.data = data
        self._saved_at = filters or saved.path_of(os.environ)
        self.status: Object = {}
        self.error: BaseException | None = None
        """Why there is no source, while there is none."""
        self._throughput: Object | None = None
        self._pace_due = 0.0
        self._throughput_thread = BackgroundThread("pace")
        self._status_due = 0.0
        self._retry_due = 0.0
        self._busy = False
        self._head: object = None
        self._page = "deliveries"
        self.at_rest: Callable[[], None] = lambda: None
        """Called once, when something is shown and nobody waits."""
        self._opened = False
        """Something has been shown: if the source is lost, that stays, with the reason above it."""

    def compose(self) -> ComposeResult:
        yield Static(id="tabs")
        yield Static(id="alarm")
        with ContentSwitcher(initial="opening"):
            yield Lines([[("… opening", "dim")]], id="opening")
            yield Lines(id="overview")
            yield ListPane(DELIVERIES, self._no_deliveries, id="deliveries")
            yield ListPane(TASKS, self._no_tasks, id="tasks")
            yield ListPane(ATTEMPTS, self._no_tasks, id="attempts")
            yield Journal(id="journal")
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        self._show_chrome()
        self.set_interval(TICK, self._tick)
        self._open()

    # The source, and what keeps the pages current

    def _tick(self) -> None:
        now = time.monotonic()
        watch = self.link.watch
        if watch is not None and watch.take():
            self.changed()
        if self._page == "overview" and self.link.source is not None and now >= self._pace_due:
            self._read_pace(self.link.source)
        if self._busy:
            return
        if self.link.source is None or (watch is not None and watch.lost):
            if now >= self._retry_due:
                self._open()
        elif now >= self._status_due:
            self._read_status()

    def changed(self) -> None:
        for pane in self._panes():
            pane.mark_changed()
        if isinstance(self.screen, DetailScreen | StoryScreen):
            self.screen.mark_changed()

    @work(group="link")
    async def _open(self) -> None:
        self._busy = True
        self._retry_due = time.monotonic() + RETRY
        try:
            source = await self.link.open()
            if not self.is_running:
                return
            self.error = None
            self._opened = True
            for pane in self._panes():
                pane.attach(source)
            self._switch()
            await self._first_rows()
            await self._take_status(source)
        except Failure as error:
            if self.is_running:
                self.error = error
                self.query_one("#opening", Lines).show(pages.broken(error))
                self._switch()
        finally:
            self._busy = False
            self._show_chrome()

    async def _first_rows(self) -> None:
        """Until the list in view has its first rows: the status, read at the same time, would only hold them up."""
        pane, deadline = self.pane, time.monotonic() + FIRST_S
        while pane is not None and not pane.settled and self.is_running and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    @work(group="link")
    async def _read_status(self) -> None:
        source = self.link.source
        if source is None:
            return
        self._busy = True
        started = time.monotonic()
        try:
            if await self.link.daemon_is_back():
                self._retry_due = 0.0
                self._open()
                return
            await self._take_status(source)
            self.error = None
        except DaemonUnreachable as error:
            self.error = error
            if self.is_running:
                self._open()
            return
        except Failure as error:
            self.error = error
        finally:
            # At most a tenth of the time: counting a million rows by state takes a while.
            now = time.monotonic()
            self._status_due = now + max(STATUS if source.live else RETRY, 10 * (now - started))
            self._busy = False
            self._show_chrome()

    async def _take_status(self, source: Source) -> None:
        self.status = await self.link.lane.call(source.status)
        if not self.is_running:
            return
        self._draw_pages()
        for pane in self._panes():
            pane.total = sum((self.status.get(pane.listing.name) or {}).values())
            pane.refresh_state()
        head = (self.status.get("journal") or {}).get("head")
        if head != self._head:  # also what came before the events were followed
            self.changed()
        self._head = head
        rest, self.at_rest = self.at_rest, lambda: None
        rest()

    @work(group="pace", exclusive=True)
    async def _read_pace(self, source: Source) -> None:
        started = time.monotonic()
        self._pace_due = started + 60.0
        try:
            self._throughput = await self._throughput_thread.call(source.throughput)
        except Failure as error:
            self._throughput = {"error": text.clean(error)}
        now = time.monotonic()
        self._pace_due = now + max(PACE, 10 * (now - started))
        if self.is_running:
            self._draw_pages()

    def _draw_pages(self) -> None:
        """The pages made of the status, if in view. A place scrolled to is kept."""
        if not self.status:
            return
        now, screen = time.time(), self.screen_stack[0]
        if self._page == "overview":
            drawn = overview.overview(self.status, self._throughput, now, self.size.width - 1)
            screen.query_one("#overview", Lines).show(drawn)
        elif self._page == "journal":
            screen.query_one("#journal", Lines).show(pages.journal(self.status, now, here=self.data is not None))

    def on_resize(self) -> None:
        self._draw_pages()

    def on_list_pane_unreachable(self, message: ListPane.Unreachable) -> None:
        if message.source is self.link.source and not self._busy:
            self._open()

    # Pages

    def _panes(self) -> list[ListPane]:
        return list(self.screen_stack[0].query(ListPane)) if self.screen_stack else []

    @property
    def pane(self) -> ListPane | None:
        """The list in view, if the page is one."""
        return next((pane for pane in self._panes() if pane.id == self._page), None)

    def action_page(self, name: str) -> None:
        self._page = name
        self._draw_pages()
        self._switch()

    def _switch(self) -> None:
        switcher = self.screen_stack[0].query_one(ContentSwitcher)
        name = self._page if self._opened else "opening"
        if switcher.current != name:
            switcher.current = name
        pane = self.pane
        if pane is not None and self._opened:
            pane.wake()
            if self.screen is self.screen_stack[0]:
                pane.table.focus()
        elif self.screen is self.screen_stack[0]:
            self.screen.query_one(f"#{name}").focus()
        self._show_chrome()
        self.refresh_bindings()

    def _show_chrome(self) -> None:
        if not self.is_running:
            return
        screen = self.screen_stack[0]
        shown: list[Content | str | tuple[str, str]] = [(" covenq ", "bold")]
        for key, name, title in PAGES:
            shown.append((f" {key} {title} ", "reverse" if name == self._page else ""))
        shown.append((f"  {self._where()}", ""))
        screen.query_one("#tabs", Static).update(Content.assemble(*shown), layout=False)
        alarms = self._alarms()
        alarm = screen.query_one("#alarm", Static)
        alarm.display = bool(alarms)
        more = f"  (1 tells {len(alarms) - 2} more)" if len(alarms) > 3 else ""
        say(alarm, "\n".join(f"! {one}" for one in alarms[: 2 if more else 3]) + more)

    def _where(self) -> str:
        source = self.link.source
        if source is None:
            return "… opening" if self.error is None else "✗ no source"
        mode = "  read-only" if self.read_only else ""
        return f"{'● live' if source.live else '○ stopped'}{mode}  {text.clean(source.where)}"

    def _alarms(self) -> list[str]:
        found = []
        if self.error is not None and self._opened:
            found.append(text.clean(self.error))
        source = self.link.source
        if source is not None and not source.live:
            found.append("no daemon is running: this reads the files, and nothing new arrives. Start it: covenq serve")
        told = [one for one in overview.alarms(self.status, time.time()) if one != NO_DAEMON]
        if told and source is not None and not source.live:
            told = [*told[:1], f"covenq verify, or v here, lists all that is damaged: {len(told)} so far"]
        if self._page != "overview":  # which says all of these itself
            found += told
        return found

    def _no_deliveries(self) -> str:
        if not self.status:
            return "No deliveries yet."
        url = self.status.get("webhook_url")
        first = (
            f"Deliveries are taken at  {text.clean(url)}" if url else "No daemon is running. Start it:  covenq serve"
        )
        routes = "" if self.status.get("routes") else "\nNo route is configured yet; covenq init writes some.\n"
        return f"No deliveries yet.\n\n{first}\n\nTry one from a shell:  covenq send issues\n{routes}"

    def _no_tasks(self) -> str:
        if not self.status:
            return "No tasks yet."
        if self.status.get("routes"):
            return "No tasks yet: no delivery has matched a route."
        return "No tasks yet, and no route that would make some.\n\ncovenq init writes a configuration with routes."

    # Layers

    def action_peel(self) -> None:
        pane = self.pane
        if pane is not None:
            pane.peel()

    def action_help(self) -> None:
        if not isinstance(self.screen, help.Help):
            listing = self.screen is self.screen_stack[0] and self.pane is not None
            self.push_screen(help.Help(help.sections_of(self.screen), grammar=listing))

    async def action_quit(self) -> None:
        self.exit(0)

    def on_row_table_opened(self, message: RowTable.Opened) -> None:
        if not message.row.get("guid"):
            self.tell("its delivery is not in this journal")
            return
        self.push_screen(DetailScreen(identity(message.row), self.source_now, self._detail_lane, self._stepped))

    def _stepped(self, direction: int) -> str | None:
        """The next delivery of the list in view, up or down: several rows may be of the same one."""
        pane = self.pane
        before = pane.table.current if pane is not None else None
        while pane is not None and before is not None:
            row = pane.step(direction)
            if row is None or not row.get("guid"):
                return None
            if identity(row) != identity(before):
                return identity(row)
        return None

    # Saved filters

    async def saved_filters(self) -> dict[str, str]:
        """Name to filter; none where they can't be read, which F says."""
        try:
            return await self._action_lane.call(lambda: saved.read(self._saved_at))
        except CovenqError:
            return {}

    @work(group="saved", exclusive=True)
    async def action_saved(self) -> None:
        pane = self.pane
        if pane is None:
            return
        try:
            found = await self._action_lane.call(lambda: saved.read(self._saved_at))
            names = list(found)
            lines = [f"{name}   /{found[name]}" for name in names]
            known = pane.filter in found.values()
            if pane.filter:
                lines.append(f"{'forget' if known else 'save'} the one in use   /{pane.filter}")
            if not lines:
                self.tell("no filter is saved, and none is in use: / filters, then F saves it")
                return
            chosen = await self.push_screen_wait(Menu("Saved filters", lines, f"They are kept in {self._saved_at}"))
            if chosen is None:
                return
            if chosen < len(names):
                pane.use(found[names[chosen]])
                return
            if known:
                found = {name: words for name, words in found.items() if words != pane.filter}
            else:
                found[pane.filter[: saved.NAME_MAX]] = pane.filter
            await self._action_lane.call(lambda: saved.write(self._saved_at, found))
        except CovenqError as error:
            self.tell(f"{text.clean(error)}. {text.clean(error.hint)}", bad=True)
            return
        self.tell("forgotten" if known else "saved")

    def action_verify(self) -> None:
        source = self.link.source
        if self.data is None:
            self.tell("The journal is proven where it is: `covenq verify` on the daemon's machine.", bad=True)
            return
        if not isinstance(self.screen, VerifyScreen):
            self.push_screen(VerifyScreen(runner(self.data, lambda: head_of(source), note=not self.read_only)))

    def action_compact(self) -> None:
        if not isinstance(self.screen, maintenance.CompactDialog):
            self.push_screen(maintenance.CompactDialog(self.writable, self._action_lane), self._compact)

    def _compact(self, wanted: bool | None) -> None:
        source = self.link.source
        if wanted and source is not None:
            self.push_screen(maintenance.compact_screen(source))

    @work(group="backup", exclusive=True)
    async def action_backup(self) -> None:
        data = self.data
        if data is None:
            self.tell("The journal is copied where it is: `covenq backup` on the daemon's machine.", bad=True)
            return
        if self.read_only:
            self.tell("--read-only: nothing is copied from here. `covenq backup` does it.", bad=True)
            return
        known = await self._action_lane.call(lambda: backup_list.backups(data))
        directory = await self.push_screen_wait(maintenance.BackupDialog(known))
        if directory:
            source = self.link.source
            live = source if source is not None and source.live else None
            self.push_screen(maintenance.backup_screen(data, directory, live))


def head_of(source: Source | None) -> int | None:
    """The head of the daemon's journal as it is now, None without a daemon. Blocks. Raises Failure."""
    if source is None or not source.live:
        return None
    return int(source.status()["journal"]["head"]["seq"])


def steady() -> None:
    """Leave all that is there by now out of the garbage collector's sight, which otherwise looks through every module and
    style again and again: a tenth of a second, between a key and its paint."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000, 20, 20)


def run(opener: Opener, data: Path | None, *, read_only: bool = False) -> int:
    """Show the dashboard until it is quit; the exit code: 0, or 1 if it crashed.

    `opener` opens the source (`lambda: open_source(data, config)`), on a thread, and again when the daemon comes or
    goes: what can't be opened is shown in the dashboard too. `data` is the data directory, whose journal `v` verifies,
    or None where it is another machine's. `read_only`: whatever would write is refused.
    """
    app = Dashboard(opener, data, read_only=read_only)
    app.at_rest = steady
    app.run()
    return app.return_code or 0
