"""The database that keeps the journal in words: the same on the command line, the dashboard and the pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from covenq.cli.commands.status import _database_lines, _wrong_lines
from covenq.client.local import LocalSource
from covenq.config.load import Config
from covenq.http.page.status import status_view
from covenq.model.database_text import clock_text, standbys_text
from covenq.model.journal_status import DatabaseStatus, JournalStatus, StandbyStatus
from covenq.model.status import Status
from covenq.model.trouble import troubles
from covenq.tui.panes import alarms
from covenq.tui.panes.durability import durability
from tests.support.answers import NOW, STATUS

S1 = StandbyStatus("s1", "streaming", "sync", 0)
S2 = StandbyStatus("s2", "catchup", "potential", 5 << 20)
WELL = DatabaseStatus([S1, S2], named=["s1", "s2"], needed=1, ahead_s=0.012, seen_s=1.5)
WAITS = "commits wait for a synchronous standby: s1 is not connected"


def status(database: DatabaseStatus, **journal: object) -> Status:
    return replace(STATUS, journal=replace(STATUS.journal, engine="postgres", database=database, **journal))


@pytest.mark.parametrize(
    ("database", "durability", "words"),
    [
        (WELL, "replicated", "s1 streaming, sync, 0 B behind; s2 catchup, potential, 5.0 MiB behind"),
        (DatabaseStatus([], seen_s=1.0), "fsync", "none"),
        (DatabaseStatus([], named=["s1"], needed=1, missing=["s1"], seen_s=1.0), "fsync", "s1 not connected"),
        (
            DatabaseStatus(hidden=True, seen_s=1.0),
            "fsync",
            "not to be seen: GRANT pg_read_all_stats TO covenq's role",
        ),
        (DatabaseStatus(), "fsync", "not known yet"),
        (
            DatabaseStatus([], seen_s=70.0),
            "managed",
            "none; by [journal] replicated its storage is, by whoever manages it (1m ago)",
        ),
        (
            DatabaseStatus([StandbyStatus("", "startup", "async", None)], seen_s=0.0),
            "fsync",
            "one without a name startup, async",
        ),
    ],
)
def test_standbys_are_told_by_name_or_why_they_cannot_be(database: DatabaseStatus, durability: str, words: str) -> None:
    assert standbys_text(status(database, durability=durability).journal) == words


def test_every_face_has_the_line() -> None:
    found = status(WELL, durability="replicated")
    words = standbys_text(found.journal)
    assert list(_database_lines(found.journal)) == [
        ("standbys", words),
        ("database", "its clock is 12 ms ahead of this machine's"),
    ]
    assert ("standbys", words) in status_view(found, NOW).facts
    assert any(words in "".join(part for part, *_ in line) for line in durability(found, NOW))
    assert not any("standbys" in "".join(part for part, *_ in line) for line in durability(STATUS, NOW))
    assert list(_database_lines(STATUS.journal)) == []


def test_how_long_it_is_away_and_how_far_its_clock_is_off() -> None:
    assert clock_text(DatabaseStatus(away_s=75.0, ahead_s=-1.26)) == (
        "has not answered for 1m, its clock is 1.3 s behind this machine's"
    )
    assert clock_text(DatabaseStatus()) == ""


@pytest.mark.parametrize(
    ("database", "word", "tone"),
    [
        (DatabaseStatus([], named=["s1"], needed=1, missing=["s1"], waits=WAITS), "held up", "bad"),
        (DatabaseStatus([S1], named=["s1", "s2"], needed=1, missing=["s2"]), "standby", "warning"),
        (DatabaseStatus([S1], away_s=9.0), "away", "bad"),
        (DatabaseStatus([S1], ahead_s=-7.0), "clock", "warning"),
    ],
)
def test_what_is_wrong_with_it_is_trouble_on_every_face(database: DatabaseStatus, word: str, tone: str) -> None:
    found = status(database)
    [told] = troubles(found, NOW)
    assert (told.word, told.tone) == (word, tone)
    assert (word.upper(), told.text) in list(_wrong_lines(found, NOW))
    [alarm] = alarms.of_status(found, NOW)
    assert (alarm.words, alarm.tone) == (told.text, tone)


def test_nothing_is_wrong_with_one_that_is_well_and_what_is_told_already_is_not_told_twice() -> None:
    assert list(troubles(status(WELL), NOW)) == []
    away = replace(status(DatabaseStatus([S1], away_s=9.0)), ready=False, reasons=["The database has not answered."])
    assert list(troubles(away, NOW)) == []
    assert list(troubles(status(DatabaseStatus([S1], away_s=3.0)), NOW)) == []


def test_a_journal_in_files_has_no_database(tmp_path: Path) -> None:
    journal: JournalStatus = LocalSource(tmp_path, Config()).status().journal
    assert journal.database is None and standbys_text(journal) == ""
