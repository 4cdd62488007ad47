"""The writer of a process's log: a bounded queue, and a thread that writes it to stderr.

Whoever logs never waits: behind stderr may be a pipe that nobody reads, and a daemon that waits for its log answers nobody. Lines
for which the queue has no room, or that can't be written (a full disk), are dropped and counted, and the count is written in
their place once writing goes on.
"""

from __future__ import annotations

import atexit
import os
import select
import threading
from collections import deque
from collections.abc import Callable

QUEUE_MAX = 4 << 20
"""Bytes of lines that wait to be written."""
CHUNK_MAX = 32 << 10
"""Bytes that are written at once, unless one line is longer."""
FLUSH_S = 2.0
"""The longest that the end of the process waits for what is queued."""
_WRITABLE_MS = 1000

Note = Callable[[int], str]
"""The line that says how many were dropped, in the log's own format."""


def plain_note(dropped: int) -> str:
    return f"{dropped} lines of the log were dropped: they could not be written, or not as fast as they came"


class LogWriter:
    """Writes lines in the order in which they are put. Methods may be called from any thread, and none raises or blocks."""

    def __init__(self, write: Callable[[bytes], int], *, queue_max: int = QUEUE_MAX) -> None:
        """`write` writes some of the bytes, and returns how many. It may block; it may raise OSError."""
        self._write = write
        self._queue_max = queue_max
        self._changed = threading.Condition()
        self._queue: deque[bytes | int] = deque()
        """Lines, and between them how many were dropped there."""
        self._queued = 0
        self._dropped = 0
        self._unwritten = 0
        """Lines that were dropped since something was written last. Of the thread alone."""
        self._torn = False
        self._idle = True
        self._thread: threading.Thread | None = None
        self.note: Note = plain_note

    @property
    def dropped(self) -> int:
        """Lines that were dropped since the start."""
        return self._dropped

    def put(self, line: str) -> None:
        """Queue a line, or several, without the closing newline."""
        data = f"{line}\n".encode("utf-8", "backslashreplace")
        with self._changed:
            if self._queued + len(data) > self._queue_max:
                self._dropped += 1
                if self._queue and isinstance(last := self._queue[-1], int):
                    self._queue[-1] = last + 1
                else:
                    self._queue.append(1)
            else:
                self._queue.append(data)
                self._queued += len(data)
            self._idle = False
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # no more threads now, or the interpreter ends: with the next line
                    self._thread = None

    def flush(self, timeout: float = FLUSH_S) -> bool:
        """Wait until everything is written or dropped, for `timeout` seconds at most; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._idle or self._thread is None, timeout)

    # The thread

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._queue:
                    self._idle = True
                    self._changed.notify_all()
                self._changed.wait_for(lambda: self._queue)
                chunk = self._take()
            self._write_chunk(chunk)

    def _take(self) -> list[bytes]:
        """The next lines. Those that were dropped after them are noted before what comes next."""
        chunk: list[bytes] = []
        size = 0
        while self._queue:
            first = self._queue[0]
            if isinstance(first, int):
                if chunk:
                    break
                self._unwritten += first
            elif chunk and size + len(first) > CHUNK_MAX:
                break
            else:
                chunk.append(first)
                size += len(first)
            self._queue.popleft()
        self._queued -= size
        return chunk

    def _write_chunk(self, chunk: list[bytes]) -> None:
        note = [f"{self.note(self._unwritten)}\n".encode("utf-8", "backslashreplace")] if self._unwritten else []
        data = memoryview((b"\n" if self._torn else b"") + b"".join([*note, *chunk]))
        whole = len(data)
        try:
            while data:
                data = data[self._write(bytes(data)) :]
        except (OSError, ValueError):  # ValueError: the stream is closed
            # How many of these lines are whole isn't known: at least one is not.
            self._torn = self._torn or len(data) < whole
            self._unwritten += len(chunk)
            with self._changed:
                self._dropped += len(chunk)
            return
        self._torn = False
        self._unwritten = 0


def write_to_stderr(data: bytes) -> int:
    """Write to descriptor 2, past Python's buffer, which would keep what could not be written. Waits for a slow reader."""
    while True:
        try:
            return os.write(2, data)
        except BlockingIOError:  # whoever shares it made it so
            writable = select.poll()
            writable.register(2, select.POLLOUT)
            writable.poll(_WRITABLE_MS)


stderr = LogWriter(write_to_stderr)
"""The writer of this process: there is one descriptor 2."""
atexit.register(stderr.flush)
