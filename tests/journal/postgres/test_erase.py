"""Several erasures at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from journal.errors import JournalPoisoned
from journal.postgres.engine import PostgresJournal
from journal.postgres.verify import verify
from journal.records import Appended, Entry, Unknown
from tests.support.journals.entries import delivery
from tests.support.postgres.server import HANG_S, Cluster

pytestmark = pytest.mark.postgres

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'covenq' AND wait_event_type = 'Lock'"


def test_two_that_name_the_same_in_another_order_do_not_wait_for_each_other(
    opened: Callable[[], PostgresJournal], servers: Cluster
) -> None:
    journal = opened()
    for number in (1, 2, 4):  # all have content
        journal.append([delivery(number)])

    def erase(*seqs: int) -> object:
        drops = [Entry("ops.redaction", "delivery.redacted", {"drops": [[seq, seq]], "about": True}) for seq in seqs]
        return journal.erase(drops)[0]

    with ThreadPoolExecutor(2) as pool:
        with psycopg.connect(servers.url, autocommit=True) as looking, psycopg.connect(servers.url) as other:
            # Both have taken their first when this ends, if both go on at once.
            other.execute("SELECT 1 FROM covenq.content WHERE seq = 2 FOR UPDATE")
            one, two = pool.submit(erase, 1, 2, 3), pool.submit(erase, 3, 2, 1)
            for _ in range(300):
                if looking.execute(WAITING).fetchone() == (2,):
                    break
        assert all(isinstance(found.result(HANG_S), Appended) for found in (one, two))
    assert servers.sql("SELECT count(*) FROM covenq.content WHERE payload IS NOT NULL OR about IS NOT NULL") == [(0,)]
    assert verify(servers.url).damage == []


def test_a_connection_that_is_about_to_get_a_name_is_no_other_process(
    opened: Callable[[], PostgresJournal], servers: Cluster
) -> None:
    """The committer knows its name before the database does: an erasure in between is tried again, and not refused."""
    journal = opened()
    journal.append([delivery(1)])
    [(writer,)] = servers.sql("SELECT writer FROM covenq.head")
    assert isinstance(writer, str) and writer == journal._committer.writer
    servers.sql(f"UPDATE covenq.head SET writer = '{writer.partition('.')[0]}'")
    drops = [Entry("ops.redaction", "delivery.redacted", {"drops": [[1, 1]], "about": True})]
    assert isinstance(journal.erase(drops)[0], Unknown), "nothing was done, and it is to be asked again"
    servers.sql(f"UPDATE covenq.head SET writer = '{writer}'")
    assert isinstance(journal.erase(drops)[0], Appended)
    servers.sql("UPDATE covenq.head SET writer = 'another.1'")
    with pytest.raises(JournalPoisoned, match="another process"):
        journal.erase(drops)
    servers.sql(f"UPDATE covenq.head SET writer = '{writer}'")
