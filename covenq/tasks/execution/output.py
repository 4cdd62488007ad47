"""A command's output: read from its pipe, scrubbed of secrets, written into a file of a bounded size.

Of an output that is too long, the beginning and the end are kept: the middle is seldom what one looks for, the end often is.
The end is written into two files without names in rotation, the older of which is overwritten, and is appended to the
beginning when the output is over.
"""

from __future__ import annotations

import contextlib
import os
from io import FileIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from covenq.tasks.execution.scrub import Stream
from covenq.tasks.execution.workdir import write_all

CHUNK = 65536
_COPY = 1 << 20


class Output:
    """One pipe of a command, pumped into one file."""

    def __init__(self, pipe: IO[bytes], file: FileIO, scratch: Path, limit: int, stream: Stream) -> None:
        """At most `limit` bytes are kept in `file`: half for the beginning, a quarter or more for the end.

        `scratch` is a directory on the same disk, for files without names.
        """
        self.pipe = pipe
        os.set_blocking(pipe.fileno(), False)
        self.error: OSError | None = None
        self._stream = stream
        self._scratch = scratch
        self._limit = limit
        self._file = file
        self._head_left = limit - limit // 4 * 2
        self._rest: list[FileIO] = []
        """The older and the newer file of the end."""
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
            for file in (self._file, *self._rest, self.pipe):
                with contextlib.suppress(OSError):
                    file.close()

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
        if not self._rest or self._rest[-1].tell() >= most:
            if len(self._rest) == 2:
                self._rest.reverse()
                self._rest[-1].seek(0)
                self._rest[-1].truncate()
            else:
                self._rest.append(self._scratch_file())
        newer = self._rest[-1]
        some = content[: most - newer.tell()]
        write_all(newer, some)
        return len(some)

    def _scratch_file(self) -> FileIO:
        # Without a name, so that no command can put anything in its place: unlinked as soon as it is made, at the latest.
        return TemporaryFile("w+b", buffering=0, dir=self._scratch)

    def _join(self) -> None:
        dropped = self._seen - self._written - sum(part.tell() for part in self._rest)
        if dropped:
            note = f"\n[covenq: {dropped} bytes were dropped here: the limit is {self._limit}]\n"
            write_all(self._file, memoryview(note.encode()))
        for part in self._rest:
            part.seek(0)
            while piece := part.read(_COPY):
                write_all(self._file, memoryview(piece))
