"""The dashboard: which pages there are, what the keys do, and the clock that keeps what is in view current.

It talks to covenq through a `Source` alone, on lanes (threads of their own); the event loop never waits for a read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import ContentSwitcher, Footer, Static

from covenq.errors import DaemonUnreachable, Failure, Refused
from covenq.source import Object, Source
from covenq.tui import columns, pages, text
from covenq.tui.detail import DetailScreen, identity
from covenq.tui.dialogs import Confirm, Help, Noun
from covenq.tui.lanes import Lane
from covenq.tui.lines import Lines
from covenq.tui.link import Link, Opener
from covenq.tui.pane import Listing, ListPane, say
from covenq.tui.table import RowTable
from covenq.tui.verify import VerifyScreen, runner

TICK = 0.1
"""Seconds between looks at whether something changed: nothing is drawn more often for new rows."""
STATUS = 1.0
"""Seconds between reads of the status; changes are read at most this often too."""
NO_DAEMON = "no daemon is running"
"""What a status without a daemon gives as its first reason; here it is said at greater length."""
RETRY = 2.0
"""Seconds between tries to open a source that can't be opened, or to find a daemon that went away."""

DELIVERIES = Listing(
    "deliveries",
    columns.DELIVERIES,
    lambda source, words, limit, after: source.deliveries(words, limit=limit, after=after),
    lambda row: int(row["seq"]),
)
TASKS = Listing(
    "tasks",
    columns.TASKS,
    lambda source, words, limit, after: source.tasks(words, limit=limit, after=after),
    lambda row: int(row["created_seq"]),
)

PAGES = (
    ("1", "overview", "Overview"),
    ("2", "deliveries", "Deliveries"),
    ("3", "tasks", "Tasks"),
    ("5", "journal", "Journal"),
)


