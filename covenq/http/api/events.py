"""GET /api/v1/events: the journal's records as they become durable, as server-sent events."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

import falcon
import msgspec

from covenq.errors import StateBehind, UsageError
from covenq.http.answers import respond_error
from covenq.http.guard import scope_of_request
from covenq.model.token_scope import Scope
from covenq.operate.inspect import view
from covenq.state.folded import FoldedState
from covenq.state.scoped import is_subject_known
from journal.interface import Journal
from journal.records import Record

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

    def __init__(
        self,
        journal: FollowedJournal,
        stopping: threading.Event,
        most: int = STREAMS,
        *,
        state: FoldedState | None = None,
    ) -> None:
        """`stopping` is set when streams have to end; there are at most `most` at a time. `state` says what is in a scope."""
        self._state = state
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
        shows: Shows = everything
        scope, state = scope_of_request(req), self._state
        if scope is not None:
            assert state is not None
            shows = shown_in(state, scope)
        resp.stream = Stream(self._journal, self._stopping, after, disconnected, self._free.release, shows)


Shows = Callable[[Sequence[Record]], Iterable[Record]]
"""The records of a piece of the journal that a stream shows."""


def everything(records: Sequence[Record]) -> Iterable[Record]:
    return records


def shown_in(state: FoldedState, scope: Scope) -> Shows:
    """Those of deliveries and tasks in scope, by their rows, which are folded first."""

    def shows(records: Sequence[Record]) -> Iterable[Record]:
        conn = state.reader(scope)
        return [one for one in records if is_subject_known(conn, one.subject)]

    return shows


class Stream:
    """The chunks of one stream. The server calls `close` in any case, so that what it holds is released."""

    def __init__(
        self,
        journal: FollowedJournal,
        stopping: threading.Event,
        after: int,
        disconnected: object,
        on_close: Callable[[], None],
        shows: Shows = everything,
    ) -> None:
        """`disconnected`, if it is callable, is whether the client has disconnected; `on_close` is called once, at the end."""
        self._journal = journal
        self._stopping = stopping
        self._on_close = on_close
        self._shows = shows
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
                try:
                    self._fetch()
                except StateBehind:
                    raise StopIteration from None  # the client comes again, after the last that it was sent
            elif self._journal.poisoned:
                raise StopIteration  # there will never be another record
            elif time.monotonic() - self._last_sent > BEAT_S:
                self._pending.append(b":\n\n")
        self._last_sent = time.monotonic()
        return self._pending.popleft()

    def _fetch(self) -> None:
        found = list(islice(self._journal.read(self._seq), CHUNK_RECORDS))
        pieces = [
            b"id: %d\ndata: %b\n\n" % (record.seq, msgspec.json.encode(view.event(record)))
            for record in self._shows(found)
        ]
        if found:
            self._seq = found[-1].seq
        if pieces:
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
