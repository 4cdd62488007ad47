"""The server's machine is frozen, which ends no connection, and its standby is made the primary: everybody goes on there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from journal.errors import JournalError
from journal.postgres import watch
from journal.postgres.engine import PostgresJournal
from journal.postgres.open import open_journal
from journal.records import Appended, Node
from tests.support.journals.entries import delivery
from tests.support.postgres.server import HANG_S, Cluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cluster, PostgresJournal, PostgresJournal]]:
    """A server that is frozen with all that is asked of it, one that was promoted, who appended, and who stood by."""
    monkeypatch.setattr(watch, "HANG_S", 2.0)
    servers = Cluster(standby=True)
    promoted = servers.standby
    assert promoted is not None
    hosts = f"host={servers.base},{servers.base}&port={servers.primary.port},{promoted.port}"
    url = f"postgresql://covenq@/postgres?{hosts}&target_session_attrs=read-write"
    try:
        with (
            open_journal(url, node=Node("a1", "alpha", ""), may_stand_by=True) as active,
            open_journal(url, node=Node("b1", "beta", ""), may_stand_by=True) as standby,
        ):
            assert active.append([delivery(1)]) == Appended((1,)) and standby.wait(0, HANG_S)
            eventually(lambda: standby.get(1), HANG_S, "it is there")
            for one in [standby._connections._take()[0] for _ in range(3)]:
                standby._connections._keep(
                    one
                )  # as for what was read at the same time: each is to the server that freezes
            servers.primary.pause()
            try:
                promoted.run("pg_ctl", "promote", "-w", "-D", str(promoted.data))
                promoted.sql("ALTER SYSTEM SET synchronous_standby_names = ''")
                promoted.sql("SELECT pg_reload_conf()")
                yield servers, active, standby
            finally:
                servers.primary.resume()
    finally:
        servers.close()


def test_appends_looks_and_reads_go_on_with_the_one_that_was_promoted(
    frozen: tuple[Cluster, PostgresJournal, PostgresJournal],
) -> None:
    servers, active, standby = frozen

    def appended() -> bool:
        leader = active if not active.lost else standby
        try:
            if leader is standby and not standby.lead():
                return False
            return isinstance(leader.append([delivery(2)._replace(attempt="second")]), Appended)
        except JournalError:
            return False

    assert standby.get(1) == active.get(1), "what is asked while the server hangs is answered by the other"
    eventually(appended, HANG_S, "a node appends")
    assert active.wait(1, HANG_S) or active.lost
    assert standby.wait(1, HANG_S) and standby.head().seq == 2
    assert [record.seq for record in standby.read(0)] == [1, 2]
    assert servers.standby is not None
    assert servers.standby.sql("SELECT count(*) FROM covenq.record") == [(2,)]
