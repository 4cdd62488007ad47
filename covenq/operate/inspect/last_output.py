"""The last lines of what an attempt wrote that failed: what `covenq show` and `covenq why` quote of it.

They are the words of a command, of a worker elsewhere or of a receiver: whoever shows them, escapes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from covenq.errors import NotFound, OnAnotherNode
from covenq.model import State
from covenq.model.answers import LastOutput
from covenq.model.rows import Attempt
from covenq.text import character_start

LINES_MAX = 10
LINE_MAX = 400
"""Characters of a line, with spaces for its tabs; of a longer one its end."""
BYTES_MAX = 16 * 1024
"""How much of an output is read for them, from its end."""

ReadLog = Callable[[str, int, Literal["stdout", "stderr"], int], bytes]
"""(task, attempt, stream, bytes) → the last of what the attempt wrote. Raises NotFound, OnAnotherNode."""


def last_output(attempts: Sequence[Attempt], read: ReadLog) -> LastOutput | None:
    """The last lines of the newest attempt that ended, if it didn't complete: of stderr, or where that is empty of stdout.

    None also where nothing was written, or nothing of it is kept.
    """
    ended = [one for one in attempts if one.ended_at is not None]
    if not ended or ended[-1].outcome == State.COMPLETED:
        return None
    newest = ended[-1]
    streams: tuple[Literal["stderr", "stdout"], ...] = ("stderr", "stdout")
    for stream in streams:
        try:
            content = read(newest.task, newest.attempt, stream, BYTES_MAX)
        except NotFound:
            continue
        except OnAnotherNode as error:
            return LastOutput(newest.attempt, stream, [], f"{error}. {error.hint}")
        if lines := list(_last_lines(content[character_start(content) :] if len(content) >= BYTES_MAX else content)):
            return LastOutput(newest.attempt, stream, lines)
    return None


def _last_lines(content: bytes) -> Iterator[str]:
    """Those that aren't blank, with spaces for tabs, cut at their beginning; newlines and returns alone end them."""
    decoded = [line.decode("utf-8", "replace").expandtabs().rstrip() for line in content.splitlines()]
    for line in [line for line in decoded if line][-LINES_MAX:]:
        yield line if len(line) <= LINE_MAX else f"…{line[1 - LINE_MAX :]}"
