"""What the server says of itself: its standbys, its clock, its sizes, and since when it says nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from journal.database import Database, Standby
from journal.errors import JournalUnavailable
from journal.postgres.engine import PostgresJournal
from journal.postgres.open import open_journal
from journal.postgres.reader import open_reader
from journal.postgres.watch import look_at, standby_names
from journal.records import Entry, Unknown
from tests.support.journals.entries import delivery
from tests.support.postgres.server import HANG_S, Cluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres

Opened = Callable[[], PostgresJournal]


@pytest.fixture(scope="module")
def replicated() -> Iterator[Cluster]:
    made = Cluster(standby=True)
    yield made
    made.close()


@pytest.fixture
def journal(replicated: Cluster) -> Iterator[PostgresJournal]:
    replicated.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    with open_journal(replicated.url) as made:
        yield made


@pytest.mark.parametrize(
    ("setting", "needed", "names"),
    [
        ("", 0, ()),
        ("  ", 0, ()),
        ("s1", 1, ("s1",)),
        ("s1, s2", 1, ("s1", "s2")),
        ("*", 1, ("*",)),
        ("2 (s1, s2, s3)", 2, ("s1", "s2", "s3")),
        ("FIRST 1 (s1)", 1, ("s1",)),
        ('any 2 (s1,"s ""2"", (3)",*)', 2, ("s1", 's "2", (3)', "*")),
    ],
)
def test_who_may_confirm_a_commit_is_read_as_the_server_reads_it(
    setting: str, needed: int, names: tuple[str, ...]
) -> None:
    assert standby_names(setting) == (needed, names)


def test_a_standby_is_told_by_name_and_how_far_it_is(journal: PostgresJournal, replicated: Cluster) -> None:
    journal.append([delivery(1)])
    database = look_at(replicated.url).database
    assert database.standbys is not None
    [standby] = database.standbys
    assert (standby.name, standby.state, standby.sync_state) == ("standby", "streaming", "sync")
    assert standby.behind is not None and standby.behind >= 0
    assert (database.named, database.needed, database.missing, database.waits) == (("standby",), 1, (), None)
    assert database.ahead_s is not None and abs(database.ahead_s) < HANG_S

    def told() -> bool:
        found = journal.database()
        return found.standbys is not None and found.seen_s is not None and found.away_s is None

    eventually(told, HANG_S, "the daemon's own look sees it too")


def test_who_may_not_see_the_standbys_is_told_so(journal: PostgresJournal, replicated: Cluster) -> None:
    for statement in (
        "DROP ROLE IF EXISTS looker",
        "CREATE ROLE looker LOGIN",
        "GRANT USAGE ON SCHEMA covenq TO looker",
        "GRANT SELECT ON ALL TABLES IN SCHEMA covenq TO looker",
    ):
        replicated.sql(statement)
    try:
        url = replicated.url.replace("covenq@", "looker@")
        database = look_at(url).database
        assert database.hidden and database.standbys is None and database.waits is None and database.missing == ()
        replicated.sql("GRANT pg_read_all_stats TO looker")
        seen = look_at(url).database
        assert not seen.hidden and seen.standbys is not None and seen.standbys[0].name == "standby"
    finally:
        replicated.sql("DROP OWNED BY looker")
        replicated.sql("DROP ROLE looker")


def test_appends_that_wait_for_a_standby_say_for_which(journal: PostgresJournal, replicated: Cluster) -> None:
    assert replicated.standby is not None
    replicated.standby.stop()
    try:
        eventually(lambda: journal.database().waits, HANG_S, "it is seen that the standby is gone")
        database = journal.database()
        assert database.missing == ("standby",) and database.away_s is None
        assert database.waits == "commits wait for a synchronous standby: standby is not connected"
        assert journal.append([delivery(1)]) == Unknown()
        eventually(lambda: journal.health().unreachable, HANG_S, "appends have waited for long")
        assert "standby is not connected" in str(journal.health().unreachable)
    finally:
        replicated.standby.start()
    eventually(lambda: journal.database().waits is None, HANG_S, "it is back")
    eventually(lambda: journal.health().ok, HANG_S, "and appends go on")


def test_a_lost_standby_that_others_stand_in_for_is_missed() -> None:
    standbys = (Standby("S1", "streaming", "quorum", 0),)
    database = Database(standbys=standbys, named=("s1", "s2", "*"), needed=1, seen_s=0.0)
    assert (database.missing, database.waits) == (("s2",), None)
    both = Database(standbys=standbys, named=("*",), needed=2, seen_s=0.0)
    assert both.waits == "commits wait for a synchronous standby: 1 of the 2 that they wait for are there"
    assert Database(standbys=(), named=("s1",), needed=1, seen_s=9.0, away_s=9.0).waits is None, "it can't be known"


def test_nobody_waits_for_a_server_that_hangs_and_it_is_told_for_how_long() -> None:
    servers = Cluster(standby=False)
    try:
        with open_journal(servers.url) as journal:
            journal.append([delivery(1)])
            servers.primary.pause()
            eventually(lambda: journal.database().away_s is not None, HANG_S, "it is seen that it hangs")
            assert journal.measurements()["bytes"], "what it said last is told"
            assert journal.database().standbys == ()
            servers.primary.resume()
            eventually(lambda: journal.database().away_s is None, HANG_S, "it is back")
            servers.primary.kill()
            eventually(lambda: journal.database().away_s is not None, HANG_S, "it is seen that it is gone")
    finally:
        servers.close()


def test_a_table_that_is_locked_is_not_taken_for_a_server_that_is_away(opened: Opened, servers: Cluster) -> None:
    journal = opened()
    with psycopg.connect(servers.url) as conn:
        conn.execute("LOCK TABLE covenq.segment IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(JournalUnavailable, match="statement timeout"):
            look_at(servers.url)
        before = journal.database()
        assert before.away_s is None and before.standbys == ()


def test_segments_are_counted_without_anybody_reading_them(tmp_path: Path, servers: Cluster) -> None:
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    with open_journal(servers.url, segment_max=1000) as journal:
        for number in range(8):
            journal.append([Entry("ops.note", "ops.note", {"text": "x" * 500, "n": number})])
        there = servers.sql("SELECT count(*) FROM covenq.segment")[0][0]
        assert isinstance(there, int) and there > 2
        eventually(lambda: journal.measurements()["segments"] == there, HANG_S, "they are counted")
        with open_reader(servers.url) as reader:
            assert reader.measurements()["segments"] == there
            assert reader.database().standbys == ()
