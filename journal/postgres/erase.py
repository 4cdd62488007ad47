"""Taking content out of the tables: the naming record and what it names, in one transaction.

So there is no erasure that was cut short: after any crash either the record is there and its content is gone, or neither. Content
is taken away first and the record is appended last, since the append locks the head until the commit: who waits behind an erasure
waits for its record alone, not for all of its rows. A row that lost content points at its erasure, and that at its record, whose
seq is known last.

An erasure takes the time that its rows take, but no wait of it is without an end. A lock that isn't had within HELD_S ends it:
nothing was done. A commit whose standby doesn't confirm within HELD_S is cancelled: it is done on the server and may be lost with
it, so that nothing is said of it. Whoever asks again finds the record, and is answered when that is confirmed.

What this does not reach: old versions of the rows until they are vacuumed, the write-ahead log, and backups of the server.
covenq-postgres(7) says how long those last.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType

import psycopg

from journal.append import REQUEST_S
from journal.erasure import Erasure, erasure_of
from journal.errors import JournalError, JournalPoisoned, JournalUnavailable
from journal.format.codec import Prepared, loaded
from journal.postgres.call import FENCED, Batch, Call, send
from journal.postgres.connections import Connections, is_unknown, refusal, release_if_idle
from journal.postgres.deadlines import Conn, hang_up
from journal.records import SEQ_MAX, Appended, Rewritten

HELD_S = REQUEST_S
"""Seconds that an erasure waits for a lock, and its commit for a standby."""
CANCEL_S = 3.0
"""Seconds that a cancelled commit may take to say so; then its connection is ended."""
LOOK_S = 0.2
"""Seconds between two looks at how long a commit has taken."""

_TAKE = """WITH gone AS (
    SELECT seq, coalesce(octet_length(payload), 0) + CASE WHEN %(about)s THEN coalesce(octet_length(about), 0) ELSE 0 END AS bytes
    FROM covenq.content WHERE seq BETWEEN %(low)s AND %(high)s AND (payload IS NOT NULL OR (%(about)s AND about IS NOT NULL))
    FOR UPDATE
  ), taken AS (
    UPDATE covenq.content c SET payload = NULL, about = CASE WHEN %(about)s THEN NULL ELSE about END, erasure = %(erasure)s
    FROM gone WHERE c.seq = gone.seq RETURNING gone.bytes
  ) SELECT count(*), coalesce(sum(bytes), 0)::bigint FROM taken"""
_BEGIN = "INSERT INTO covenq.erasure (by) VALUES (0) RETURNING id"
_END = "UPDATE covenq.erasure SET by = %s WHERE id = %s"


class _Refused(Exception):
    """The append was not made, or had been made before: what this transaction has done is undone."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch


class _Guard:
    """Ends what a transaction waits for without an answer, by a thread: a commit that takes too long, a server that hangs.

    A cancelled commit comes back with a warning, and what it did stays on the server; a cancelled wait for a lock fails.
    """

    def __init__(self, conn: Conn, away: Callable[[], bool]) -> None:
        self._conn, self._away = conn, away
        self._since: float | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="journal-erase-guard", daemon=True)

    def commits(self) -> None:
        """The commit is sent now."""
        self._since = time.monotonic()

    def __enter__(self) -> _Guard:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        cancelled = False
        while not self._done.wait(CANCEL_S if cancelled else LOOK_S):
            if cancelled or self._away():
                hang_up(self._conn)
            elif self._since is not None and time.monotonic() - self._since > HELD_S:
                cancelled = True
                with suppress(psycopg.Error):
                    self._conn.cancel_safe(timeout=CANCEL_S)


def _is_renamed(conn: Conn, writer: str) -> bool:
    """Whether the journal is written by the process of `writer` still, by whichever of its connections."""
    row = conn.execute("SELECT split_part(writer, '.', 1) FROM covenq.head").fetchone()
    return row is not None and row[0] == writer.partition(".")[0]


