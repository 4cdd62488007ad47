"""Several nodes have a journal open: one appends, the others see what it does, and one of them takes over when it is gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest

from journal.append import append_known
from journal.errors import JournalDamaged, JournalLocked, JournalPoisoned, JournalStandby, JournalUnavailable
from journal.postgres import builds, connections, lease
from journal.postgres.connections import connect
from journal.postgres.deadlines import Conn
from journal.postgres.engine import PostgresJournal
from journal.postgres.open import open_journal
from journal.records import Appended, Conflict, Entry, Node
from tests.support.journals.entries import delivery
from tests.support.postgres.server import HANG_S, Cluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres

A, B = Node("a1", "alpha", "10.0.0.1:8711"), Node("b1", "beta", "10.0.0.2:8711")
END_THE_LEASE = "UPDATE covenq.lease SET until = '-infinity'"


@pytest.fixture
def pair(servers: Cluster) -> Iterator[tuple[PostgresJournal, PostgresJournal]]:
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    active = open_journal(servers.url, node=A, may_stand_by=True)
    standby = open_journal(servers.url, node=B, may_stand_by=True)
    yield active, standby
    standby.close()
    active.close()


Pair = tuple[PostgresJournal, PostgresJournal]


def test_a_standby_sees_what_is_appended_and_appends_nothing(pair: Pair) -> None:
    active, standby = pair
    assert active.leads and not standby.leads and standby.id == active.id
    assert active.append([delivery(1), delivery(2)]) == Appended((1, 2))
    assert standby.wait(1, HANG_S) and standby.head() == active.head() and standby.epoch == active.epoch
    assert [record.seq for record in standby.read(0)] == [1, 2]
    assert standby.last(delivery(2).subject) == active.get(2)
    with pytest.raises(JournalStandby, match="alpha appends"):
        standby.append([delivery(3)])
    with pytest.raises(JournalStandby):
        standby.erase([Entry("ops.redaction", "delivery.redacted", {"drops": [[1, 1]], "about": True})])
    assert not standby.lead() and not standby.leads and standby.health().ok
    leader = standby.leader()
    assert leader is not None and (leader.node, leader.address) == ("alpha", "10.0.0.1:8711") and leader.since > "2026"


def test_a_standby_leads_when_the_lead_is_given_up_and_the_epoch_stays(pair: Pair) -> None:
    active, standby = pair
    active.append([delivery(1)])
    epoch = active.epoch
    active.close()
    eventually(standby.lead, HANG_S, "the standby leads")
    assert standby.lead() and standby.leader().node == "beta"  # type: ignore[union-attr]
    assert isinstance(append_known(standby, [delivery(1)]), Conflict)
    assert append_known(standby, [delivery(2)]) == Appended((2,)) and standby.epoch == epoch


def test_each_node_says_that_it_is_there_and_when_it_stops(pair: Pair, servers: Cluster) -> None:
    active, standby = pair
    standby.tell('{"version": "1"}')
    active.append([delivery(1)])

    def seen() -> list[tuple[str, bool, bool, str]]:
        return [(one.name, one.leads, one.stopped, one.about) for one in active.nodes()]

    both = [("alpha", True, False, ""), ("beta", False, False, '{"version": "1"}')]
    eventually(lambda: seen() == both, HANG_S, "both are there")
    eventually(lambda: len(standby.nodes()) == 2, HANG_S, "each sees both")
    assert standby.nodes()[1].address == B.address and standby.nodes()[1].silent_s < HANG_S
    active.step_down()
    eventually(standby.lead, HANG_S, "the standby leads")
    eventually(
        lambda: (
            [(one.name, one.leads, one.stopped) for one in standby.nodes()]
            == [("alpha", False, False), ("beta", True, False)]
        ),
        HANG_S,
    )
    assert not active.lead(), "never again"
    with pytest.raises(JournalStandby, match="beta appends"):
        eventually(lambda: active.leader(), HANG_S)
        active.append([delivery(2)])
    active.close()
    eventually(lambda: standby.nodes()[0].stopped, HANG_S, "it left")
    standby.close()
    assert servers.sql("SELECT stopped FROM covenq.node ORDER BY name") == [(True,), (True,)]


def test_who_lost_the_lead_appends_nothing_more(pair: Pair, servers: Cluster) -> None:
    """As one that was stopped, and goes on: it believes that it leads until it asks."""
    active, standby = pair
    active.append([delivery(1)])
    active._keeper.stop()
    servers.sql(END_THE_LEASE)
    eventually(standby.lead, HANG_S, "the standby leads")
    with pytest.raises(JournalPoisoned):
        active.append([delivery(2)])
    assert append_known(standby, [delivery(2)]) == Appended((2,))
    with pytest.raises(JournalLocked, match="beta"):
        open_journal(servers.url, node=A)


def test_a_standby_waits_for_no_append_of_the_last_leader(pair: Pair, servers: Cluster) -> None:
    """One that waits for a synchronous standby which is gone holds the head: the taker says no, and tries again."""
    active, standby = pair
    active.append([delivery(1)])
    eventually(lambda: standby.head().seq == 1, HANG_S)
    active._keeper.stop()
    servers.sql(END_THE_LEASE)
    with servers.lock_of_the_head():
        assert not standby.lead() and not standby.leads
    eventually(standby.lead, HANG_S, "the standby leads")


def test_one_that_is_stopped_while_it_takes_the_lead_keeps_nobody_else_from_it(
    pair: Pair, servers: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server hears nothing of that: it ends the transaction by itself, which has the lease's row locked."""
    active, standby = pair
    monkeypatch.setattr(connections, "IDLE_S", 1.0)
    locked, goes_on = threading.Event(), threading.Event()
    note_lead = builds.note_lead

    def stopped(conn: Conn) -> None:
        if threading.current_thread() is taker:
            locked.set()
            assert goes_on.wait(HANG_S)
        note_lead(conn)

    def take() -> None:
        with connect(servers.url, local=True) as conn, suppress(psycopg.Error):
            lease.take(conn, "of the third", Node("c1", "gamma"))

    monkeypatch.setattr(builds, "note_lead", stopped)
    taker = threading.Thread(target=take)
    active.close()
    taker.start()
    try:
        assert locked.wait(HANG_S)
        eventually(standby.lead, HANG_S, "the standby leads")
    finally:
        goes_on.set()
        taker.join()
    assert append_known(standby, [delivery(1)]) == Appended((1,)), "and goes on leading"


