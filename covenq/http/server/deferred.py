"""Deferred answers: the fast path by which a connection waits for its answer without a thread.

WSGI knows only handlers that return their answer, so a delivery that waits for its sync holds a thread, and each of the 64 that
a sync releases must get the processor and the interpreter's lock before it can answer: these hand-offs cost several
times the work. Here the plain delivery takes a fast path around WSGI: the listener's own thread submits it to the journal as
it arrives and goes on; when its batch is synced, the journal's thread queues the results and wakes the listener
once for the whole batch; the listener's thread writes the answers.

Nothing is promised sooner by this: an answer is made from what the journal reported, and it reports after the sync.

What a connection may rely on stays: the request is at the head of `requests` until its answer is written, so the next one of the
same connection waits for it (in `received` and `service`, where waitress starts it), a drain waits for it, and a client that has
disconnected meanwhile is noticed.

What can't be submitted (large, refused, twins configured) is answered by the application on a pool thread. A submitted delivery
whose result is not a plain acceptance (duplicate, conflict, journal error) is answered by `DeferredTask` on a pool thread,
because that may wait.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Protocol
from wsgiref.types import WSGIApplication

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer
from waitress.task import ThreadedTaskDispatcher

from covenq.http.server.held import HeldRequests, NotStarted
from covenq.http.server.parser import Parser, WholeBody
from covenq.intake.answer import Answer

PLAIN_MAX = 64 * 1024
"""Bytes of a body that the listener's thread works on itself: about half a millisecond, in which no other client is served."""

log = logging.getLogger("covenq.http")


Address = tuple[str, *tuple[object, ...]]
"""A client's address as the socket gives it; its host, or path, comes first."""

SocketInfo = tuple[int, int, int, object]
"""Family, type, protocol and address of a bound socket."""


class PendingAnswer(Protocol):
    """A request that the fast path has taken on, once its result is known."""

    @property
    def immediate(self) -> bool:
        """Whether `answer` waits for nothing."""

    def answer(self) -> Answer | None:
        """None where the application is to answer after all."""


OnReady = Callable[[PendingAnswer], None]
"""To be called from any thread, once, when the answer can be made. It neither blocks nor raises."""


class FastPath(Protocol):
    """What can take a request on without waiting."""

    paths: Collection[str]
    """The request's paths that it takes on."""

    def begin(
        self, headers: Mapping[str, str], body: bytes, client: str, on_ready: OnReady, after_batch: Callable[[], None]
    ) -> bool:
        """Whether a POST is taken on: then `on_ready` is called, and `after_batch` once it was for all of the batch.

        `headers` go by their names in WSGI's spelling, without its HTTP_.
        """

    def flush(self) -> None:
        """There are no more at the moment: start working on what was taken on."""


class DeferredChannel(HTTPChannel):
    """A connection that may wait for its answer without a thread."""

    server: DeferredServer
    requests: list[Parser]
    """Those that were received whole, and are not answered yet."""
    addr: Address
    pending: PendingAnswer | None = None
    """The result of the request at the head of `requests`, once it is known."""

    def begin(self, fast_path: FastPath) -> bool:
        """Try the fast path for the request at the head. Called by waitress where it would hand it to a thread."""
        request = self.requests[0]
        if request.error is not None or request.command != "POST" or request.path not in fast_path.paths:
            return False
        if request.chunked or not 0 < request.content_length <= PLAIN_MAX:
            return False
        receiver = request.body_rcv
        if isinstance(receiver, WholeBody):
            body = receiver.body
        else:
            stream = request.get_body_stream()
            body = stream.read()
            stream.seek(0)  # for the application, if it is to answer
        try:
            if fast_path.begin(request.headers, body, self.addr[0], self._on_ready, self.server.on_batch_ready):
                return True
        except Exception as error:  # noqa: BLE001 - the application will raise it again, and answers
            # The type alone: an error may quote the payload.
            log.error("a delivery could not go the short way: %s", type(error).__name__)
        return False

    def _on_ready(self, pending: PendingAnswer) -> None:
        self.pending = pending
        self.server.enqueue(self)


class DeferredServer(BaseWSGIServer):
    """A server with a queue of the channels whose answers can be written."""

    fast_path: FastPath | None = None
    held: HeldRequests[DeferredChannel] | None = None
    """While the daemon is not ready: what is to be answered waits there."""

    def __init__(
        self,
        app: WSGIApplication,
        map: dict[int, wasyncore.dispatcher],
        bound: socket.socket,
        dispatcher: ThreadedTaskDispatcher,
        adj: Adjustments,
        sockinfo: SocketInfo,
    ) -> None:
        self._ready: deque[DeferredChannel] = deque()
        self._pulling = threading.Lock()
        self._loop: int | None = None
        """The thread that runs the loop, and need not wake itself."""
        super().__init__(app, map, False, bound, dispatcher=dispatcher, adj=adj, sockinfo=sockinfo, bind_socket=False)

    def add_task(self, channel: DeferredChannel) -> None:
        """waitress has a request that is to be answered."""
        if self.held is not None and channel.requests[0].error is None:
            if not self.held.add(channel):
                self._refuse(channel, "too many requests wait for it")
            return
        if self.fast_path is None or not channel.begin(self.fast_path):
            self.task_dispatcher.add_task(channel)
        elif threading.get_ident() != self._loop:
            self.fast_path.flush()  # no round of the loop will follow

    def check_held(self, *, ending: bool) -> None:
        """Answer what was held if the daemon is ready, and refuse what waits for too long, or all if this is `ending`."""
        held = self.held
        if held is None:
            return
        if ending or not held.released:
            for channel in held.take_all() if ending else held.overdue():
                self._refuse(channel, "it is not ready yet")
            return
        self.held = None
        for channel in held.take_all():
            if channel.connected:
                self.add_task(channel)

    def _refuse(self, channel: DeferredChannel, why: str) -> None:
        channel.requests[0].fail(NotStarted(why))
        self.task_dispatcher.add_task(channel)

    def enqueue(self, channel: DeferredChannel) -> None:
        """From any thread: the channel's answer can be made."""
        self._ready.append(channel)

    def on_batch_ready(self) -> None:
        """From any thread: all channels of a batch were enqueued."""
        self.pull_trigger()

    def pull_trigger(self) -> None:
        """Wake the loop. Not by a trigger that is closed: its descriptor may be another file's by now."""
        if threading.get_ident() == self._loop:
            return
        with self._pulling:
            if not self.trigger._closed:
                self.trigger.pull_trigger()

    def close(self) -> None:
        with self._pulling:
            super().close()

    def write_answers(self) -> None:
        """Flush what came in, and write the answers that can be made. The loop calls it in each round."""
        self._loop = threading.get_ident()
        if self.fast_path is None:
            return
        self.fast_path.flush()
        ready = self._ready
        while ready:
            channel = ready.popleft()
            # Where earlier answers still wait for their reader, writing another may have to wait as well.
            if channel.pending is not None and channel.pending.immediate and not channel.total_outbufs_len:
                channel.service()
            else:
                self.task_dispatcher.add_task(channel)
        self.fast_path.flush()  # the answered connection's next request, if it had come already
