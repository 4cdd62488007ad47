"""A delivery that comes to a node which stands by: passed on, held, or refused in time."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from covenq.http import passing
from covenq.http.passing import PASSED, Passing, held_ms
from covenq.intake.answer import Answer
from journal.records import Leader, NodeSeen
from tests.support.requests import Answer as Served
from tests.support.serving import serving

HANG_S = 60.0


class Leading:
    """A journal of which another node leads, at `address`; it may lead itself later."""

    lost = False

    def __init__(self, address: str, *, leads: bool = False) -> None:
        self.who: Leader | None = Leader("other", address, "")
        self.leads = leads

    def leader(self) -> Leader | None:
        return self.who

    def lead(self) -> bool:
        return False

    def step_down(self) -> None:
        pass

    def tell(self, about: str) -> None:
        pass

    def nodes(self, *, ask: bool = False) -> Sequence[NodeSeen]:
        return []


class Silent:
    """A listener that takes connections, and answers what `answers` has left, one each; then nothing, as a frozen process."""

    def __init__(self, answers: Sequence[bytes] = ()) -> None:
        self.asked: list[bytes] = []
        self._answers = list(answers)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._listening.getsockname())
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(connection)
            said = b""
            while not said.endswith(b"{}"):
                said += connection.recv(1 << 16)
            self.asked.append(said)
            if self._answers:
                connection.sendall(self._answers.pop(0))

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(HANG_S)
        for one in self._open:
            one.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    made = Silent()
    yield made
    made.close()


def http(status: int, said: object) -> bytes:
    body = json.dumps(said).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def ask(made: Passing, headers: dict[str, str] | None = None, began: float = 0.0) -> Answer | None:
    return made.answer("/webhook", {"X_GITHUB_EVENT": "push"} | (headers or {}), str.title, b"{}", began)


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_leader_that_says_nothing_is_asked_again_and_not_waited_for_to_the_end(
    silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passing, "ASK_S", 0.05)
    made = Passing(Leading(silent.address), lambda: len(silent.asked) > 1)
    assert ask(made, began=time.monotonic()) is None, "this node leads by then, and time is left"
    assert len(silent.asked) == 2


@pytest.mark.parametrize(("address", "path"), [("%s", b"/webhook"), ("http://%s/node-a", b"/node-a/webhook")])
def test_the_answer_comes_back_as_it_is(address: str, path: bytes) -> None:
    other = Silent([http(202, {"ok": True, "seq": 7})])
    try:
        clock, leading = Clock(), Leading(address % other.address)
        answer = ask(Passing(leading, lambda: False, monotonic=clock.monotonic, sleep=clock.sleep))
    finally:
        other.close()
    assert answer is not None and (answer.status, answer.body["seq"]) == (202, 7)
    [sent] = other.asked
    assert sent.startswith(b"POST %s HTTP" % path)
    assert PASSED.lower().encode() in sent.lower() and sent.endswith(b"\r\n\r\n{}")


def test_who_leads_no_more_is_not_believed_and_who_nobody_succeeds_is_refused_in_time() -> None:
    other = Silent([http(503, {"ok": False, "error": "standby"})] * 200)
    try:
        clock = Clock()
        answer = ask(Passing(Leading(other.address), lambda: False, monotonic=clock.monotonic, sleep=clock.sleep))
    finally:
        other.close()
    assert answer is not None and answer.status == 503 and clock.now == pytest.approx(passing.HELD_S)
    assert len(other.asked) > 10 and "sent again it is recorded once" in answer.body["detail"]


def test_what_was_passed_is_given_back_at_once_by_a_node_that_does_not_lead(silent: Silent) -> None:
    """The one that passed it holds it, and may lead itself by now: here it would wait in vain. It is no refusal to be counted."""
    clock = Clock()
    made = Passing(Leading(silent.address), lambda: False, monotonic=clock.monotonic, sleep=clock.sleep)
    answer = ask(made, {"COVENQ_PASSED": "1500"})
    assert answer is not None and (answer.status, answer.body["error"], answer.refusal) == (503, "standby", None)
    assert clock.now == 0.0 and not silent.asked


def test_a_node_that_has_the_lead_holds_what_comes_until_it_takes_deliveries_in(silent: Silent) -> None:
    """What was passed to it for what is left of its time; and it sends nothing to itself."""
    for headers, held_s in (({"COVENQ_PASSED": "1500"}, 1.5), ({}, passing.HELD_S)):
        clock = Clock()
        made = Passing(Leading(silent.address, leads=True), lambda: False, monotonic=clock.monotonic, sleep=clock.sleep)
        answer = ask(made, headers)
        assert answer is not None and answer.status == 503 and clock.now == pytest.approx(held_s)
    assert not silent.asked


def test_a_leader_that_gives_this_nodes_own_address_is_sent_nothing_and_an_operator_is_told(
    silent: Silent, caplog: pytest.LogCaptureFixture
) -> None:
    """As two machines do that both listen on 127.0.0.1:8787, and say nothing of [node] address."""
    clock = Clock()
    leading = Leading(silent.address)
    made = Passing(leading, lambda: False, own=silent.address, monotonic=clock.monotonic, sleep=clock.sleep)
    for _ in range(2):
        answer = ask(made, began=clock.now)
        assert answer is not None and answer.status == 503
    assert not silent.asked and len(caplog.messages) == 1
    assert silent.address in caplog.text and "[node] address" in caplog.text


def test_what_was_with_the_journal_when_the_lead_was_lost_is_passed_on_to_the_node_that_took_it(tmp_path: Path) -> None:
    other = Silent([http(202, {"ok": True, "seq": 7})])
    made = Passing(Leading(other.address), lambda: not lost)
    lost, answers = False, list[Served]()
    try:
        with serving(tmp_path, passing=made) as served:
            served.files.go.clear()
            thread = threading.Thread(target=lambda: answers.append(served.post("issues", {})))
            thread.start()
            assert served.files.syncing.wait(HANG_S)
            lost = served.files.broken = True
            served.files.go.set()
            thread.join(HANG_S)
            assert not served.refused()
    finally:
        other.close()
    assert [(one.status, one.json["seq"]) for one in answers] == [(202, 7)]


@pytest.mark.parametrize(("value", "ms"), [(None, None), ("1500", 1500), ("-1", 0), ("1e3", 0), ("9" * 7, 0), ("٣", 0)])
def test_how_long_it_may_be_held(value: str | None, ms: int | None) -> None:
    assert held_ms(value) == ms
