"""A journal doesn't depend on what an administrator has set for the role or the database, nor on who else makes objects there."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest

from journal.append import append_known
from journal.errors import JournalUnavailable, JournalWriteFailed
from journal.postgres.connections import connect
from journal.postgres.engine import PostgresJournal
from journal.postgres.open import open_journal
from journal.postgres.reader import open_reader
from journal.postgres.verify import verify
from journal.records import Appended, Conflict, Node
from tests.support.journals.entries import delivery, digest
from tests.support.postgres.server import HANG_S, Cluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres

Opened = Callable[[], PostgresJournal]

END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'covenq'"


@pytest.fixture
def role(servers: Cluster) -> Iterator[Callable[[str], str]]:
    """role(setting) → a URL whose role has it; the role owns an empty database of its own, where PUBLIC may make objects."""
    made: list[str] = []

    def make(setting: str = "", create: str = "") -> str:
        name = f"guest{len(made)}"
        made.append(name)
        servers.sql(f"CREATE ROLE {name} LOGIN")
        servers.sql(f"CREATE DATABASE {name} OWNER {name} TEMPLATE template0 {create}")
        if setting:
            servers.sql(f"ALTER ROLE {name} SET {setting}")
        return servers.url.replace("covenq@/postgres", f"{name}@/{name}")

    yield make
    for name in made:
        servers.sql(f"DROP DATABASE {name} WITH (FORCE)")
        servers.sql(f"DROP ROLE {name}")


def works(url: str) -> None:
    entries = [delivery(number) for number in range(14)]
    with open_journal(url, node=Node("n")) as journal:
        assert journal.append(entries[:1]) == Appended((1,))
        assert journal.append(entries[1:]) == Appended(tuple(range(2, 15)))
        assert isinstance(journal.append(entries[:1]), Conflict)
        assert [digest(record) for record in journal.read(0)] == [digest(entry) for entry in entries]
    with open_journal(url, node=Node("n")) as journal:
        assert journal.last(entries[3].subject) == journal.get(4)
    with open_reader(url) as reader:
        assert reader.head().seq == 14 and not reader.damage
    assert verify(url).damage == []


@pytest.mark.parametrize(
    "setting",
    [
        "DateStyle = 'German, DMY'",
        "TimeZone = 'Asia/Kathmandu'",
        "TimeZone = '<+0330>-03:30'",
        "client_encoding = 'LATIN1'",
        "bytea_output = 'escape'",
        "IntervalStyle = 'iso_8601'",
        "standard_conforming_strings = off",
        "default_transaction_isolation = 'serializable'",
        "client_min_messages = error",
        "search_path = public, pg_catalog",
        "row_security = off",
        "check_function_bodies = off",
        "plan_cache_mode = force_generic_plan",
        "enable_indexscan = off",
        "default_toast_compression = pglz",
        "default_transaction_deferrable = on",
    ],
)
def test_what_is_set_for_the_role(role: Callable[..., str], setting: str) -> None:
    works(role(setting))


@pytest.mark.parametrize(
    "name", ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"]
)
def test_no_statement_or_session_is_cut_short(role: Callable[..., str], name: str) -> None:
    with connect(role(f"{name} = 3000")) as conn:
        assert conn.execute("SELECT current_setting(%s)", (name,)).fetchone() == ("0",)


def test_the_warning_of_a_commit_that_was_not_replicated_comes(role: Callable[..., str]) -> None:
    warnings: list[str | None] = []
    with connect(role("client_min_messages = error")) as conn:
        conn.add_notice_handler(lambda notice: warnings.append(notice.severity_nonlocalized))
        conn.execute("DO $$ BEGIN RAISE WARNING 'not replicated'; END $$")
    assert warnings == ["WARNING"]


def test_a_database_that_takes_no_writes_says_so(role: Callable[..., str]) -> None:
    with pytest.raises(JournalUnavailable, match="takes no writes") as raised:
        open_journal(role("default_transaction_read_only = on"))
    assert "target_session_attrs=read-write" in raised.value.hint


def test_what_comes_while_the_database_takes_no_writes_is_held(opened: Opened, servers: Cluster) -> None:
    """As when the primary of a connection has become a standby."""
    journal = opened()
    journal.append([delivery(1)])
    servers.sql("ALTER ROLE covenq SET default_transaction_read_only = on")
    servers.sql(END_ALL)
    answers: list[object] = []
    waiting = threading.Thread(target=lambda: answers.append(append_known(journal, [delivery(2)])))
    try:
        waiting.start()
        while journal._committer.away is None or "takes no writes" not in journal._committer.away:
            assert waiting.is_alive()
    finally:
        with psycopg.connect(f"{servers.url}&options=-cdefault_transaction_read_only%3Doff", autocommit=True) as conn:
            conn.execute("ALTER ROLE covenq RESET default_transaction_read_only")
    waiting.join(HANG_S)
    assert answers == [Appended((2,))] and journal.health().ok


@pytest.mark.parametrize("name", ["synchronous_commit", "fsync"])
def test_a_server_that_stops_waiting_for_its_disk_is_refused_at_the_next_append(
    opened: Opened, servers: Cluster, name: str
) -> None:
    journal = opened()
    journal.append([delivery(1)])
    try:
        servers.sql(f"ALTER SYSTEM SET {name} = off")
        servers.sql("SELECT pg_reload_conf()")
        number = itertools.count(2)

        def refused() -> str:
            """Only once the server's process of the connection has read it."""
            try:
                journal.append([delivery(next(number))])
            except JournalWriteFailed as error:
                return str(error)
            return ""

        said = eventually(refused, HANG_S, "an append is refused")
        assert f"{name} is off" in said and "CONTEXT" not in said
    finally:
        servers.sql("ALTER SYSTEM RESET ALL")
        servers.sql("SELECT pg_reload_conf()")
    while True:
        try:
            assert journal.append([delivery(3000)]) and not journal.poisoned
            break
        except JournalWriteFailed as refused:  # until it has read that it is on again
            assert f"{name} is off" in str(refused) and "CONTEXT" not in str(refused)


@pytest.mark.parametrize("create", ["ENCODING 'SQL_ASCII' LOCALE 'C'", "ENCODING 'LATIN1' LOCALE 'C'"])
def test_another_encoding_of_the_database(role: Callable[..., str], create: str) -> None:
    works(role(create=create))


def test_functions_and_operators_of_others_are_not_called(role: Callable[..., str]) -> None:
    url = role("search_path = public, pg_catalog")
    with psycopg.connect(url, autocommit=True) as conn:
        for made in (
            "FUNCTION public.convert_to(text, text) RETURNS bytea",
            "FUNCTION public.sha256(bytea) RETURNS bytea",
            "FUNCTION public.encode(bytea, text) RETURNS text",
            "FUNCTION public.current_setting(text) RETURNS text",
            "FUNCTION public.clock_timestamp() RETURNS timestamptz",
            "FUNCTION public.joined(text, bigint) RETURNS text",
            "FUNCTION public.compared(timestamptz, timestamptz) RETURNS boolean",
        ):
            conn.execute(f"CREATE {made} LANGUAGE plpgsql AS $$ BEGIN RAISE 'another one was called'; END $$")  # type: ignore[call-overload]
        conn.execute("CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = bigint, FUNCTION = public.joined)")
        conn.execute(
            "CREATE OPERATOR public.< (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = public.compared)"
        )
    works(url)
