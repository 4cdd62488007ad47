"""Scheduling, from outside: superseding, bursts, limits and pauses, and the reasons that tasks wait for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from tests.support.daemon import Daemon
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually

Make = Callable[..., Daemon]

HELD = "until test -e ../../../go || ! test -e ../../../journal; do sleep 0.05; done"
"""A command that ends when `go` is in the data directory, or when that directory is gone: it never outlives the test."""


def route(script: str, more: str, rest: str = "", concurrency: int = 2) -> str:
    return f"""
[worker]
concurrency = {concurrency}

[[route]]
name = "all"
match = "event:issues"
run = ['/bin/sh', '-c', '''{script}''']
key = "{{repo}}#{{number}}"
{more}

{rest}
"""


def send(daemon: Daemon, number: int = 1) -> str:
    task: str = daemon.post("issues", issue(number), new_guid()).json["tasks"][0]
    return task


def task_of(daemon: Daemon, task: str) -> dict[str, Any]:
    found: dict[str, Any] = daemon.api(f"/api/v1/tasks/{task}").json
    return found


def wait_state(daemon: Daemon, task: str, state: str) -> None:
    eventually(lambda: task_of(daemon, task)["state"] == state, 60, f"{task} is {state}")


def test_the_newest_takes_the_place_of_what_runs(make_daemon: Make) -> None:
    """The first one's process group is ended, though it ignores SIGTERM, and its result is not accepted."""
    script = 'test -e ../../../go && exit 0; trap "" TERM; touch ../../../runs; sleep 300 & wait; sleep 300'
    daemon = make_daemon(route(script, 'supersede = "running"'))
    first = send(daemon)
    eventually((daemon.data / "runs").exists, 60, "the first one runs")
    (daemon.data / "go").touch()
    second = send(daemon)
    wait_state(daemon, first, "superseded")
    wait_state(daemon, second, "completed")
    told = task_of(daemon, first)
    assert (told["reason"], told["waits"]) == ("newer", None)
    [attempt] = daemon.api(f"/api/v1/tasks/{first}/attempts").json["items"]
    assert attempt["outcome"] == "superseded"


def test_a_burst_runs_once_though_the_daemon_restarts_in_it(make_daemon: Make) -> None:
    daemon = make_daemon(route("echo once >> ../../../ran", 'debounce = "5s"'))
    tasks = [send(daemon) for _ in range(3)]
    wait_state(daemon, tasks[0], "superseded")
    assert task_of(daemon, tasks[2])["waits"]["word"] == "debounce"
    daemon.kill()
    daemon.start()
    wait_state(daemon, tasks[2], "completed")
    assert [task_of(daemon, task)["state"] for task in tasks] == ["superseded", "superseded", "completed"]
    assert (daemon.data / "ran").read_text() == "once\n"


def test_a_queued_task_says_what_it_waits_for(make_daemon: Make) -> None:
    daemon = make_daemon(route(HELD, "concurrency = 2", concurrency=4))
    first = send(daemon, 1)
    wait_state(daemon, first, "running")
    same = send(daemon, 1)
    wait_state(daemon, send(daemon, 2), "running")
    third = send(daemon, 3)
    assert task_of(daemon, same)["waits"]["word"] == "route_concurrency"
    assert task_of(daemon, third)["waits"] == {
        "word": "route_concurrency",
        "why": "route all runs 2 at once, its limit",
        "position": 2,
        "cause": "cap",
    }
    listed = daemon.cli("tasks", "state:queued", env={"COLUMNS": "200"}).stdout
    assert b"cap #2" in listed
    assert b"route all runs 2 at once, its limit" in daemon.cli("show", third).stdout
    daemon.cli("pause", "route", "all")
    assert task_of(daemon, third)["waits"]["word"] == "paused_route"
    (daemon.data / "go").touch()
    wait_state(daemon, first, "completed")
    assert task_of(daemon, same)["state"] == "queued"
    daemon.cli("resume", "route", "all")
    for task in (same, third):
        wait_state(daemon, task, "completed")


def test_limits_apply_at_once_to_what_waits_already(make_daemon: Make) -> None:
    text = route(HELD, "concurrency = 1", concurrency=4)
    daemon = make_daemon(text)
    tasks = [send(daemon, number) for number in range(3)]
    wait_state(daemon, tasks[0], "running")
    assert task_of(daemon, tasks[1])["waits"]["word"] == "route_concurrency"
    assert daemon.config is not None
    daemon.config.write_text(text.replace("concurrency = 1", "concurrency = 3"))
    os.kill(daemon.pid, signal.SIGHUP)
    for task in tasks:
        wait_state(daemon, task, "running")
    (daemon.data / "go").touch()
