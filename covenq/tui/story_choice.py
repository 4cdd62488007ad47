"""Whether the story stands beside a list, as it was last chosen: remembered in the user's configuration directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from textual.app import App

from covenq.errors import Failure
from covenq.tui import saved
from covenq.tui.background import BackgroundThread
from covenq.tui.notices import notify_failure


class StoryChoice:
    """The choice in `app`. The file at `path` is read and written on `thread`; what fails is told, and the choice holds."""

    def __init__(self, app: App[int], thread: BackgroundThread, path: Path) -> None:
        self._app = app
        self._thread = thread
        self._path = path
        self.wanted = True

    def read(self, then: Callable[[], None]) -> None:
        """Take what was chosen last, and call `then`."""

        async def read() -> None:
            try:
                self.wanted = await self._thread.call(lambda: saved.read_story_wanted(self._path))
            except Failure as failure:
                notify_failure(self._app, failure)
                return
            if self._app.is_running:
                then()

        self._app.run_worker(read(), group="story-choice")

    def change(self, then: Callable[[], None]) -> None:
        """Choose the other, call `then`, and remember it."""
        wanted = self.wanted = not self.wanted
        then()

        async def write() -> None:
            try:
                await self._thread.call(lambda: saved.write_story_wanted(self._path, wanted))
            except Failure as failure:
                notify_failure(self._app, failure)

        self._app.run_worker(write(), group="story-choice")
