"""The journal is the only source of truth: a restart, and deleted caches, change no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from journal.records import Entry
from tests.support.daemon import Daemon
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually

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
    """The commands' answers about everything that is stored."""
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


def test_damage_that_the_fold_comes_upon_closes_the_intake_and_is_told_with_what_to_do(
    make_daemon: Callable[..., Daemon],
) -> None:
    """Old history is damaged and the caches that attest it are deleted: the log's end proves nothing of it."""
    daemon = make_daemon(CONFIG)
    first, other = new_guid(), new_guid()
    for guid in (first, other):
        assert daemon.post("issues", issue(1), guid).status == 202
    daemon.wait_all_done()
    assert daemon.stop() == 0
    with open_journal(daemon.data / "journal", settings=WriteSettings(segment_bytes=1)) as journal:
        journal.append([Entry("ops.note", "ops.note", {})])
    segments = sorted((daemon.data / "journal").glob("*.jsonl"))
    assert len(segments) > 1
    whole = segments[0].read_bytes()
    segments[0].write_bytes(whole.replace(b'"event":"issues"', b'"event":"issuez"', 1))
    for path in daemon.data.glob("state.db*"):
        path.unlink()

    daemon.start(wait=False)
    eventually(lambda: "damaged" in str(daemon.get("/readyz").json), 30, "it has come upon it")
    assert "`covenq verify`" in " ".join(daemon.get("/readyz").json["reasons"])
    refused = daemon.post("issues", issue(2), new_guid())
    assert (refused.status, refused.json["error"]) == (503, "intake_closed") and "damaged" in refused.json["detail"]
    for command in (["deliveries"], ["why", first], ["stats"]):
        said = daemon.cli(*command, exit_code=5).stderr.decode()
        assert segments[0].name in said and "covenq salvage" in said, said
    assert daemon.cli("status", exit_code=5).stdout.startswith(b"DAMAGED     the journal, and nothing is received")
    assert daemon.log.read_text().count("ERROR covenq.state: the journal is damaged") == 1, "not at every try"
    assert daemon.log.read_text().count("upkeep waits: ") <= 1, "not at every try"

    segments[0].write_bytes(whole)
    eventually(lambda: daemon.get("/readyz").status == 200, 30, "it goes on where it stood")
    assert daemon.post("issues", issue(2), new_guid()).status == 202
    assert len(daemon.cli_json("deliveries")["items"]) == 3
