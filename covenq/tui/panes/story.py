"""Beside a list that has room: the story of the row under the cursor, as `covenq why` tells it.

It serves the decision what to do with that row, without opening it: the verdict and the command that helps come first. The story
is read in the background when the cursor rests, and given up when it moves on, so that no key waits for a slow one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static
from textual.worker import Worker

from covenq.client.interface import Source
from covenq.errors import CovenqError, DaemonUnreachable, Failure
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.widgets.lines import Lines
from covenq.tui.widgets.static_text import set_text
from covenq.tui.widgets.story_lines import failure_lines, why_lines
from journal.errors import JournalError

if TYPE_CHECKING:
    from covenq.operate.inspect.history import Why

REST_S = 0.25
"""Seconds that the cursor rests on a row before its story is read."""
MORE = "w, then r"
"""The keys of all rules."""
REREAD_S = 1.0
"""Seconds from one reading of a story to the next, at least, however much is recorded meanwhile."""


class StoryPane(Vertical):
    """The story of one delivery, as narrow as it is here. Nothing is read while it is hidden."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._source: Source | None = None
        self._thread = BackgroundThread("story")
        self._delivery: str | None = None
        self._answer: Why | CovenqError | JournalError | None = None
        self._stale = False
        """The journal has grown since the story was read."""
        self._reading: Worker[None] | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="story-title")
        yield Lines(id="story-text")

    def attach(self, source: Source) -> None:
        """Read from `source` from now on, on another thread: the one before may be busy for minutes yet."""
        self._thread.end()
        self._thread = BackgroundThread("story")
        self._source = source
        self._reading = None
        self.mark_changed()

    def tell(self, delivery: str | None) -> None:
        """Tell the story of this one, as hook/GUID; None: of nothing."""
        if delivery == self._delivery:
            return
        title = "" if delivery is None else f"why {text.short_id(delivery)}"
        set_text(self.query_one("#story-title", Static), title, layout=False)
        if self._answer is not None or self._delivery is None or delivery is None:  # else that is shown already
            shown = self.query_one(Lines)
            shown.show([] if delivery is None else [[("…", "muted")]])
            shown.scroll_home(animate=False)
        self._delivery, self._answer = delivery, None
        self._reading = self._read()

    def mark_changed(self) -> None:
        """The journal has grown: read the story again, which is shown meanwhile."""
        self._stale = True
        if self._delivery is not None and (self._reading is None or self._reading.is_finished):
            self._reading = self._read()

    def on_resize(self) -> None:
        self._show()

    @work(exclusive=True, group="story")
    async def _read(self) -> None:
        source, delivery = self._source, self._delivery
        if source is None or delivery is None:
            return
        await asyncio.sleep(REST_S)
        self._stale = True
        while self._stale:
            self._stale = False
            try:
                self._answer = await self._thread.call(lambda: source.why(delivery))
            except DaemonUnreachable:
                return  # the app opens the source again, and shows that
            except Failure as failure:
                self._answer = failure
            if not self.app.is_running:
                return
            self._show()
            await asyncio.sleep(REREAD_S)

    def _show(self) -> None:
        answer, width = self._answer, self.query_one(Lines).outer_size.width - 1  # but for the scrollbar
        if answer is None or width < 1:
            return
        found = failure_lines(answer, width) if isinstance(answer, Failure) else why_lines(answer, width, more=MORE)
        self.query_one(Lines).show(found)
