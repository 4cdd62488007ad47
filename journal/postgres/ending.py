"""Where a journal in tables ends: the row that appends go on from, and whether it fits the records and headers that are there.

A row that was changed by hand, or put back alone, would have appends go on behind another record than the newest one, or with a
salt that no header names: they would be answered, and read by nobody. So it is looked at before a journal is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from journal.errors import JournalDamaged, JournalGone, JournalSealed, JournalUnaccepted
from journal.format.header import parse_header
from journal.postgres.deadlines import Conn
from journal.postgres.rows import Segments, segment_name
from journal.records import NO_SUM, Damage, Head, Witness

ANOTHER = "Name the database that state.db is of; or start with --accept-head to go on with what is there."
_HEAD = "SELECT journal, epoch, seq, sum, link, segment, salt, closed FROM covenq.head"
_NEWEST = "SELECT seq, sum FROM covenq.record ORDER BY seq DESC LIMIT 1"
_HEADER = "SELECT first, header FROM covenq.segment ORDER BY first DESC LIMIT 1"


class Ending(NamedTuple):
    """The row of `covenq.head`, but for who writes."""

    journal: str
    epoch: str
    seq: int
    sum: str
    link: str
    segment: int
    salt: str
    closed: str

    @property
    def head(self) -> Head:
        return Head(self.seq, self.sum)


def read_ending(conn: Conn) -> Ending:
    """Raises JournalGone, psycopg.Error."""
    row = conn.execute(_HEAD).fetchone()
    if row is None:
        raise JournalGone("there is no journal in that database any more")
    return Ending(*row)


def check_ending(conn: Conn, ending: Ending) -> None:
    """Raises JournalDamaged where the head is not the end of what the tables hold."""
    found = conn.execute(_HEADER, binary=True).fetchone()
    header = None if found is None or found[1] is None else parse_header((found[1] + b"\n") * 2)[0]
    if found is None or header is None or header.first != found[0]:
        detail = "no segment is there" if found is None else "the header of the newest segment does not verify"
        raise _damaged("bad header", ending, detail)
    newest = conn.execute(_NEWEST).fetchone() or (0, NO_SUM)
    if newest[0] != ending.seq:
        raise _damaged(
            "other history", ending, f"the head says that the log ends at {ending.seq}, it ends at {newest[0]}"
        )
    link = header.sum if header.after == ending.seq else newest[1]
    if (ending.sum, ending.link) != (newest[1] if ending.seq else ending.sum, link):
        raise _damaged("other history", ending, "the head has another sum than the newest record")
    of = (header.journal, header.epoch, header.first, header.salt)
    if of != (ending.journal, ending.epoch, ending.segment, ending.salt):
        detail = "the head is of another segment, epoch or journal than the newest header"
        raise _damaged("foreign segment", ending, detail)


def _damaged(kind: str, ending: Ending, detail: str) -> JournalDamaged:
    return JournalDamaged([Damage(kind, segment_name(ending.segment), 0, ending.seq, None, detail)])


def end_of(conn: Conn, witnesses: Sequence[Witness], accept_head: int | None = None) -> tuple[Ending, Segments]:
    """Where the journal ends, and its segments. Raises JournalSealed, JournalDamaged, JournalUnaccepted."""
    ending = read_ending(conn)
    if ending.closed:
        raise JournalSealed(ending.closed)
    if accept_head is None:
        for witness in witnesses:
            if witness.journal != ending.journal:
                detail = f"it is journal {ending.journal[:8]}…, and seq {witness.seq} of {witness.journal[:8]}… had been seen"
                raise JournalDamaged([Damage("foreign", "the database", 0, witness.seq, None, detail)], hint=ANOTHER)
            check_head(conn, Head(witness.seq, witness.sum))
    elif accept_head != ending.seq:
        raise JournalUnaccepted(
            f"the database's journal ends at {ending.seq}, not at {accept_head}",
            hint=f"Look at `covenq verify`, then give --accept-head {ending.seq} if that is what you mean.",
        )
    check_ending(conn, ending)
    segments = Segments()
    segments.load(conn)
    return ending, segments


def check_head(conn: Conn, head: Head) -> None:
    """Raises JournalDamaged if the database lacks the record `head`, or has another one there."""
    if not head.seq:
        return
    row = conn.execute("SELECT sum FROM covenq.record WHERE seq = %s", (head.seq,)).fetchone()
    if row is not None and row[0] == head.sum:
        return
    newest = conn.execute("SELECT seq, segment FROM covenq.head").fetchone()
    seq, segment = (0, 1) if newest is None else newest
    if row is None:
        detail = f"record {head.seq} was acknowledged, and the database ends at {seq}: it lost what was not replicated"
        if seq >= head.seq:
            detail = f"record {head.seq} was acknowledged, and is gone, though the database says that it ends at {seq}"
    else:
        detail = f"record {head.seq} is another one than was acknowledged"
    raise JournalDamaged(
        [Damage("lost", segment_name(segment), 0, head.seq, None, detail)],
        hint=f"Put back the server that has it; or `covenq serve --accept-head {seq}` goes on with what is there.",
    )
