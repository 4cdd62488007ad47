"""What operators are told of: each condition alone, from which threshold on, and when it goes on with nothing to show for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from covenq.config.notify import KINDS, FailureShare, Notify
from covenq.model import at_text
from covenq.model.notices import TEXT_MAX
from covenq.model.pending_status import Uninstall
from covenq.model.status import (
    ActivePause,
    Disk,
    Missing,
    Overdue,
    ReconcileStatus,
    StateStatus,
    Verified,
)
from covenq.model.waiting import WaitingTasks
from covenq.model.worker_status import WorkerStatus
from covenq.operate.notify.conditions import Condition, Ended, Key, LeftAlone, Observed, conditions
from covenq.operate.notify.failures import FailureWindow
from covenq.state.fold import fold
from tests.support.answers import NOW, STATUS
from tests.support.records import START, as_records, empty_state, moved, of, queued, received

ALL = Notify(run=("true",))
EARLIER = at_text(NOW - 7200)
VERIFIED = Verified(at=EARLIER, ok=False, records=9, findings=1, seq=9, seconds=1.0, first="record 7 at byte 900: sum")
MISSING = Missing(deliveries=3, since=EARLIER, until=EARLIER, forgotten_at=at_text(NOW + 7200))


def waits(cause: str, scope: str | None, age: float = 1000.0, command: str | None = None) -> WaitingTasks:
    return WaitingTasks(cause, scope, 5, at_text(NOW - age), None, command, "why it waits", None, "t1")


def told(
    notify: Notify = ALL,
    before: Mapping[Key, Condition] | None = None,
    seen: Mapping[str, Any] | None = None,
    **status: Any,
) -> list[Condition]:
    return conditions(Observed(replace(STATUS, **status), NOW, **(seen or {})), notify, before or {})


def test_where_all_is_well_nothing_is_told() -> None:
    assert told(seen={"ended": {"fix": Ended(100, 49)}, "reserve": 1 << 30}) == []


Case = tuple[dict[str, Any], dict[str, Any], Key, str, str]
CASES: list[Case] = [
    (
        {"ready": False, "reasons": ["It is paused."]},
        {},
        ("intake", "intake"),
        "Nothing is received: It is paused.",
        "covenq doctor",
    ),
    ({"verified": VERIFIED}, {}, ("damage", "journal"), "record 7 at byte 900", "covenq verify"),
    (
        {"damaged": True, "reasons": ["The journal is damaged: at 4."]},
        {},
        ("damage", "journal"),
        "damaged: at 4",
        "covenq verify",
    ),
    (
        {"state": StateStatus(1, 0, None, damaged=True)},
        {},
        ("damage", "state.db"),
        "A restart makes it anew",
        "covenq doctor",
    ),
    (
        {"overdue": [Overdue("fold", "the fold loop stands")]},
        {},
        ("overdue", "fold"),
        "the fold loop stands",
        "covenq doctor",
    ),
    ({"worker": WorkerStatus("w", 4, [], "no space")}, {}, ("overdue", "worker"), "no space", "covenq doctor"),
    (
        {"disk": Disk((2 << 30) - 1, 100 << 30)},
        {"reserve": 1 << 30},
        ("disk", "disk"),
        "2.0 GiB of 100.0 GiB are free",
        "covenq compact --dry-run",
    ),
    (
        {"reconcile": ReconcileStatus(300.0, [], missing=MISSING)},
        {},
        ("ledger", "ledger"),
        "GitHub forgets them in 2h",
        "covenq reconcile",
    ),
    (
        {},
        {"receivers": [LeftAlone("http://a:1", "http://a:1 failed 5 times in a row", ("x", "y"))]},
        ("receiver", "http://a:1"),
        "routes x, y wait",
        "covenq status",
    ),
    (
        {},
        {"ended": {"fix": Ended(6, 3)}},
        ("failures", "route fix"),
        "3 of 6 attempts of route fix failed within 30m",
        "covenq stats route:fix",
    ),
    (
        {"waiting": [waits("unclaimed", "route a", command="covenq worker --route a -- CMD")]},
        {},
        ("waiting", "route a unclaimed"),
        "5 tasks wait, route a: why it waits; the oldest for 16m",
        "covenq worker --route a -- CMD",
    ),
    (
        {"uninstalls": [Uninstall(9001, "waiting", EARLIER, "2026-12-08T05:00:00.000000Z")]},
        {},
        ("uninstall", "installation 9001"),
        "is erased from 2026-12-08T05:00:00Z on",
        "covenq keep 9001",
    ),
    ({"waiting": [waits("key", "route a")]}, {}, ("waiting", "route a key"), "5 tasks wait", "covenq why t1"),
]


@pytest.mark.parametrize(("status", "seen", "key", "words", "command"), CASES)
def test_each_alone(status: dict[str, Any], seen: dict[str, Any], key: Key, words: str, command: str) -> None:
    (found,) = told(seen=seen, **status)
    assert found.key == key and words in found.text and found.command == command
    assert told(Notify(run=("true",), on=tuple({*KINDS} - {key[0]})), seen=seen, **status) == [], (
        "not where it isn't wished"
    )


def test_of_an_intake_that_somebody_paused_it_is_told_how_it_goes_on() -> None:
    pause = ActivePause("intake", None, None, EARLIER, 7, "mona", "a release")
    (found,) = told(ready=False, reasons=["It is paused."], pauses=[pause])
    assert found.command == "covenq resume intake"


def test_every_kind_is_one_that_can_be_told() -> None:
    assert {key[0] for _, _, key, _, _ in CASES} == {*KINDS}


def test_thresholds_are_the_configurations() -> None:
    strict = Notify(run=("a",), failures=FailureShare(0.2, 10, 60.0), waiting_s=10.0, disk=50 << 30)
    seen = {"ended": {"fix": Ended(10, 2), "few": Ended(9, 9)}}
    found = told(strict, seen=seen, waiting=[waits("cap", "route a", 11.0), waits("cap", "route b", 9.0)])
    assert [one.key for one in found] == [("disk", "disk"), ("failures", "route fix"), ("waiting", "route a cap")]


def test_what_a_receiver_holds_is_told_by_the_receiver_and_a_chosen_time_by_nobody() -> None:
    lines = [waits("receiver", "route a"), waits("not_before", "route a")]
    assert told(waiting=lines) == []
    only = Notify(run=("a",), on=("waiting",))
    assert [one.key for one in told(only, waiting=lines)] == [("waiting", "route a receiver")]


def test_a_failing_route_goes_on_until_one_of_its_attempts_shows_that_it_is_better() -> None:
    before = {("failures", "route fix"): Condition("failures", "route fix", "as it was told")}
    assert [one.text for one in told(before=before)] == ["as it was told"], "nothing has ended since"
    assert told(before=before, seen={"ended": {"fix": Ended(2, 1)}})[0].text.startswith("1 of 2"), "few, and no better"
    assert told(before=before, seen={"ended": {"fix": Ended(2, 0)}}) == []
    assert told(before=before, routes=["other"]) == [], "a route that is there no more"


def test_a_receiver_is_left_alone_until_it_has_answered_though_a_restart_forgot_that_it_failed() -> None:
    before = {("receiver", "http://a:1"): Condition("receiver", "http://a:1", "as it was told")}
    assert [one.text for one in told(before=before, seen={"unknown": {"http://a:1"}})] == ["as it was told"]
    assert told(before=before) == [], "it answers, or nothing is sent there any more"
    again = {"unknown": {"http://a:1"}, "receivers": [LeftAlone("http://a:1", "it failed", ("r",))]}
    assert len(told(before=before, seen=again)) == 1


def test_what_waits_in_a_line_that_tells_of_several_has_not_ended() -> None:
    before = {("waiting", "installation 7 quota"): Condition("waiting", "installation 7 quota", "as it was told")}
    lines = [waits("quota", "installation 8"), waits("quota", None)]
    assert {one.scope for one in told(before=before, waiting=lines)} == {"installation 7 quota", "installation 8 quota"}
    assert {one.scope for one in told(before=before, waiting=lines[:1])} == {"installation 8 quota"}


def test_no_notice_names_a_repository_which_an_erasure_could_not_take_back() -> None:
    command = "covenq resume repo octo/hello"
    lines = [
        waits("paused", "repo octo/hello", 7200.0, command),
        waits("paused", "repo o/a\x1b[2J"),
        waits("cap", "repo o/b"),
    ]
    paused, full = told(waiting=lines)
    assert (paused.scope, paused.command) == ("repositories paused", "covenq status")
    assert paused.text == "10 tasks wait, repositories: paused, 2 of them; the oldest for 2h"
    assert (full.scope, full.text) == (
        "repositories cap",
        "5 tasks wait, repositories: cap, 1 of them; the oldest for 16m",
    )


def test_a_notice_is_one_bounded_line_whatever_it_is_made_of() -> None:
    (found,) = told(ready=False, reasons=["It is\npaused: " + "x" * 5000])
    assert "\n" not in found.text and len(found.text) == TEXT_MAX
    (found,) = told(waiting=[waits("key", "route " + "r" * 64)])
    assert told(before={found.key: found}, waiting=[waits("key", "route " + "r" * 64), waits("key", None)]) == [found]


# ---- failures within a window


def states(conn: sqlite3.Connection, names: list[tuple[str, str, dict[str, Any]]], first: int) -> int:
    """Fold a delivery, its task and how its attempt went, for each; the next seq."""
    entries = []
    for guid, end, more in names:
        entries += [received(guid), queued(guid), moved("claimed", of(guid), attempt=1, worker="w", lease_until=None)]
        entries += [moved(end, of(guid), attempt=1, **more)] if end else []
    fold(conn, as_records(entries, first=first))
    return first + len(entries)


def test_attempts_are_counted_once_as_they_end_and_forgotten_after_the_window() -> None:
    conn, window = empty_state(), FailureWindow()
    assert window.read(conn, START, 60.0) == {}
    at = states(conn, [("a", "failed", {"category": "exit"}), ("b", "completed", {}), ("c", "", {})], 1)
    later = START + 100.0
    assert window.read(conn, later, 600.0) == {"fix": Ended(2, 1)}
    assert window.read(conn, later, 600.0) == {"fix": Ended(2, 1)}, "not again"
    fold(conn, as_records([moved("retry", of("c"), attempt=1, category="exit", not_before=at_text(START))], first=at))
    assert window.read(conn, later, 600.0) == {"fix": Ended(3, 2)}, "one that ran at the look before"
    window.forget("fix")
    states(conn, [("d", "failed", {"category": "lease_lost"}), ("e", "failed", {"category": "exit"})], at + 1)
    assert window.read(conn, later, 600.0) == {"fix": Ended(1, 1)}, "what was cut short says nothing of the route"
    assert window.read(conn, later + 3600.0, 600.0) == {}


def test_what_ended_before_the_first_look_counts() -> None:
    conn = empty_state()
    states(conn, [("a", "failed", {"category": "exit"})], 1)
    assert FailureWindow().read(conn, START + 60, 600.0) == {"fix": Ended(1, 1)}


def test_what_failed_before_the_clock_was_set_back_is_not_counted_till_it_comes_round_again() -> None:
    conn, window = empty_state(), FailureWindow()
    at = states(conn, [("a", "failed", {"category": "exit"})], 1)
    assert window.read(conn, START + 60.0, 600.0) == {"fix": Ended(1, 1)}
    back = START - 86_400.0
    assert window.read(conn, back, 600.0) == {}
    states(conn, [("b", "completed", {})], at)
    assert window.read(conn, back, 600.0) == {}, "and what ends in a time to come isn't yet"
    assert window.read(conn, START + 60.0, 600.0) == {}
