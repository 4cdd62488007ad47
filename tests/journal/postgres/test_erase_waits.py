"""An erasure that can't go on ends in time, says what it knows, and is found by who asks again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from journal.append import erase_known
from journal.errors import JournalUnanswered, JournalUnavailable
from journal.postgres import erase as erasing
from journal.postgres.engine import PostgresJournal
from journal.postgres.open import open_journal
from journal.postgres.verify import verify
from journal.records import Appended, Conflict, Entry, Unknown
from tests.support.journals.entries import delivery
from tests.support.postgres.server import HANG_S, Cluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres

Opened = Callable[[], PostgresJournal]

LEFT = "SELECT count(*) FROM covenq.content WHERE payload IS NOT NULL"
NAMED = "SELECT count(*) FROM covenq.record WHERE subject = 'ops.redaction'"


def erasure(*, expect: int | None = None, attempt: str | None = None) -> Entry:
    data = {"drops": [[1, 1]], "about": True}
    return Entry("ops.redaction", "delivery.redacted", data, expect=expect, attempt=attempt)


@pytest.fixture
def replicated() -> Iterator[Cluster]:
    made = Cluster(standby=True)
    yield made
    made.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "HELD_S", 1.0)


def test_one_that_a_standby_does_not_confirm_is_not_waited_for_and_is_found_later(
    replicated: Cluster, impatient: None
) -> None:
    assert replicated.standby is not None
    with open_journal(replicated.url) as journal:
        for number in (1, 2):
            assert isinstance(journal.append([delivery(number)]), Appended)
        replicated.standby.stop()
        with pytest.raises(JournalUnanswered, match="it may have been carried out") as raised:
            erase_known(journal, [erasure(expect=0)], deadline=time.monotonic())
        assert "Give the same again" in raised.value.hint
        assert journal.erase([erasure(attempt="e1")]) == (Unknown(), journal.resume_erasure())
        assert journal.head().seq == 2, "what isn't confirmed is not told"
        assert replicated.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == [(0,)]
        replicated.standby.start()
        eventually(lambda: journal.database().waits is None, HANG_S, "the standby is back")
        answer, _ = erase_known(journal, [erasure(expect=0)], deadline=time.monotonic() + HANG_S)
        assert isinstance(answer, Conflict), "the first had been recorded"
        eventually(lambda: isinstance(journal.erase([erasure(attempt="e1")])[0], Appended), HANG_S, "it is confirmed")
        assert replicated.sql(LEFT) == [(1,)]
        eventually(lambda: isinstance(journal.append([delivery(3)]), Appended), HANG_S, "appends go on")
    assert verify(replicated.url).damage == []


def test_one_attempt_is_recorded_once_however_often_it_is_not_confirmed(replicated: Cluster, impatient: None) -> None:
    assert replicated.standby is not None
    with open_journal(replicated.url) as journal:
        journal.append([delivery(1)])
        replicated.standby.stop()
        for _ in range(2):
            assert journal.erase([erasure(attempt="e1")])[0] == Unknown()
        replicated.standby.start()
        eventually(lambda: journal.erase([erasure(attempt="e1")])[0] == Appended((2,)), HANG_S, "it is confirmed")
        assert replicated.sql(NAMED) == [(1,)] and replicated.sql(LEFT) == [(0,)]


def test_one_that_gets_no_lock_has_done_nothing(opened: Opened, servers: Cluster, impatient: None) -> None:
    journal = opened()
    journal.append([delivery(1)])
    with servers.lock_of_the_head(), pytest.raises(JournalUnavailable, match="was locked for"):
        journal.erase([erasure()])
    assert servers.sql(LEFT) == [(1,)] and servers.sql(NAMED) == [(0,)]
    assert journal.erase([erasure()])[0] == Appended((2,))
    assert servers.sql(LEFT) == [(0,)]


def test_one_whose_server_hangs_is_given_up(replicated: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "HELD_S", 600.0)  # for a lock, that is
    with open_journal(replicated.url) as journal:
        journal.append([delivery(1)])
        with replicated.lock_of_the_head():
            told: list[object] = []
            thread = threading.Thread(
                target=lambda: told.append(journal.erase([erasure(attempt="e1")])[0]), daemon=True
            )
            thread.start()
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            eventually(lambda: replicated.sql(waits) != [(0,)] or told, HANG_S, "it waits for the head")
            replicated.primary.pause()
            try:
                thread.join(HANG_S)
                assert not thread.is_alive() and told == [Unknown()]
            finally:
                replicated.primary.resume()
