"""A layer that does one long thing when it is opened: progress while it goes on, then what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, ProgressBar, Static

from covenq.errors import Failure
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.is_open import is_open
from covenq.tui.widgets.lines import Line, Lines

T = TypeVar("T")

Tell = Callable[[int, int], None]
"""(done, in all). May raise Abandoned, which is to be let through."""


class Abandoned(Exception):
    """Esc while it went on: raised out of `Tell` to end it."""


class WorkScreen(Screen[None], Generic[T]):
    """Runs once when opened. Esc leaves, and ends it if it still goes on and may be ended."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        Binding("question_mark", "app.help", "Help"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(
        self,
        title: str,
        run: Callable[[Tell], T],
        lines: Callable[[T], list[Line]],
        *,
        ok: Callable[[T], bool] = lambda _: True,
        unit: Callable[[int], str] = text.size,
        failed: tuple[type[Exception], ...] = Failure,
    ) -> None:
        """`run` blocks, on a thread; `lines` tells what came of it, and `ok` whether that is good. What `unit` makes of a
        number is how far it is. Exceptions of `failed` are told, with their hint."""
        super().__init__()
        self._title = title
        self._run = run
        self._lines = lines
        self._ok = ok
        self._unit = unit
        self._failed = failed
        self._lane = BackgroundThread("work")
        self._progress = (0, 0)
        self._abandoned = False
        self.result: T | None = None
        self.over = False
        """It has ended, well or not."""

    def compose(self) -> ComposeResult:
        yield Static(Content(self._title), id="detail-title")
        yield ProgressBar(id="work-bar", show_eta=False)
        yield Static(id="work-said")
        yield Lines()
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        self.set_interval(0.1, self._show_progress)
        self._work()

    @work(exclusive=True)
    async def _work(self) -> None:
        started = time.monotonic()
        try:
            result = await self._lane.call(lambda: self._run(self._tell))
        except self._failed as error:
            if is_open(self):
                self.over = True
                hint = text.clean(getattr(error, "hint", ""))
                self.query_one("#work-said", Static).update(Content(f"✗ {text.clean(error)}\n{hint}"))
            return
        except Abandoned:
            return
        if not is_open(self):
            return
        self.result = result
        self._show_progress()
        self.over = True
        took = text.duration(time.monotonic() - started)
        total = f"{self._unit(self._progress[1])} in {took}" if self._progress[1] else f"in {took}"
        self.query_one("#work-said", Static).update(Content(f"{'✓' if self._ok(result) else '✗'} {total}"))
        self.query_one(Lines).show(self._lines(result))
        self.query_one(Lines).focus()

    def _tell(self, done: int, total: int) -> None:
        """Called on the lane's thread; the timer shows it, ten times a second at most."""
        self._progress = (done, total)
        if self._abandoned:
            raise Abandoned

    def _show_progress(self) -> None:
        if self.over:
            return
        done, total = self._progress
        if self.result is not None:
            done = total = max(total, 1)
        if total:
            self.query_one(ProgressBar).update(total=total, progress=done)
            if self.result is None:
                said = Content(f"{self._unit(done)} of {self._unit(total)}")
                self.query_one("#work-said", Static).update(said)

    def action_leave(self) -> None:
        self._abandoned = True
        self.dismiss(None)
