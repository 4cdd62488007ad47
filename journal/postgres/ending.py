"""Where a journal in tables ends: the row that appends go on from, and whether it fits the records and headers that are there.

A row that was changed by hand, or put back alone, would have appends go on behind another record than the newest one, or with a
salt that no header names: they would be answered, and read by nobody. So it is looked at before a journal is written.
"""

from __future__ import annotations

from typing import NamedTuple

from journal.errors import JournalDamaged, JournalGone
from journal.format.header import parse_header
from journal.postgres.connections import Conn
from journal.postgres.rows import segment_name
from journal.records import NO_SUM, Damage, Head

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
