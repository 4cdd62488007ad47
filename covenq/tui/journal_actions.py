"""What the keys of the Journal page do: verify the journal, compact it, back it up."""

from __future__ import annotations

from textual.app import App
from textual.binding import Binding

from covenq.client.interface import Source
from covenq.errors import Failure
from covenq.operate.maintain import backup_list
from covenq.tui.background import BackgroundThread
from covenq.tui.connection import Connection
from covenq.tui.notices import notify, notify_failure
from covenq.tui.screens import maintenance
from covenq.tui.screens.verify import VerifyScreen, verify_job

VERIFY = Binding("v", "verify", "Verify", show=False, tooltip="prove every record of the journal")
"""Works on every page; the Journal page shows it in its footer too."""


class JournalActions:
    """Each opens a screen over `app`. What needs the journal's files is refused where they are on another machine."""

    def __init__(self, app: App[int], connection: Connection, thread: BackgroundThread) -> None:
        self._app = app
        self._connection = connection
        self._thread = thread

    def verify(self) -> None:
        data, source = self._connection.data, self._connection.source
        if data is None:
            notify(self._app, "The journal is proven where it is: `covenq verify` on the daemon's machine.", error=True)
            return
        if not isinstance(self._app.screen, VerifyScreen):
            journal = self._connection.journal
            job = verify_job(data, journal, lambda: daemon_head(source), note=not self._connection.read_only)
            self._app.push_screen(VerifyScreen(job))

    def compact(self) -> None:
        if not isinstance(self._app.screen, maintenance.CompactDialog):
            dialog = maintenance.CompactDialog(self._connection.writable_source, self._thread)
            self._app.push_screen(dialog, self._compact)

    def _compact(self, wanted: bool | None) -> None:
        source = self._connection.source
        if wanted and source is not None:
            self._app.push_screen(maintenance.compact_screen(source))

    def back_up(self) -> None:
        self._app.run_worker(self._back_up(), group="backup", exclusive=True)

    async def _back_up(self) -> None:
        data = self._connection.data
        if data is None:
            notify(self._app, "The journal is copied where it is: `covenq backup` on the daemon's machine.", error=True)
            return
        if self._connection.journal.url is not None:
            notify(self._app, "The database has backups of its own: pg_dump, or base backups.", error=True)
            return
        if self._connection.read_only:
            notify(self._app, "--read-only: nothing is copied from here. `covenq backup` does it.", error=True)
            return
        try:
            known = await self._thread.call(lambda: backup_list.backups(data))
        except Failure as error:
            notify_failure(self._app, error)
            return
        directory = await self._app.push_screen_wait(maintenance.BackupDialog(known))
        if directory:
            source = self._connection.source
            live = source if source is not None and source.live else None
            self._app.push_screen(maintenance.backup_screen(data, directory, live))


def daemon_head(source: Source | None) -> int | None:
    """The sequence number of the daemon's journal head, None without a daemon. Blocks. Raises Failure."""
    if source is None or not source.live:
        return None
    return source.status().journal.head.seq
