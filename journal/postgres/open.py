"""Opening the journal of a database to write it: the server checked, the tables made if they are missing, the lease taken."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

import psycopg

from journal.append import append_known
from journal.errors import JournalDamaged, JournalLocked
from journal.format.header import SEGMENT_BYTES
from journal.postgres import lease, schema, server
from journal.postgres.connections import connect, unavailable
from journal.postgres.deadlines import Conn
from journal.postgres.ending import end_of
from journal.postgres.engine import Opening, PostgresJournal
from journal.postgres.nodes import introduce
from journal.postgres.watch import look_once
from journal.records import NOBODY, OWN_SUBJECT, Damage, Entry, Node, Witness

NONE_LEFT = "Put the tables back from a backup of the database; or start with --accept-head 0 to begin a new journal."


def open_journal(
    url: str,
    *,
    node: Node = NOBODY,
    may_stand_by: bool = False,
    witnesses: Sequence[Witness] = (),
    accept_head: int | None = None,
    segment_max: int = SEGMENT_BYTES,
    now: Callable[[], float] = time.time,
    missed: Callable[[Witness], None] = lambda witness: None,
) -> PostgresJournal:
    """The journal at this URL, made if there is none.

    `node` is who opens it: a lease that it still holds is taken over at once, so it has to be sure that it is alone under
    its id. Where another node holds it, this one stands by, if it `may_stand_by`. `witnesses` are what caches had seen: a
    database that lacks one has lost records, and only `accept_head`, the seq that it ends at, goes on, in a new epoch. `missed`
    is called, from another thread, with the newest record that was acknowledged where the database is found to lack it later: a
    witness for the next opening.

    Raises JournalUnavailable, ServerUnsafe and its like, SchemaForbidden, FormatUnknown, JournalLocked, JournalDamaged,
    JournalUnaccepted.
    """
    conn = connect(url, first=True)
    try:
        server.check(conn, now)
        # A standby that is gone would keep a start waiting without a word: appends wait for it, and say so.
        conn.execute("SET synchronous_commit = local")
        if accept_head != 0:
            _check_seen(conn, witnesses)
        created = schema.make(conn, secrets.token_hex)
        schema.upgrade(conn)
        schema.check_version(conn)
        writer = secrets.token_hex(16)
        leads = _take(conn, writer, node, may_stand_by=may_stand_by and accept_head is None)
        try:
            introduce(conn, node)
            with conn.transaction():
                # Of one moment: while this node stands by, another one appends.
                conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                ending, segments = end_of(conn, witnesses, accept_head)
            found = Opening(ending.journal, ending.epoch, ending.head, segments, look_once(conn, now), created)
        except BaseException:
            lease.give_up(conn, writer)  # does nothing where it was not taken
            raise
    except psycopg.Error as error:
        raise unavailable(error) from error
    finally:
        conn.close()
    journal = PostgresJournal(url, writer, node, found, segment_max=segment_max, leads=leads, missed=missed)
    if accept_head is not None and not created:
        try:
            journal.begin_epoch(secrets.token_hex(8))
            # At once, so that caches know the epoch before they look for the records that were lost.
            append_known(journal, [Entry(OWN_SUBJECT, "journal.accepted", {"head": accept_head})])
        except BaseException:
            journal.close()
            raise
    return journal


def _take(conn: Conn, writer: str, node: Node, *, may_stand_by: bool) -> bool:
    """Whether it was taken. One that another node left to lapse is taken later, as by any that stands by."""
    if may_stand_by and not lease.is_given_up(conn, node):
        return False
    try:
        lease.take(conn, writer, node)
    except JournalLocked:
        if not may_stand_by:
            raise
        return False
    return True


def prepare(url: str, *, token: Callable[[int], str] = secrets.token_hex, now: Callable[[], float] = time.time) -> bool:
    """Make the tables and an empty journal at this URL, if there is none; whether it was made. Raises as `open_journal`."""
    conn = connect(url, first=True)
    try:
        server.check(conn, now)
        created = schema.make(conn, token)
        schema.upgrade(conn)
        schema.check_version(conn)
        return created
    except psycopg.Error as error:
        raise unavailable(error) from error
    finally:
        conn.close()


def _check_seen(conn: Conn, witnesses: Sequence[Witness]) -> None:
    """Before a journal is made where there is none: none had been seen. Raises JournalDamaged."""
    if witnesses and schema.version_of(conn) is None:
        newest = max(witnesses, key=lambda witness: witness.seq)
        detail = f"there is no journal, but seq {newest.seq} of one had been seen"
        raise JournalDamaged([Damage("gone", "the database", 0, newest.seq, None, detail)], hint=NONE_LEFT)
