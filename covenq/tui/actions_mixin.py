"""What the keys do to what is in view: act on it, copy it, compare it, open another layer over it.

The target is the open delivery, else the marked rows, else everything that matches, else the row under the cursor.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, ClassVar

import orjson
from textual import work
from textual.app import App
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.screen import Screen

from covenq.client.interface import Object, Source
from covenq.errors import DaemonUnreachable, Failure, Refused
from covenq.operate.inspect.curl import curl
from covenq.tui import actions, text
from covenq.tui.actions import Act, Target
from covenq.tui.background import BackgroundThread
from covenq.tui.connection import Connection
from covenq.tui.panes.detail import DetailScreen
from covenq.tui.panes.pane import ListPane
from covenq.tui.panes.payload import PayloadScreen
from covenq.tui.panes.window import Row
from covenq.tui.screens.dialogs import Confirm
from covenq.tui.screens.diff import DiffScreen
from covenq.tui.screens.menus import Menu
from covenq.tui.screens.why import StoryScreen

ACTS: dict[str, Callable[[actions.Writable, Target], Act]] = {
    "replay": actions.replay,
    "reroute": actions.reroute,
    "requeue": actions.requeue,
    "cancel": actions.cancel,
    "redact": actions.redact,
}
_OF_TASKS = ("requeue", "cancel")

COPIES = ("id", "command that shows it", "JSON", "curl command that sends it again")


class ActionsMixin(App[int]):
    """The part of the dashboard that acts. `Dashboard` is the rest."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "act('replay')", "Replay", tooltip="replay: new tasks by today's routes"),
        Binding("u", "act('requeue')", "Requeue", tooltip="requeue: the failed or cancelled tasks again, as they were"),
        Binding("c", "act('cancel')", "Cancel", tooltip="cancel: end tasks that wait or run"),
        Binding("R", "act('reroute')", "Reroute", show=False, tooltip="reroute: first tasks for what has none"),
        Binding("x", "act('redact')", "Redact", show=False, tooltip="redact: erase content for ever"),
        Binding(
            "p", "pause", "Pause", show=False, tooltip="pause or resume the intake, the worker, a route, a repository"
        ),
        Binding("w", "why", "Why", tooltip="the story that covenq why tells"),
        Binding("t", "payload", "Payload", tooltip="the payload as a tree: fold, search, copy a path"),
        Binding("d", "diff", "Diff", show=False, tooltip="compare two marked deliveries, or the marked one with this"),
        Binding("y", "copy", "Copy", show=False, tooltip="copy the id, JSON, a command, curl"),
    ]

    def __init__(self, link: Connection, *, read_only: bool = False) -> None:
        super().__init__()
        self.link = link
        self.read_only = read_only
        self._detail_lane = BackgroundThread("detail")
        self._action_lane = BackgroundThread("action")

    @property
    def pane(self) -> ListPane | None:
        """The list in view, if the page is one."""
        raise NotImplementedError

    def changed(self) -> None:
        """The journal has grown: what is shown may be old."""
        raise NotImplementedError

    def source_now(self) -> Source | None:
        return self.link.source

    # The target

    def target_rows(self) -> list[Row]:
        """What an action would be done to, as rows; of everything that matches, only those that are marked by hand."""
        screen = self.screen
        if isinstance(screen, DetailScreen):
            return [] if screen.delivery is None else [screen.delivery]
        pane = self.pane
        return pane.target_rows() if pane is not None and screen is self.screen_stack[0] else []

    def _row(self) -> Row | None:
        """The one row under the cursor, or open."""
        if isinstance(self.screen, DetailScreen):
            return self.screen.delivery
        pane = self.pane
        return pane.table.current if pane is not None and self.screen is self.screen_stack[0] else None

    def _target(self, of_tasks: bool) -> Target:
        pane = self.pane
        if pane is not None and self.screen is self.screen_stack[0] and pane.table.all_marked:
            words = pane.filter
            return Target((), words, f"all that match {words}" if words else "everything")
        rows = self.target_rows()
        ids = actions.tasks_of(rows) if of_tasks else actions.deliveries_of(rows)
        noun = actions.TASKS if of_tasks else actions.DELIVERIES
        return Target(ids, None, ids[0] if len(ids) == 1 else f"{len(ids):,} {noun[1]}")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("act", "why", "payload", "diff", "copy"):
            screen = self.layer
            return isinstance(screen, DetailScreen) or (self.pane is not None and screen is self.screen_stack[0])
        return True

    @property
    def layer(self) -> Screen[Any]:
        """The layer in view, or, with the command palette over it, the one that it was opened on."""
        return next((one for one in reversed(self.screen_stack) if not isinstance(one, CommandPalette)), self.screen)

    # Acting

    def action_act(self, name: str) -> None:
        target = self._target(name in _OF_TASKS)
        if target.nothing:
            if self.target_rows():
                self.tell("it has no tasks; r replays it")
            return
        act = ACTS[name](self.writable, target)
        self.push_screen(Confirm(act, self._action_lane), self._acted)

    def writable(self) -> Source:
        """The daemon's source. Without a daemon, or with --read-only, the dashboard is read-only: raises Refused."""
        source = self.link.source
        if self.read_only:
            raise Refused("the dashboard was started with --read-only", hint="Start it without, to act.")
        if source is None or not source.live:
            raise Refused(
                "no daemon is running, and without one the dashboard is read-only",
                hint="Start it with `covenq serve`; the command line can write without it.",
            )
        return source

    def _acted(self, done: bool | None) -> None:
        if done:
            pane = self.pane
            if pane is not None:
                pane.table.unmark()
            self.changed()

    @work(group="pause", exclusive=True)
    async def action_pause(self) -> None:
        source, row = self.link.source, self._row()
        if source is None:
            return
        try:
            found = await self._action_lane.call(
                lambda: actions.choices(actions.with_routes(source, row), source.pauses())
            )
            lines = [one.told + (f"  (since {text.clean(one.since)})" if one.since else "") for one in found]
            chosen = await self.push_screen_wait(Menu("Pause or resume", lines, "What runs already is left alone."))
            if chosen is None:
                return
            choice = found[chosen]
            await self._action_lane.call(lambda: actions.take(self.writable(), choice))
        except Failure as error:
            self.tell(f"{text.clean(error)}. {text.clean(error.hint)}", bad=True)
            return
        self.tell(f"done: {shlex.join(choice.command())}")
        self.changed()

    def tell(self, words: str, *, bad: bool = False) -> None:
        """A passing remark."""
        self.notify(words, severity="error" if bad else "information", markup=False)

    # Layers over what is in view

    def action_why(self) -> None:
        if (row := self._row()) is not None:
            self.push_screen(StoryScreen(actions.deliveries_of([row])[0], self.source_now, self._detail_lane))

    def action_payload(self) -> None:
        if (row := self._row()) is not None:
            self.push_screen(PayloadScreen(actions.deliveries_of([row])[0], self.source_now, self._detail_lane))

    def action_diff(self) -> None:
        rows = self.target_rows()
        current = self._row()
        if len(rows) == 1 and current is not None:
            rows = [*rows, current]
        ids = actions.deliveries_of(rows)
        if len(ids) != 2:
            self.tell("mark one delivery with Space, go to another, and press d")
            return
        self.push_screen(DiffScreen(ids[0], ids[1], self.source_now, self._detail_lane))

    # Copying

    @work(group="copy", exclusive=True)
    async def action_copy(self) -> None:
        row = self._row()
        if row is None:
            return
        chosen = await self.push_screen_wait(Menu("Copy", COPIES, keys="isjc"))
        if chosen is None:
            return
        try:
            words = await self._detail_lane.call(lambda: self._copied(row, chosen))
        except Failure as error:
            self.tell(f"{text.clean(error)}. {text.clean(error.hint)}", bad=True)
            return
        self.copy_to_clipboard(words)
        self.tell(f"copied: {text.clean(words[:120])}")

    def _copied(self, row: Row, chosen: int) -> str:
        """Blocks. Raises Failure."""
        delivery = actions.deliveries_of([row])[0]
        task = row.get("task") or (row.get("id") if "tasks" not in row else None)
        match chosen:
            case 0:
                return str(task or delivery)
            case 1:
                return shlex.join(["covenq", "show", str(task or delivery)])
            case 2:
                return orjson.dumps(self._whole(row, delivery, task), option=orjson.OPT_INDENT_2).decode()
            case _:
                source = self.link.source
                status = {} if source is None else source.status()
                return curl(self._whole(row, delivery, None), status.get("webhook_url"))[0]

    def _whole(self, row: Row, delivery: str, task: Any) -> Object:
        source = self.link.source
        if source is None:
            raise DaemonUnreachable("there is no source at the moment")
        return source.task(str(task)) if task else source.delivery(delivery)
