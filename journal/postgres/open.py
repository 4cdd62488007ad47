"""Opening the journal of a database to write it: the server checked, the tables made if they are missing, the lease taken."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

import psycopg

from journal.append import append_known
from journal.errors import JournalGone, JournalSealed, JournalUnaccepted
from journal.format.header import SEGMENT_BYTES
from journal.postgres import lease, schema, server
from journal.postgres.connections import Conn, connect, unavailable
from journal.postgres.engine import Opening, PostgresJournal, check_head
from journal.postgres.rows import Segments
from journal.postgres.watch import look_once
from journal.records import OWN_SUBJECT, Entry, Head, Witness


def open_journal(
    url: str,
    *,
    node: str = "",
    witnesses: Sequence[Witness] = (),
    accept_head: int | None = None,
    segment_max: int = SEGMENT_BYTES,
    token: Callable[[int], str] = secrets.token_hex,
    now: Callable[[], float] = time.time,
) -> PostgresJournal:
    """The journal at this URL, made if there is none.

    `node` names who opens it: a lease that it still holds is taken over at once, so it has to be sure that it is alone under
    that name. `witnesses` are what caches had seen: a database that lacks one has lost records, and only `accept_head`, the seq
    that it ends at, goes on, in a new epoch.

    Raises JournalUnavailable, ServerUnsafe and its like, SchemaForbidden, FormatUnknown, JournalLocked, JournalDamaged,
    JournalUnaccepted.
    """
    conn = connect(url, first=True)
    try:
        server.check(conn, now)
        # A standby that is gone would keep a start waiting without a word: appends wait for it, and say so.
        conn.execute("SET synchronous_commit = local")
        created = schema.make(conn, token)
        schema.check_version(conn)
        writer = token(16)
        lease.take(conn, writer, node)
        try:
            id, epoch, head, segments = _end_of(conn, witnesses, accept_head)
            found = Opening(id, epoch, head, segments, look_once(conn, now), created)
        except BaseException:
            lease.give_up(conn, writer)
            raise
    except psycopg.Error as error:
        raise unavailable(error) from error
    finally:
        conn.close()
    journal = PostgresJournal(url, writer, found, segment_max=segment_max)
    if accept_head is not None:
        try:
            journal.begin_epoch(token(8))
            # At once, so that caches know the epoch before they look for the records that were lost.
            append_known(journal, [Entry(OWN_SUBJECT, "journal.accepted", {"head": accept_head})])
        except BaseException:
            journal.close()
            raise
    return journal


def prepare(url: str, *, token: Callable[[int], str] = secrets.token_hex, now: Callable[[], float] = time.time) -> bool:
    """Make the tables and an empty journal at this URL, if there is none; whether it was made. Raises as `open_journal`."""
    conn = connect(url, first=True)
    try:
        server.check(conn, now)
        created = schema.make(conn, token)
        schema.check_version(conn)
        return created
    except psycopg.Error as error:
        raise unavailable(error) from error
    finally:
        conn.close()


def _end_of(conn: Conn, witnesses: Sequence[Witness], accept_head: int | None) -> tuple[str, str, Head, Segments]:
    """The journal's id, its epoch, its newest record and its segments. Raises JournalDamaged, JournalUnaccepted."""
    row = conn.execute("SELECT journal, epoch, seq, sum, closed FROM covenq.head").fetchone()
    if row is None:
        raise JournalGone("there is no journal in that database any more")
    id, epoch, seq, total, closed = row
    if closed:
        raise JournalSealed(closed)
    if accept_head is None:
        for witness in witnesses:
            if witness.journal == id:
                check_head(conn, Head(witness.seq, witness.sum))
    elif accept_head != seq:
        raise JournalUnaccepted(
            f"the database's journal ends at {seq}, not at {accept_head}",
            hint=f"Look at `covenq verify`, then give --accept-head {seq} if that is what you mean.",
        )
    segments = Segments()
    segments.load(conn)
    return id, epoch, Head(seq, total), segments
