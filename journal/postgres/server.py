"""What is asked of a server before a journal is written there: that its commits wait for its disk, and its clock is right."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from journal.errors import JournalUnsafe
from journal.postgres.deadlines import Conn

OLDEST = 130000
"""PostgreSQL 13: the first with what the append needs, of 2020."""
CLOCK_MAX_S = 5.0
"""Seconds that the two clocks may differ: leases of tasks and what operators read off times both bear that."""


class ServerUnsafe(JournalUnsafe):
    """A setting of the server under which an answered append could be lost."""

    hint = "Change it in the server's configuration, and start again."


class ServerTooOld(JournalUnsafe):
    """A server that lacks what the append needs."""

    hint = "Use PostgreSQL 13 or newer."


class ClockOff(JournalUnsafe):
    """This machine's clock and the database's differ by too much."""

    hint = "Have both machines set their clocks (chrony, systemd-timesyncd), and start again."


_FIXES = {
    "fsync": "Set fsync = on in postgresql.conf, restart the server, and believe nothing it held before.",
    "full_page_writes": "Set full_page_writes = on in postgresql.conf, and reload the server.",
    "synchronous_commit": "Set synchronous_commit to on or remote_apply for this role: ALTER ROLE … SET synchronous_commit = on.",
}


def check(conn: Conn, now: Callable[[], float]) -> None:
    """Raises ServerUnsafe, ServerTooOld, ClockOff. `now` is this machine's time, in seconds since 1970."""
    if conn.info.server_version < OLDEST:
        raise ServerTooOld(f"the database is PostgreSQL {conn.info.server_version // 10000}")
    names = ("fsync", "full_page_writes", "synchronous_commit")
    before = now()
    row = conn.execute(
        f"SELECT clock_timestamp(), {', '.join(f'current_setting({name!r})' for name in names)}"
    ).fetchone()
    after = now()
    assert row is not None
    moment: datetime = row[0]
    found = dict(zip(names, row[1:], strict=True))
    for name in ("fsync", "full_page_writes"):
        if found[name] != "on":
            raise ServerUnsafe(f"the database runs with {name} = {found[name]}", hint=_FIXES[name])
    if found["synchronous_commit"] not in ("on", "remote_apply"):
        setting = found["synchronous_commit"]
        raise ServerUnsafe(f"commits run with synchronous_commit = {setting}", hint=_FIXES["synchronous_commit"])
    off = max(before - moment.timestamp(), moment.timestamp() - after, 0.0)
    if off > CLOCK_MAX_S:
        raise ClockOff(f"the database's clock and this machine's differ by {off:.0f} s")
