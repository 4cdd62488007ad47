"""Making the tables, and telling whether those that are there can be worked with."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Literal

from psycopg import errors

from journal.errors import FormatUnknown, JournalDamaged, JournalError, JournalGone
from journal.format.header import GENESIS, make_header
from journal.postgres import builds
from journal.postgres.connections import GRANTED, one_line
from journal.postgres.deadlines import Conn
from journal.records import Damage

VERSION = 2
_UPGRADED = (
    "`covenq serve` brings them up to it, where its role owns them; `covenq init --postgres URL` prints the SQL."
)
_LEFT = "SELECT EXISTS (SELECT 1 FROM covenq.record) OR EXISTS (SELECT 1 FROM covenq.segment)"
_LOCK = 0x636F76656E71
"""The advisory lock of who makes the tables: `covenq` in ASCII."""


class NoJournal(JournalGone):
    """The database has no journal: no tables, or nothing in them that begins one."""

    exit_code = 3
    hint = "`covenq serve` makes one, or `covenq init --postgres URL`."


Lacking = Literal["tables", "version", "grants"]
"""What a role may not do: make the tables, bring them up to this version, or use them."""


class SchemaForbidden(JournalError):
    """The tables are not as they have to be, and this role may not change that."""

    exit_code = 4
    hint = (
        "`covenq init --postgres URL` prints the SQL for it: have a role that may create a schema run it (`psql -f FILE`), "
        "and repeat this command."
    )

    def __init__(self, text: str, lacking: Lacking = "tables") -> None:
        super().__init__(text, hint=GRANTED if lacking == "grants" else None)
        self.lacking = lacking


def script() -> str:
    """The SQL that makes the tables and functions."""
    return files("journal.postgres").joinpath("schema.sql").read_text("utf-8")


def upgrade_script() -> str:
    """The SQL that brings tables of the version before up to VERSION."""
    return files("journal.postgres").joinpath("upgrade.sql").read_text("utf-8")


def new_journal(token: Callable[[int], str]) -> str:
    """The SQL that begins a journal in tables that have none. `token(n)` is n random bytes as hex."""
    journal, epoch, salt = token(16), token(8), token(32)
    header, line = make_header(journal=journal, epoch=epoch, first=1, after=0, prev=GENESIS, salt=salt)
    # Hex digits and this package's own text: nothing in it needs to be escaped.
    return f"""
INSERT INTO covenq.segment VALUES (1, convert_to('{line.decode().rstrip()}', 'UTF8'));
INSERT INTO covenq.head (version, journal, epoch, seq, sum, link, segment, segment_bytes, salt)
  VALUES ({VERSION}, '{journal}', '{epoch}', 0, '{GENESIS}', '{header.sum}', 1, 0, '{salt}');
INSERT INTO covenq.lease DEFAULT VALUES;
"""  # noqa: S608


def grants() -> str:
    """The SQL that gives roles what they need, with `:writer` and `:reader` in their places."""
    return files("journal.postgres").joinpath("grants.sql").read_text("utf-8")


def version_of(conn: Conn) -> int | None:
    """The version of the tables; None if there are none, or no journal in them.

    Raises JournalDamaged where records are there, and nothing says where they end.
    """
    try:
        row = conn.execute("SELECT version FROM covenq.head").fetchone()
        if row is not None:
            return int(row[0])
        left = conn.execute(_LEFT).fetchone()
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        return None
    if left == (True,):
        detail = "covenq.head has no row, and there are records or segments"
        raise JournalDamaged([Damage("missing", "the database", 0, None, None, detail)])
    return None


def check_version(conn: Conn) -> None:
    """Raises NoJournal, FormatUnknown if it is of a version or a build that it doesn't know, JournalDamaged."""
    found = version_of(conn)
    if found is None:
        raise NoJournal("there is no journal in that database")
    if found != VERSION:
        hint = _UPGRADED if found == VERSION - 1 else None
        words = f"the database's tables are of version {found}; this covenq knows version {VERSION}"
        raise FormatUnknown(words, hint=hint)
    builds.check(conn)


def upgrade(conn: Conn) -> bool:
    """Bring tables of the version before up to VERSION, in one transaction; whether it was needed. Who runs goes on meanwhile.

    Raises SchemaForbidden, JournalDamaged.
    """
    try:
        with conn.transaction():
            conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            if version_of(conn) != VERSION - 1:
                return False
            conn.execute(upgrade_script().encode())
            return True
    except errors.InsufficientPrivilege as error:
        words = f"the journal's tables are of version {VERSION - 1}, and this role may not bring them up to {VERSION}"
        raise SchemaForbidden(f"{words}: {one_line(error)}", "version") from error


def make_tables(conn: Conn) -> None:
    """Make the tables, empty, if they are missing. Raises SchemaForbidden."""
    try:
        with conn.transaction():
            conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            if conn.execute("SELECT to_regclass('covenq.head') IS NULL").fetchone() == (True,):
                conn.execute(script().encode())
    except errors.InsufficientPrivilege as error:
        there = conn.execute("SELECT to_regnamespace('covenq') IS NOT NULL").fetchone() == (True,)
        words = (
            "the journal's tables are there, and this role may not use them"
            if there
            else "the journal's tables can't be made"
        )
        raise SchemaForbidden(f"{words}: {one_line(error)}", "grants" if there else "tables") from error


def make(conn: Conn, token: Callable[[int], str]) -> bool:
    """Make the tables and an empty journal, if there is none; whether it was made. `token(n)` is n random bytes as hex.

    Each in one transaction: after a crash there is a whole journal or none. Raises SchemaForbidden, JournalDamaged.
    """
    make_tables(conn)
    there = False
    try:
        with conn.transaction():
            conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            there = True
            if version_of(conn) is not None:
                return False
            there = False
            conn.execute(new_journal(token).encode())
            return True
    except errors.InsufficientPrivilege as error:
        words = "this role may not read the journal's tables" if there else "a journal can't be begun"
        raise SchemaForbidden(f"{words}: {one_line(error)}", "grants" if there else "tables") from error
