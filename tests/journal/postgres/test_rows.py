"""Reading tables: what does not verify is damage, by its seq, and reading on links to what was read before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from journal.errors import JournalDamaged
from journal.postgres import rows
from journal.postgres.engine import PostgresJournal
from tests.journal.postgres.test_verify import CHANGES
from tests.support.journals.entries import delivery
from tests.support.postgres.server import Cluster

pytestmark = pytest.mark.postgres

OF_RECORD_5 = ("a byte of an envelope", "a sum", "a byte of a payload", "no payload", "no content", "a record less")


@pytest.mark.parametrize("change", OF_RECORD_5)
def test_what_does_not_verify_is_damage(opened: Callable[[], PostgresJournal], servers: Cluster, change: str) -> None:
    journal = opened()
    for number in range(1, 8):
        journal.append([delivery(number)])
    for query in CHANGES[change].split("; "):
        servers.sql(query)
    with pytest.raises(JournalDamaged) as raised:
        list(journal.read(0))
    assert raised.value.damage[0].seq == 5
    assert "backup of the database" in raised.value.hint and "salvage" not in raised.value.hint, "which is for files"
    read = journal.read(0)
    assert [next(read).seq for _ in range(4)] == [1, 2, 3, 4], "what comes before it is read"
    assert [record.seq for record in journal.read(5)] == [6, 7]


def test_reading_on_links_to_what_was_read(opened: Callable[[], PostgresJournal], servers: Cluster) -> None:
    """As on another server, whose newest records are others under the same seqs."""
    journal = opened()
    for number in range(1, 5):
        journal.append([delivery(number)])
    assert len(list(journal.read(0))) == 4
    servers.sql("DELETE FROM covenq.content WHERE seq > 3")
    servers.sql("DELETE FROM covenq.record WHERE seq > 3")
    servers.sql("UPDATE covenq.head SET seq = 3, sum = r.sum, link = r.sum FROM covenq.record r WHERE r.seq = 3")
    again = opened()
    again.append([delivery(7)])
    again.append([delivery(8)])
    with pytest.raises(JournalDamaged, match="does not link"):
        list(journal._rows.read(4, 5, None, payloads=False))


@pytest.mark.parametrize(
    "query", [rows._BARE, rows._WHOLE, f"SELECT r.seq, c.about, e.by FROM {rows.WITHIN}", rows._CHOSEN]
)
def test_what_is_read_behind_a_long_journal_reads_no_content_before_it(
    opened: Callable[[], PostgresJournal], servers: Cluster, query: str
) -> None:
    """Whatever the server makes of it, once it knows how much there is."""
    opened()
    sums = "repeat('0', 64), ''"
    servers.sql(f"INSERT INTO covenq.record SELECT n, 0, 's' || n, '', {sums} FROM generate_series(1, 70000) AS n")
    servers.sql("INSERT INTO covenq.content SELECT n * 7, 'about', 'payload', NULL FROM generate_series(1, 10000) AS n")
    servers.sql("ANALYZE covenq.record, covenq.content")
    asked = {"low": 69001, "high": 70000, "most": 500, "seqs": list(range(69001, 69501))}
    with psycopg.connect(servers.url) as conn:
        found = conn.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", asked).fetchone()  # type: ignore[call-overload]
    assert found is not None
    read = [node["Actual Rows"] * node["Actual Loops"] for node in nodes(found[0][0]["Plan"])]
    assert len(read) == 3 and max(read) <= 1000, found[0]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The parts of a plan that read tables."""
    if "Relation Name" in plan:
        yield plan
    for one in plan.get("Plans", ()):
        yield from nodes(one)