class Eraser:
    """Erases on connections of its own; from any thread, since the head's row makes appends come one after another."""

    def __init__(
        self, connections: Connections, writer: Callable[[], str], away: Callable[[], bool], segment_max: int
    ) -> None:
        """`writer` is the name that appends go by at the moment; `away` says whether the server hangs."""
        self._connections, self._writer, self._away, self._segment_max = connections, writer, away, segment_max
        self._unanswered: set[str] = set()
        self._one_at_a_time = threading.Lock()
        """Two that take the same rows in another order would wait for each other, and the server would refuse one."""

    def erase(self, prepared: list[Prepared], attempt: str, head: int) -> tuple[Batch, Rewritten] | None:
        """Append the entries and take out what they name; None if it isn't known whether that was done.

        `head` is the newest seq that there is for sure. Raises JournalUnavailable, JournalPoisoned and as an append.
        """
        call = Call(prepared, attempt, 0.0, lambda answer: None, repeated=attempt in self._unanswered)
        with self._one_at_a_time, self._connections.lent() as conn:
            writer = self._writer()
            warnings: list[str] = []
            conn.add_notice_handler(lambda notice: warnings.append(notice.severity_nonlocalized or ""))
            try:
                found = self._in_one_transaction(conn, writer, call, head)
            except psycopg.Error as error:
                if error.sqlstate == FENCED and _is_renamed(conn, writer):
                    return None  # another connection of this journal goes by another name, or is about to: nothing was done
                if error.sqlstate == FENCED:
                    raise JournalPoisoned("another process has taken the journal") from error
                if isinstance(error, psycopg.errors.LockNotAvailable) and not call.repeated:
                    raise JournalUnavailable(
                        f"what is to be erased, or the journal's end, was locked for {HELD_S:.0f} s",
                        hint="`covenq status` says whether commits wait for a standby; then try again.",
                    ) from error
                if not is_unknown(error):
                    raise refusal(error) from error
                self._unanswered.add(attempt)
                return None
            if "WARNING" in warnings:
                self._unanswered.add(attempt)
                return None
        self._unanswered.discard(attempt)
        return found

    def _in_one_transaction(self, conn: Conn, writer: str, call: Call, head: int) -> tuple[Batch, Rewritten]:
        try:
            with _Guard(conn, self._away) as guard, conn.transaction():
                release_if_idle(conn)
                conn.execute(f"SET LOCAL lock_timeout = {HELD_S * 1000:.0f}")
                # Before anything is locked: an entry of this call gets a seq behind `head`, and may name those up to itself.
                named = [erasure_of(SEQ_MAX, loaded(one.data)) for one in call.prepared]
                ids: list[int | None] = [None] * len(named)
                freed = taken = 0
                order = sorted(range(len(named)), key=lambda place: (not getattr(named[place], "about", False), place))

                def take(low: int, high: int) -> None:
                    nonlocal freed, taken
                    for number in order:
                        erasure = named[number]
                        if erasure is None:
                            continue
                        if ids[number] is None:
                            ids[number] = _first(conn, _BEGIN)
                        count, size = _take(conn, erasure, ids[number], low, high)
                        taken, freed = taken + count, freed + size

                take(1, head)
                batch = send(conn, writer, [call], salt=secrets.token_hex(32), segment_max=self._segment_max)
                answer = batch.answers[0]
                if not isinstance(answer, Appended) or batch.head.seq == batch.before:
                    raise _Refused(batch)
                take(head + 1, batch.before)
                for seq, id in zip(answer.seqs, ids, strict=True):
                    if id is not None:
                        conn.execute(_END, (seq, id))
                guard.commits()
                return batch, Rewritten(frozenset({1}), freed) if taken else Rewritten()
        except _Refused as refused:
            # The head's row was updated in what is undone: that a refusal rests on replicated records is had by another commit.
            with _Guard(conn, self._away) as guard, conn.transaction():
                release_if_idle(conn)
                conn.execute(f"SET LOCAL lock_timeout = {HELD_S * 1000:.0f}")
                batch = send(conn, writer, [], salt=secrets.token_hex(32), segment_max=self._segment_max)
                guard.commits()
            return replace(batch, answers=refused.batch.answers), Rewritten()


def _take(conn: Conn, erasure: Erasure, id: int | None, low: int, high: int) -> tuple[int, int]:
    count = freed = 0
    for first, last in erasure.drops:
        if first <= high and last >= low:
            row = conn.execute(
                _TAKE,
                {"low": max(first, low), "high": min(last, high), "about": erasure.about, "erasure": id},
            ).fetchone()
            if row is not None:
                count, freed = count + row[0], freed + row[1]
    return count, freed


def _first(conn: Conn, query: str) -> int:
    row = conn.execute(query).fetchone()
    if row is None:
        raise JournalError("the database gave no id for the erasure")
    return int(row[0])
