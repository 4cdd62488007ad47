"""Nodes of neighbouring builds share a journal; one that is too old, or too new, is refused, and told what to do."""

from __future__ import annotations

import pytest

from journal.errors import FormatUnknown, JournalError
from journal.postgres import builds
from journal.postgres.builds import THIS, Build
from journal.postgres.engine import PostgresJournal
from journal.postgres.open import open_journal
from journal.postgres.reader import open_reader
from journal.records import Appended, Node
from tests.support.journals.entries import delivery
from tests.support.postgres.server import HANG_S, Cluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres

A, B = Node("a1", "alpha", ""), Node("b1", "beta", "")
NEXT = Build(THIS.number + 1, goes_on_from=THIS.number, read_by=THIS.number)
AFTER = Build(THIS.number + 2, goes_on_from=THIS.number + 1, read_by=THIS.number + 1)


@pytest.fixture
def url(servers: Cluster) -> str:
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    return servers.url


def opened(url: str, node: Node, monkeypatch: pytest.MonkeyPatch, build: Build) -> PostgresJournal:
    """As by a covenq of that build; what it does later in a thread is by the build that is set then."""
    monkeypatch.setattr(builds, "THIS", build)
    return open_journal(url, node=node, may_stand_by=True)


def span(servers: Cluster) -> tuple[object, ...]:
    return servers.sql("SELECT floor, ceiling FROM covenq.head")[0]


def test_neighbours_lead_one_after_another_and_until_then_the_older_may_come_back(
    servers: Cluster, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = opened(url, A, monkeypatch, THIS)
    assert old.append([delivery(1)]) == Appended((1,)) and span(servers) == (1, 1)
    new = opened(url, B, monkeypatch, NEXT)
    assert not new.leads and new.wait(0, HANG_S) and span(servers) == (1, 1), "it stands by, and raises nothing"
    old.close()
    eventually(new.lead, HANG_S, "the newer leads")
    assert new.append([delivery(2)]) == Appended((2,)) and span(servers) == (1, 2)
    back = opened(url, A, monkeypatch, THIS)
    new.close()
    eventually(back.lead, HANG_S, "the older leads again: it understands what was written")
    assert back.append([delivery(3)]) == Appended((3,)) and span(servers) == (1, 2)
    back.close()


def test_a_build_that_is_too_old_is_refused_also_one_that_runs(
    servers: Cluster, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(url, A, monkeypatch, NEXT).close()
    after, standby = opened(url, A, monkeypatch, AFTER), None
    assert span(servers) == (AFTER.read_by, AFTER.number)
    monkeypatch.setattr(builds, "THIS", THIS)
    for opening in (open_journal, open_reader):
        with pytest.raises(FormatUnknown, match="newer covenq leads") as refused:
            opening(url)
        assert "Upgrade covenq" in refused.value.hint and refused.value.exit_code == 4
    after.close()
    servers.sql("UPDATE covenq.head SET floor = 1")
    after = opened(url, A, monkeypatch, AFTER)
    servers.sql("UPDATE covenq.head SET floor = 1")
    standby = opened(url, B, monkeypatch, THIS)
    servers.sql(f"UPDATE covenq.head SET floor = {AFTER.read_by}")
    eventually(lambda: standby.poisoned, HANG_S, "the one that runs notices")
    with pytest.raises(JournalError, match="newer covenq leads"):
        standby.append([delivery(1)])
    standby.close()
    after.close()


def test_a_build_that_leaves_one_out_is_refused(servers: Cluster, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(url, A, monkeypatch, THIS).close()
    with pytest.raises(FormatUnknown, match="goes on from build 2") as refused:
        opened(url, B, monkeypatch, AFTER)
    assert "in steps" in refused.value.hint and span(servers) == (1, 1)
