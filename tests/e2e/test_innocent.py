"""One daemon with commands that leave, and do, everything that may hold up others, and an innocent route beside them."""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.support.daemon import Daemon
from tests.support.journal_json import records
from tests.support.requests import issue
from tests.support.waiting import eventually

DEEP = 'import os\nfor _ in range(1200):\n    os.mkdir("d")\n    os.chdir("d")\n'
NESTED = 'import os\nopen(os.environ["COVENQ_RESULT"], "w").write("[" * 200_000)\n'
PIPES = "process.json brief.json stdout stderr payload result stdout.rest stdout.rest.1"

CULPRITS = {
    "pipes": ["sh", "-c", f"rm -f {PIPES}; mkfifo {PIPES}; exec sleep 60"],
    "directories": ["sh", "-c", "mkdir stdout.rest result; head -c 20000000 /dev/zero"],
    "links": ["sh", "-c", "for name in result brief.json payload stderr; do ln -sf /dev/zero $name; done; exit 1"],
    "deep": [sys.executable, "-S", "-c", DEEP],
    "nested": [sys.executable, "-S", "-c", NESTED],
    "locked": ["sh", "-c", "mkdir a; touch a/b; chmod 0 a . .."],
    "large": ["sh", "-c", 'truncate -s 3G "$COVENQ_RESULT"'],
    "loud": ["sh", "-c", "yes | head -c 40000000"],
    "stopped": ["sh", "-c", "kill -STOP $$"],
    "stubborn": ["sh", "-c", "trap '' TERM; sleep 60"],
    "orphans": ["sh", "-c", "for n in 1 2 3 4 5; do setsid sleep 60 & done"],
    "missing": ["/no/such/program"],
}
"""What each of them does, within its two seconds."""

CONFIG = """
[worker]
concurrency = 4
[[route]]
name = "innocent"
match = "event:push"
run = ["true"]
""" + "".join(
    f'[[route]]\nname = "{name}"\nmatch = "event:issues"\nrun = {json.dumps(run)}\ntimeout = "2s"\n'
    for name, run in CULPRITS.items()
)


def innocents_complete(daemon: Daemon, *guids: str) -> None:
    tasks = []
    for guid in guids:
        answer = daemon.post("push", {"ref": "refs/heads/main", "repository": {"full_name": "o/r"}}, guid=guid)
        assert answer.status == 202
        tasks += answer.json["tasks"]
    wanted = {f"task.{task}" for task in tasks}
    eventually(
        lambda: wanted <= {one["subject"] for one in records(daemon.data, "task.completed")}, 120, "they complete"
    )


def test_an_innocent_route_goes_on_beside_all_of_them(make_daemon: Any) -> None:
    daemon: Daemon = make_daemon(config=CONFIG)
    assert len(daemon.post("issues", issue(1), guid="first").json["tasks"]) == len(CULPRITS)
    innocents_complete(daemon, "p1", "p2", "p3")
    daemon.wait_all_done(240)
    assert daemon.get("/readyz").status == 200

    before = len(records(daemon.data, "task.claimed"))
    daemon.post("issues", issue(2), guid="second")
    eventually(lambda: len(records(daemon.data, "task.claimed")) > before + 3, 60, "four of them run")
    daemon.kill()
    daemon.start()
    innocents_complete(daemon, "p4", "p5", "p6")
    daemon.wait_all_done(240)
    ready = daemon.get("/readyz")
    assert (ready.status, ready.json["alarms"]) == (200, [])
    ended = {one["subject"]: one["kind"] for one in records(daemon.data) if one["kind"].startswith("task.")}
    assert set(ended.values()) <= {"task.completed", "task.failed"}

    done = daemon.cli_json("redact", "event:issues", "--yes")
    assert ([one["id"].split("/")[1] for one in done["done"]], done["left"]) == (["first", "second"], [])
    left = {path.name for path in (daemon.data / "attempts").iterdir()}
    assert len(left) == 6, "those of the innocents"
    assert daemon.stop() == 0
    assert daemon.cli_json("verify")["ok"] is True
