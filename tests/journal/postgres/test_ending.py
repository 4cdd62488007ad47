"""What a start does where the tables no longer say where the journal ends: it is refused in words, and nothing is begun anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from journal.errors import JournalDamaged
from journal.postgres.engine import PostgresJournal
from journal.postgres.open import open_journal
from journal.postgres.reader import open_reader
from journal.postgres.verify import verify
from journal.records import Appended, Witness
from tests.support.journals.entries import delivery
from tests.support.postgres.server import Cluster

pytestmark = pytest.mark.postgres

Opened = Callable[[], PostgresJournal]

CHANGES = {
    "UPDATE covenq.head SET seq = 2": "the head says that the log ends at 2, it ends at 3",
    "UPDATE covenq.head SET seq = 500": "it ends at 3",
    "UPDATE covenq.head SET sum = repeat('0', 64)": "another sum",
    "UPDATE covenq.head SET link = ''": "another sum",
    "UPDATE covenq.head SET salt = 'x'": "another segment, epoch or journal",
    "UPDATE covenq.head SET epoch = 'x'": "another segment, epoch or journal",
    "UPDATE covenq.head SET journal = 'x'": "another segment, epoch or journal",
    "UPDATE covenq.head SET segment = 2": "another segment, epoch or journal",
    "DELETE FROM covenq.segment": "no segment is there",
    "UPDATE covenq.segment SET header = ''": "does not verify",
    "TRUNCATE covenq.record CASCADE": "it ends at 0",
    "INSERT INTO covenq.record SELECT 9, 9, subject, '', sum, envelope FROM covenq.record LIMIT 1": "it ends at 9",
    "DELETE FROM covenq.lease": "covenq.lease has no row",
}


@pytest.fixture
def witness(opened: Opened) -> Witness:
    """What a cache of a journal with three records has seen."""
    journal = opened()
    for number in range(1, 4):
        journal.append([delivery(number)])
    head = journal.head()
    journal.close()
    return Witness(journal.id, head.seq, head.sum)


@pytest.mark.parametrize("change", CHANGES)
def test_a_head_that_is_not_the_end_of_the_records(servers: Cluster, witness: Witness, change: str) -> None:
    servers.sql(change)
    for accept_head in (None, servers.sql("SELECT seq FROM covenq.head")[0][0]):
        with pytest.raises(JournalDamaged, match=CHANGES[change]) as raised:
            open_journal(servers.url, accept_head=accept_head)
        assert "covenq salvage" not in raised.value.hint, "which is for files"


def test_records_without_a_head_are_no_empty_database(servers: Cluster, witness: Witness) -> None:
    servers.sql("DELETE FROM covenq.head")
    for act in (open_journal, open_reader, verify):
        with pytest.raises(JournalDamaged, match=r"covenq\.head has no row"):
            act(servers.url)


def test_no_journal_is_begun_where_one_had_been_seen(servers: Cluster, witness: Witness) -> None:
    servers.sql("DROP SCHEMA covenq CASCADE")
    for accept_head in (None, 3):
        with pytest.raises(JournalDamaged, match="there is no journal, but seq 3 of one had been seen"):
            open_journal(servers.url, witnesses=[witness], accept_head=accept_head)
    assert servers.sql("SELECT to_regnamespace('covenq') IS NULL") == [(True,)], "nothing was made"
    with open_journal(servers.url, witnesses=[witness], accept_head=0) as journal:
        assert journal.created and journal.append([delivery(1)]) == Appended((1,))


def test_another_journal_than_had_been_seen(servers: Cluster, witness: Witness) -> None:
    servers.sql("DROP SCHEMA covenq CASCADE")
    open_journal(servers.url).close()
    with pytest.raises(JournalDamaged, match=f"seq 3 of {witness.journal[:8]}… had been seen") as raised:
        open_journal(servers.url, witnesses=[witness])
    assert "--accept-head" in raised.value.hint
    with open_journal(servers.url, witnesses=[witness], accept_head=0) as journal:
        assert isinstance(journal.append([delivery(1)]), Appended)


def test_a_record_that_was_taken_out_is_called_gone(servers: Cluster, witness: Witness) -> None:
    servers.sql("TRUNCATE covenq.record CASCADE")
    with pytest.raises(JournalDamaged, match="record 3 was acknowledged, and is gone"):
        open_journal(servers.url, witnesses=[witness])
