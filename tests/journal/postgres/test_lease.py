"""One process writes: a second is refused while the first holds its lease, and the first writes nothing once a second has it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from journal.errors import JournalLocked, JournalPoisoned
from journal.postgres.engine import PostgresJournal
from journal.postgres.open import open_journal
from journal.records import Appended, Entry, Unknown
from tests.support.journals.entries import delivery
from tests.support.postgres.server import HANG_S, Cluster

pytestmark = pytest.mark.postgres

Opened = Callable[[], PostgresJournal]

END_THE_LEASE = "UPDATE covenq.lease SET until = '-infinity', holder = ''"


def test_another_node_is_refused_and_told_who_has_it(opened: Opened, servers: Cluster) -> None:
    opened()
    servers.sql("UPDATE covenq.lease SET node = 'alpha', until = 'infinity'")
    with pytest.raises(JournalLocked, match="alpha"):
        open_journal(servers.url, node="beta")


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


def test_who_waits_is_told_when_the_lease_is_lost(opened: Opened, servers: Cluster) -> None:
    journal = opened()
    servers.sql(END_THE_LEASE)
    assert not journal.wait(0, 60.0), "it ends at the next renewal, long before"
    assert journal.poisoned


def test_a_lease_that_was_given_up_is_free(opened: Opened, servers: Cluster) -> None:
    opened().close()
    with open_journal(servers.url, node="beta") as journal:
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
            assert [type(one) for one in said] in ([JournalPoisoned], [Unknown])
    finally:
        servers.close()
