"""Forwarding, to a real receiver that checks GitHub's signature itself."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from covenq import __version__
from covenq.model import Category
from covenq.net.address import shown_address
from covenq.tasks.execution.breaker import FAILURES_TO_OPEN, OPEN_FIRST_S, OPEN_MAX_S, Breakers
from covenq.tasks.execution.forward import Reply, headers_for, outcome_of, retry_after, target_of
from tests.support.daemon import Daemon
from tests.support.journal_json import records
from tests.support.own_covenq import silent_address
from tests.support.receiver import Receiver, receiving
from tests.support.requests import issue
from tests.support.waiting import eventually


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as server:
        yield server


def route(receiver: Receiver, more: str = "") -> str:
    return f'[[route]]\nname = "f"\nmatch = "event:issues"\nforward = "{receiver.url}"\n{more}\n'


def last(daemon: Daemon, task: str) -> dict[str, Any]:
    """The task's only or newest attempt, when the task has come to its end."""
    row = daemon.api(f"/api/v1/tasks/{task}").json
    assert row["state"] in ("completed", "failed"), row
    return {**daemon.api(f"/api/v1/tasks/{task}/attempts").json["items"][-1], "task_row": row}


def test_a_github_app_behind_covenq_needs_no_change(make_daemon: Any, receiver: Receiver) -> None:
    daemon: Daemon = make_daemon(config=route(receiver))
    body = b'{ "action":"opened",\n "issue": {"number": 7, "title": "\xc3\xa9"}, "repository": {"full_name": "o/r"} }'
    task = daemon.post("issues", body, guid="g-1", hook="77").json["tasks"][0]
    found = eventually(lambda: last(daemon, task))
    assert (found["outcome"], found["http_status"]) == ("completed", 200)
    assert [name for name, _ in found["phases"]] == ["prepared", "started", "collected"]
    ((headers, got, good),) = receiver.seen
    assert (got, good) == (body, True)
    assert headers["x-github-event"] == "issues"
    assert headers["x-github-delivery"] == "g-1"
    assert headers["x-github-hook-id"] == "77"
    assert headers["x-github-hook-installation-target-type"] == "integration"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"] == "GitHub-Hookshot/0000000"
    assert (headers["x-covenq-task"], headers["x-covenq-attempt"]) == (task, "1")
    assert headers[":path"] == "/hook?app=1"
    assert (daemon.data / found["stdout"]).read_bytes() == b"HTTP 200\n\nthanks"


def test_a_form_is_forwarded_as_the_form_it_was(make_daemon: Any, receiver: Receiver) -> None:
    from urllib.parse import urlencode

    daemon: Daemon = make_daemon(config=route(receiver))
    body = urlencode({"payload": json.dumps(issue(7))}).encode()
    kind = "application/x-www-form-urlencoded"
    task = daemon.post("issues", body, content_type=kind).json["tasks"][0]
    assert eventually(lambda: last(daemon, task))["outcome"] == "completed"
    ((headers, got, good),) = receiver.seen
    assert (headers["content-type"], got, good) == (kind, body, True)


def test_trouble_is_tried_again_and_refusals_are_not(make_daemon: Any, receiver: Receiver) -> None:
    answers = {1: 503, 2: 429, 3: 200, 4: 422, 5: 302}
    receiver.answer = lambda number: (answers[number], {"Location": "/elsewhere", "Retry-After": "0"}, b"")
    more = 'retry = { max = 5, backoff = "10ms", cap = "20ms" }'
    daemon: Daemon = make_daemon(config=route(receiver, more))
    task = daemon.post("issues", issue(1)).json["tasks"][0]
    found = eventually(lambda: last(daemon, task))
    assert (found["attempt"], found["http_status"]) == (3, 200)
    every = daemon.api(f"/api/v1/tasks/{task}/attempts").json["items"]
    assert [(one["category"], one["http_status"]) for one in every] == [("http", 503), ("http", 429), (None, 200)]
    for number, status in ((2, 422), (3, 302)):
        task = daemon.post("issues", issue(number)).json["tasks"][0]
        found = eventually(lambda task=task: last(daemon, task))
        assert (found["task_row"]["state"], found["attempt"], found["http_status"]) == ("failed", 1, status)
    assert len(receiver.seen) == 5


