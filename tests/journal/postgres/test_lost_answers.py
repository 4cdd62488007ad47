"""Answers that are lost, and what is said meanwhile: nothing recorded is called refused, nothing withdrawn is recorded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import psycopg
import pytest

from journal.append import append_known
from journal.errors import JournalUnavailable
from journal.format.entries import prepare_append
from journal.postgres import committer as committing
from journal.postgres.call import FENCED, Batch, Call, send
from journal.postgres.connections import connect
from journal.postgres.deadlines import Conn
from journal.postgres.engine import PostgresJournal
from journal.postgres.lines import COPYING, TableTarget
from journal.postgres.open import open_journal
from journal.postgres.verify import verify
from journal.records import Appended, Conflict, Entry, Unknown
from tests.support.journals.entries import delivery
from tests.support.postgres.server import HANG_S, Cluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres

Opened = Callable[[], PostgresJournal]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Exception | None]:
    """What becomes of the next calls' answers: an error in place of one, or None for the answer itself."""
    planned: list[Exception | None] = []

    def lossy(conn: Conn, writer: str, calls: Sequence[Call], **more: object) -> Batch:
        error = planned.pop(0) if planned else None
        if isinstance(error, psycopg.errors.LockNotAvailable):
            raise error
        batch = send(conn, writer, calls, **more)  # type: ignore[arg-type]
        if error is not None:
            raise error
        return batch

    monkeypatch.setattr(committing, "send", lossy)
    return planned


def cut() -> psycopg.OperationalError:
    return psycopg.OperationalError("the connection was cut")


def test_an_epoch_begins_once_however_many_answers_are_lost(
    opened: Opened, servers: Cluster, answers: list[Exception | None]
) -> None:
    journal = opened()
    journal.append([delivery(1)])
    journal.begin_epoch("0123456789abcdef")
    answers += [cut(), cut(), cut()]
    assert append_known(journal, [delivery(2)]) == Appended((2,))
    assert append_known(journal, [delivery(3)]) == Appended((3,))
    assert journal.epoch == "0123456789abcdef" and journal.health().ok
    assert servers.sql("SELECT count(*) FROM covenq.segment") == [(2,)]
    epochs = [record.epoch == journal.epoch for record in journal.read(0)]
    assert epochs == [False, True, True]


def test_an_epoch_waits_for_the_first_entry_that_is_appended(opened: Opened, servers: Cluster) -> None:
    journal = opened()
    journal.append([delivery(1)])
    journal.begin_epoch("0123456789abcdef")
    assert isinstance(journal.append([delivery(1)]), Conflict)
    assert servers.sql("SELECT count(*) FROM covenq.segment") == [(1,)]
    assert journal.append([delivery(2)]) == Appended((2,))
    assert journal.get(2).epoch == "0123456789abcdef"  # type: ignore[union-attr]


@pytest.mark.parametrize("records", [0, 1])
def test_another_epoch_begins_behind_an_empty_segment(opened: Opened, servers: Cluster, records: int) -> None:
    """As in a journal without a record, and in one that was copied here."""
    journal = opened()
    for number in range(records):
        journal.append([delivery(number)])
    journal.close()
    if records:
        servers.sql(f"UPDATE covenq.head SET closed = '{COPYING}'")
        target = TableTarget(servers.url, time.time)
        target.finish("00000000000000aa", "5" * 64)
        target.close()
    with open_journal(servers.url, accept_head=records) as again:
        assert again.append([delivery(7)]) == Appended((records + 3,)), "behind journal.epoch and journal.accepted"
        assert again.get(records + 3).epoch == again.epoch != "00000000000000aa"  # type: ignore[union-attr]
    assert verify(servers.url).damage == []


def test_what_may_be_recorded_is_not_called_refused(opened: Opened, answers: list[Exception | None]) -> None:
    journal = opened()
    answers += [cut(), psycopg.errors.LockNotAvailable("the head is locked")]
    entry = delivery(1)._replace(attempt="a1")
    assert journal.append([entry]) == Unknown()
    assert journal.append([entry]) == Appended((1,))
    answers += [cut(), psycopg.errors.LockNotAvailable("the head is locked")]
    assert append_known(journal, [Entry("ops.note", "ops.note", {})]) == Appended((2,))
    assert journal.head().seq == 2


def test_who_was_told_that_nothing_was_sent_was_told_the_truth(
    opened: Opened, servers: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is up while a connection is made, which is ready then."""
    journal = opened()
    journal.append([delivery(1)])
    told: list[object] = []
    answered = threading.Event()

    def done(answer: object) -> None:
        told.append(answer)
        answered.set()

    def slow(url: str) -> Conn:
        assert answered.wait(HANG_S)
        return connect(url)

    with servers.lock_of_the_head():
        journal._committer._disconnect()
        monkeypatch.setattr(committing, "connect", slow)
        journal.submit([delivery(2)], done)
        journal.start_batch()
        assert answered.wait(HANG_S)
    assert [type(one) for one in told] == [JournalUnavailable]
    while journal.health().unreachable:
        pass
    assert append_known(journal, [delivery(3)]) == Appended((2,)), "the one that was refused is not there"


def test_a_journal_closes_while_its_server_hangs() -> None:
    servers = Cluster(standby=False)
    try:
        journal = open_journal(servers.url)
        journal.append([delivery(1)])
        servers.primary.pause()
        told: list[object] = []
        journal.submit([delivery(2)], told.append)
        journal.start_batch()
        closing = threading.Thread(target=journal.close, daemon=True)
        closing.start()
        closing.join(HANG_S)
        assert not closing.is_alive() and told == [Unknown()]
    finally:
        servers.primary.resume()
        servers.close()


def test_what_comes_late_from_a_connection_that_was_given_up_is_refused(opened: Opened, servers: Cluster) -> None:
    """A note expects nothing, so that only the connection's name tells that it was sent again meanwhile."""
    journal = opened()
    note = Entry("ops.note", "ops.note", {"n": 1}, attempt="a")
    journal.append([delivery(1)])
    before = journal._committer.writer
    servers.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'covenq'")
    assert append_known(journal, [note]) == Appended((2,))
    assert journal._committer.writer != before
    late = Call(prepare_append([note]), "a", 0.0, lambda answer: None)
    conn = connect(servers.url)
    try:
        with pytest.raises(psycopg.Error) as raised:
            send(conn, before, [late], salt="0" * 64)
    finally:
        conn.close()
    assert raised.value.sqlstate == FENCED
    erased, _ = journal.erase([Entry("ops.redaction", "delivery.redacted", {"drops": [[1, 1]], "about": True})])
    assert erased == Appended((3,)) and not journal.poisoned


def test_a_start_does_not_wait_for_a_standby_that_is_gone_and_says_what_appends_wait_for() -> None:
    servers = Cluster(standby=True)
    try:
        assert servers.standby is not None
        servers.standby.stop()
        with open_journal(servers.url) as journal:
            assert journal.append([delivery(1)]) == Unknown()
            eventually(lambda: journal.health().unreachable, 30, "it says that the database does not answer")
    finally:
        servers.close()
