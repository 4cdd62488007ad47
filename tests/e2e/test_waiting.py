"""What waits, and why, from outside: of a daemon with several causes at once, and of its files when it is stopped."""

from __future__ import annotations

import json
import re
import shlex
import socket
from collections.abc import Callable
from typing import Any

from tests.support.daemon import Daemon
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually

Make = Callable[..., Daemon]

HELD = "until test -e ../../../go || ! test -e ../../../journal; do sleep 0.05; done"
"""A command that ends when `go` is in the data directory, or when that directory is gone: it never outlives the test."""
REFUSALS = 5
"""Of a receiver, before it is left alone."""


def config(port: int) -> str:
    return f"""
[worker]
concurrency = {REFUSALS + 1}

[[route]]
name = "mirror"
match = "event:star"
forward = "http://127.0.0.1:{port}/hook"
retry = {{ max = 9, backoff = "1h", cap = "1h" }}

[[route]]
name = "held"
match = "event:issues number:1"
run = ['/bin/sh', '-c', '''{HELD}''']
key = "{{number}}"

[[route]]
name = "ci-results"
match = "event:push"
pull = true

[[route]]
name = "payments"
match = "event:issues number:2"
run = ["true"]
"""


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def told(found: list[dict[str, Any]]) -> list[tuple[str, str, int, str | None]]:
    return [(one["cause"], one["scope"], one["count"], one["command"]) for one in found]


def status_of(daemon: Daemon, *options: str) -> dict[str, Any]:
    """Whatever it exits with."""
    found: dict[str, Any] = json.loads(daemon.cli("status", "--json", *options, exit_code=None).stdout)
    return found


def test_what_waits_is_told_everywhere_in_the_same_words(make_daemon: Make) -> None:
    daemon = make_daemon(config(closed_port()))
    daemon.cli("pause", "route", "payments", "--reason", "a release")
    for number in (1, 1, 1, 2, 2):
        daemon.post("issues", issue(number), new_guid())
    daemon.post("push", {"ref": "refs/heads/main", "repository": {"id": 6, "full_name": "o/r"}}, new_guid())
    for _ in range(REFUSALS + 2):
        daemon.post("star", {"action": "created", "repository": {"id": 6, "full_name": "o/r"}}, new_guid())
    where = ["--data", str(daemon.data)]
    more = shlex.join(where)
    expected = [
        ("paused", "route payments", 2, f"covenq resume route payments {more}"),
        ("receiver", "route mirror", REFUSALS + 2, None),
        ("key", "route held", 2, None),
        ("unclaimed", "route ci-results", 1, f"covenq worker --route ci-results {more} -- CMD"),
    ]
    status = eventually(
        lambda: (found := status_of(daemon, *where)) and told(found["waiting"]) == expected and found,
        60,
        "all of it waits as expected",
    )
    assert sum(one["count"] for one in status["waiting"]) == status["tasks"]["queued"]
    paused, refused, *_ = status["waiting"]
    assert paused["why"].endswith(": a release")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+ failed \d+ times in a row \(Connection refused\)", refused["why"])
    assert refused["until"] > refused["oldest"]

    said = daemon.cli("status", *where).stdout.decode()
    assert re.search(
        rf"waiting 12  ‖ 2 payments    paused \d+s by \S+: a release; oldest \d+s  {re.escape(expected[0][3] or '')}\n",
        said,
    )
    assert "PAUSED" not in said, "it is told once"
    causes = {one["id"]: one["waits"]["cause"] for one in daemon.cli_json("tasks", "state:queued")["items"]}
    assert sorted(causes.values()) == sorted(cause for cause, _, number, _ in expected for _ in range(number))
    findings = [one for one in daemon.cli_json("doctor", *where)["findings"] if one["check"] == "waiting"]
    nexts = [f"covenq why {refused['task']}" if cause == "receiver" else command for cause, _, _, command in expected]
    assert [one["next"] for one in findings] == nexts
    assert "pauses" not in {one["check"] for one in findings}
    metrics = daemon.api("/metrics").body.decode()
    assert 'covenq_tasks_waiting{cause="receiver"} 7.0' in metrics
    assert 'covenq_tasks_waiting{cause="cap"} 0.0' in metrics

    assert daemon.stop() == 0
    offline = status_of(daemon, *where)
    assert told(offline["waiting"]) == [expected[0], ("stopped", "daemon", 11, f"covenq serve {more}")]
    resume = shlex.split(offline["waiting"][0]["command"])[1:]
    assert "goes on" in daemon.cli(*resume, env={"COVENQ_DATA": "/nowhere"}).stderr.decode()
    assert told(status_of(daemon)["waiting"]) == [("stopped", "daemon", 13, "covenq serve")]
