"""How a worker that knows several nodes finds the one that leads."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from collections.abc import Iterator

import pytest

from covenq.errors import DaemonUnreachable, StaleFence, TokenRefused
from covenq.net.address import Remote
from covenq.tasks.remote.client import ClaimGrant
from covenq.tasks.remote.nodes import LeadingNode, NodesClient, wait_of
from tests.support.own_covenq import silent_address
from tests.support.raw_server import raw_server, request_of

STANDBY = {"error": "standby", "detail": "This node stands by: a leads, at 10.0.0.1:8787."}
AWAY = {"error": "journal_unavailable", "detail": "the database has not answered for 9 s"}
WRONG = {"error": "token_wrong", "detail": "No such token."}
STALE = {"error": "stale_fence", "detail": "task t1 is not held by this token any more"}
RENEWED = {"ok": True, "lease_until": "2026-12-01T00:00:00Z"}
GRANT = ClaimGrant({"id": "t1"}, 1, "e.1", "2026-12-01T00:00:00Z", "/payload")


class Nodes:
    """Servers that each answer with what is in `said` at the time, and how often each was asked."""

    def __init__(self, *said: tuple[int, dict[str, object]]) -> None:
        self.said = list(said)
        self.asked = [0] * len(said)
        self._running = contextlib.ExitStack()
        ports = [self._running.enter_context(raw_server(self._answering(n))) for n in range(len(said))]
        self.urls = [f"http://127.0.0.1:{port}" for port in ports]

    def _answering(self, n: int):  # type: ignore[no-untyped-def]
        def answer(connection: socket.socket) -> None:
            request_of(connection)
            self.asked[n] += 1
            status, body = self.said[n]
            whole = json.dumps(body).encode()
            head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(whole)}\r\n\r\n"
            connection.sendall(head.encode() + whole)

        return answer

    def client(self, *more: str, timeout: float = 30.0) -> NodesClient:
        urls = [*more, *self.urls]
        return NodesClient([Remote(one) for one in urls], LeadingNode(urls), timeout=timeout, env={})

    def close(self) -> None:
        self._running.close()


@pytest.fixture
def made() -> Iterator[list[Nodes]]:
    nodes: list[Nodes] = []
    yield nodes
    for one in nodes:
        one.close()


def nodes(made: list[Nodes], *said: tuple[int, dict[str, object]]) -> Nodes:
    made.append(Nodes(*said))
    return made[-1]


def renew(client: NodesClient) -> object:
    return client.report(GRANT, "renew", lease_s=60)


@pytest.mark.parametrize("passed_over", [(503, STANDBY), (503, AWAY), (401, WRONG)])
def test_a_node_that_can_not_is_passed_over_and_the_one_that_did_is_asked_first(
    made: list[Nodes], passed_over: tuple[int, dict[str, object]], caplog: pytest.LogCaptureFixture
) -> None:
    found = nodes(made, passed_over, (200, RENEWED))
    client = found.client()
    assert renew(client) == RENEWED
    assert renew(client) == RENEWED
    assert found.asked == [1, 2]
    found.said.reverse()  # the other leads now
    assert renew(client) == RENEWED
    assert found.asked == [2, 3]
    assert f"{found.urls[0]} is asked from now on: it leads" in caplog.text
    client.close()


def test_a_node_that_is_gone_or_hangs_is_not_asked_first_again(made: list[Nodes]) -> None:
    found = nodes(made, (200, RENEWED))
    with socket.create_server(("127.0.0.1", 0)) as hangs:  # it takes connections, as a process that is stopped does
        client = found.client(f"http://{silent_address()}", f"http://127.0.0.1:{hangs.getsockname()[1]}", timeout=0.3)
        assert renew(client) == RENEWED
        assert renew(client) == RENEWED
        hangs.settimeout(30)
        hangs.accept()[0].close()
        hangs.setblocking(False)
        with pytest.raises(BlockingIOError):
            hangs.accept()
        client.close()


def test_where_none_leads_each_is_told_and_asked_again(made: list[Nodes]) -> None:
    found = nodes(made, (503, STANDBY), (503, AWAY), (401, WRONG))
    client = found.client(f"http://{silent_address()}")
    with pytest.raises(DaemonUnreachable) as caught:
        renew(client)
    for words in (*found.urls, silent_address(), "a leads, at 10.0.0.1:8787", "not answered for 9 s", "No such token"):
        assert words in str(caught.value)
    found.said[1] = (200, RENEWED)
    assert renew(client) == RENEWED
    client.close()


def test_a_token_that_no_node_takes_is_refused(made: list[Nodes]) -> None:
    client = nodes(made, (401, WRONG), (401, WRONG)).client()
    with pytest.raises(TokenRefused):
        renew(client)
    client.close()


def test_what_a_node_refuses_is_not_asked_of_another(made: list[Nodes]) -> None:
    found = nodes(made, (409, STALE), (200, RENEWED))
    client = found.client()
    with pytest.raises(StaleFence):
        renew(client)
    assert found.asked == [1, 0]
    client.close()


def test_what_every_node_answers_says_nothing_of_who_leads(made: list[Nodes], caplog: pytest.LogCaptureFixture) -> None:
    found = nodes(made, (503, STANDBY), (200, RENEWED))
    client = found.client()
    renew(client)
    found.said[0] = (200, {"ok": True})
    found.said[1] = (503, AWAY)
    with caplog.at_level(logging.INFO):
        client.payload(GRANT)
    assert "is asked from now on" not in caplog.text
    found.said[1] = (200, RENEWED)
    found.asked[:] = [0, 0]
    renew(client)
    assert found.asked == [0, 1]
    client.close()


@pytest.mark.parametrize(("lease_s", "wait_s"), [(1, 1.0), (12, 2.0), (60, 10.0), (3600, 10.0)])
def test_a_node_that_hangs_leaves_time_for_the_next(lease_s: float, wait_s: float) -> None:
    assert wait_of(lease_s) == wait_s
