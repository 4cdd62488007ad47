"""Verifying the tables finds each change of each column, and nothing where nothing was changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from journal.errors import JournalGone
from journal.postgres.engine import PostgresJournal
from journal.postgres.verify import verify
from journal.records import Entry, Head, Witness
from tests.support.journals.entries import delivery
from tests.support.postgres.server import Cluster

pytestmark = pytest.mark.postgres

Opened = Callable[[], PostgresJournal]


@pytest.fixture
def filled(opened: Opened) -> Head:
    """A journal of three segments, two epochs and two erasures."""
    journal = opened()
    for number in range(6):
        journal.append([delivery(number)])
    journal.begin_epoch("0123456789abcdef")
    for number in range(6, 12):
        journal.append([delivery(number), Entry(f"task.t{number}", "task.queued", {"n": number}, expect=0)])
    journal.erase([Entry("ops.retention", "journal.dropped", {"drops": [[2, 3]], "about": False})])
    journal.erase([Entry("ops.redaction", "delivery.redacted", {"drops": [[3, 4]], "about": True})])
    journal.begin_epoch("fedcba9876543210")
    journal.append([Entry("task.t6", "task.claimed", {"n": 6}, expect=journal.last("task.t6").seq)])  # type: ignore[union-attr]
    head = journal.head()
    journal.close()
    return head


def test_a_sound_journal_verifies(servers: Cluster, filled: Head) -> None:
    report = verify(servers.url)
    assert report.damage == []
    assert (report.records, report.head) == (filled.seq, filled)
    assert [row[0] for row in servers.sql("SELECT first FROM covenq.segment ORDER BY first")] == [1, 7, filled.seq]


def test_a_part_of_it_verifies_by_itself(servers: Cluster, filled: Head) -> None:
    for since, segment, records in ((0, 7, filled.seq - 7), (8, None, filled.seq - 6), (0, 1, 6)):
        report = verify(servers.url, since=since, segment=segment)
        assert (report.damage, report.records) == ([], records)
    with pytest.raises(JournalGone, match="no segment starts at seq 99"):
        verify(servers.url, segment=99)


CHANGES = {
    "a byte of an envelope": "UPDATE covenq.record SET envelope = set_byte(envelope, 40, 65) WHERE seq = 5",
    "a sum": "UPDATE covenq.record SET sum = repeat('0', 64) WHERE seq = 5",
    "a subject": "UPDATE covenq.record SET subject = 'delivery.h.other', before = 0 WHERE seq = 1",
    "what came before": "UPDATE covenq.record SET before = 77 WHERE seq = 5",
    "a byte of a payload": "UPDATE covenq.content SET payload = set_byte(payload, 0, 0) WHERE seq = 5",
    "no payload": "UPDATE covenq.content SET payload = NULL WHERE seq = 5",
    "no content": "DELETE FROM covenq.content WHERE seq = 5",
    "content of a record that has none": "INSERT INTO covenq.content (seq, payload) VALUES (8, 'x')",
    "an erasure that no record names": "UPDATE covenq.content SET payload = NULL, erasure = 1 WHERE seq = 5",
    "content that was erased": "UPDATE covenq.content SET payload = 'x' WHERE seq = 3",
    "what an erasure is by": "UPDATE covenq.erasure SET by = 8",
    "no erasures": "DELETE FROM covenq.erasure",
    "a record less": "DELETE FROM covenq.content WHERE seq = 5; DELETE FROM covenq.record WHERE seq = 5",
    "the newest record less": "DELETE FROM covenq.record WHERE seq = (SELECT max(seq) FROM covenq.record)",
    "a header": "UPDATE covenq.segment SET header = set_byte(header, 30, 48 + (get_byte(header, 30) + 1) % 10) WHERE first = 7",
    "a header less": "DELETE FROM covenq.segment WHERE first = 7",
    "the first header less": "DELETE FROM covenq.segment WHERE first = 1",
    "no headers": "DELETE FROM covenq.segment",
    "where a segment begins": "UPDATE covenq.segment SET first = 8 WHERE first = 7",
    "the head's seq": "UPDATE covenq.head SET seq = seq - 1",
    "the head's sum": "UPDATE covenq.head SET sum = repeat('0', 64)",
    "the head's link": "UPDATE covenq.head SET link = repeat('0', 64)",
    "the head's salt": "UPDATE covenq.head SET salt = repeat('0', 64)",
    "the head's epoch": "UPDATE covenq.head SET epoch = '0000000000000000'",
    "the head's segment": "UPDATE covenq.head SET segment = 7",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_found(servers: Cluster, filled: Head, change: str) -> None:
    for query in CHANGES[change].split("; "):
        servers.sql(query)
    assert verify(servers.url).damage, change


def test_a_record_that_a_cache_had_seen_is_missed(servers: Cluster, filled: Head, opened: Opened) -> None:
    journal = opened()
    for seq, total in ((filled.seq + 1, filled.sum), (5, filled.sum)):
        report = verify(servers.url, witnesses=(Witness(journal.id, seq, total),))
        assert [one.kind for one in report.damage] == ["shorter than caches"]
