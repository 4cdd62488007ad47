"""The menu of saved filters: use one, save the one in use, or forget it."""

from __future__ import annotations

from pathlib import Path

from textual.app import App

from covenq.errors import Failure
from covenq.tui import saved
from covenq.tui.background import BackgroundThread
from covenq.tui.notices import notify, notify_failure
from covenq.tui.panes.pane import AnyPane
from covenq.tui.screens.menus import Menu


class FilterMenu:
    """Opened over `app`. The file at `path` is read and written on `thread`."""

    def __init__(self, app: App[int], thread: BackgroundThread, path: Path) -> None:
        self._app = app
        self._thread = thread
        self._path = path

    async def saved_filters(self) -> dict[str, str]:
        """Name to filter; empty where the file can't be read, which opening the menu reports."""
        try:
            return await self._thread.call(lambda: saved.read(self._path))
        except Failure:
            return {}

    def open(self, pane: AnyPane) -> None:
        """For the list in `pane`."""
        self._app.run_worker(self._open(pane), group="saved", exclusive=True)

    async def _open(self, pane: AnyPane) -> None:
        try:
            found = await self._thread.call(lambda: saved.read(self._path))
            names = list(found)
            lines = [f"{name}   /{found[name]}" for name in names]
            known = pane.filter in found.values()
            if pane.filter:
                lines.append(f"{'forget' if known else 'save'} the one in use   /{pane.filter}")
            if not lines:
                notify(self._app, "no filter is saved, and none is in use: / filters, then F saves it")
                return
            menu = Menu("Saved filters", lines, f"They are kept in {self._path}")
            chosen = await self._app.push_screen_wait(menu)
            if chosen is None:
                return
            if chosen < len(names):
                pane.apply_filter(found[names[chosen]])
                return
            if known:
                found = {name: words for name, words in found.items() if words != pane.filter}
            else:
                found[pane.filter[: saved.NAME_MAX]] = pane.filter
            await self._thread.call(lambda: saved.write(self._path, found))
        except Failure as error:
            notify_failure(self._app, error)
            return
        notify(self._app, "forgotten" if known else "saved")
