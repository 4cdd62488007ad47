"""GET /api/v1/snapshot: a copy of this node's state.db, from which a new node goes on where it would fold from the start.

It is written to a file of the data directory, which loses its name once it is written: so it is gone with the answer, or with the
process. HEAD says what it would be, and nothing is written. One is made at a time, since each writes as much as state.db has.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import falcon

from covenq.http.answers import respond_error
from covenq.paths import SNAPSHOT_NAME, STATE_NAME
from covenq.state import schema, snapshot
from covenq.state.snapshot import About
from journal.private_database import is_full

WHOLE_S = 600.0
"""Seconds for one: a client that reads slowly keeps others from theirs."""
PIECE = 256 << 10
JOURNAL, SEQ, SUM = "Covenq-Snapshot-Journal", "Covenq-Snapshot-Seq", "Covenq-Snapshot-Sum"
SCHEMA, BYTES = "Covenq-Snapshot-Schema", "Covenq-Snapshot-Bytes"
"""Headers of the answer: up to which record of which journal it is, the number of its tables' schema, and its size."""
_BUSY = ("snapshot_busy", "A snapshot is made or sent already; there is one at a time.")


class Snapshot:
    """For any thread; one object for all listeners."""

    def __init__(
        self,
        data: Path,
        stopping: threading.Event,
        *,
        has_room: Callable[[Path, int], bool] = snapshot.has_room,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stopping` is set when answers have to end. `has_room`: see `covenq.state.snapshot`."""
        self._data = data
        self._stopping = stopping
        self._has_room = has_room
        self._monotonic = monotonic
        self._free = threading.Semaphore(1)

    def on_head(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The headers that GET would answer with; the size is that of state.db, which is larger, and so no Content-Length."""
        _tell(resp, snapshot.about(self._data / STATE_NAME))
        resp.stream = iter(())

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        if not self._free.acquire(blocking=False):
            respond_error(resp, 503, *_BUSY)
            return
        taken = False
        try:
            taken = self._answer(req, resp)
        finally:
            if not taken:
                self._free.release()

    def _answer(self, req: falcon.Request, resp: falcon.Response) -> bool:
        """Whether a snapshot is sent, whose end gives the place back. Raises StateBehind, OSError, sqlite3.Error."""
        state, path = self._data / STATE_NAME, self._data / SNAPSHOT_NAME
        expected = snapshot.about(state).bytes
        if not self._has_room(self._data, expected):
            _refuse_for_room(resp, expected)
            return False
        deadline = self._monotonic() + WHOLE_S
        disconnected = req.env.get("waitress.client_disconnected", lambda: False)

        def ends() -> bool:
            return self._stopping.is_set() or self._monotonic() > deadline or bool(disconnected())

        try:
            made = snapshot.make(state, path, ends)
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                respond_error(resp, 503, "snapshot_ended", "It took too long to make, or this daemon stops.")
            elif is_full(error, path):
                _refuse_for_room(resp, expected)
            else:
                raise
            return False
        file = path.open("rb")
        try:
            snapshot.remove(path)
            size = os.fstat(file.fileno()).st_size
        except BaseException:
            file.close()
            raise
        _tell(resp, About(made.position, size))
        resp.set_stream(Pieces(file, size, ends, self._free.release), size)
        return True


class Pieces:
    """The bytes of a file. The server calls `close` in any case. One that `ends()` early is shorter than was said."""

    def __init__(self, file: BinaryIO, size: int, ends: Callable[[], bool], on_end: Callable[[], None]) -> None:
        """`on_end` is called once, before the client may have seen the end."""
        self._file = file
        self._left = size
        self._ends = ends
        self._on_end = on_end

    def __iter__(self) -> Iterator[bytes]:
        while not self._ends() and (piece := self._file.read(PIECE)):
            self._left -= len(piece)
            if not self._left:
                self.close()
            yield piece
            if self._file.closed:
                return

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()
            self._on_end()


def _tell(resp: falcon.Response, about: About) -> None:
    witness = about.position.witness
    said = {JOURNAL: witness.journal, SEQ: witness.seq, SUM: witness.sum, SCHEMA: schema.VERSION, BYTES: about.bytes}
    for name, value in said.items():
        resp.set_header(name, str(value))
    resp.content_type = "application/octet-stream"
    resp.set_header("X-Content-Type-Options", "nosniff")
    resp.set_header("Cache-Control", "no-store")


def _refuse_for_room(resp: falcon.Response, size: int) -> None:
    detail = f"The data directory's disk has no room for {size >> 20} MiB beside {snapshot.KEPT_BYTES >> 20} that are kept free."
    respond_error(resp, 503, "disk_low", detail)
