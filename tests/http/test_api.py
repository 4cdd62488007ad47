"""/api/v1 on the Unix socket: reads, errors, operations, and the event stream."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from covenq.errors import Ambiguous, CovenqError, DaemonUnreachable, FilterError, NotDurable, NotFound, UsageError
from covenq.http.answers import item_of
from covenq.http.api.events import STREAMS
from covenq.intake.refusal_log import Refusals
from covenq.net.http_client import Client
from journal.errors import JournalFull
from tests.support.requests import UnixConnection, issue, new_guid
from tests.support.serving import Served, serving
from tests.support.waiting import eventually


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    with serving(data) as served:
        yield served


def test_a_read_after_an_acknowledgement_sees_it(served: Served) -> None:
    for number in range(20):
        guid = new_guid()
        task = served.post("issues", issue(number), guid).json["tasks"][0]
        assert served.ask(f"/api/v1/deliveries/{guid}").json["tasks"] == [task]
        assert served.ask(f"/api/v1/tasks/{task}").json["state"] == "queued"
    assert served.ask("/api/v1/status").json["deliveries"] == {"queued": 20}


def test_lists_are_filtered_and_paged(served: Served) -> None:
    for number in range(7):
        served.post("issues", issue(number))
        served.post("star", {"action": "created"})
    numbers: list[Any] = []
    after = ""
    while True:
        page = served.ask(f"/api/v1/deliveries?filter=event:issues%20-number:3&limit=4{after}").json
        numbers += [item["number"] for item in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert numbers == [6, 5, 4, 2, 1, 0]
    assert len(served.ask("/api/v1/tasks?limit=0").json["items"]) == 7
    found = served.ask("/api/v1/deliveries?filter=payload.issue.title:%22Issue%205%22").json["items"]
    assert [item["number"] for item in found] == [5]


def test_payloads_come_back_as_they_came_and_as_no_web_page(served: Served) -> None:
    body = b'{ "action":"created",\r\n "x":"<script>" }'
    guid = new_guid()
    served.post("star", body, guid)
    for path in (f"/api/v1/deliveries/{guid}/payload", f"/api/v1/deliveries/7/{guid}/payload"):
        answer = served.ask(path)
        assert answer.body == body
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["content-disposition"] == "attachment"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_errors_keep_their_meaning_through_the_client(served: Served) -> None:
    client = Client(served.socket)
    guid = new_guid()
    for hook in ("1", "2"):
        served.post("issues", issue(), guid, hook)
    for path, kind, hint in [
        (f"/api/v1/deliveries/{new_guid()}", NotFound, "covenq deliveries"),
        ("/api/v1/deliveries/a%20b", UsageError, "GUID"),
        ("/api/v1/tasks/nothing", NotFound, "covenq"),
        ("/api/v1/tasks/nothing/attempts", NotFound, "covenq"),
        ("/api/v1/deliveries?limit=x", UsageError, ""),
        ("/api/v1/deliveries?after=x", UsageError, ""),
        ("/api/v1/events?after=x", UsageError, ""),
    ]:
        with pytest.raises(CovenqError) as raised:
            client.get(path)
        assert type(raised.value) is kind, path
        assert hint in raised.value.hint
    with pytest.raises(Ambiguous) as ambiguous:
        client.get(f"/api/v1/deliveries/{guid}")
    assert ambiguous.value.ids == [f"1/{guid}", f"2/{guid}"]
    assert guid in str(ambiguous.value)
    with pytest.raises(FilterError) as bad:
        client.get("/api/v1/deliveries", {"filter": "event:push stat:failed"})
    assert bad.value.column == 12
    assert str(bad.value).count("(column 12)") == 1
    assert "state" in str(bad.value) + bad.value.hint
    with pytest.raises(CovenqError, match="nothing at '/api/v2'"):
        client.get("/api/v2")


def test_of_several_completions_each_is_answered_by_itself(data: Path) -> None:
    with serving(data, {"route": [{"name": "p", "match": "event:issues", "pull": True}]}, routes=False) as served:
        for _ in range(3):
            assert served.post("issues", issue()).status == 202
        eventually(lambda: len(served.ask("/api/v1/tasks").json["items"]) == 3, 30, "they are known")
        first = served.ask("/api/v1/claims", {"worker": "w", "max": 3, "wait_s": 10}).json
        claimed = [first, *first["more"]]
        assert len(claimed) == 3
        done = [{"task": one["task"]["id"], "fence": one["fence"], "exit_code": 0} for one in claimed]
        done[1]["fence"] = done[0]["fence"]
        said = served.ask("/api/v1/claims/completed", {"done": [*done, {"task": "t0", "fence": "x.1"}]})
    assert said.status == 200
    assert [(one["task"], one["ok"], one.get("error")) for one in said.json["items"]] == [
        (done[0]["task"], True, None),
        (done[1]["task"], False, "stale_fence"),
        (done[2]["task"], True, None),
        ("t0", False, "not_found"),
    ]
    assert {one["state"] for one in said.json["items"] if one["ok"]} == {"completed"}
    assert item_of(NotDurable("later")) == {"ok": False, "error": "not_durable", "detail": "later"}
    assert item_of(JournalFull("no room")) == {"ok": False, "error": "journal_full", "detail": "no room"}


def test_replay_and_requeue_check_what_they_are_asked(served: Served) -> None:
    guid = new_guid()
    served.post("star", {"action": "created"}, guid)
    served.post("issues", issue())
    for body in (b"", b"[]", b"{", {"ids": "x"}, {"ids": [1]}, {"dry_run": 1, "ids": ["x"]}, {"idz": []}, {}):
        for path in ("/api/v1/replay", "/api/v1/requeue"):
            answer = served.ask(path, body)
            assert (answer.status, answer.json["ok"]) == (400, False), (path, body)
    answer = served.ask("/api/v1/requeue", {"ids": ["x"], "force": True})
    assert answer.status == 400, "requeue has no force"
    for path, body, detail in (
        ("replay", {"ids": "x"}, "ids must be a list of ids"),
        ("replay", {"filter": 1}, "filter must be a text"),
        ("replay", {"filter": ["x", 1]}, "filter must be a text"),
        ("replay", {"route": 1}, "route must be a text"),
        ("cancel", {"by": []}, "by must be a text"),
        ("reroute", {"dry_run": 1}, "dry_run must be true or false"),
        ("requeue", {"force": True}, "unknown key 'force'"),
        ("redact", {"installation": True}, "installation must be a whole number"),
        ("redact", {"installation": -1}, "-1 is no installation"),
        ("import", {"items": {}}, "items must be a list of deliveries"),
        ("import", {"items": [1]}, "an item is no delivery"),
        ("import", {"items": [{"headers": [["a"]]}]}, "a header is no pair of texts"),
        ("compact", {"reason": "x"}, "unknown key 'reason'"),
        ("pause", {}, "'' can't be paused"),
        ("pause", {"what": 1}, "what must be a text"),
        ("resume", {"what": "all", "name": None}, "'all' can't be paused"),
    ):
        answer = served.ask(f"/api/v1/{path}", body)
        assert (answer.status, answer.json["error"], answer.json["detail"]) == (400, "usage", detail)
    told = served.ask("/api/v1/replay", {"filter": "", "dry_run": True}).json
    assert (told["ok"], told["eligible"], told["done"]) == (True, [], [])
    assert len(told["skipped"]) == 2


def test_status_says_what_there_is(served: Served) -> None:
    served.post("issues", issue())
    status = served.ask("/api/v1/status").json
    assert status["ok"] and status["ready"] and status["reasons"] == []
    assert status["journal"]["head"]["seq"] >= 2
    assert len(status["journal"]["head"]["sum"]) == 64
    assert status["routes"] == ["all"]
    assert status["webhook_url"].endswith(f":{served.port}/webhook")
    assert status["worker"]["running"] == []
    json.dumps(status)


def test_the_event_stream_follows_the_journal_and_ends_with_the_daemon(served: Served) -> None:
    served.post("star", {"action": "created"})
    stream = Client(served.socket).stream("/api/v1/events", {"after": "0"})
    got: list[dict[str, Any]] = []
    ended = threading.Event()

    def follow() -> None:
        try:
            for event in stream:
                got.append(event)
        except DaemonUnreachable:
            ended.set()

    thread = threading.Thread(target=follow)
    thread.start()
    eventually(lambda: [one["kind"] for one in got[:2]] == ["delivery.received", "delivery.ignored"])
    answer = served.post("issues", issue())
    eventually(lambda: [one for one in got if one["seq"] == answer.json["seq"]])
    assert [one["seq"] for one in got] == list(range(1, len(got) + 1))
    assert set(got[0]) == {"seq", "at", "subject", "kind"}
    served.stopping.set()
    assert ended.wait(30)
    thread.join(30)
    assert served.api.drain(30)


def test_streams_leave_threads_for_the_rest_and_give_back_what_they_took(data: Path) -> None:
    with serving(data, threads=STREAMS + 2) as served:
        streams = []
        for _ in range(STREAMS):
            connection = UnixConnection(served.socket, 30.0)
            connection.request("GET", "/api/v1/events")
            response = connection.getresponse()
            assert response.status == 200
            assert response.readline() == b": covenq\n"
            streams.append((connection, response))
        answer = served.ask("/api/v1/events")
        assert (answer.status, answer.json["error"]) == (503, "streams_busy")
        assert served.ask("/api/v1/status").status == 200
        for connection, response in streams:
            response.close()
            connection.close()
        # Each notices that its client has gone, without anything being recorded.
        stream = eventually(lambda: _stream_or_none(served), 30, "a stream is free again")
        stream.close()


def _stream_or_none(served: Served) -> Any:
    try:
        return Client(served.socket).stream("/api/v1/events")
    except CovenqError:
        return None


def test_a_stream_whose_client_reads_nothing_stops_no_one(served: Served) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        deaf.connect(str(served.socket))
        deaf.sendall(b"GET /api/v1/events?after=0 HTTP/1.1\r\nHost: x\r\n\r\n")
        for number in range(50):
            assert served.post("issues", issue(number)).status == 202
        assert served.ask("/api/v1/status").json["deliveries"] == {"queued": 50}
        served.stopping.set()
    assert served.api.drain(30)


def test_nobody_at_the_socket_is_unreachable(tmp_path: Path) -> None:
    for target in (tmp_path / "covenq.sock", "http://127.0.0.1:1"):
        with pytest.raises(DaemonUnreachable):
            Client(target, timeout=5).get("/api/v1/status")
    with pytest.raises(UsageError):
        Client("ftp://x")


def test_the_log_of_refusals_is_bounded_and_may_fail(tmp_path: Path) -> None:
    path = tmp_path / "refused.jsonl"
    refusals = Refusals(path, clock=lambda: 0.0, limit=1000)
    for number in range(100):
        refusals.note("signature_wrong", 401, "It is wrong.", delivery=f"{number}\udcff" * 500, client=None)
    assert refusals.counts() == {"signature_wrong": 100}
    assert path.stat().st_size <= 1000
    assert path.stat().st_mode & 0o077 == 0
    last = json.loads(path.read_text().splitlines()[-1])
    assert (last["error"], last["status"], last["at"]) == ("signature_wrong", 401, "1970-01-01T00:00:00.000000Z")
    assert last["delivery"].startswith("99")
    assert {one.name for one in tmp_path.iterdir() if one.name.startswith("refused")} == {
        "refused.jsonl",
        "refused.jsonl.1",
    }
    elsewhere = Refusals(tmp_path / "gone" / "refused.jsonl")
    elsewhere.note("x", 400, "y")
    full = Refusals(tmp_path / "full.jsonl", room=lambda: False)
    full.note("x", 400, "y")
    assert elsewhere.counts() == full.counts() == {"x": 1}
    assert not (tmp_path / "full.jsonl").exists()
