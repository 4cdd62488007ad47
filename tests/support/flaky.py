"""A journal over a bad connection: the file engine, with answers that get lost, come late, or are errors that pass. Seeded."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

from journal.append import append_known, erase_known, submit_known
from journal.errors import JournalClosed, JournalError, JournalUnavailable
from journal.interface import Engine, Progress
from journal.records import Appended, Conflict, Entry, Head, Record, Rewritten, Unknown

Answer = Appended | Conflict | Unknown


class FlakyJournal:
    """`journal.interface.Engine` over another journal, as an engine on a network has it.

    Of an append or an erasure, by chance: no answer and nothing recorded (`before`), no answer though it is recorded
    (`after`), or no answer and recorded only when something else is asked of the journal (`late`). An attempt that was recorded
    is answered Appended with its own seqs, however often it is repeated; what an erasure has left over is then erased. Reads
    fail with an error that passes (`reads`). Never more than `in_a_row` answers are lost one after another, so that whoever
    repeats gets on.
    """

    def __init__(
        self,
        journal: Engine,
        seed: int,
        *,
        before: float = 0.15,
        after: float = 0.15,
        late: float = 0.1,
        reads: float = 0.0,
        in_a_row: int = 3,
    ) -> None:
        self.journal = journal
        self.before, self.after, self.late, self.reads = before, after, late, reads
        self.lost = 0
        """Answers that were lost so far."""
        self._in_a_row = in_a_row
        self._run = 0
        self._closed = False
        self._random = random.Random(seed)
        self._lock = threading.RLock()
        self._known: dict[str, Appended] = {}
        self._waiting: list[Callable[[], object]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.journal, name)

    def append(self, entries: Sequence[Entry]) -> Answer:
        return self._send(entries, lambda: self.journal.append(entries))

    def erase(self, entries: Sequence[Entry], progress: Progress | None = None) -> tuple[Answer, Rewritten]:
        rewritten = Rewritten()

        def take(progress: Progress | None) -> Appended | Conflict | Unknown:
            nonlocal rewritten
            answer, rewritten = self.journal.erase(entries, progress)
            return answer

        answer = self._send(entries, lambda: take(progress), lambda: take(None))
        if isinstance(answer, Unknown):
            return answer, Rewritten()
        if self.journal.erasing:
            rewritten += self.journal.resume_erasure(progress)
        return answer, rewritten

    def _send(
        self,
        entries: Sequence[Entry],
        take: Callable[[], Appended | Conflict | Unknown],
        take_late: Callable[[], Appended | Conflict | Unknown] | None = None,
    ) -> Answer:
        with self._lock:
            if self._closed:
                raise JournalClosed("the journal is closed")
            self._arrive()
            attempt = entries[0].attempt if entries else None
            known = self._known.get(attempt) if attempt is not None else None
            roll = self._random.random() if self._run < self._in_a_row else 1.0
            if roll < self.before:
                return self._lose()
            if roll < self.before + self.late and known is None:
                self._waiting.append(lambda: self._take(attempt, take_late or take))
                return self._lose()
            answer = known or self._take(attempt, take)
            if roll < self.before + self.late + self.after:
                return self._lose()
            self._run = 0
            return answer

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self.journal.close()

    def _take(self, attempt: str | None, take: Callable[[], Appended | Conflict | Unknown]) -> Answer:
        """Once an attempt: one that arrives late may come after its own repetition."""
        known = self._known.get(attempt) if attempt is not None else None
        answer = known or take()
        if isinstance(answer, Appended) and attempt is not None:
            self._known[attempt] = answer
        return answer

    def _arrive(self) -> None:
        """What was sent without an answer, and had not arrived yet, does now."""
        while self._waiting:
            self._waiting.pop(0)()

    def _lose(self) -> Unknown:
        self.lost += 1
        self._run += 1
        return Unknown()

    def submit(
        self,
        entries: Sequence[Entry],
        done: Callable[[Answer | JournalError], None],
        after: Callable[[], None] | None = None,
    ) -> None:
        """On this thread, as far as it goes: the answer, or what went wrong, is there when it returns."""
        answer = self.append(entries)
        done(answer)
        if after is not None and not isinstance(answer, Unknown):
            after()

    def start_batch(self) -> None:
        self.journal.start_batch()

    def _cut(self) -> None:
        with self._lock:
            self._arrive()
            if self.reads and self._random.random() < self.reads:
                raise JournalUnavailable("the connection was cut")

    def read(self, after: int, only: Container[int] | None = None, *, payloads: bool = True) -> Iterator[Record]:
        self._cut()
        found: Iterator[Record] = self.journal.read(after, only, payloads=payloads)
        return found

    def get(self, seq: int) -> Record | None:
        self._cut()
        found: Record | None = self.journal.get(seq)
        return found

    def last(self, subject: str) -> Record | None:
        self._cut()
        found: Record | None = self.journal.last(subject)
        return found

    def wait(self, after: int, timeout: float | None) -> bool:
        return bool(self.journal.wait(after, timeout))

    def head(self) -> Head:
        found: Head = self.journal.head()
        return found


class Known:
    """A flaky journal as the product uses it: every append through `journal.append`, without pauses."""

    def __init__(self, journal: FlakyJournal) -> None:
        self.journal = journal
        self._unanswered = 0
        self._answered = threading.Condition()

    def close(self) -> None:
        """Once all that was submitted is answered: a lost answer is asked for on a thread of its own."""
        with self._answered:
            assert self._answered.wait_for(lambda: not self._unanswered, 60.0)
        self.journal.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.journal, name)

    def append(self, entries: Sequence[Entry]) -> Appended | Conflict:
        return append_known(self.journal, entries, sleep=lambda seconds: None)

    def erase(
        self, entries: Sequence[Entry], progress: Progress | None = None
    ) -> tuple[Appended | Conflict, Rewritten]:
        return erase_known(self.journal, entries, progress, sleep=lambda seconds: None)

    def submit(
        self,
        entries: Sequence[Entry],
        done: Callable[[Answer | JournalError], None],
        after: Callable[[], None] | None = None,
    ) -> None:
        def told(answer: Answer | JournalError) -> None:
            done(answer)
            with self._answered:
                self._unanswered -= 1
                self._answered.notify_all()

        with self._answered:
            self._unanswered += 1
        try:
            submit_known(self.journal, entries, told, after)
        except JournalError:
            with self._answered:
                self._unanswered -= 1
            raise
