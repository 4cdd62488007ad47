"""What the journal holds, as reconciliation asks: identities, and what was erased."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from covenq.client.local import LocalSource
from covenq.model import DeliveryId
from covenq.operate import operations
from covenq.operate.parameters import Redact
from covenq.reconcile.holdings import LOOKED_AT, StoredHoldings
from tests.support.journals.chosen import config_in, open_chosen
from tests.support.records import received


@dataclass
class Held:
    """A directory with deliveries, and what is asked of it."""

    data: Path
    asked: list[str] = field(default_factory=list)

    def holdings(self) -> StoredHoldings:
        return StoredHoldings(LocalSource(self.data, config_in(self.data)))

    def record(self, *guids: str, **data: object) -> None:
        with open_chosen(self.data) as journal:
            for guid in guids:
                journal.append([received(guid, **data)])

    def erase(self, **what: object) -> None:
        LocalSource(self.data, config_in(self.data)).act(operations.REDACT, Redact(**what))


@pytest.fixture
def held(journal_engine: None, tmp_path: Path) -> Held:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    return Held(data)


def test_identities_are_found_by_guid_under_every_hook(held: Held) -> None:
    held.record("g1", "g2")
    held.record("g1", hook="8")
    found = held.holdings()
    came = found.held(["g1", "none"])
    assert {id: one.fetched for id, one in came.items()} == {DeliveryId("9", "g1"): False, DeliveryId("8", "g1"): False}
    assert found.held([]) == {}


def test_however_many_are_asked_about_each_is_found(held: Held) -> None:
    guids = [f"{n:064}" for n in range(350)]
    held.record(*guids)
    assert [id.guid for id in sorted(held.holdings().held(guids))] == guids


def test_a_delivery_has_its_headers(held: Held) -> None:
    held.record("g1")
    found = held.holdings()
    assert found.headers(DeliveryId("9", "g1")) == [["X-GitHub-Event", "issues"]]


def test_what_was_erased_stays_held(held: Held) -> None:
    held.record("g1")
    held.erase(ids=["g1"])
    assert list(held.holdings().held(["g1"])) == [DeliveryId("9", "g1")]


LATER = 4_000_000_000.0
EARLIER = 1_000_000_000.0


def test_a_repository_is_erased_where_all_that_came_of_it_before_is(held: Held) -> None:
    held.record("a", "b", repo_id=77, installation=5)
    held.record("c", repo_id=78, installation=5)
    held.erase(repo_id=77)
    found = held.holdings()
    assert found.is_erased(77, 5, LATER)
    assert found.is_erased(77, 5, EARLIER)  # sent before any of it came
    assert not found.is_erased(78, 5, LATER)
    assert not found.is_erased(79, 6, LATER) and not found.is_erased(None, None, LATER)
    held.record("d", repo_id=77, installation=5)
    assert not held.holdings().is_erased(77, 5, LATER)  # it delivers again
    assert held.holdings().is_erased(77, 5, EARLIER)


def test_an_installation_is_erased_with_repositories_that_were_never_heard_of(held: Held) -> None:
    held.record("a", "b", repo_id=77, installation=5)
    held.erase(installation=5)
    assert held.holdings().is_erased(99, 5, LATER) and held.holdings().is_erased(None, 5, LATER)
    assert not held.holdings().is_erased(99, 6, LATER)


def test_one_erased_delivery_of_many_erases_no_repository(held: Held) -> None:
    held.record(*(f"g{n}" for n in range(LOOKED_AT + 5)), repo_id=77, installation=5)
    held.erase(ids=["g3", "g24"])
    assert not held.holdings().is_erased(77, 5, LATER)
    assert not held.holdings().is_erased(99, 5, LATER)
