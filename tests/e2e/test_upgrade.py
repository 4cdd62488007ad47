"""A data directory that version 0.1.0 wrote, killed while a task ran: read, verified, served and acted on, forever."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from covenq.model.rows import Delivery, Page, Task
from tests.support.daemon import Daemon
from tests.support.requests import issue
from tests.support.waiting import eventually

GOLDEN = Path(__file__).parent / "golden" / "data-0.1.0.tar.xz"
HOOK = "446581321"
REPLAYED = "11111111-2222-3333-4444-555555555555"
REDACTED = "99999999-2222-3333-4444-555555555555"


@pytest.fixture
def written(data: Path, tmp_path: Path) -> Path:
    """The directory is at `data`; what that version said of it is in the directory that is returned."""
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(tmp_path / "golden", filter="data")
    shutil.copytree(tmp_path / "golden" / "data", data)
    config = tmp_path / "golden" / "covenq.toml"
    config.write_text(config.read_text().replace("127.0.0.1:18787", "127.0.0.1:0"))
    return tmp_path / "golden"


@pytest.fixture
def old(written: Path, make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon over it, not started; its secret is the file that version made."""
    daemon = make_daemon(start=False, secret=None)
    daemon.config = written / "covenq.toml"
    daemon.secret = (daemon.data / "secret").read_text().strip()
    return daemon


def said(written: Path, name: str) -> Any:
    return json.loads((written / f"{name}.json").read_text())


SINCE = ("superseded_by", "ref", "target", "node", "purpose", "familiar", "result_status", "branch", "pr_number")
"""The fields that tasks, or deliveries, have got since."""


def as_before(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the fields that are newer, which nothing of it has."""
    assert all(item.get(name) is None for item in items for name in SINCE)
    return [{name: value for name, value in item.items() if name not in (*SINCE, "routing")} for item in items]


def routing_of(delivery: dict[str, Any]) -> str | None:
    """What routing made of a delivery, by what it said of itself then."""
    if delivery["state"] == "ignored":
        return f"ignored:{delivery['reason']}"
    return f"task:{','.join(delivery['tasks'])}" if delivery["tasks"] else None


def test_it_is_read_and_verified_as_it_was(written: Path, old: Daemon) -> None:
    deliveries = old.cli_json("deliveries", "--limit", "0")
    assert {**deliveries, "items": as_before(deliveries["items"])} == said(written, "deliveries")
    assert [one["routing"] for one in deliveries["items"]] == [routing_of(one) for one in deliveries["items"]]
    tasks, before = old.cli_json("tasks", "--limit", "0"), said(written, "tasks")
    for task in (*tasks["items"], *before["items"]):
        # In words of its own: more causes are told apart.
        assert (task.pop("waits") is None) is (task["state"] != "queued")
    assert {**tasks, "items": as_before(tasks["items"])} == before
    assert old.cli_json("verify") == said(written, "verify")


def test_todays_types_take_what_it_answered(written: Path) -> None:
    assert msgspec.convert(said(written, "deliveries"), Page[Delivery]).items
    assert {task.superseded_by for task in msgspec.convert(said(written, "tasks"), Page[Task]).items} == {None}


def test_its_caches_are_only_caches(written: Path, old: Daemon) -> None:
    for path in [*old.data.glob("state.db*"), *(old.data / "journal").glob("index*")]:
        path.unlink()
    old.start()
    tasks = {item["id"]: item for item in old.cli_json("tasks", "--limit", "0")["items"]}
    ended = [item for item in said(written, "tasks")["items"] if item["state"] in ("completed", "failed")]
    assert ended
    assert as_before([tasks[item["id"]] for item in ended]) == ended


def test_it_is_served_and_acted_on(written: Path, old: Daemon) -> None:
    old.start()
    tasks = said(written, "tasks")["items"]
    (running,) = [item["id"] for item in tasks if item["state"] == "running"]
    (failed,) = [item["id"] for item in tasks if item["state"] == "failed"]
    (queued,) = [item["id"] for item in tasks if item["state"] == "queued"]

    def state(task: str) -> str:
        return str(old.cli_json("show", task)["state"])

    def again() -> bool:
        found = old.cli_json("show", running)
        return bool(found["state"] == "running" and found["attempts"] == 2)

    eventually(again, what="what its death interrupted runs again, by the policy that was frozen with it")
    assert old.cli("cancel", running).returncode == 0
    eventually(lambda: state(running) == "cancelled")
    other = old.post("issues", issue(9), REPLAYED)
    assert other.status == 409, "the delivery is known, with another body"
    assert state(queued) == "queued", "its route is paused since then"
    assert old.cli("resume", "route", "elsewhere").returncode == 0
    assert old.cli("requeue", failed).returncode == 0
    eventually(
        lambda: state(failed) == "failed" and old.cli_json("show", failed)["attempts"] == 4, what="it fails anew"
    )
    assert old.cli("replay", REPLAYED, "--force").returncode == 0
    assert old.post("issues", issue(12)).status == 202
    assert b"was dropped by record" in old.cli("show", REDACTED, "--payload", exit_code=3).stderr
    assert old.stop() == 0
    assert old.cli_json("verify")["ok"] is True
