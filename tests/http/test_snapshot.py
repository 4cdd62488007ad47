"""GET /api/v1/snapshot: what it gives, to whom, and what it leaves behind."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import falcon.testing
import pytest

from covenq.config.api_tokens import create
from covenq.http.api import snapshot as resource
from covenq.state import snapshot
from tests.support.requests import Answer, UnixConnection, ask, issue, new_guid
from tests.support.same_state import rows_of
from tests.support.serving import Served, serving
from tests.support.waiting import eventually

PATH = "/api/v1/snapshot"


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    with serving(data, {"api": {}}) as served:
        for number in range(5):
            served.post("issues", issue(number), new_guid())
        eventually(lambda: served.storage.fold.folded == served.journal.head().seq, 60, "all of it is folded")
        yield served


def headers_of(served: Served, method: str) -> dict[str, str]:
    connection = UnixConnection(served.socket, 30.0)
    try:
        connection.request(method, PATH)
        response = connection.getresponse()
        response.read()
        return {name.lower(): value for name, value in response.getheaders()}
    finally:
        connection.close()


def left(served: Served) -> list[str]:
    return [path.name for path in served.data.iterdir() if "snapshot" in path.name]


def test_it_is_state_db_with_its_witness(served: Served, tmp_path: Path) -> None:
    answer = served.ask(PATH)
    copy = tmp_path / "copy.db"
    copy.write_bytes(answer.body)
    witness, said = snapshot.check(copy, served.journal, lambda: False).witness, answer.headers
    assert (said["covenq-snapshot-journal"], said["covenq-snapshot-sum"]) == (witness.journal, witness.sum)
    assert (said["covenq-snapshot-seq"], said["content-length"]) == (str(witness.seq), str(len(answer.body)))
    assert said["covenq-snapshot-bytes"] == said["content-length"]
    assert left(served) == []
    found, rows = rows_of(copy), rows_of(served.data / "state.db")
    del found["position"], rows["position"]  # the journal has records of its own, which change no other row
    assert found == rows and len(rows["webhook_deliveries"]) == 5


def test_head_says_what_it_would_be_and_makes_none(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    given = headers_of(served, "GET")
    monkeypatch.setattr(snapshot, "make", None)
    said = headers_of(served, "HEAD")
    for name in ("covenq-snapshot-journal", "covenq-snapshot-schema"):
        assert said[name] == given[name]
    record = served.journal.get(int(said["covenq-snapshot-seq"]))
    assert record.sum == said["covenq-snapshot-sum"] and record.seq >= int(given["covenq-snapshot-seq"])
    assert int(said["covenq-snapshot-bytes"]) >= int(given["covenq-snapshot-bytes"])


@pytest.mark.parametrize(("role", "status"), [("read", 403), ("worker", 403), ("operate", 200), (None, 401)])
def test_it_needs_the_role_operate(served: Served, role: str | None, status: int) -> None:
    headers = {} if role is None else {"Authorization": f"Bearer {create(served.data / 'tokens.json', 'n', role)}"}
    for method in ("GET", "HEAD"):
        connection = http.client.HTTPConnection("127.0.0.1", served.remote_port, timeout=30)
        try:
            assert ask(connection, method, PATH, None, headers).status == status
        finally:
            connection.close()


def test_there_is_one_at_a_time_and_its_end_makes_room_for_the_next(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    making, go = threading.Event(), threading.Event()
    make = snapshot.make

    def held(*given: object) -> snapshot.About:
        making.set()
        assert go.wait(60)
        return make(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(snapshot, "make", held)
    answers: list[Answer] = []
    first = threading.Thread(target=lambda: answers.append(served.ask(PATH)))
    first.start()
    assert making.wait(60)
    second = served.ask(PATH)
    assert (second.status, second.json["error"]) == (503, "snapshot_busy")
    go.set()
    first.join(60)
    assert [one.status for one in answers] == [200] and served.ask(PATH).status == 200


def test_a_client_that_goes_away_gives_its_place_back(served: Served) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(served.socket))
        connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: covenq\r\n\r\n".encode())
        connection.recv(1)
    eventually(lambda: served.ask(PATH).status == 200, 30, "its place is free")
    assert left(served) == []


def client_of(one: resource.Snapshot) -> falcon.testing.TestClient:
    app = falcon.App()
    app.add_route(PATH, one)
    return falcon.testing.TestClient(app)


def test_a_disk_without_room_for_it_is_said(served: Served) -> None:
    asked: list[tuple[Path, int]] = []

    def full(directory: Path, size: int) -> bool:
        asked.append((directory, size))
        return False

    client = client_of(resource.Snapshot(served.data, threading.Event(), has_room=full))
    for _ in range(2):  # and the place is given back
        answer = client.simulate_get(PATH)
        assert (answer.status_code, answer.json["error"]) == (503, "disk_low")
        assert "no room for" in answer.json["detail"]
    assert asked[0] == (served.data, snapshot.about(served.data / "state.db").bytes) and left(served) == []


def test_a_daemon_that_stops_ends_it(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "STEPS", 1)
    stopping = threading.Event()
    client = client_of(resource.Snapshot(served.data, stopping))
    assert client.simulate_get(PATH).status_code == 200
    stopping.set()
    for _ in range(2):
        answer = client.simulate_get(PATH)
        assert (answer.status_code, answer.json["error"]) == (503, "snapshot_ended")
    assert left(served) == []


def test_a_slow_client_has_it_for_a_time_only(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "PIECE", 4096)
    now = [0.0]
    made = resource.Snapshot(served.data, threading.Event(), monotonic=lambda: now[0])
    resp = falcon.Response()
    made.on_get(falcon.testing.create_req(), resp)
    assert resp.stream is not None
    pieces = iter(resp.stream)
    assert next(pieces)
    now[0] = resource.WHOLE_S + 1
    assert list(pieces) == []
    resp.stream.close()
    again = falcon.Response()
    made.on_get(falcon.testing.create_req(), again)
    assert again.status == falcon.HTTP_200
    again.stream.close()
