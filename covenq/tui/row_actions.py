"""What the keys do to the rows in view: act on them, copy, compare, open another screen over them.

The target is the open delivery, else the marked rows, else everything that matches, else the row under the cursor.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import orjson
from textual.app import App
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.dom import DOMNode

from covenq.client.interface import Source
from covenq.client.suggestion import suggested
from covenq.errors import DaemonUnreachable, Failure
from covenq.model.rows import Delivery
from covenq.operate.inspect.curl import curl
from covenq.tui import actions, text
from covenq.tui.actions import Action, Target
from covenq.tui.background import BackgroundThread
from covenq.tui.connection import Connection
from covenq.tui.notices import notify, notify_failure
from covenq.tui.panes.pane import AnyPane
from covenq.tui.rows import Row, Subject, subject_of
from covenq.tui.screens.detail import DetailScreen
from covenq.tui.screens.dialogs import Confirm
from covenq.tui.screens.diff import DiffScreen
from covenq.tui.screens.menus import Menu
from covenq.tui.screens.pauses import IntakeDialog, PauseMenu
from covenq.tui.screens.payload import PayloadScreen
from covenq.tui.screens.why import StoryScreen

BINDINGS: list[BindingType] = [
    Binding("r", "act('replay')", "Replay", tooltip="replay: new tasks by today's routes"),
    Binding("u", "act('requeue')", "Requeue", tooltip="requeue: the failed or cancelled tasks again, as they were"),
    Binding("w", "why", "Why", tooltip="the story that covenq why tells"),
    Binding("c", "act('cancel')", "Cancel", tooltip="cancel: end tasks that wait or run"),
    Binding("R", "act('reroute')", "Reroute", show=False, tooltip="reroute: first tasks for what has none"),
    Binding("x", "act('redact')", "Redact", show=False, tooltip="redact: erase content for ever"),
    Binding("p", "pause", "Pause", show=False, tooltip="pause or resume the intake, the worker, a route, a repository"),
    Binding("t", "payload", "Payload", tooltip="the payload as a tree: fold, search, copy a path"),
    Binding("d", "diff", "Diff", show=False, tooltip="compare two marked deliveries, or the marked one with this"),
    Binding("y", "copy", "Copy", show=False, tooltip="copy the id, JSON, a command, curl"),
]
"""The application's, as the actions work on the lists and on an open delivery alike."""
NEED_ROWS = frozenset({"act", "why", "payload", "diff", "copy"})
"""Actions that need a list or an open delivery in view."""

ACTIONS: dict[str, Callable[[actions.WritableSource, Target], Action]] = {
    "replay": actions.replay,
    "reroute": actions.reroute,
    "requeue": actions.requeue,
    "cancel": actions.cancel,
    "redact": actions.redact,
}
_TASK_ACTIONS = frozenset({"requeue", "cancel"})

COPIES = ("id", "command that shows it", "JSON", "curl command that sends it again")


