"""Taking content out of the tables: the naming record and what it names, in one transaction.

So there is no erasure that was cut short: after any crash either the record is there and its content is gone, or neither. Content
is taken away first and the record is appended last, since the append locks the head until the commit: who waits behind an erasure
waits for its record alone, not for all of its rows. A row that lost content points at its erasure, and that at its record, whose
seq is known last.

What this does not reach: old versions of the rows until they are vacuumed, the write-ahead log, and backups of the server.
covenq-postgres(7) says how long those last.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import replace

import psycopg

from journal.erasure import Erasure, erasure_of
from journal.errors import JournalError, JournalPoisoned
from journal.format.codec import Prepared, loaded
from journal.postgres.call import FENCED, Batch, Call, send
from journal.postgres.connections import Conn, Connections, is_unknown, refusal
from journal.records import SEQ_MAX, Appended, Rewritten

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


class Eraser:
    """Erases on connections of its own; from any thread, since the head's row makes appends come one after another."""

    def __init__(self, connections: Connections, writer: Callable[[], str], segment_max: int) -> None:
        """`writer` is the name that appends go by at the moment."""
        self._connections, self._writer, self._segment_max = connections, writer, segment_max
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
                if error.sqlstate == FENCED and self._writer() != writer:
                    return None  # another connection of this journal goes by another name now: nothing was done
                if error.sqlstate == FENCED:
                    raise JournalPoisoned("another process has taken the journal") from error
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
            with conn.transaction():
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
                return batch, Rewritten(frozenset({1}), freed) if taken else Rewritten()
        except _Refused as refused:
            # The head's row was updated in what is undone: that a refusal rests on replicated records is had by another commit.
            with conn.transaction():
                batch = send(conn, writer, [], salt=secrets.token_hex(32), segment_max=self._segment_max)
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
