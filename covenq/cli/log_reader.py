"""What an attempt wrote, piece by piece, from its beginning to its end; followed over attempts and restarts of the daemon.

One piece of each output is in memory at a time, however long they are. Pieces end with a line, so that two outputs that are
shown together don't mix within one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from covenq.cli.context import ask_again, source
from covenq.cli.id_prefix import whole_id, with_hint
from covenq.cli.output import clean, count, pause, say
from covenq.client.silence import no_result, not_kept, wrote_nothing
from covenq.errors import Ambiguous, DaemonUnreachable, NotFound, StateBehind, StateUnreadable, UsageError
from covenq.model import FINAL, State
from covenq.text import character_end

if TYPE_CHECKING:
    from covenq.client.interface import Source, Stream
    from covenq.model.rows import Task

PIECE = 256 * 1024
"""Bytes that are read at a time, and of a line without an end that wait for it."""
POLL_S = 0.5
"""Seconds between two looks at an attempt that runs, and two attempts to reach a daemon."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines of an output, or whole characters of one that is too long, or has no end."""

    attempt: int
    stream: Stream
    content: bytes


@dataclass(slots=True)
class _Position:
    """How far an output was read."""

    offset: int = 0
    pending: bytes = b""
    """What was read of a line whose end wasn't."""

    def take(self, content: bytes) -> bytes:
        """The lines that are whole with these bytes."""
        self.offset += len(content)
        content = self.pending + content
        # A return at the end of what there is may be half of a line's end.
        at = max(content.rfind(b"\n"), content.rfind(b"\r", 0, -1)) + 1
        if not at and len(content) >= PIECE:
            at = len(content) - 1 if content.endswith(b"\r") else character_end(content)
        self.pending = content[at:]
        return content[:at]


@dataclass(slots=True)
class LogReader:
    """The pieces of the outputs of attempt `number` of a task, the newest's if that is None; in the order of `streams`.

    With `follow` it goes on until that attempt ends, or with no number until the task does, and waits for a daemon that is
    restarted. Raises NotFound where there is nothing to be had, with the reason, and DaemonUnreachable.
    """

    asked: str
    """The task's id, or how it begins, or its delivery's."""
    number: int | None
    streams: Sequence[Stream]
    follow: bool
    data: str | None
    config: str | None
    task: str | None = None
    """The task's whole id, once it is known."""
    wrote: bool = False
    """Whether there was a piece."""
    silence: str = ""
    """What is to be said where there was none, at the end."""
    _newest: int | None = None
    """The attempt that is read, where none was named."""
    _finished: int | None = None
    """The attempt of which all was read that there will be."""
    _told: tuple[int, bool] | None = None
    """The attempt that was said to have no output, and whether it had ended."""
    _positions: dict[Stream, _Position] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)

    def __iter__(self) -> Iterator[Piece]:
        waiting = False
        while True:
            said = "No daemon is running: waiting for it."
            try:
                with source(self.data, self.config) as opened:
                    if not waiting or opened.live:
                        waiting = False
                        if (yield from self._read(opened)):
                            return
                        waiting = True
            except DaemonUnreachable:
                if not self.follow:
                    raise
                waiting = True
            except (StateBehind, StateUnreadable):
                if not self.follow:
                    raise
                said = "The state can't be read now, or is behind: waiting for it."
            self._say_once(said)
            pause(POLL_S)
            ask_again()

    def _read(self, opened: Source) -> Generator[Piece, None, bool]:
        """Read, and follow while there is a daemon. Whether that was all."""
        if self.task is None:
            with with_hint(opened, self.asked):
                self.task = _task_of(opened, self.asked)
        while True:
            # First the state, then the files: they are complete before the record of the end.
            task = opened.task(self.task)
            number = self._number(task)
            ended = number is not None and (number < task.attempts or task.state != State.RUNNING)
            if number is not None and number != self._finished:
                yield from self._drain(opened, task, number, ended=ended)
                self._finished = number if ended else None
            if number is not None and self._is_last(task, number, ended=ended):
                self.silence = "" if self.wrote else wrote_nothing(opened, task.id, number, self.streams)
                return True
            if ended and number is not None and number < task.attempts:
                self._newest = number + 1
                continue
            if not opened.live:
                return False
            if task.state == State.QUEUED:
                self._say_once(f"{clean(task.id)} waits for {'its next' if number else 'an'} attempt.")
            pause(POLL_S)

    def _is_last(self, task: Task, number: int, *, ended: bool) -> bool:
        """Whether nothing is to be read after what there is now of that attempt."""
        if not self.follow or self.number is not None:
            return ended or not self.follow
        return ended and number == task.attempts and task.state in FINAL

    def _number(self, task: Task) -> int | None:
        """The attempt to read; None while there is none to wait for. Raises NotFound."""
        if self.number is not None and self.number > task.attempts:
            had = f"It has had {count(task.attempts, 'attempt')}: see `covenq show {task.id}`."
            raise NotFound(f"task {task.id} has no attempt {self.number}", hint=had)
        if self.number is None and not task.attempts and (not self.follow or task.state in FINAL):
            raise NotFound(
                f"task {task.id} has had no attempt yet" if task.state not in FINAL else f"task {task.id} never ran",
                hint=f"`covenq why {task.id}` says why; `covenq logs {task.id} -f` waits for one.",
            )
        # The first one of those that may come and go while it is waited for.
        wanted = self.number or self._newest or max(task.attempts, 1)
        self._newest = wanted
        return wanted if wanted <= task.attempts else None

    def _drain(self, opened: Source, task: Task, number: int, *, ended: bool) -> Iterator[Piece]:
        """What the outputs hold beyond what was read. Raises NotFound, if there is none and nothing to follow."""
        missing = 0
        for stream in self.streams:
            position = self._positions.setdefault(stream, _Position())
            try:
                while content := opened.log(task.id, number, stream, PIECE, position.offset):
                    yield from self._piece(number, stream, position.take(content))
            except NotFound:
                missing += 1
            if ended or not self.follow:
                rest, position.pending = position.pending, b""
                yield from self._piece(number, stream, rest)
        if ended or not self.follow:
            self._positions.clear()  # only now: what cuts this off before goes on behind what was given
        if missing < len(self.streams):
            return
        if self._is_last(task, number, ended=ended):
            why = no_result if "result" in self.streams else not_kept
            raise why(opened, task, number, ended=ended)
        if (task.kind == "pull" or ended) and (number, ended) != self._told:
            self._told = (number, ended)
            say(f"{clean(not_kept(opened, task, number, ended=ended))}.")

    def _piece(self, number: int, stream: Stream, content: bytes) -> Iterator[Piece]:
        if content:
            self.wrote = True
            yield Piece(number, stream, content)

    def _say_once(self, words: str) -> None:
        if words not in self._said:
            self._said.add(words)
            say(words)


def _task_of(opened: Source, asked: str) -> str:
    """The id of the task that `asked` names, or of its delivery's only one. Raises NotFound, UsageError where it has several."""
    id = whole_id(opened, asked)
    try:
        return opened.task(id).id
    except NotFound as unknown:
        try:
            tasks = opened.delivery(id).tasks
        except Ambiguous:
            raise
        except (NotFound, UsageError):
            raise unknown from None
    if not tasks:
        raise NotFound(f"delivery {id} has no task", hint=f"`covenq why {id}` says why.")
    if len(tasks) > 1:
        raise UsageError(f"delivery {id} has several tasks: {', '.join(tasks)}", hint=f"Say which: {tasks[-1]}")
    return tasks[0]