class RowActions:
    """The actions on the rows in view of `app`.

    `pane` is the list in view, None if the page is no list; `changed` is called after an action, as the journal has grown.
    What writes runs on `thread`, what only reads on a thread of its own.
    """

    def __init__(
        self,
        app: App[int],
        connection: Connection,
        thread: BackgroundThread,
        *,
        pane: Callable[[], AnyPane | None],
        changed: Callable[[], None],
    ) -> None:
        self._app = app
        self._connection = connection
        self._thread = thread
        self._read_thread = BackgroundThread("detail")
        self._pane = pane
        self._changed = changed

    # The target

    def target_rows(self) -> Sequence[Row]:
        """What an action would be done to, as rows; of everything that matches, only those that are marked by hand."""
        screen = self._app.screen
        if isinstance(screen, DetailScreen):
            return [] if screen.delivery is None else [screen.delivery]
        pane = self._pane_on_top()
        return pane.target_rows() if pane is not None else []

    def _pane_on_top(self) -> AnyPane | None:
        """The list in view, None while a screen lies over it."""
        return self._pane() if self._app.screen is self._app.screen_stack[0] else None

    def _current_row(self) -> Row | None:
        """The one row under the cursor, or open."""
        if isinstance(self._app.screen, DetailScreen):
            return self._app.screen.delivery
        pane = self._pane_on_top()
        return pane.table.current if pane is not None else None

    def _target(self, *, of_tasks: bool) -> Target:
        pane = self._pane_on_top()
        if pane is not None and pane.table.all_marked:
            words = pane.filter
            return Target((), words, f"all that match {words}" if words else "everything")
        rows = self.target_rows()
        ids = actions.tasks_of(rows) if of_tasks else actions.deliveries_of(rows)
        noun = actions.TASKS if of_tasks else actions.DELIVERIES
        return Target(ids, None, text.short_id(ids[0]) if len(ids) == 1 else f"{len(ids):,} {noun[1]}")

    def available(self) -> bool:
        """A list or an open delivery is in view, so that there is something to act on."""
        screen = self._screen_below_palette()
        return isinstance(screen, DetailScreen) or (self._pane() is not None and screen is self._app.screen_stack[0])

    def _screen_below_palette(self) -> DOMNode:
        """The screen in view or, with the command palette over it, the one that it was opened on."""
        stack = self._app.screen_stack
        return next((one for one in reversed(stack) if not isinstance(one, CommandPalette)), self._app.screen)

    # Acting

    def act(self, name: str) -> None:
        """Show the plan of an action, and do it if it is confirmed."""
        target = self._target(of_tasks=name in _TASK_ACTIONS)
        if target.is_empty:
            if self.target_rows():
                notify(self._app, "it has no tasks; r replays it")
            return
        action = ACTIONS[name](self._connection.writable_source, target)
        self._app.push_screen(Confirm(action, self._thread), self._acted)

    def _acted(self, done: bool | None) -> None:
        if done:
            pane = self._pane()
            if pane is not None:
                pane.table.unmark_all()
            self._changed()

    def pause(self) -> None:
        self._app.run_worker(self._pause(), group="pause", exclusive=True)

    async def _pause(self) -> None:
        row = self._current_row()
        try:
            source = self._connection.writable_source()
            found = await self._thread.call(
                lambda: actions.pause_choices(row, actions.routes_of(source, row), source.pauses())
            )
            lines = [one.description + (f"  (since {text.clean(one.since)})" if one.since else "") for one in found]

            async def plan(index: int) -> list[str]:
                return await self._thread.call(lambda: actions.pause_plan(source, found[index], time.time()))

            chosen = await self._app.push_screen_wait(PauseMenu(lines, plan))
            if chosen is None:
                return
            choice, reason = found[chosen[0]], chosen[1]
            if choice.closes_intake:
                passes = await self._thread.call(lambda: source.status().reconcile)
                confirmed = await self._app.push_screen_wait(IntakeDialog(reason, passes))
                if confirmed is None:
                    return
                (reason,) = confirmed
            await self._thread.call(lambda: actions.pause_or_resume(self._connection.writable_source(), choice, reason))
        except Failure as error:
            notify_failure(self._app, error)
            return
        end = "" if choice.paused else f". {shlex.join(replace(choice, paused=True).command())} ends it, and so does p"
        notify(self._app, text.clean(f"done: {shlex.join(choice.command(reason))}{end}"))
        self._changed()

    # Screens over what is in view

    def open(self, row: Row) -> None:
        """The delivery of a row, whole, with the row's task and attempt marked in it."""
        if not row.guid:
            notify(self._app, "its delivery is not in this journal")
            return
        screen = DetailScreen(subject_of(row), self._connection.current_source, self._read_thread, self._neighbour)
        self._app.push_screen(screen)

    def _neighbour(self, direction: int) -> Subject | None:
        """What the next row of the list in view is about, up or down: another delivery, or another task or attempt of it."""
        pane = self._pane()
        row = pane.move_cursor(direction) if pane is not None else None
        return subject_of(row) if row is not None and row.guid else None

    def why(self) -> None:
        if (row := self._current_row()) is not None:
            id = actions.deliveries_of([row])[0]
            self._app.push_screen(StoryScreen(id, self._connection.current_source, self._read_thread))

    def payload(self) -> None:
        if (row := self._current_row()) is not None:
            id = actions.deliveries_of([row])[0]
            self._app.push_screen(PayloadScreen(id, self._connection.current_source, self._read_thread))

    def diff(self) -> None:
        rows = self.target_rows()
        current = self._current_row()
        if len(rows) == 1 and current is not None:
            rows = [*rows, current]
        ids = actions.deliveries_of(rows)
        if len(ids) != 2:
            notify(self._app, "mark one delivery with Space, go to another, and press d")
            return
        self._app.push_screen(DiffScreen(ids[0], ids[1], self._connection.current_source, self._read_thread))

    # Copying

    def copy(self) -> None:
        self._app.run_worker(self._copy(), group="copy", exclusive=True)

    async def _copy(self) -> None:
        row = self._current_row()
        if row is None:
            return
        chosen = await self._app.push_screen_wait(Menu("Copy", COPIES, keys="isjc"))
        if chosen is None:
            return
        try:
            words = await self._read_thread.call(lambda: self._copied(row, chosen))
        except Failure as error:
            notify_failure(self._app, error)
            return
        self._app.copy_to_clipboard(words)
        notify(self._app, f"copied: {text.clean(words[:120])}")

    def _copied(self, row: Row, chosen: int) -> str:
        """The text for one of COPIES. Blocks. Raises Failure."""
        delivery = actions.deliveries_of([row])[0]
        task = None if isinstance(row, Delivery) else actions.tasks_of([row])[0]
        match chosen:
            case 0:
                return task or delivery
            case 1:
                return suggested(shlex.join(["covenq", "show", task or delivery]))
            case 2:
                source = self._source()
                whole = source.task(task) if task else source.delivery(delivery)
                return orjson.dumps(msgspec.to_builtins(whole), option=orjson.OPT_INDENT_2).decode()
            case _:
                source = self._source()
                return curl(source.delivery(delivery), source.status().webhook_url)[0]

    def _source(self) -> Source:
        source = self._connection.source
        if source is None:
            raise DaemonUnreachable("there is no source at the moment")
        return source
