"""One process writes: a second is refused while the first holds its lease, and the first writes nothing once a second has it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from journal.errors import JournalLocked, JournalPoisoned, JournalTaken
from journal.postgres.connections import connect
from journal.postgres.engine import PostgresJournal
from journal.postgres.lease import LEASE_S, holder
from journal.postgres.open import open_journal
from journal.records import Appended, Entry, Node, Unknown
from tests.support.journals.entries import delivery
from tests.support.postgres.server import HANG_S, Cluster

pytestmark = pytest.mark.postgres

Opened = Callable[[], PostgresJournal]

END_THE_LEASE = "UPDATE covenq.lease SET until = '-infinity', holder = ''"


def test_another_node_is_refused_and_told_who_has_it(opened: Opened, servers: Cluster) -> None:
    opened()
    servers.sql(
        "UPDATE covenq.lease SET node = '5f0c3a9e', name = 'alpha', address = '10.0.0.5:8787', until = 'infinity'"
    )
    with pytest.raises(JournalLocked, match=r"by alpha \(10\.0\.0\.5:8787\)"):
        open_journal(servers.url, node=Node("beta"))


def test_a_node_takes_its_own_lease_again_at_once(opened: Opened) -> None:
    before = opened()
    before.append([delivery(1)])
    after = opened()
    assert after.append([delivery(2)]) == Appended((2,))
    with pytest.raises(JournalPoisoned, match="another process"):
        before.append([delivery(3)])
    assert before.poisoned and before.health().poisoned
    with pytest.raises(JournalPoisoned):
        before.erase([Entry("ops.redaction", "delivery.redacted", {"drops": [[1, 1]], "about": True})])
    assert [record.seq for record in after.read(0)] == [1, 2]
    assert after.get(1).payload is not None  # type: ignore[union-attr]


def test_who_holds_it_is_read_by_the_servers_clock(opened: Opened, servers: Cluster) -> None:
    opened().close()
    with connect(servers.url) as conn:
        assert holder(conn) is None, "it was given up"
        with open_journal(servers.url, node=Node("5f0c3a9e", "alpha", "10.0.0.5:8787")):
            found = holder(conn)
            assert found is not None and found.node == Node("5f0c3a9e", "alpha", "10.0.0.5:8787")
            assert 0 <= found.left_s <= LEASE_S
            seconds = "extract(epoch FROM %s::timestamptz - clock_timestamp())::float8"
            row = conn.execute(f"SELECT {seconds}", (found.until,)).fetchone()
            assert row is not None and row[0] <= found.left_s, "until when is the same moment, and time has passed"
        assert holder(conn) is None
        servers.sql("UPDATE covenq.lease SET node = 'b', name = '', address = '', until = 'infinity'")
        found = holder(conn)
        assert found is not None and str(found) == "b" and found.left_s == float("inf")


def test_two_nodes_of_one_name_take_nothing_from_each_other(opened: Opened, servers: Cluster) -> None:
    opened().close()
    with open_journal(servers.url, node=Node("5f0c3a9e", "same", "a:1")) as first:
        with pytest.raises(JournalLocked, match=r"by same \(a:1\)"):
            open_journal(servers.url, node=Node("0badcafe", "same", "b:1"))
        assert first.append([delivery(1)]) == Appended((1,))
        with open_journal(servers.url, node=Node("5f0c3a9e", "renamed", "c:1")) as again:
            assert again.append([delivery(2)]) == Appended((2,)), "its own is taken at once, whatever it is called"


def test_who_is_not_known_has_no_lease_of_its_own(opened: Opened, servers: Cluster) -> None:
    opened().close()
    with open_journal(servers.url), pytest.raises(JournalLocked, match="by another process"):
        open_journal(servers.url)


def test_who_waits_is_told_when_the_lease_is_lost(opened: Opened, servers: Cluster) -> None:
    journal = opened()
    servers.sql(END_THE_LEASE)
    assert not journal.wait(0, 60.0), "it ends at the next renewal, long before"
    assert journal.poisoned


def test_leases_of_claims_end_by_the_servers_clock(opened: Opened, servers: Cluster) -> None:
    journal = opened()
    question = "SELECT extract(epoch FROM clock_timestamp())::float8"
    before, asked, after = servers.sql(question), journal.lease_clock(), servers.sql(question)
    assert before <= [(asked,)] <= after


def test_a_lease_that_was_given_up_is_free(opened: Opened, servers: Cluster) -> None:
    opened().close()
    with open_journal(servers.url, node=Node("beta")) as journal:
        assert journal.append([delivery(1)]) == Appended((1,))


def test_who_is_held_when_the_lease_is_lost_is_answered(tmp_path: Path) -> None:
    servers = Cluster(standby=False)
    try:
        with open_journal(servers.url) as journal:
            servers.primary.kill()
            said: list[object] = []

            def append() -> None:
                try:
                    said.append(journal.append([delivery(1)]))
                except JournalPoisoned as error:
                    said.append(error)

            waiting = threading.Thread(target=append)
            waiting.start()
            journal._lost()  # what the thread that renews it calls
            waiting.join(HANG_S)
            assert [type(one) for one in said] in ([JournalTaken], [Unknown])
    finally:
        servers.close()
