"""What becomes of appends while the server is away, is killed, or ends their connections: held, sent again, recorded once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from journal.append import append_known
from journal.errors import JournalDamaged, JournalPoisoned, JournalUnavailable
from journal.postgres.committer import HELD_CALLS, HELD_S
from journal.postgres.engine import PostgresJournal
from journal.postgres.open import open_journal
from journal.records import Appended, Conflict, Entry, Unknown
from tests.support.journals.entries import delivery
from tests.support.postgres.journals import open_in
from tests.support.postgres.server import HANG_S, Cluster, Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgres

Opened = Callable[[], PostgresJournal]

END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'covenq'"


def test_kept_connections_that_ended_are_made_anew(opened: Opened, servers: Cluster) -> None:
    journal = opened()
    for number in range(1, 6):
        servers.sql(END_ALL)
        assert append_known(journal, [delivery(number)]) == Appended((number,))
        servers.sql(END_ALL)
        assert journal.get(number) is not None
        assert journal.last(delivery(number).subject).seq == number  # type: ignore[union-attr]


def test_what_comes_while_the_server_restarts_is_held(tmp_path: Path) -> None:
    servers = Cluster(standby=False)
    try:
        with open_journal(servers.url) as journal:
            journal.append([delivery(0)])
            servers.primary.kill()
            answers: list[object] = []
            threads = [
                threading.Thread(target=lambda number=number: answers.append(append_known(journal, [delivery(number)])))
                for number in range(1, 9)
            ]
            for thread in threads:
                thread.start()
            servers.primary.start()
            for thread in threads:
                thread.join(HANG_S)
            assert sorted(answer.seqs for answer in answers if isinstance(answer, Appended)) == [
                (n,) for n in range(2, 10)
            ]
            assert journal.head().seq == 9 and journal.health().ok
    finally:
        servers.close()


def standby_of(servers: Cluster) -> Server:
    """The standby, which is to be paused, so that commits wait for it, and resumed."""
    assert servers.standby is not None
    return servers.standby


@pytest.fixture
def replicated() -> Iterator[Cluster]:
    servers = Cluster(standby=True)
    yield servers
    servers.close()


def test_a_commit_that_may_not_be_replicated_is_answered_once_it_is(replicated: Cluster) -> None:
    """Its wait is cancelled, so that it is committed with a warning: the answer waits for a standby all the same."""
    standby = standby_of(replicated)
    with open_journal(replicated.url) as journal:
        assert journal.append([delivery(1)]) == Appended((1,))
        assert journal.durability == "replicated"
        for number, entry in enumerate((delivery(2), Entry("ops.note", "ops.note", {"n": 1})), start=2):
            standby.pause()
            answers: list[object] = []
            appending = threading.Thread(target=_append_into, args=(journal, entry, answers))
            appending.start()
            waiting = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            while not replicated.sql(waiting):
                assert appending.is_alive()
            appending.join(0.5)
            assert not answers, "nothing is said before a standby has it"
            standby.resume()
            appending.join(HANG_S)
            assert answers == [Appended((number,))]
        assert journal.head().seq == 3


def test_unknown_is_said_when_the_time_is_up_and_resolved_by_the_attempt(replicated: Cluster) -> None:
    standby = standby_of(replicated)
    with open_journal(replicated.url) as journal:
        standby.pause()
        note = Entry("ops.note", "ops.note", {"n": 1}, attempt="a1")
        claim = delivery(5)._replace(attempt="a2")
        said: list[object] = []
        told = threading.Semaphore(0)

        def done(answer: object) -> None:
            said.append(answer)
            told.release()

        for entry in (note, claim):  # of one batch, so that both are sent
            journal.submit([entry], done)
        journal.start_batch()
        for _ in (note, claim):
            assert told.acquire(timeout=HELD_S + HANG_S)
        assert said == [Unknown()] * 2
        assert not journal.health().ok or journal.head().seq == 0
        standby.resume()
        found = [append_known_as(journal, entry) for entry in (note, claim)]
        assert sorted(one.seqs for one in found if isinstance(one, Appended)) == [(1,), (2,)]
        assert journal.head().seq == 2
        assert isinstance(journal.append([delivery(5)]), Conflict)


def _append_into(journal: PostgresJournal, entry: Entry, answers: list[object]) -> None:
    answers.append(append_known(journal, [entry]))


def append_known_as(journal: PostgresJournal, entry: Entry) -> Appended | Conflict | Unknown:
    """Repeats the very attempt until it is answered."""
    while isinstance(answer := journal.append([entry]), Unknown):
        pass
    return answer


def test_a_server_that_has_been_away_for_long_refuses_at_once(tmp_path: Path) -> None:
    servers = Cluster(standby=False)
    try:
        with open_journal(servers.url) as journal:
            journal.append([delivery(0)])
            servers.primary.kill()
            try:
                assert journal.append([delivery(1)]) == Unknown(), "it was sent, on a connection that had ended"
            except JournalUnavailable:
                pass  # it was found before that the connection had ended, so that nothing was sent
            assert journal.health().unreachable
            with pytest.raises(JournalUnavailable, match="has not answered for"):
                journal.append([delivery(1)])
            servers.primary.start()
            eventually(lambda: journal.health().ok, HANG_S, "it is found again")
            assert journal.append([delivery(1)]) == Appended((2,))
    finally:
        servers.close()


def take_writes(server: Server, *, writes: bool) -> None:
    with psycopg.connect(f"{server.url}&options=-cdefault_transaction_read_only%3Doff", autocommit=True) as conn:
        conn.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'off' if writes else 'on'}")
        conn.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    ("lose", "give_back"),
    [
        pytest.param(Server.kill, Server.start, id="gone"),
        pytest.param(Server.pause, Server.resume, id="hangs"),
        pytest.param(partial(take_writes, writes=False), partial(take_writes, writes=True), id="takes no writes"),
    ],
)
def test_a_server_that_is_away_is_found_though_nothing_comes(
    lose: Callable[[Server], None], give_back: Callable[[Server], None]
) -> None:
    """Else the first that comes would wait in vain, and until then all would be told that all is well."""
    servers = Cluster(standby=False)
    try:
        with open_journal(servers.url) as journal:
            journal.append([delivery(1)])
            lose(servers.primary)
            eventually(lambda: journal.health().unreachable, HANG_S, "it is found")
            with pytest.raises(JournalUnavailable, match="has not answered for"):
                journal.append([delivery(2)])
            give_back(servers.primary)
            eventually(lambda: journal.health().ok, HANG_S, "it is found again")
            assert journal.append([delivery(2)]) == Appended((2,))
    finally:
        servers.close()


def test_no_more_than_so_many_wait(opened: Opened, servers: Cluster) -> None:
    journal = opened()
    told: list[object] = []
    refused = 0
    with servers.lock_of_the_head():
        for number in range(HELD_CALLS + 1200):
            try:
                journal.submit([Entry(f"task.n{number}", "task.queued", {}, expect=0)], told.append)
            except JournalUnavailable:
                refused += 1
            journal.start_batch()
    journal.close()
    assert refused and len(told) + refused == HELD_CALLS + 1200
    assert all(isinstance(answer, Appended) for answer in told)


def test_a_server_that_lost_what_was_acknowledged_is_damaged(opened: Opened, servers: Cluster, tmp_path: Path) -> None:
    """As after the promotion of a standby that had not got it."""
    journal = opened()
    for number in range(1, 4):
        journal.append([delivery(number)])
    servers.sql("DELETE FROM covenq.content WHERE seq = 3")
    servers.sql("DELETE FROM covenq.record WHERE seq = 3")
    servers.sql("UPDATE covenq.head SET seq = 2, sum = r.sum, link = r.sum FROM covenq.record r WHERE r.seq = 2")
    servers.sql(END_ALL)
    with pytest.raises((JournalDamaged, JournalPoisoned), match="record 3 was acknowledged"):
        append_known(journal, [delivery(4)])
    assert journal.poisoned
    journal.close()
    with open_in(tmp_path, standby=False) as again:
        assert again.head().seq == 2
