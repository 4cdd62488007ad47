"""Receiving, from outside: what is refused and counted, what is accepted, and that it is returned unchanged."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from tests.support.daemon import Daemon
from tests.support.journal_json import journal_lines, payload_of
from tests.support.requests import HOOK, issue, new_guid, sign, signed

FORM = "application/x-www-form-urlencoded"
ROUTE = """
[[route]]
name = "opened"
match = "event:issues action:opened"
run = ["true"]
"""

Make = Callable[..., Daemon]


def refused(daemon: Daemon) -> dict[str, int]:
    counts: dict[str, int] = daemon.api("/api/v1/status").json["refused"]
    return counts


def test_a_request_without_a_delivery_id_is_refused_with_400_and_counted(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    body, headers = signed("issues", issue())
    del headers["X-GitHub-Delivery"]
    answer = daemon.request("POST", "/webhook", body, headers)
    assert answer.status == 400
    assert answer.json["ok"] is False
    assert "X-GitHub-Delivery" in answer.json["detail"]
    assert refused(daemon) == {answer.json["error"]: 1}
    assert daemon.records("delivery.received") == []


def test_the_same_delivery_50_times_at_once_makes_one_record_one_task_and_one_first_answer(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    guid = new_guid()
    payload = issue()
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: daemon.post("issues", payload, guid), range(50)))
    assert sorted(answer.status for answer in answers) == [200] * 49 + [202]
    assert [answer.json["duplicate"] for answer in answers].count(False) == 1
    assert len({answer.json["seq"] for answer in answers}) == 1
    assert len({tuple(answer.json["tasks"]) for answer in answers}) == 1

    received = daemon.records("delivery.received")
    assert [record["subject"] for record in received] == [f"delivery.{HOOK}.{guid}"]
    assert received[0]["seq"] == answers[0].json["seq"]
    queued = daemon.records("task.queued")
    assert [record["subject"] for record in queued] == [f"task.{answers[0].json['tasks'][0]}"]
    assert len(daemon.records("delivery.repeated")) == 49
    assert daemon.wait_all_done() == {queued[0]["subject"]: ["task.completed"]}
    assert daemon.cli_json("show", guid)["duplicates"] == 49


def test_a_state_that_does_not_move_refuses_no_delivery_that_comes_again(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    known = [daemon.post("issues", issue(), new_guid()).json["seq"]]
    daemon.wait_all_done()
    with closing(sqlite3.connect(daemon.data / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # so that the fold can't write
        for event, state in (("issues", "queued"), ("star", "ignored")):
            guid = new_guid()
            first = daemon.post(event, issue(), guid)
            again = [daemon.post(event, issue(), guid) for _ in range(3)]
            assert (first.status, first.json["state"]) == (202, state)
            assert [one.status for one in again] == [200] * 3
            assert [one.json for one in again] == [{**first.json, "duplicate": True}] * 3
            assert daemon.post(event, {"action": "other"}, guid).status == 409
            known.append(first.json["seq"])
        other.execute("ROLLBACK")
    daemon.wait_all_done()
    assert [record["seq"] for record in daemon.records("delivery.received")] == known
    assert len(daemon.records("task.queued")) == 2
    assert [one["duplicates"] for one in daemon.cli_json("deliveries")["items"]] == [3, 3, 0]


def test_two_hooks_with_one_guid_are_two_deliveries(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    guid = new_guid()
    answers = [daemon.post("issues", issue(number), guid, hook) for number, hook in ((1, "11"), (2, "22"))]
    assert [answer.status for answer in answers] == [202, 202]
    assert answers[0].json["tasks"] != answers[1].json["tasks"]
    said = daemon.cli("show", guid, exit_code=2).stderr.decode()
    assert f"11/{guid}" in said
    assert f"22/{guid}" in said
    assert daemon.cli_json("show", f"22/{guid}")["number"] == 2


def test_the_same_delivery_with_another_body_is_a_conflict(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    guid = new_guid()
    assert daemon.post("issues", issue(1), guid).status == 202
    answer = daemon.post("issues", issue(2), guid)
    assert answer.status == 409
    assert answer.json["ok"] is False
    assert len(daemon.records("delivery.received")) == 1
    assert len(daemon.records("delivery.conflicted")) == 1


def test_the_signature_vector_that_github_documents_is_accepted_and_its_neighbour_is_not(make_daemon: Make) -> None:
    daemon = make_daemon(secret="It's a Secret to Everybody")
    good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    body, headers = signed("issues", b"Hello, World!", secret="")
    accepted = daemon.request("POST", "/webhook", body, {**headers, "X-Hub-Signature-256": good})
    assert accepted.status == 400, "signed rightly; it is the body that is no JSON object"
    wrong = daemon.request("POST", "/webhook", body, {**headers, "X-Hub-Signature-256": good[:-1] + "8"})
    assert wrong.status == 401
    assert sum(refused(daemon).values()) == 2


def test_refusals_touch_no_journal_and_are_counted_by_reason(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    before = daemon.records()
    body, headers = signed("issues", issue())
    unsigned = {name: value for name, value in headers.items() if name != "X-Hub-Signature-256"}
    cases = [
        (body, {**headers, "Content-Type": "text/plain"}, 415),
        (body, unsigned, 401),
        (body, {**headers, "X-Hub-Signature-256": sign(body, "another secret")}, 401),
        (body, {name: value for name, value in headers.items() if name != "X-GitHub-Event"}, 400),
        (*signed("issues", b"[1, 2]"), 400),
        (*signed("issues", b"{"), 400),
        (*signed("issues", b"no=payload", content_type="application/x-www-form-urlencoded"), 400),
    ]
    words = []
    for content, head, status in cases:
        answer = daemon.request("POST", "/webhook", content, head)
        assert (answer.status, answer.json["ok"]) == (status, False), answer
        words.append(answer.json["error"])
    assert refused(daemon) == {word: words.count(word) for word in words}
    kinds = {record["kind"] for record in daemon.records()[len(before) :]}
    assert not any(kind.startswith(("delivery.", "task.")) for kind in kinds)


def test_a_body_over_the_limit_is_413_and_the_next_delivery_is_fine(make_daemon: Make) -> None:
    daemon = make_daemon("[server]\nbody_limit = 4096\n")
    body, headers = signed("issues", issue(body="x" * 5000))
    answer = daemon.request("POST", "/webhook", body, headers)
    assert (answer.status, answer.json["ok"]) == (413, False)
    assert daemon.post("issues", issue()).status == 202


def test_ping_is_recorded_and_answered_with_pong(make_daemon: Make) -> None:
    daemon = make_daemon()
    guid = new_guid()
    answer = daemon.post("ping", {"zen": "Keep it logically awesome.", "hook_id": 1}, guid)
    assert answer.status == 200
    assert (answer.json["ok"], answer.json["pong"]) == (True, True)
    shown = daemon.cli_json("show", guid)
    assert (shown["state"], shown["reason"]) == ("ignored", "ping")


def test_an_event_no_route_wants_is_ignored_with_a_reason_that_the_commands_show(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    guid = new_guid()
    answer = daemon.post("star", {"action": "created", "repository": {"id": 1, "full_name": "octo/hello"}}, guid)
    assert (answer.status, answer.json["state"], answer.json["tasks"]) == (202, "ignored", [])
    [item] = daemon.cli_json("deliveries", "state:ignored")["items"]
    assert (item["guid"], item["event"]) == (guid, "star")
    assert item["reason"]
    assert daemon.cli_json("show", guid)["reason"] == item["reason"]
    assert item["reason"] in daemon.cli("deliveries").stdout.decode()
    assert item["reason"] in daemon.cli("show", guid).stdout.decode()


BODIES = {
    "compact": json.dumps(issue(), separators=(",", ":")).encode(),
    "spaced": b'{ "action" : "opened",  "n": 1.0e5 , "u": "\\u00e9\\ud83d\\ude00", "dup": 1, "dup": 2 }',
    "newlines": b'{\r\n  "action": "opened"\r\n}\n',
    "unicode": '{"action":"opened","title":"naïve – 中 \U0001f600"}'.encode(),
    "escaped-surrogate": b'{"action":"opened","title":"\\ud800"}',
    "like-a-record": b'{"seq":1,"sum":"' + b"0" * 64 + b'","prev":"","kind":"task.completed"}',
}


def test_the_free_words_of_a_repository_dispatch_are_its_action(make_daemon: Make) -> None:
    """They are chosen by the sender, of up to 100 characters: only names that can be shown on a line are used for routing."""
    daemon = make_daemon(
        """
        [[route]]
        name = "deploy"
        match = 'event:repository_dispatch action:deploy/*,"run e2e: all"'
        run = ["sh", "-c", 'printf "{\\"action\\":\\"%s\\"}" "$COVENQ_ACTION" > "$COVENQ_RESULT"']
        """
    )
    for action in ("deploy/prod", "run e2e: all"):
        guid = new_guid()
        assert len(daemon.post("repository_dispatch", {"action": action}, guid).json["tasks"]) == 1
        [item] = daemon.cli_json("deliveries", f'action:"{action}"')["items"]
        assert (item["guid"], item["action"]) == (guid, action)
        daemon.wait_all_done()
        [task] = daemon.cli_json("show", guid)["tasks"]
        [attempt] = daemon.api(f"/api/v1/tasks/{task}/attempts").json["items"]
        assert json.loads((daemon.data / attempt["result"]).read_bytes()) == {"action": action}
    for action in ("a\x1b[31m", "a\nb", "deploy/\u202e", "", "deploy/" + "x" * 94, 7):
        answer = daemon.post("repository_dispatch", {"action": action}, new_guid())
        assert (answer.status, answer.json["tasks"]) == (202, [])
        assert daemon.cli_json("show", answer.json["delivery"])["action"] is None


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
def test_payload_bytes_come_back_exactly_as_received(make_daemon: Make, content_type: str) -> None:
    daemon = make_daemon(ROUTE)
    sent = {}
    for name, body in BODIES.items():
        if content_type != "application/json":
            # The signature of a form is over the form's own bytes, here with one that is no UTF-8 behind the payload.
            body = b"payload=" + quote_plus(body.decode()).encode() + (b"&x=\xff" if name == "compact" else b"")
        guid = new_guid()
        answer = daemon.post("issues", body, guid, content_type=content_type)
        assert answer.status == 202, (name, answer)
        sent[guid] = body
    for guid, body in sent.items():
        assert daemon.api(f"/api/v1/deliveries/{HOOK}/{guid}/payload").body == body
    for guid in (next(iter(sent)), list(sent)[2]):
        assert daemon.cli("show", guid, "--payload").stdout == sent[guid]
    daemon.stop()
    in_journal = {
        json.loads(line)["data"]["guid"]: payload_of(line)
        for line in journal_lines(daemon.data)
        if b'"kind":"delivery.received"' in line
    }
    assert in_journal == sent
    assert daemon.cli("show", list(sent)[1], "--payload").stdout == sent[list(sent)[1]], "without a daemon too"


def test_the_json_of_a_form_is_had_decoded_and_a_file_of_one_is_sent_as_one(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(ROUTE)
    payload = json.dumps(issue(3)).encode()
    form = tmp_path / "form"
    form.write_bytes(b"payload=" + quote_plus(payload.decode()).encode())
    guid = daemon.cli("send", "issues", "--file", str(form)).stdout.decode().strip()
    path = f"/api/v1/deliveries/{guid}/payload"
    received, decoded = daemon.api(path), daemon.api(f"{path}?decoded=1")
    assert (received.body, received.headers["content-type"]) == (form.read_bytes(), FORM)
    assert (decoded.body, decoded.headers["content-type"]) == (payload, "application/json")
    assert daemon.api(f"{path}?decoded=0").body == form.read_bytes()
    assert daemon.api(f"{path}?decoded=yes").status == 400
    plain = daemon.post("issues", payload).json["delivery"]
    assert daemon.api(f"/api/v1/deliveries/{plain}/payload?decoded=1").body == payload


def test_health_and_readiness(make_daemon: Make) -> None:
    daemon = make_daemon()
    assert daemon.get("/healthz").status == 200
    assert daemon.get("/readyz").json["ok"] is True
    assert daemon.get("/webhook").status == 405
    assert daemon.get("/nothing").status == 404
    assert daemon.get("/api/v1/status").status == 404, "the API is on the Unix socket alone"
