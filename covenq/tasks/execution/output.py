"""A command's output: read from its pipe, scrubbed of secrets, written into a file of a bounded size.

Of an output that is too long, the beginning and the end are kept: the middle is seldom what one looks for, the end often is.
The end is written into two files in rotation, the older of which is overwritten, and is appended to the beginning when the
output is over.
"""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path
from typing import IO

from covenq.tasks.execution.scrub import Stream
from covenq.tasks.execution.workdir import open_for_writing, write_all

CHUNK = 65536
_COPY = 1 << 20


class Output:
    """One pipe of a command, pumped into one file."""

    def __init__(self, pipe: IO[bytes], file: FileIO, path: Path, limit: int, stream: Stream) -> None:
        """`file` is `path`, open. At most `limit` bytes are kept: half for the beginning, a quarter or more for the end."""
        self.pipe = pipe
        os.set_blocking(pipe.fileno(), False)
        self.error: OSError | None = None
        self._stream = stream
        self._path = path
        self._limit = limit
        self._file = file
        self._head_left = limit - limit // 4 * 2
        self._tail: FileIO | None = None
        self._tail_size = 0
        self._written = 0
        self._seen = 0

    def pump(self) -> int | None:
        """Move what is in the pipe: the number of bytes (0: nothing now), or None at the end of the pipe."""
        try:
            chunk = os.read(self.pipe.fileno(), CHUNK)
        except BlockingIOError:
            return 0
        if not chunk:
            return None
        self._take(self._stream.feed(chunk))
        return len(chunk)

    def close(self) -> None:
        """Join what is kept, and close file and pipe."""
        try:
            self._take(self._stream.finish())
            if self.error is None:
                self._join()
        except OSError as error:
            self.error = error
        finally:
            self._file.close()
            if self._tail is not None:
                self._tail.close()
            for path in (self._newer, self._older):
                path.unlink(missing_ok=True)
            self.pipe.close()

    @property
    def _newer(self) -> Path:
        return self._path.with_name(self._path.name + ".rest")

    @property
    def _older(self) -> Path:
        return self._path.with_name(self._path.name + ".rest.1")

    def _take(self, content: bytes) -> None:
        self._seen += len(content)
        if self.error is not None:
            return
        try:
            head = memoryview(content)[: self._head_left]
            write_all(self._file, head)
            self._head_left -= len(head)
            self._written += len(head)
            rest = memoryview(content)[len(head) :]
            while rest:
                rest = rest[self._rotate(rest) :]
        except OSError as error:  # a full disk costs the output, not the work
            self.error = error

    def _rotate(self, content: memoryview) -> int:
        """Write into the newer file, after a rotation if it is full; the number of bytes of `content` that it took."""
        most = max(self._limit // 4, 1)
        if self._tail is None or self._tail_size >= most:
            if self._tail is not None:
                self._tail.close()
                self._newer.replace(self._older)
            self._tail = open_for_writing(self._newer, os.O_CREAT | os.O_TRUNC)
            self._tail_size = 0
        some = content[: most - self._tail_size]
        write_all(self._tail, some)
        self._tail_size += len(some)
        return len(some)

    def _join(self) -> None:
        parts = [path for path in (self._older, self._newer) if os.path.lexists(path)]
        dropped = self._seen - self._written - sum(path.stat().st_size for path in parts)
        if dropped:
            note = f"\n[covenq: {dropped} bytes were dropped here: the limit is {self._limit}]\n"
            write_all(self._file, memoryview(note.encode()))
        for path in parts:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with FileIO(fd) as part:
                while piece := part.read(_COPY):
                    write_all(self._file, memoryview(piece))
