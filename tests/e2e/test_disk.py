"""A disk that is full, or that fails to sync: 503, nothing claimed, and the recovery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.requests import Answer, issue, new_guid
from tests.support.small_disk import mounted
from tests.support.waiting import eventually

ROUTE = """
[[route]]
name = "all"
match = "event:issues"
run = ["true"]
"""

Make = Callable[..., Daemon]


def received(daemon: Daemon) -> Counter[str]:
    return Counter(record["data"]["guid"] for record in daemon.records("delivery.received"))


def assert_unavailable(answer: Answer) -> None:
    assert (answer.status, answer.json["ok"]) == (503, False), answer
    assert int(answer.headers["retry-after"]) > 0


def test_while_writes_find_no_space_all_is_503_and_intake_comes_back_with_it(make_daemon: Make, faults: Path) -> None:
    daemon = make_daemon(ROUTE, faults=faults)
    accepted, refused = new_guid(), [new_guid() for _ in range(16)]
    assert daemon.post("issues", issue(), accepted).status == 202
    daemon.wait_all_done()

    (faults / "pwrite").write_text("ENOSPC")
    with ThreadPoolExecutor(8) as pool:
        for answer in pool.map(lambda guid: daemon.post("issues", issue(), guid), refused):
            assert_unavailable(answer)
    assert received(daemon) == Counter([accepted])
    assert daemon.running

    (faults / "pwrite").unlink()
    eventually(lambda: daemon.get("/readyz").status == 200, 30, "ready again")
    for guid in refused:
        answer = daemon.post("issues", issue(), guid)
        assert (answer.status, answer.json["duplicate"]) == (202, False), "nothing had been claimed"
    assert received(daemon) == Counter([accepted, *refused])
    assert set(map(tuple, daemon.wait_all_done().values())) == {("task.completed",)}
    assert daemon.stop() == 0
    assert daemon.cli_json("verify")["ok"] is True


def test_a_task_that_ends_while_the_disk_is_full_is_recorded_when_there_is_space(
    make_daemon: Make, faults: Path, tmp_path: Path
) -> None:
    started, go_on, ended = (tmp_path / name for name in ("started", "go_on", "ended"))
    script = f"touch {started}; while ! test -e {go_on}; do sleep 0.02; done; touch {ended}"
    daemon = make_daemon(ROUTE.replace('"true"', f"'/bin/sh', '-c', '{script}'"), faults=faults)
    daemon.post("issues", issue())
    eventually(started.exists, 30, "the command runs")
    (faults / "pwrite").write_text("ENOSPC")
    go_on.touch()
    eventually(ended.exists, 30, "the command ended")
    assert_unavailable(daemon.post("issues", issue()))
    (faults / "pwrite").unlink()
    assert list(daemon.wait_all_done().values()) == [["task.completed"]]
    assert len(daemon.records("task.claimed")) == 1, "it ran once"


def test_a_failed_sync_answers_503_exits_1_and_a_restart_recovers(make_daemon: Make, faults: Path) -> None:
    daemon = make_daemon(ROUTE, faults=faults)
    accepted = [new_guid() for _ in range(5)]
    for guid in accepted:
        assert daemon.post("issues", issue(), guid).status == 202
    daemon.wait_all_done()
    unclear = [new_guid() for _ in range(32)]

    def post(guid: str) -> int | None:
        try:
            return daemon.post("issues", issue(), guid).status
        except OSError:
            return None  # the process was gone already

    (faults / "fdatasync").write_text("EIO")
    with ThreadPoolExecutor(16) as pool:
        statuses = set(pool.map(post, unclear))
    assert 503 in statuses
    assert statuses <= {503, None}
    try:
        assert daemon.get("/readyz").status == 503
    except OSError:
        pass
    assert daemon.wait_exit(10) == 1, daemon.log_tail()
    assert "Traceback" not in daemon.log_tail()

    (faults / "fdatasync").unlink()
    daemon.start()
    assert not set(accepted) - set(received(daemon))
    assert max(received(daemon).values()) == 1
    for guid in unclear:
        present = received(daemon)[guid] == 1
        answer = daemon.post("issues", issue(), guid)
        assert (answer.status, answer.json["duplicate"]) == ((200, True) if present else (202, False))
    assert received(daemon) == Counter([*accepted, *unclear])
    assert set(map(tuple, daemon.wait_all_done().values())) == {("task.completed",)}
    assert daemon.stop() == 0
    assert daemon.cli_json("verify")["ok"] is True


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", 256) as place:
        yield place


def test_a_real_full_disk_answers_503_and_loses_nothing(make_daemon: Make, small_disk: Path, data: Path) -> None:
    data.parent.mkdir(exist_ok=True)
    link = data.parent / "d"
    link.symlink_to(small_disk)
    daemon = make_daemon(ROUTE, data=link / "data", start=False)
    daemon.data.mkdir(mode=0o700)
    daemon.start()
    accepted = []
    for _ in range(4):
        accepted.append(new_guid())
        assert daemon.post("issues", issue(), accepted[-1]).status == 202
    fill(small_disk / "filler")
    refused = None
    for _ in range(200):
        guid = new_guid()
        answer = daemon.post("issues", issue(body="x" * 100_000), guid)
        if answer.status == 202:
            accepted.append(guid)
            continue
        assert_unavailable(answer)
        refused = guid
        break
    assert refused, "20 MB went onto a full disk"
    for _ in range(10):
        assert_unavailable(daemon.post("issues", issue(body="x" * 100_000)))
    assert set(received(daemon)) == set(accepted)
    assert daemon.running

    (small_disk / "filler").unlink()
    eventually(lambda: daemon.post("issues", issue(), refused).status == 202, 30, "intake is back")
    assert received(daemon) == Counter([*accepted, refused])
    assert set(map(tuple, daemon.wait_all_done().values())) == {("task.completed",)}
    assert daemon.stop() == 0
    assert daemon.cli_json("verify")["ok"] is True
    rows = daemon.cli_json("deliveries", "--limit", "0")["items"]
    assert {row["guid"] for row in rows} == {*accepted, refused}


def fill(path: Path) -> None:
    """Write until the disk takes no more."""
    with path.open("wb", buffering=0) as filler:
        for size in (1 << 20, 4096, 1):
            try:
                while filler.write(b"\0" * size):
                    pass
            except OSError:
                continue