def test_who_has_stepped_down_is_not_taken_for_its_own_successor(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its lease lasts on, where it could not be given up."""
    active, standby = pair
    monkeypatch.setattr(lease, "give_up", lambda conn, token: None)
    active.step_down()
    eventually(lambda: active._follower.steady_s > 0.2, HANG_S, "it follows")
    assert active.leader() is None
    eventually(standby.lead, HANG_S, "the standby leads")
    eventually(lambda: active.leader() is not None, HANG_S)
    assert active.leader().node == "beta"  # type: ignore[union-attr]


def test_since_when_a_node_leads_is_when_it_took_the_lead(pair: Pair, servers: Cluster) -> None:
    active, standby = pair
    before = {one.name: one.since for one in standby.nodes(ask=True)}
    active.close()
    eventually(standby.lead, HANG_S, "the standby leads")
    leads, stopped = ({one.name: one for one in standby.nodes(ask=True)}[name] for name in ("beta", "alpha"))
    assert leads.leads and leads.since > before["beta"]
    assert stopped.stopped and stopped.since == stopped.seen > before["alpha"]


def test_of_nodes_whose_database_is_away_nothing_new_is_told(pair: Pair, servers: Cluster) -> None:
    """None of them can say anything: that is no sign of their own."""
    _, standby = pair
    eventually(lambda: len(standby.nodes()) == 2, HANG_S, "it has seen both")
    standby._follower.stop(leaves=False)
    seen = standby.nodes()
    assert standby.nodes() == seen


def test_who_asks_which_nodes_there_are_waits_for_no_server_that_hangs(pair: Pair, servers: Cluster) -> None:
    """Else a node could not even be stopped."""
    active, _ = pair
    assert {one.name for one in active.nodes(ask=True)} == {"alpha", "beta"}
    servers.primary.pause()
    try:
        with pytest.raises(JournalUnavailable):
            active.nodes(ask=True)
    finally:
        servers.primary.resume()


def test_a_standby_that_has_read_what_the_database_lost_does_not_lead(pair: Pair, servers: Cluster) -> None:
    active, standby = pair
    active.append([delivery(1)])
    active.append([delivery(2)])
    assert standby.wait(1, HANG_S)
    active._keeper.stop()
    active._committer.stop()
    standby._follower.stop()  # else it would find it by itself, at its next connection
    servers.sql("DELETE FROM covenq.content WHERE seq = 2")
    servers.sql("DELETE FROM covenq.record WHERE seq = 2")
    servers.sql(END_THE_LEASE)
    with pytest.raises(JournalDamaged, match="record 2 was acknowledged"):
        standby.lead()
    assert not standby.leads
    assert servers.sql("SELECT until < clock_timestamp() FROM covenq.lease") == [(True,)], "the lead is given up again"


def test_a_standby_goes_on_over_a_lost_connection(pair: Pair, servers: Cluster) -> None:
    active, standby = pair
    active.append([delivery(1)])
    assert standby.wait(0, HANG_S)
    servers.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'covenq'")
    assert append_known(active, [delivery(2)]) == Appended((2,))
    assert standby.wait(1, HANG_S) and standby.get(2) == active.get(2)
