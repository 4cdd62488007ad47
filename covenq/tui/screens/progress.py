"""A screen that runs one long operation when it is opened: progress while it runs, then its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import ProgressBar, Static

from covenq.errors import Failure
from covenq.tui import text
from covenq.tui.background import BackgroundThread, Cancelled
from covenq.tui.screens.screen_stack import is_on_stack
from covenq.tui.widgets.key_footer import KeyFooter
from covenq.tui.widgets.lines import Line, Lines

T = TypeVar("T")

ReportProgress = Callable[[int, int], None]
"""Called with (done, total). Raises Cancelled when the screen was closed."""


class ProgressScreen(Screen[None], Generic[T]):
    """Runs its operation once, when opened. Esc closes it, and cancels the operation the next time that it reports progress."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        Binding("question_mark", "app.help", "Help"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(
        self,
        title: str,
        run: Callable[[ReportProgress], T],
        lines: Callable[[T], list[Line]],
        *,
        ok: Callable[[T], bool] = lambda _: True,
        unit: Callable[[int], str] = text.size,
    ) -> None:
        """`run` blocks, on a thread; `lines` shows its result, and `ok` says whether that is a success.

        `unit` formats the numbers of the progress. What `run` raises is shown, with its hint.
        """
        super().__init__()
        self._title = title
        self._run = run
        self._lines = lines
        self._ok = ok
        self._unit = unit
        self._thread = BackgroundThread("progress")
        self._progress = (0, 0)
        self._cancelled = False
        self.result: T | None = None
        self.finished = False
        """The operation has ended, with a result or an error."""

    def compose(self) -> ComposeResult:
        yield Static(Content(self._title), id="detail-title")
        yield ProgressBar(id="progress-bar", show_eta=False)
        yield Static(id="progress-status")
        yield Lines()
        yield KeyFooter()

    def on_mount(self) -> None:
        self.set_interval(0.1, self._show_progress)
        self._run_operation()

    @work(exclusive=True)
    async def _run_operation(self) -> None:
        started = time.monotonic()
        try:
            result = await self._thread.call(lambda: self._run(self._report_progress))
        except Failure as error:
            if is_on_stack(self):
                self.finished = True
                words = f"✗ {text.clean(error)}\n{text.clean(error.hint)}"
                self.query_one("#progress-status", Static).update(Content(words))
            return
        except Cancelled:
            return
        if not is_on_stack(self):
            return
        self.result = result
        self._show_progress()
        self.finished = True
        took = text.duration(time.monotonic() - started)
        total = f"{self._unit(self._progress[1])} in {took}" if self._progress[1] else f"in {took}"
        self.query_one("#progress-status", Static).update(Content(f"{'✓' if self._ok(result) else '✗'} {total}"))
        self.query_one(Lines).show(self._lines(result))
        self.query_one(Lines).focus()

    def _report_progress(self, done: int, total: int) -> None:
        """Called on the background thread; a timer shows it, ten times a second at most."""
        self._progress = (done, total)
        if self._cancelled:
            raise Cancelled

    def _show_progress(self) -> None:
        if self.finished:
            return
        done, total = self._progress
        if self.result is not None:
            done = total = max(total, 1)
        if total:
            self.query_one(ProgressBar).update(total=total, progress=done)
            if self.result is None:
                status = Content(f"{self._unit(done)} of {self._unit(total)}")
                self.query_one("#progress-status", Static).update(status)

    def action_leave(self) -> None:
        self._cancelled = True
        self.dismiss(None)
