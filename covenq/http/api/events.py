"""GET /api/v1/events: the journal's records as they become durable, as server-sent events."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

import falcon
import msgspec

from covenq.errors import UsageError
from covenq.http.answers import respond_error
from covenq.operate.inspect import view
from journal.interface import Journal

STREAMS = 16
"""Event streams at a time on one listener: each holds one of its threads, and the others stay free."""
TYPE = "text/event-stream"
POLL_S = 0.5
"""How often a quiet stream checks whether the daemon is stopping or its client has disconnected."""
BEAT_S = 10.0
"""A quiet stream sends a comment this often, so that the client knows that it is alive."""
CHUNK_RECORDS = 100


class FollowedJournal(Journal, Protocol):
    """A journal that says when there will never be another record."""

    @property
    def poisoned(self) -> bool: ...


class Events:
    """Streams hold a thread each, so their number is limited: nothing else of the listener waits for one."""

    def __init__(self, journal: FollowedJournal, stopping: threading.Event, most: int = STREAMS) -> None:
        """`stopping` is set when streams have to end; there are at most `most` at a time."""
        self._journal = journal
        self._stopping = stopping
        self._free = threading.BoundedSemaphore(most)

    def on_head(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The headers that GET would answer with, without a stream."""
        _after(req)
        resp.content_type = TYPE
        resp.set_header("Cache-Control", "no-store")

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        after = _after(req)
        if not self._free.acquire(blocking=False):
            respond_error(resp, 503, "streams_busy", "There are as many event streams as there may be.")
            return
        head = self._journal.head().seq
        resp.status = falcon.HTTP_200
        resp.content_type = TYPE
        resp.set_header("Cache-Control", "no-store")
        resp.set_header("X-Accel-Buffering", "no")  # nginx would keep the pieces until it has enough of them
        disconnected = req.env.get("waitress.client_disconnected", lambda: False)
        after = head if after is None else after
        resp.stream = Stream(self._journal, self._stopping, after, disconnected, self._free.release)


class Stream:
    """The chunks of one stream. The server calls `close` in any case, so that what it holds is released."""

    def __init__(
        self,
        journal: FollowedJournal,
        stopping: threading.Event,
        after: int,
        disconnected: object,
        on_close: Callable[[], None],
    ) -> None:
        """`disconnected`, if it is callable, is whether the client has disconnected; `on_close` is called once, at the end."""
        self._journal = journal
        self._stopping = stopping
        self._on_close = on_close
        self._seq = after
        self._disconnected = disconnected if callable(disconnected) else lambda: False
        self._pending: deque[bytes] = deque([b": covenq\n\n"])  # sent at once, so that the headers go out
        self._last_sent = time.monotonic()
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while not self._pending:
            if self._stopping.is_set() or self._disconnected():
                raise StopIteration
            if self._journal.wait(self._seq, POLL_S):
                self._fetch()
            elif self._journal.poisoned:
                raise StopIteration  # there will never be another record
            elif time.monotonic() - self._last_sent > BEAT_S:
                self._pending.append(b":\n\n")
        self._last_sent = time.monotonic()
        return self._pending.popleft()

    def _fetch(self) -> None:
        pieces = []
        for record in self._journal.read(self._seq):
            self._seq = record.seq
            pieces.append(b"id: %d\ndata: %b\n\n" % (record.seq, msgspec.json.encode(view.event(record))))
            if len(pieces) == CHUNK_RECORDS:
                break
        self._pending.append(b"".join(pieces))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._on_close()


def _after(req: falcon.Request) -> int | None:
    """The seq to go on after: `after=`, or the Last-Event-ID of an EventSource. Raises UsageError."""
    text = req.get_param("after") or req.get_header("Last-Event-ID")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise UsageError(f"{text[:40]!r} is no seq to follow from", hint="It is a whole number; 0 is everything.")
    return int(text)
