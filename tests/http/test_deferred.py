"""Deferred answers: in order, once each, after the sync, whatever happens meanwhile."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from covenq.http.server.deferred import PLAIN_MAX
from tests.support.requests import issue, new_guid, signed
from tests.support.serving import Served, serving
from tests.support.waiting import eventually

HANG_S = 60.0


pytestmark = pytest.mark.files("a sync of the disk is held back: see tests/journal/postgres/test_away.py")


@pytest.fixture
def served(journal_engine: None, tmp_path: Path) -> Iterator[Served]:
    """With one thread in the listener's pool, so that a request that waits in it is noticed."""
    with serving(tmp_path / "data", threads=1) as faces:
        yield faces
        faces.files.go.set()


def hold(served: Served) -> None:
    served.files.syncing.clear()
    served.files.go.clear()


def raw(guid: str, number: int = 7, **more: str) -> bytes:
    """One delivery as bytes on the wire."""
    body, headers = signed("issues", issue(number), guid, **more)
    lines = [f"{name}: {value}" for name, value in {**headers, "Content-Length": str(len(body))}.items()]
    return "\r\n".join(["POST /webhook HTTP/1.1", "Host: x", *lines, "", ""]).encode() + body


def answers(connection: socket.socket, count: int) -> list[tuple[int, dict[str, str], dict[str, object]]]:
    """The next `count` answers on a connection."""
    found = []
    with connection.makefile("rb") as stream:
        for _ in range(count):
            status = int(stream.readline().split()[1])
            headers = {}
            while line := stream.readline().strip():
                name, _, value = line.decode().partition(": ")
                headers[name.lower()] = value
            found.append((status, headers, json.loads(stream.read(int(headers["content-length"])))))
    return found


def connected(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=HANG_S)


def in_flight(served: Served) -> int:
    return sum(bool(channel.requests) for channel in [*served.webhook._server.active_channels.values()])


def test_deliveries_that_wait_for_their_sync_hold_no_thread_and_none_is_answered_before_it(served: Served) -> None:
    hold(served)
    connections = [connected(served) for _ in range(40)]
    for connection in connections:
        connection.sendall(raw(new_guid()))
    assert served.files.syncing.wait(HANG_S)
    eventually(lambda: in_flight(served) == 40)
    assert served.request("GET", "/healthz").status == 200, "by the pool's one thread"
    for connection in connections:
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)
        connection.settimeout(HANG_S)
    served.files.go.set()
    found = [answers(connection, 1)[0] for connection in connections]
    assert {status for status, _, _ in found} == {202}
    assert len({said["seq"] for _, _, said in found}) == 40
    for connection in connections:
        connection.close()


def test_requests_of_one_connection_are_answered_in_order_each_after_the_one_before(served: Served) -> None:
    guids = [new_guid() for _ in range(3)]
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    hold(served)
    with connected(served) as connection:
        connection.sendall(raw(guids[0]) + health + raw(guids[1]) + raw(guids[1]) + raw(guids[2]))
        assert served.files.syncing.wait(HANG_S)
        served.files.go.set()
        found = answers(connection, 5)
    assert [status for status, _, _ in found] == [202, 200, 202, 200, 202]
    assert [said.get("delivery") for _, _, said in found] == [guids[0], None, guids[1], guids[1], guids[2]]
    assert [said.get("duplicate") for _, _, said in found] == [False, None, False, True, False]
    seqs = [said["seq"] for _, _, said in found if "seq" in said]
    assert seqs == sorted(seqs)


def test_the_same_delivery_twice_in_flight_is_one(served: Served) -> None:
    guid = new_guid()
    hold(served)
    with connected(served) as first, connected(served) as second:
        first.sendall(raw(guid))
        second.sendall(raw(guid))
        assert served.files.syncing.wait(HANG_S)
        eventually(lambda: in_flight(served) == 2)
        served.files.go.set()
        found = [answers(connection, 1)[0] for connection in (first, second)]
    assert sorted(status for status, _, _ in found) == [200, 202]
    assert found[0][2]["seq"] == found[1][2]["seq"]
    assert sum(served.intake.accepted.counts().values()) == 2


