"""A server under which an answered append could be lost is refused, by name and with what to do about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from covenq.intake.admission import Admission
from journal.errors import (
    FormatUnknown,
    JournalError,
    JournalGone,
    JournalUnaccepted,
    JournalUnavailable,
    JournalWriteFailed,
)
from journal.postgres.engine import PostgresJournal
from journal.postgres.open import open_journal
from journal.postgres.reader import open_reader
from journal.postgres.schema import SchemaForbidden
from journal.postgres.server import ClockOff, ServerUnsafe
from journal.records import Appended
from tests.support.journals.entries import delivery
from tests.support.postgres.server import Cluster

pytestmark = pytest.mark.postgres

Opened = Callable[[], PostgresJournal]


@pytest.fixture
def setting(servers: Cluster) -> Iterator[Callable[[str, str], None]]:
    """setting(name, value) until the end of the test"""

    def change(name: str, value: str) -> None:
        servers.sql(f"ALTER SYSTEM SET {name} = {value}")
        servers.sql("SELECT pg_reload_conf()")

    yield change
    servers.sql("ALTER SYSTEM RESET ALL")
    servers.sql("SELECT pg_reload_conf()")


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
def test_a_setting_that_loses_commits(servers: Cluster, setting: Callable[[str, str], None], name: str) -> None:
    setting(name, "off")
    with pytest.raises(ServerUnsafe, match=f"{name} = off") as raised:
        open_journal(servers.url)
    assert name in raised.value.hint and raised.value.exit_code == 4


@pytest.mark.parametrize("value", ["off", "local", "remote_write"])
def test_a_commit_that_does_not_wait(servers: Cluster, value: str) -> None:
    with pytest.raises(ServerUnsafe, match=f"synchronous_commit = {value}"):
        open_journal(f"{servers.url}&options=-csynchronous_commit%3D{value}")


@pytest.mark.parametrize("off", [-6.0, 6.0])
def test_a_clock_that_is_off(servers: Cluster, off: float) -> None:
    with pytest.raises(ClockOff):
        open_journal(servers.url, now=lambda: time.time() + off)


def test_times_are_the_databases(opened: Opened, servers: Cluster) -> None:
    opened().append([delivery(1)])
    record = opened().get(1)
    assert record is not None
    [(near,)] = servers.sql(f"SELECT abs(extract(epoch FROM clock_timestamp() - '{record.at}'::timestamptz)) < 60")
    assert near


def test_tables_of_another_version(opened: Opened, servers: Cluster) -> None:
    opened().close()
    servers.sql("UPDATE covenq.head SET version = 99")
    for opening in (open_journal, open_reader):
        with pytest.raises(FormatUnknown, match="99"):
            opening(servers.url)


def test_no_tables_and_no_right_to_make_them(servers: Cluster) -> None:
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    servers.sql("DROP ROLE IF EXISTS guest")
    servers.sql("CREATE ROLE guest LOGIN")
    url = servers.url.replace("covenq@", "guest@")
    with pytest.raises(SchemaForbidden, match="permission denied") as raised:
        open_journal(url)
    assert "covenq init --postgres" in raised.value.hint
    with pytest.raises(JournalGone):
        open_reader(servers.url)


def test_rights_that_are_missing_and_tables_that_were_changed_are_called_so(opened: Opened, servers: Cluster) -> None:
    opened().close()
    servers.sql("DROP ROLE IF EXISTS guest")
    servers.sql("CREATE ROLE guest LOGIN")
    with pytest.raises(JournalUnavailable, match="this role may not") as raised:
        open_reader(servers.url.replace("covenq@", "guest@"))
    assert "covenq init --postgres" in raised.value.hint
    servers.sql("ALTER TABLE covenq.record RENAME COLUMN sum TO total")
    with pytest.raises(JournalUnavailable, match="the tables are not as covenq made them") as raised:
        open_journal(servers.url)
    assert "backup" in raised.value.hint


def test_a_write_that_is_refused_is_called_no_full_disk(opened: Opened, servers: Cluster) -> None:
    journal = opened()
    servers.sql("ALTER FUNCTION covenq.begin_segment RENAME TO gone")
    servers.sql("ALTER FUNCTION covenq.append RENAME TO append_gone")
    with pytest.raises(JournalWriteFailed, match="does not exist"):
        journal.append([delivery(1)])
    admission = Admission(journal)
    [reason] = admission.reasons()
    assert "the database refused: function covenq.append" in reason.sentence
    assert "space" not in reason.sentence


def test_a_server_that_is_not_there(servers: Cluster) -> None:
    for url in (
        f"postgresql://covenq:hunter2@/x?host={servers.base}&port=1",
        "postgresql://covenq:hunter2@[/x",
        "postgresql://ann:hunter2/x@db/x",
        "postgresql://ann:x@hunter2@db/x",
        "postgresql://ann:hunter2%E9@db/x",
    ):
        with pytest.raises(JournalUnavailable) as raised:
            open_journal(url)
        assert "hunter2" not in str(raised.value) + raised.value.hint
        assert "status" not in raised.value.hint, "which can't read the journal either"


def test_only_the_head_that_is_there_is_accepted(opened: Opened, servers: Cluster) -> None:
    journal = opened()
    journal.append([delivery(1)])
    epoch = journal.epoch
    journal.close()
    with pytest.raises(JournalUnaccepted, match="ends at 1"):
        open_journal(servers.url, accept_head=7)
    with open_journal(servers.url, accept_head=1) as accepted:
        assert accepted.append([delivery(2)]) == Appended((3,))
        assert accepted.epoch != epoch
        assert [record.epoch != epoch for record in accepted.read(0)] == [False, True, True]
        assert [record.kind for record in accepted.read(1)] == ["journal.accepted", "delivery.received"]


def test_every_error_says_what_to_do() -> None:
    for error in (ServerUnsafe, ClockOff, SchemaForbidden):
        assert issubclass(error, JournalError) and error.hint