LEFT_ALONE_FOR_LONG = """if True:
    import sys
    from covenq.cli.main import main
    from covenq.tasks.execution import breaker
    breaker.OPEN_FIRST_S = breaker.OPEN_MAX_S
    sys.argv[:] = ["covenq", *sys.argv[sys.argv.index("covenq") + 1 :]]
    main()
"""
"""A wrapper before the daemon's command line: a receiver that fails is not asked again while a test looks, however slowly."""


def test_a_failing_receiver_is_left_alone_and_its_tasks_wait_with_the_reason(
    make_daemon: Any, receiver: Receiver
) -> None:
    receiver.answer = lambda number: (500, {}, b"")
    config = route(receiver) + '[[route]]\nname = "other"\nmatch = "event:push"\nrun = ["true"]\n'
    daemon: Daemon = make_daemon(
        config="[worker]\nconcurrency = 1\n" + config, wrapper=[sys.executable, "-c", LEFT_ALONE_FOR_LONG]
    )
    failed = [daemon.post("issues", issue(n)).json["tasks"][0] for n in range(1, FAILURES_TO_OPEN + 1)]
    for task in failed:
        eventually(lambda task=task: last(daemon, task))
    task = daemon.post("issues", issue(50)).json["tasks"][0]
    other = daemon.post("push", {"ref": "x"}).json["tasks"][0]
    eventually(lambda: last(daemon, other))
    row = daemon.api(f"/api/v1/tasks/{task}").json
    assert (row["state"], row["attempts"], row["retries"]) == ("queued", 0, 0)
    assert row["waits"]["word"] == "receiver"
    assert f"failed {FAILURES_TO_OPEN} times in a row" in row["waits"]["why"]
    assert re.search(r"; it is asked again at \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$", row["waits"]["why"])
    steps = daemon.cli("why", task).stdout.decode().partition("what next")[2]
    assert "covenq tasks route:f state:queued" in steps, "not only how to end it"
    plan = daemon.cli_json("requeue", "state:failed", "--dry-run")["summary"]
    assert [(one["cause"], one["count"]) for one in plan["waits"]] == [("receiver", FAILURES_TO_OPEN)]
    assert "times in a row" in plan["waits"][0]["why"], "a plan says what would only wait"
    assert len(receiver.seen) == FAILURES_TO_OPEN


def test_a_forward_in_flight_ends_with_the_daemon_and_uses_up_no_retry(make_daemon: Any, receiver: Receiver) -> None:
    held, go = threading.Event(), threading.Event()

    def answer(number: int) -> tuple[int, dict[str, str], bytes]:
        held.set()
        go.wait(60)
        return 200, {}, b""

    receiver.answer = answer
    daemon: Daemon = make_daemon(config=route(receiver))
    task = daemon.post("issues", issue(1)).json["tasks"][0]
    assert held.wait(30)
    daemon.stop()
    go.set()
    (end,) = [one["data"] for one in records(daemon.data, "task.retry")]
    assert end["category"] == "interrupted"
    daemon.start()
    assert eventually(lambda: last(daemon, task))["attempt"] == 2


def test_what_a_reply_makes_of_the_attempt() -> None:
    assert outcome_of(Reply(204), "http://example.org/", 0.0).category is None
    for status, final in ((400, True), (401, True), (404, True), (408, False), (429, False), (500, False), (301, True)):
        outcome = outcome_of(Reply(status), "http://example.org/", 0.0)
        assert (outcome.category, outcome.final, outcome.http_status) == (Category.HTTP, final, status)
    assert outcome_of(Reply(503, (("retry-after", "120"),)), "http://example.org/", 0.0).retry_after_s == 120.0
    assert outcome_of(Reply(error="Connection refused"), "http://example.org/", 0.0).final is False


