"""A database that lost what it had acknowledged, before any cache had seen that: it is noticed once, and not forgotten."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from covenq.config.journal import JournalSettings
from covenq.errors import CovenqError
from covenq.operate.maintain.journal_home import OpenedJournal, open_to_write
from covenq.operate.maintain.state_witness import MISSED_NAME, state_witness
from covenq.operate.maintain.verify import check
from covenq.paths import JOURNAL_NAME
from journal.append import append_known
from journal.errors import JournalDamaged, JournalPoisoned
from journal.records import NOBODY, Appended
from tests.support.journals.entries import delivery
from tests.support.postgres.journals import cluster

pytestmark = pytest.mark.postgres

LOSE = (
    "DELETE FROM covenq.content WHERE seq = 3",
    "DELETE FROM covenq.record WHERE seq = 3",
    "UPDATE covenq.head SET seq = 2, sum = r.sum, link = r.sum FROM covenq.record r WHERE r.seq = 2",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'covenq'",
)


def opened_in(data: Path, settings: JournalSettings, accept_head: int | None = None) -> OpenedJournal:
    return open_to_write(settings, data, find_node=lambda: (NOBODY, None), accept_head=accept_head)


@pytest.fixture
def settings() -> JournalSettings:
    servers = cluster(standby=False)
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    return JournalSettings(servers.url)


def test_the_next_start_and_verify_know_what_was_lost(settings: JournalSettings, tmp_path: Path) -> None:
    with closing(opened_in(tmp_path, settings)) as opened:
        for number in range(1, 4):
            append_known(opened.journal, [delivery(number)])
        for query in LOSE:
            cluster(standby=False).sql(query)
        with pytest.raises((JournalDamaged, JournalPoisoned), match="record 3 was acknowledged"):
            append_known(opened.journal, [delivery(4)])
    for _ in range(2):
        with pytest.raises(JournalDamaged, match="record 3 was acknowledged"):
            opened_in(tmp_path, settings)
    report = check(tmp_path, settings, upto=None)
    assert [one.kind for one in report.damage] == ["shorter than caches"]
    with closing(opened_in(tmp_path, settings, accept_head=2)) as opened:
        assert isinstance(append_known(opened.journal, [delivery(4)]), Appended)
    opened_in(tmp_path, settings).close()
    assert state_witness(tmp_path) is None


def test_a_note_that_can_not_be_read_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_NAME).mkdir()
    (tmp_path / JOURNAL_NAME / MISSED_NAME).write_text("{")
    with pytest.raises(CovenqError, match="missed can't be read"):
        state_witness(tmp_path)
