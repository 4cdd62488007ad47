"""Twins: one body under several GUIDs, marked or refused, and never two of them let in by a race."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from covenq.config.load import Config
from covenq.errors import StateBehind
from covenq.intake.twins import Twins
from covenq.model import DeliveryId
from tests.support.daemon import Daemon
from tests.support.journal_json import records
from tests.support.records import in_memory
from tests.support.requests import HOOK, encode, issue
from tests.support.serving import Served, serving

REFUSE = {"github": {"twins": "refuse", "hooks": ["7", 8]}}


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    with serving(data, REFUSE) as one:
        yield one


def received(served: Served) -> list[str]:
    return [record["subject"] for record in records(served.data, "delivery.received")]


# ---- refused


def test_a_body_under_another_guid_is_refused_and_leaves_nothing(served: Served) -> None:
    assert served.post("issues", issue(), "g-1").status == 202
    answer = served.post("issues", issue(), "g-2")
    assert (answer.status, answer.json["error"]) == (409, "twin")
    assert "g-1" in answer.json["detail"]
    assert received(served) == ["delivery.7.g-1"]
    assert served.refused() == {"twin": 1}
    assert served.post("issues", issue(8), "g-2").status == 202, "the GUID was not what was refused"


def test_a_redelivery_and_a_sibling_hooks_delivery_are_no_twins(served: Served) -> None:
    assert served.post("issues", issue(), "g-1").status == 202
    again = served.post("issues", issue(), "g-1")
    assert (again.status, again.json["duplicate"]) == (200, True)
    assert served.post("issues", issue(), "g-1", hook="8").status == 202
    assert served.post("issues", issue(9), "g-1").json["error"] == "delivery_conflict"
    assert received(served) == ["delivery.7.g-1", "delivery.8.g-1"]


def test_a_known_deliverys_other_body_is_its_conflict_even_if_it_is_a_twin(served: Served) -> None:
    assert [served.post("issues", issue(number), f"g-{number}").status for number in (1, 2)] == [202, 202]
    assert served.post("issues", issue(1), "g-2").json["error"] == "delivery_conflict"
    assert len(records(served.data, "delivery.conflicted")) == 1


def test_a_ping_is_never_refused(served: Served) -> None:
    for guid in ("g-1", "g-2"):
        assert served.post("ping", {"zen": "Speak like a human.", "hook_id": 7}, guid).status == 200
    assert len(received(served)) == 2


def test_twins_that_arrive_at_once_are_one(served: Served) -> None:
    """While the first one waits for the disk, and while the state has not folded it."""
    for number in range(5):
        body = encode(issue(number))
        admission = threading.Barrier(8)

        def send(guid: str, body: bytes = body, admission: threading.Barrier = admission) -> int:
            admission.wait(30)
            return served.post("issues", body, guid).status

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(send, [f"g-{number}-{n}" for n in range(8)]))
        assert sorted(statuses) == [202] + [409] * 7
    assert len(received(served)) == 5


@pytest.mark.files("a sync of the disk is held back")
def test_a_twin_of_one_that_waits_for_the_disk_is_refused(served: Served) -> None:
    served.files.go.clear()
    first: list[int] = []
    thread = threading.Thread(target=lambda: first.append(served.post("issues", issue(), "g-1").status))
    thread.start()
    assert served.files.syncing.wait(30)
    assert served.post("issues", issue(), "g-2").json["error"] == "twin"
    served.files.go.set()
    thread.join(30)
    assert first == [202]
    assert received(served) == ["delivery.7.g-1"]


def test_what_was_marked_before_is_still_known_as_its_own(data: Path) -> None:
    with serving(data) as marking:
        assert [marking.post("issues", issue(), guid).status for guid in ("g-1", "g-2")] == [202, 202]
    with serving(data, REFUSE) as refusing:
        assert [refusing.post("issues", issue(), guid).status for guid in ("g-1", "g-2", "g-3")] == [200, 200, 409]
        assert refusing.post("issues", issue(), "g-2", hook="8").status == 202


def test_a_hook_that_is_not_allowed_is_refused_after_its_signature(served: Served) -> None:
    answer = served.post("issues", issue(), hook="9")
    assert (answer.status, answer.json["error"]) == (401, "hook_not_allowed")
    assert served.post("issues", issue(), hook="9", secret="wrong").json["error"] == "signature_wrong"
    assert served.refused() == {"hook_not_allowed": 1, "signature_wrong": 1}
    assert received(served) == []


# ---- marked


def test_twins_are_marked_and_harmed_in_no_way(data: Path) -> None:
    with serving(data) as served:
        assert [served.post("issues", issue(), guid).status for guid in ("g-1", "g-2")] == [202, 202]
        assert served.ask("/api/v1/deliveries/g-2").json["twin"] == "g-1"
        assert served.ask("/api/v1/deliveries/g-1").json["twin"] is None


def test_a_route_can_ask_for_twins_at_the_door(data: Path) -> None:
    route = {"name": "firsts", "match": "event:issues not:twin:*", "run": ["true"]}
    with serving(data, {"route": [route]}) as served:
        first, second = (served.post("issues", issue(), guid).json for guid in ("g-1", "g-2"))
        assert (first["state"], second["state"]) == ("queued", "ignored")
    (marked,) = [r for r in records(data, "delivery.received") if r["data"]["guid"] == "g-2"]
    assert marked["data"]["twin"] == "g-1"


# ---- the reservations themselves


class Seqs:
    """A journal's head and a fold's position that a test sets, over rows that it writes."""

    def __init__(self) -> None:
        self.head = self.folded = 0
        self.conn = in_memory("DEFERRED")
        self.conn.execute("CREATE TABLE webhook_deliveries (seq INTEGER PRIMARY KEY, guid TEXT, payload_sha256 TEXT)")
        self.reached: Callable[[int], bool] = lambda seq: False

    def twins(self, **options: Any) -> Twins:
        return Twins(
            lambda: self.conn, lambda: self.head, lambda: self.folded, lambda seq: self.reached(seq), **options
        )

    def row(self, seq: int, guid: str, sha256: str) -> None:
        self.conn.execute("INSERT INTO webhook_deliveries VALUES (?, ?, ?)", (seq, guid, sha256))
        self.folded = seq


A = "a" * 64


def id(guid: str, hook: str = "7") -> DeliveryId:
    return DeliveryId(hook, guid)


def test_a_reservation_lasts_until_the_state_has_what_it_recorded() -> None:
    seqs, config = Seqs(), Config()
    twins = seqs.twins()
    first = twins.reserve(A, id("g-1"), config)
    assert (first.twin, first.own) == (None, False)
    second = twins.reserve(A, id("g-2"), config)
    assert second.twin == "g-1"
    second.end(None)
    first.end(5)
    first.end(None)  # only the first word counts
    assert twins.reserve(A, id("g-2"), config).twin == "g-1", "recorded, and not folded yet"
    seqs.row(5, "g-1", A)
    third = twins.reserve(A, id("g-3"), config)
    assert third.twin == "g-1"
    assert twins.reserve(A, id("g-1", "8"), config).own


def test_what_was_not_recorded_leaves_no_reservation() -> None:
    seqs, config = Seqs(), Config()
    twins = seqs.twins()
    twins.reserve(A, id("g-1"), config).end(None)
    assert twins.reserve(A, id("g-2"), config).twin is None
    assert set(twins._reserved) == {A}


def test_nothing_is_let_in_before_the_state_has_what_was_there_when_this_policy_began() -> None:
    seqs, config = Seqs(), Config()
    seqs.head = 3
    twins = seqs.twins()
    with pytest.raises(StateBehind):
        twins.reserve(A, id("g-2"), config)
    assert twins._reserved == {}

    def reach(seq: int) -> bool:
        assert seq == 3
        seqs.row(3, "g-1", A)
        return True

    seqs.reached = reach
    assert twins.reserve(A, id("g-2"), config).twin == "g-1"
    seqs.head, seqs.reached = 9, lambda seq: False
    assert twins.reserve(A, id("g-3"), config).twin == "g-1", "what comes later is reserved, and need not be waited for"
    with pytest.raises(StateBehind):
        twins.reserve(A, id("g-3"), Config(threads=1))


def test_reservations_have_a_bound() -> None:
    seqs, config = Seqs(), Config()
    twins = seqs.twins(limit=3)
    for number in range(3):
        twins.reserve(f"{number:064}", id("g-1"), config).end(number + 1)
    with pytest.raises(StateBehind):
        twins.reserve(A, id("g-1"), config)
    seqs.folded = 1
    twins.reserve(A, id("g-1"), config)


def test_a_state_that_can_not_be_read_refuses_or_marks_nothing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> sqlite3.Connection:
        raise sqlite3.OperationalError("disk I/O error")

    route = {"name": "firsts", "match": "event:issues not:twin:*", "run": ["true"]}
    for raw, status in ((REFUSE, 503), ({"route": [route]}, 202)):
        with serving(data, raw) as served:
            monkeypatch.setattr(served.intake.twins, "_reader", broken)
            answer = served.post("issues", issue(int.from_bytes(os.urandom(3), "big")))
            assert answer.status == status, answer.json


def test_a_restart_that_folds_everything_anew_still_knows_them(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(f'[github]\ntwins = "refuse"\nhooks = [{HOOK}]\n')
    assert daemon.post("issues", issue(), "g-1").status == 202
    daemon.kill()
    for path in daemon.data.glob("state.db*"):
        path.unlink()
    daemon.start()
    assert daemon.post("issues", issue(), "g-2").json["error"] == "twin"
    assert daemon.post("issues", issue(), "g-1").json["duplicate"] is True
