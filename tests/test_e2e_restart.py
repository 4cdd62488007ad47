"""The journal is all there is: a restart, and caches deleted, change no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support import Daemon, issue, new_guid

CONFIG = """
[worker]
concurrency = 3

[[route]]
name = "fix"
match = "event:issues action:opened"
run = ["true"]

[[route]]
name = "fails"
match = "event:issues number:3,4"
run = ["false"]
retry = { max = 1, backoff = "10ms" }
"""


def everything(daemon: Daemon) -> dict[str, Any]:
    """What the commands say about all there is."""
    deliveries = daemon.cli_json("deliveries", "--limit", "0")
    first = deliveries["items"][-1]
    return {
        "deliveries": deliveries,
        "tasks": daemon.cli_json("tasks", "--limit", "0"),
        "filtered": daemon.cli_json("deliveries", "label:bug", "route:fails", "-number:3", "state:failed"),
        "shown": daemon.cli_json("show", f"{first['hook']}/{first['guid']}"),
    }


def delete_caches(daemon: Daemon) -> None:
    gone = [*daemon.data.glob("state.db*"), *(daemon.data / "journal").glob("index*")]
    assert any(path.name == "state.db" for path in gone)
    assert any(path.name.startswith("index") for path in gone)
    for path in gone:
        path.unlink()


def test_restart_and_deleted_caches_answer_the_same(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(CONFIG)
    guids = [new_guid() for _ in range(6)]
    for number, guid in enumerate(guids):
        assert daemon.post("issues", issue(number), guid).status == 202
    assert daemon.post("star", {"action": "created"}).status == 202
    assert daemon.post("issues", issue(1), guids[1]).json["duplicate"] is True
    daemon.wait_all_done()
    failed = daemon.cli_json("tasks", "state:failed", "number:3")["items"]
    daemon.cli("requeue", failed[0]["id"])
    daemon.cli("replay", guids[0], "--force")
    daemon.wait_all_done()
    before = everything(daemon)
    assert len(before["deliveries"]["items"]) == 7
    assert [item["number"] for item in before["filtered"]["items"]] == [4]
    assert len(before["shown"]["tasks"]) == 2, "the original and the replay"

    daemon.restart()
    assert everything(daemon) == before
    assert daemon.stop() == 0
    assert everything(daemon) == before, "without a daemon"
    delete_caches(daemon)
    assert everything(daemon) == before, "without a daemon or caches"
    daemon.start()
    assert everything(daemon) == before, "caches rebuilt"
    assert daemon.post("issues", issue(1), guids[1]).json["duplicate"] is True, "ids are remembered by the journal"
    daemon.kill()
    delete_caches(daemon)
    daemon.start()
    assert daemon.post("issues", issue(2), guids[2]).json["duplicate"] is True, "after a kill too"
    assert daemon.cli_json("verify")["ok"] is True


def test_what_was_accepted_is_seen_by_the_next_read_without_a_daemon(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    guid = new_guid()
    assert daemon.post("issues", issue(), guid).status == 202
    daemon.kill()
    assert daemon.cli_json("show", guid)["state"] == "ignored"
    assert daemon.cli_json("verify")["ok"] is True


def test_two_daemons_on_one_directory_are_refused_in_one_sentence(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    second = daemon.cli("serve", "--bind", "127.0.0.1:0", exit_code=4)
    said = second.stderr.decode()
    assert "Traceback" not in said
    assert daemon.get("/readyz").status == 200
