"""Rounds of loops, by a clock that the test sets."""

from __future__ import annotations

from covenq.rounds import Loop


def test_a_loop_is_overdue_when_it_does_not_come_round_within_its_bound() -> None:
    now = [100.0]
    loop = Loop("dispatcher", 60.0, "no task is started", lambda: now[0])
    assert (loop.age_s, loop.overdue) == (None, None), "it was not started"
    loop.done()
    now[0] += 60.0
    assert (loop.age_s, loop.overdue) == (60.0, None)
    now[0] += 1.0
    assert loop.overdue == "the dispatcher loop last came round 61 s ago: no task is started"
    loop.progress()
    assert loop.overdue is None, "it is at work"
    now[0] += 61.0
    loop.done()
    assert loop.overdue is None
    loop.end()
    now[0] += 1000.0
    assert loop.overdue is None, "it was stopped"


def test_a_loop_that_fails_in_every_round_does_not_come_round() -> None:
    now = [0.0]
    loop = Loop("upkeep", 10.0, "nothing expires", lambda: now[0])
    loop.done()
    for _ in range(4):
        now[0] += 5.0
        loop.progress()
        loop.failed(ValueError("payload"))
    assert loop.overdue == "the upkeep loop last came round 15 s ago, and fails each time (ValueError): nothing expires"
    loop.done()
    assert loop.overdue is None
