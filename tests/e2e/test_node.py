"""A node has a name and an address, and every attempt says which node gave it its task."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.requests import issue
from tests.support.waiting import eventually

NODE = '[node]\nname = "alpha"\naddress = "https://alpha.example.org"\n'
ROUTES = """
[[route]]
name = "cat"
match = "event:issues"
run = ["cat"]

[[route]]
name = "far"
match = "event:push"
pull = true
"""

FAILING = '[[route]]\nname = "bad"\nmatch = "event:issues"\nrun = ["false"]\n'

Make = Callable[..., Any]


def test_what_runs_here_and_what_is_claimed_over_it_has_its_name(make_daemon: Make) -> None:
    daemon: Daemon = make_daemon(config=NODE + ROUTES)
    assert daemon.post("issues", issue(1), "here").status == 202
    assert daemon.post("push", {"ref": "refs/heads/main"}, "far").status == 202
    claimed = daemon.api("/api/v1/claims", "POST", {"worker": "elsewhere", "lease_s": 600, "wait_s": 20})
    assert claimed.status == 200 and claimed.json["task"]["node"] == "alpha"
    eventually(lambda: daemon.finished()[f"task.{task_of(daemon, 'here')}"], 60, "the command ends")
    assert {(one["data"]["worker"] == "elsewhere", one["data"]["node"]) for one in daemon.records("task.claimed")} == {
        (True, "alpha"),
        (False, "alpha"),
    }
    for guid in ("here", "far"):
        task = task_of(daemon, guid)
        shown = daemon.cli_json("show", task)
        assert shown["node"] == "alpha" and [one["node"] for one in shown["attempt_objects"]] == ["alpha"]
        attempts = daemon.api(f"/api/v1/tasks/{task}/attempts").json["items"]
        assert [one["node"] for one in attempts] == ["alpha"]
        assert b"(node alpha)" in daemon.cli("why", guid).stdout
        said = daemon.cli("show", task).stdout
        assert b"node         alpha" in said and b"NODE" not in said, "once, where all its attempts were there"
    for what in ("tasks", "deliveries"):
        assert len(daemon.cli_json(what, "node:alpha")["items"]) == 2
        assert len(daemon.cli_json(what, "node:al*", "-node:beta")["items"]) == 2
        assert daemon.cli_json(what, "node:beta")["items"] == []


def task_of(daemon: Daemon, guid: str) -> str:
    return str(daemon.cli_json("tasks", f"guid:{guid}")["items"][0]["id"])


def test_attempts_that_were_elsewhere_say_so_beside_it(make_daemon: Make) -> None:
    daemon: Daemon = make_daemon(config=NODE + FAILING)
    assert daemon.post("issues", issue(1), "here").status == 202
    daemon.wait_all_done()
    assert daemon.stop() == 0
    daemon.env["COVENQ_NODE_NAME"] = "beta"
    daemon.cli("requeue", "state:failed", "--yes")
    daemon.start()
    eventually(lambda: len(daemon.records("task.failed")) == 2, 60, "it has failed again")
    task = task_of(daemon, "here")
    assert [one["node"] for one in daemon.cli_json("show", task)["attempt_objects"]] == ["alpha", "beta"]
    said = daemon.cli("show", task).stdout.decode()
    rows = [line.split() for line in said.splitlines()]
    assert [row[-1] for row in rows if row[:1] in (["#"], ["1"], ["2"])] == ["NODE", "alpha", "beta"]


def test_the_status_and_the_metrics_say_which_node_it_is(make_daemon: Make) -> None:
    daemon: Daemon = make_daemon(config=NODE + ROUTES)
    found = daemon.cli_json("status")["node"]
    assert found == {"id": found["id"], "name": "alpha", "address": "https://alpha.example.org"}
    assert found["id"] == (daemon.data / "node").read_text()[:8]
    assert b"\nnode        alpha at https://alpha.example.org\n" in daemon.cli("status").stdout
    assert 'node="alpha"' in next(
        line for line in daemon.api("/metrics").body.decode().splitlines() if line.startswith("covenq_build_info{")
    )
    assert daemon.stop() == 0
    stopped = daemon.cli_json("status", exit_code=6)["node"]
    assert stopped == {**found, "address": None}, "nobody listens there"
    assert b"\nnode        alpha\n" in daemon.cli("status", exit_code=6).stdout


def test_without_a_configuration_it_is_the_host_and_an_id_and_listens_where_it_is_bound(make_daemon: Make) -> None:
    daemon: Daemon = make_daemon(config=ROUTES)
    found = daemon.cli_json("status")["node"]
    assert found["name"].endswith(f"-{found['id']}") and found["address"] == f"127.0.0.1:{daemon.port}"
    assert daemon.restart().cli_json("status")["node"] == found


def test_a_command_makes_no_node(make_daemon: Make) -> None:
    daemon: Daemon = make_daemon(config=ROUTES)
    assert daemon.post("issues", issue(1)).status == 202
    daemon.wait_all_done()
    assert daemon.stop() == 0
    (daemon.data / "node").unlink()
    assert daemon.cli_json("status", exit_code=6)["node"] is None
    daemon.cli("tasks")
    daemon.cli("verify")
    daemon.cli("pause", "worker")
    assert not (daemon.data / "node").exists()


def test_a_copy_of_a_data_directory_is_another_node(make_daemon: Make, tmp_path: Path) -> None:
    daemon: Daemon = make_daemon(config=ROUTES)
    before = daemon.cli_json("status")["node"]
    assert daemon.stop() == 0
    assert "a node of its own" not in daemon.log.read_text()
    copy = tmp_path / "copied"
    shutil.copytree(daemon.data, copy)
    other: Daemon = make_daemon(data=copy, config=ROUTES)
    assert other.cli_json("status")["node"]["id"] != before["id"]
    other.wait_told("this directory is a node of its own")
    assert daemon.start().cli_json("status")["node"] == before


@pytest.mark.parametrize("line", ['name = "no word"', 'address = "0.0.0.0:1"'])
def test_a_start_with_a_name_or_an_address_that_is_none_is_refused(make_daemon: Make, line: str) -> None:
    daemon: Daemon = make_daemon(config=f"[node]\n{line}\n", start=False)
    assert b"node." in daemon.cli("serve", exit_code=2).stderr
    assert not (daemon.data / "node").exists()
