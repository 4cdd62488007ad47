"""A call: one caller's append on its way to the database, how several are sent in one transaction, and what comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from journal.errors import JournalError
from journal.format.codec import Prepared
from journal.format.header import SEGMENT_BYTES
from journal.interface import Durability
from journal.postgres.deadlines import Conn
from journal.records import Appended, Conflict, Head, Unknown

FENCED = "CQ001"
"""The SQLSTATE of an append by a process that is no longer the writer."""
SEALED = "CQ003"
"""That of an append to a journal that was moved elsewhere."""

Answer = Appended | Conflict | Unknown | JournalError
Done = Callable[[Answer], None]

_APPEND = """SELECT * FROM covenq.append(%b::text, %b::integer[], %b::text[], %b::boolean[], %b::text[], %b::integer[],
  %b::bigint[], %b::bytea[], %b::integer[], %b::bytea[], %b::bytea[], %b::text, %b::text, %b::bigint)"""


class Call:
    """One caller's append on its way. It is answered once, by whoever takes it first."""

    __slots__ = ("_done", "_taken", "after", "attempt", "deadline", "prepared", "repeated", "sent", "size", "withdrawn")

    def __init__(
        self,
        prepared: list[Prepared],
        attempt: str,
        deadline: float,
        done: Done,
        after: Callable[[], None] | None = None,
        *,
        repeated: bool = False,
    ) -> None:
        self.prepared = prepared
        self.attempt = attempt
        self.deadline = deadline
        self.after = after
        self.repeated = repeated
        """It may have been recorded already: it was sent before, and not answered."""
        self.sent = repeated
        self.withdrawn = False
        """Its time was up before it was sent: it won't be."""
        self.size = sum(one.size for one in prepared)
        self._done = done
        self._taken = threading.Lock()

    @property
    def answered(self) -> bool:
        return self._taken.locked()

    def answer(self, answer: Answer) -> bool:
        """Answer it if nobody has; whether this did."""
        if not self._taken.acquire(blocking=False):
            return False
        self._done(answer)
        return True


@dataclass(frozen=True, slots=True)
class Batch:
    """What one call of `covenq.append` answered."""

    answers: list[Appended | Conflict]
    before: int
    head: Head
    epoch: str
    durability: Durability


def send(
    conn: Conn,
    writer: str,
    calls: Sequence[Call],
    *,
    salt: str,
    epoch: str | None = None,
    segment_max: int = SEGMENT_BYTES,
) -> Batch:
    """Have the calls appended, in the transaction of `conn`. Raises psycopg.Error."""
    names: dict[str, int] = {}
    prepared = [one for call in calls for one in call.prepared]
    named = [names.setdefault(one.entry.subject, len(names) + 1) for one in prepared]
    row = conn.execute(
        _APPEND,
        (
            writer,
            [len(call.prepared) for call in calls],
            [call.attempt for call in calls],
            [call.repeated for call in calls],
            list(names),
            named,
            [one.entry.expect for one in prepared],
            [one.middle for one in prepared],
            [one.size for one in prepared],
            [one.about for one in prepared],
            [one.entry.payload for one in prepared],
            salt,
            epoch,
            segment_max,
        ),
        binary=True,
        prepare=True,
    ).fetchone()
    assert row is not None
    firsts, conflicts, lasts, before, newest, newest_sum, now_epoch, commits, standbys = row
    subjects = list(names)
    answers: list[Appended | Conflict] = []
    for call, first, conflict, last in zip(calls, firsts, conflicts, lasts, strict=True):
        if conflict:
            answers.append(Conflict(subjects[conflict - 1], last))
        else:
            answers.append(Appended(tuple(range(first, first + len(call.prepared)))))
    replicated = bool(standbys.strip()) and commits in ("on", "remote_apply")
    durability: Durability = "replicated" if replicated else "fsync"
    return Batch(answers, before, Head(newest, newest_sum), now_epoch, durability)