class Dashboard(App[int]):
    """`covenq tui`. `opener` is called on another thread, again whenever the daemon comes or goes; `data` is the data
    directory, for verifying; None where it is another machine's.
    """

    ENABLE_COMMAND_PALETTE = False
    TITLE = "covenq"
    CSS_PATH = "style.tcss"

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"page('{name}')", title, show=False) for key, name, title in PAGES),
        Binding("r", "replay", "Replay"),
        Binding("u", "requeue", "Requeue"),
        Binding("v", "verify", "Verify"),
        Binding("escape", "peel", "Back", show=False),
        Binding("question_mark", "help", "Help"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, opener: Opener, data: Path | None) -> None:
        super().__init__()
        self.data = data
        self.link = Link(opener, data)
        self.status: Object = {}
        self.error: BaseException | None = None
        """Why there is no source, while there is none."""
        self._detail_lane = Lane("detail")
        self._action_lane = Lane("action")
        self._status_due = 0.0
        self._retry_due = 0.0
        self._busy = False
        self._head: object = None
        self._page = "deliveries"
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
            yield Lines(id="journal")
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
            self._changed()
        if self._busy:
            return
        if self.link.source is None or (watch is not None and watch.lost):
            if now >= self._retry_due:
                self._open()
        elif now >= self._status_due:
            self._read_status()

    def _changed(self) -> None:
        for pane in self._panes():
            pane.mark_changed()
        if isinstance(self.screen, DetailScreen):
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
            await self._take_status(source)
        except Failure as error:
            if self.is_running:
                self.error = error
                self.query_one("#opening", Lines).show(pages.broken(error))
                self._switch()
        finally:
            self._busy = False
            self._show_chrome()

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
        now = time.time()
        self.query_one("#overview", Lines).show(pages.overview(self.status, now))
        self.query_one("#journal", Lines).show(pages.journal(self.status))
        for pane in self._panes():
            pane.total = sum((self.status.get(pane.listing.name) or {}).values())
            pane.refresh_state()
        head = (self.status.get("journal") or {}).get("head")
        if head != self._head:  # also what came before the events were followed
            self._changed()
        self._head = head

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
        say(alarm, "\n".join(f"! {one}" for one in alarms[:3]))

    def _where(self) -> str:
        source = self.link.source
        if source is None:
            return "… opening" if self.error is None else "✗ no source"
        return f"{'● live' if source.live else '○ stopped'}  {text.clean(source.where)}"

    def _alarms(self) -> list[str]:
        found = []
        if self.error is not None and self._opened:
            found.append(text.clean(self.error))
        source = self.link.source
        if source is not None and not source.live:
            found.append("no daemon is running: this reads the files, and nothing new arrives. Start it: covenq serve")
        told = [one for one in pages.alarms(self.status) if one != NO_DAEMON]
        if told and source is not None and not source.live:
            told = [*told[:1], f"covenq verify, or v here, lists all that is damaged: {len(told)} so far"]
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
        if not isinstance(self.screen, Help):
            self.push_screen(Help())

    async def action_quit(self) -> None:
        self.exit(0)

    def on_row_table_opened(self, message: RowTable.Opened) -> None:
        self.push_screen(DetailScreen(identity(message.row), lambda: self.link.source, self._detail_lane))

    def action_verify(self) -> None:
        source = self.link.source
        if self.data is None:
            self.notify("The journal is proven where it is: `covenq verify` on the daemon's machine.", markup=False)
            return
        live = source is not None and source.live
        self._start_verify(self.data, source if live else None)

    @work(group="verify", exclusive=True)
    async def _start_verify(self, data: Path, source: Source | None) -> None:
        upto: int | None = None
        if source is not None:
            try:
                # Up to the head as it is now: what a daemon is writing beyond it is no damage.
                status = await self._action_lane.call(source.status)
            except Failure as error:
                self.notify(text.clean(error), severity="error", markup=False)
                return
            upto = int(status["journal"]["head"]["seq"])
        self.push_screen(VerifyScreen(runner(data, upto)))

    # Acting

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("replay", "requeue"):
            return self.pane is not None and self._opened
        return True

    def action_replay(self) -> None:
        row = self.pane.table.current if self.pane is not None else None
        if row is not None:
            self._replay(identity(row))

    def action_requeue(self) -> None:
        pane = self.pane
        row = pane.table.current if pane is not None else None
        if pane is None or row is None:
            return
        self._requeue([str(row["id"])] if pane.listing is TASKS else [str(task) for task in row.get("tasks", ())])

    def on_detail_screen_replay_wanted(self, message: DetailScreen.ReplayWanted) -> None:
        self._replay(identity(message.delivery))

    def on_detail_screen_requeue_wanted(self, message: DetailScreen.RequeueWanted) -> None:
        self._requeue([str(task) for task in message.delivery.get("tasks", ())])

    def _replay(self, id: str) -> None:
        def apply(dry_run: bool, force: bool) -> dict[str, Any]:
            return self._writable().replay(
                ids=[id], force=force, dry_run=dry_run, reason="from the dashboard", by="tui"
            )

        def words(force: bool) -> list[str]:
            return ["covenq", "replay", id, *(["--force"] if force else [])]

        self._confirm("Replay", ("delivery", "deliveries"), apply, words, forceable=True)

    def _requeue(self, ids: list[str]) -> None:
        if not ids:
            self.notify("This delivery has no tasks; r replays it.", markup=False)
            return

        def apply(dry_run: bool, force: bool) -> dict[str, Any]:
            return self._writable().requeue(ids=ids, dry_run=dry_run, reason="from the dashboard", by="tui")

        def words(force: bool) -> list[str]:
            return ["covenq", "requeue", *ids]

        self._confirm("Requeue", ("task", "tasks"), apply, words, forceable=False)

    def _writable(self) -> Source:
        """The daemon's source. Without a daemon the dashboard is read-only."""
        source = self.link.source
        if source is None or not source.live:
            raise Refused(
                "no daemon is running, and without one the dashboard is read-only",
                hint="Start it with `covenq serve`; the command line can write without it.",
            )
        return source

    def _confirm(
        self,
        verb: str,
        noun: Noun,
        apply: Callable[[bool, bool], dict[str, Any]],
        words: Callable[[bool], list[str]],
        *,
        forceable: bool,
    ) -> None:
        dialog = Confirm(verb=verb, noun=noun, apply=apply, words=words, lane=self._action_lane, forceable=forceable)
        self.push_screen(dialog, self._acted)

    def _acted(self, done: bool | None) -> None:
        if done:
            self._changed()


def run(opener: Opener, data: Path | None) -> int:
    """Show the dashboard until it is quit; the exit code: 0, or 1 if it crashed.

    `opener` opens the source (`lambda: open_source(data, config)`), on a thread, and again when the daemon comes or
    goes: what can't be opened is shown in the dashboard too. `data` is the data directory, whose journal `v` verifies,
    or None where it is another machine's.
    """
    app = Dashboard(opener, data)
    app.run()
    return app.return_code or 0