def test_people_are_told_where_it_was_forwarded_to_without_the_query(make_daemon: Any) -> None:
    address = f"http://{silent_address()}/hook/in"
    config = f'[[route]]\nname = "f"\nmatch = "event:issues"\nforward = "{address}?key=s3cret"\n'
    daemon: Daemon = make_daemon(config=config)
    task = daemon.post("issues", issue(7), guid="g-1").json["tasks"][0]
    found = eventually(lambda: last(daemon, task))
    assert found["detail"] == f"no answer from {address}: Connection refused"
    shown = daemon.cli("show", task).stdout.decode()
    assert f"  forwards to  {address}\n" in shown
    assert address in daemon.cli("why", "g-1").stdout.decode()
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/hook?key=s3cret#s3cret", "https://example.org/hook"),
        ("http://user:s3cret@example.org:8080/a", "http://example.org:8080/a"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://[s3cret", "an address that is none"),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret_in_it(url: str, shown: str) -> None:
    assert shown_address(url) == shown
    assert outcome_of(Reply(422), url, 0.0).detail == f"the receiver at {shown} answered 422"


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after("30", 0.0) == 30.0
    assert retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 10.0) == 50.0
    assert retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 100.0) == 0.0
    for wrong in (None, "", "soon", "-1", "1e9", "9" * 400):
        assert retry_after(wrong, 0.0) is None


def test_headers_of_the_connection_are_its_own() -> None:
    original = [["Host", "a"], ["X-GitHub-Event", "push"], ["Content-Length", "9"], ["Connection", "close"], ["Odd"]]
    names = [name for name, _ in headers_for(original, [("X-Covenq-Task", "t")])]
    assert names == ["X-GitHub-Event", "User-Agent", "X-Covenq-Task"]


def test_the_senders_name_is_sent_as_it_came_and_ours_where_it_gave_none() -> None:
    original = [["user-agent", "GitHub-Hookshot/1"], ["X-GitHub-Event", "push"]]
    assert headers_for(original, []) == [("user-agent", "GitHub-Hookshot/1"), ("X-GitHub-Event", "push")]
    assert headers_for([], []) == [("User-Agent", f"covenq/{__version__}")]


def test_a_circuit_opens_is_probed_and_closes() -> None:
    now = [0.0]
    breakers = Breakers(lambda: now[0])
    target = target_of("https://x.example/a")
    assert target == "https://x.example:443"
    for number in range(1, FAILURES_TO_OPEN + 1):
        assert breakers.admit(target, "r")
        assert breakers.report(target, ok=False) is (number == FAILURES_TO_OPEN)
    assert not breakers.admit(target, "r")
    assert list(breakers.blocked_routes()) == ["r"]
    words = "https://x.example:443 failed 5 times in a row"
    assert breakers.left_alone() == {target: (words, ("r",))} and breakers.answering() == set()
    assert breakers.next_probe_s() == OPEN_FIRST_S
    opens = OPEN_FIRST_S
    for _ in range(8):
        now[0] += opens
        assert breakers.blocked_routes() == {} and target in breakers.left_alone(), "it has not answered yet"
        assert breakers.admit(target, "r")
        assert not breakers.admit(target, "s"), "one probe at a time"
        assert set(breakers.blocked_routes()) == {"r", "s"}
        assert breakers.report(target, ok=False)
        opens = min(opens * 2, OPEN_MAX_S)
        assert breakers.next_probe_s() == opens
    now[0] += opens
    assert breakers.admit(target, "r")
    breakers.cancel(target)
    assert breakers.admit(target, "r"), "a probe that was not made is made by the next"
    breakers.report(target, ok=True)
    assert breakers.left_alone() == {} and breakers.answering() == {target}
    assert breakers.admit(target, "r")
    assert breakers.admit(target, "s")
    assert breakers.next_probe_s() is None