def test_a_client_that_leaves_costs_nothing_but_its_answer(served: Served) -> None:
    guid = new_guid()
    hold(served)
    with connected(served) as connection:
        connection.sendall(raw(guid))
        assert served.files.syncing.wait(HANG_S)
    served.files.go.set()
    again = eventually(lambda: served.post("issues", issue(), guid, hook="446581321"))
    assert (again.status, again.json["duplicate"]) == (200, True)
    eventually(lambda: not served.webhook._server.active_channels)


def test_a_drain_waits_for_what_waits_for_its_sync(served: Served) -> None:
    hold(served)
    drained: list[bool] = []
    with connected(served) as connection:
        connection.sendall(raw(new_guid()))
        assert served.files.syncing.wait(HANG_S)
        draining = threading.Thread(target=lambda: drained.append(served.webhook.drain(HANG_S)))
        draining.start()
        eventually(lambda: served.webhook._server.draining)
        assert not drained
        served.files.go.set()
        status, headers, said = answers(connection, 1)[0]
        assert (status, said["ok"], headers["connection"]) == (202, True, "close")
        draining.join(HANG_S)
    assert drained == [True]


def test_a_listener_that_is_closed_meanwhile_leaves_nobody_behind(tmp_path: Path) -> None:
    with serving(tmp_path / "data", threads=1) as served:
        hold(served)
        with connected(served) as connection:
            connection.sendall(raw(new_guid()))
            assert served.files.syncing.wait(HANG_S)
            served.webhook.close()
            served.files.go.set()
            assert connection.recv(1) == b""
        assert served.journal.wait(1, HANG_S)
        assert served.ask("/api/v1/status").status == 200, "what was told to a closed listener harmed no one"


def test_a_failed_sync_is_503_to_all_and_each_is_noted(served: Served) -> None:
    hold(served)
    served.files.broken = True
    connections = [connected(served) for _ in range(8)]
    for connection in connections:
        connection.sendall(raw(new_guid()))
    assert served.files.syncing.wait(HANG_S)
    eventually(lambda: in_flight(served) == 8)
    served.files.go.set()
    for connection in connections:
        status, headers, said = answers(connection, 1)[0]
        assert (status, said["ok"], headers["retry-after"]) == (503, False, "30")
        connection.close()
    assert sum(served.refused().values()) == 8


def test_large_and_small_ones_go_their_own_ways_and_look_alike(served: Served) -> None:
    small = served.post("issues", issue())
    large = served.post("issues", issue(body="x" * PLAIN_MAX))
    assert (small.status, large.status) == (202, 202)
    assert small.headers.keys() == large.headers.keys()
    assert small.headers["content-type"] == large.headers["content-type"]
    assert small.json.keys() == large.json.keys()
    assert small.headers["server"] == large.headers["server"]


def test_a_connection_that_is_not_to_be_kept_is_closed(served: Served) -> None:
    with connected(served) as connection:
        connection.sendall(raw(new_guid(), Connection="close"))
        status, headers, _ = answers(connection, 1)[0]
        assert (status, headers["connection"]) == (202, "close")
        assert connection.recv(1) == b""
    with connected(served) as connection:
        connection.sendall(raw(new_guid()).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        assert answers(connection, 1)[0][0] == 202
        assert connection.recv(1) == b""


def test_many_clients_at_once_are_each_told_of_their_own(served: Served) -> None:
    def work(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=HANG_S)
        for number in range(20):
            guid = new_guid()
            body, headers = signed("issues", issue(number), guid)
            connection.request("POST", "/webhook", body, headers)
            response = connection.getresponse()
            said = json.loads(response.read())
            assert (response.status, said["delivery"]) == (202, guid)
            record = served.journal.get(said["seq"])
            assert record is not None and record.data["guid"] == guid
        connection.close()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
