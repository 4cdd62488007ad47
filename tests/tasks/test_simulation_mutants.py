"""The simulation can fail: each promise, broken on purpose, is missed within a few histories."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from msgspec import structs

from covenq.state import send_order
from covenq.tasks.scheduling import candidates, claim, fairness, interruption, limiter, supersede
from covenq.tasks.scheduling.in_flight import InFlight
from journal.records import Entry
from tests.support.simulation import Violated, World

Patch = pytest.MonkeyPatch


def in_flight_tasks_are_forgotten(patch: Patch) -> None:
    @contextmanager
    def picking(self: InFlight) -> Iterator[tuple[()]]:
        yield ()

    patch.setattr(InFlight, "picking", picking)


def claims_expect_nothing(patch: Patch) -> None:
    real = claim.Entry
    patch.setattr(claim, "Entry", lambda *args, expect=None, **more: real(*args, **more))


def nothing_is_recovered(patch: Patch) -> None:
    patch.setattr("tests.support.simulation.recover", lambda tasks, now: [])


def recovery_looks_at_nothing_new(patch: Patch) -> None:
    real = interruption.recover
    twice = lambda tasks, now: [one._replace(expect=None) for one in real(tasks, now)] * 2  # noqa: E731
    patch.setattr("tests.support.simulation.recover", twice)


def turns_are_not_kept(patch: Patch) -> None:
    real = fairness.Picker._next
    patch.setattr(
        fairness.Picker, "_next", lambda self, pick, turn, idle: real(self, pick, fairness._RoundRobin(), idle)
    )


def days_are_not_counted(patch: Patch) -> None:
    patch.setattr(limiter.Limiter, "_started_today", lambda self, scope: 0)


def a_cap_is_one_more(patch: Patch) -> None:
    real = limiter.Limiter._limit_reached

    def full(self: Any, level: str, name: Any, cap: Any, shown: Any) -> Any:
        more = None if cap.concurrency is None else cap.concurrency + 1
        return real(self, level, name, structs.replace(cap, concurrency=more), shown)

    patch.setattr(limiter.Limiter, "_limit_reached", full)


def the_oldest_outdates(patch: Patch) -> None:
    def oldest(conn: Any, place: tuple[Any, ...], limit: int) -> Iterator[tuple[Entry, ...]]:
        rows = conn.execute(supersede.NEWEST.replace(" DESC", ""), place).fetchall()
        newer = conn.execute(supersede.NEWEST, place).fetchone()
        if rows and newer["created_seq"] > rows[0]["created_seq"] and newer["state"] == "queued":
            yield (supersede._superseded_entry(newer, rows[0]["id"], supersede.NEWER),)

    patch.setattr(supersede, "_superseded_by_newer", oldest)


def what_is_fetched_counts_as_new(patch: Patch) -> None:
    patch.setattr(send_order, "first_sent_at", send_order.recorded_at)


def a_key_goes_by_the_journal(patch: Patch) -> None:
    patch.setattr(candidates, "_READY", candidates._READY.replace("sent_at, created_seq", "last_seq"))


def lost_answers_are_given_up(patch: Patch) -> None:
    def acquire(cls: Any, journal: Any, task: Any, worker: str, lease_until: Any = None, **_: Any) -> Any:
        data = {"attempt": task.attempts + 1, "worker": worker, "lease_until": lease_until}
        answer = journal.append([Entry(task.subject, "task.claimed", data, expect=task.last_seq)])
        seqs = getattr(answer, "seqs", None)
        return None if seqs is None else cls(journal, task.id, task.attempts + 1, seqs[0], lease_until=lease_until)

    patch.setattr(claim.Claim, "acquire", classmethod(acquire))


@pytest.mark.parametrize(
    "mutant",
    [
        in_flight_tasks_are_forgotten,
        claims_expect_nothing,
        nothing_is_recovered,
        recovery_looks_at_nothing_new,
        turns_are_not_kept,
        the_oldest_outdates,
        what_is_fetched_counts_as_new,
        a_key_goes_by_the_journal,
        days_are_not_counted,
        a_cap_is_one_more,
        lost_answers_are_given_up,
    ],
)
def test_a_broken_promise_is_seen(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    monkeypatch.setattr("journal.append.PAUSE_S", 0.0)
    mutant(monkeypatch)
    logging.disable(logging.CRITICAL)
    try:
        for seed in range(200):
            world = World(seed)
            try:
                world.run()
            except (Violated, AssertionError):
                return
            finally:
                world.conn.close()
    finally:
        logging.disable(logging.NOTSET)
    raise AssertionError(f"200 histories, and nobody saw that {mutant.__name__.replace('_', ' ')}")
