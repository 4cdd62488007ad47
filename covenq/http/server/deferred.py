"""Answers that come later, without a thread that waits for them.

WSGI knows only of handlers that return their answer, so a delivery that waits for its sync holds a thread, and of 64 that
a sync lets go each must get the processor and the interpreter's lock before it can say so: these hand-offs cost several
times the work. Here the plain delivery takes a short way around WSGI: the listener's own thread brings it into the journal as
it arrives and goes on; when its batch is synced, the journal's thread puts what came of it in a queue and wakes the listener
once for the whole batch; the listener's thread writes the answers.

Nothing is promised sooner by this: an answer is made from what the journal has told, and it tells after the sync.

What a connection may rely on stays: the request is at the head of `requests` until its answer is written, so the next one of the
same connection waits for it (in `received` and `service`, where waitress starts it), a drain waits for it, and whoever has left
meanwhile is found to have. Whatever is not plain (large, refused, seen before, not to be made durable) is answered by the
application on a thread of the pool, as ever.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from covenq.intake.receive import Answer

PLAIN_MAX = 64 * 1024
"""Bytes of a body that the listener's thread works on itself: half a millisecond or so, in which no one else is served."""

log = logging.getLogger("covenq.http")


class Pending(Protocol):
    """A request that has been taken on."""

    @property
    def plain(self) -> bool:
        """Whether `answer` waits for nothing."""

    def answer(self) -> Answer: ...


Told = Callable[[Pending], None]
"""To be called from any thread, once, when the answer can be made. It neither blocks nor raises."""


class ShortWay(Protocol):
    """What can take a request on without waiting."""

    path: str

    def begin(
        self, headers: Mapping[str, str], body: bytes, client: str, told: Told, after: Callable[[], None]
    ) -> bool:
        """Whether a POST is taken on: then `told` is called, and `after` when all of its batch were told.

        `headers` go by their names in WSGI's spelling, without its HTTP_.
        """

    def go(self) -> None:
        """There are no more at the moment: what was taken on has to get going."""


class Deferring:
    """What a channel has beyond waitress's own; `server` is a `Deferrer`."""

    server: Any
    requests: list[Any]
    addr: Any
    told: Pending | None = None
    """What came of the request at the head of `requests`, once it is known."""

    def begin(self, way: ShortWay) -> bool:
        """Try the short way for the request at the head. Called by waitress where it would hand it to a thread."""
        request = self.requests[0]
        if request.error is not None or request.command != "POST" or request.path != way.path:
            return False
        if request.chunked or not 0 < request.content_length <= PLAIN_MAX:
            return False
        stream = request.get_body_stream()
        try:
            if way.begin(request.headers, stream.read(), self.addr[0], self._tell, self.server.settled):
                return True
        except Exception as error:  # noqa: BLE001 - the application meets it again, and answers
            # The type alone: an error may quote the payload.
            log.error("a delivery could not go the short way: %s", type(error).__name__)
        stream.seek(0)
        return False

    def _tell(self, told: Pending) -> None:
        self.told = told
        self.server.tell(self)


class Deferrer:
    """What a server has beyond waitress's own."""

    way: ShortWay | None = None
    task_dispatcher: Any
    trigger: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._told: deque[Any] = deque()
        self._pulling = threading.Lock()
        self._loop: int | None = None
        """The thread that runs the loop, and need not wake itself."""
        super().__init__(*args, **kwargs)

    def add_task(self, channel: Any) -> None:
        """waitress has a request that is to be answered."""
        if self.way is None or not channel.begin(self.way):
            self.task_dispatcher.add_task(channel)
        elif threading.get_ident() != self._loop:
            self.way.go()  # no round of the loop will follow

    def tell(self, channel: Deferring) -> None:
        """From any thread: its answer can be made."""
        self._told.append(channel)

    def settled(self) -> None:
        """From any thread: all of a batch were told."""
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
            super().close()  # type: ignore[misc]

    def answer(self) -> None:
        """Send on its way what came in, and write the answers that can be made. The loop calls it in each round."""
        self._loop = threading.get_ident()
        if self.way is None:
            return
        self.way.go()
        told = self._told
        while told:
            channel = told.popleft()
            # Where earlier answers still wait for their reader, writing another may have to wait as well.
            if channel.told.plain and not channel.total_outbufs_len:
                channel.service()
            else:
                self.task_dispatcher.add_task(channel)
        self.way.go()  # the answered connection's next request, if it had come already
