"""A data directory on a disk that is full: what is done with the space that was set aside, and what says that it can't be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, cycle
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.requests import issue
from tests.support.small_disk import mounted
from tests.support.waiting import eventually

Make = Callable[..., Daemon]

ROUTE = """
[[route]]
name = "all"
match = "event:issues"
run = ["true"]
"""
_NUMBERS = count()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", 70) as place:
        yield place


@pytest.fixture
def daemon(make_daemon: Make, disk: Path) -> Daemon:
    """It has accepted five deliveries, and its ballast is allocated."""
    made = make_daemon(ROUTE, data=disk / "data", start=False)
    made.data.mkdir(mode=0o700)
    made.start()
    for number in range(5):
        assert made.post("issues", issue(number)).status == 202
    made.wait_all_done()
    eventually((made.data / "journal" / "ballast").exists, 30)
    return made


def fill(disk: Path) -> None:
    """Write until the disk takes no more."""
    with (disk / f"filler.{next(_NUMBERS)}").open("wb", buffering=0) as filler:
        for size in (1 << 20, 4096, 1):
            try:
                while filler.write(b"\0" * size):
                    pass
            except OSError:
                continue


def empty(disk: Path) -> None:
    for filler in disk.glob("filler.*"):
        filler.unlink()


def use_up_the_ballast(daemon: Daemon, disk: Path) -> None:
    """Fill the disk until state.db can't be written, and nothing is set aside any more."""

    acts = cycle(("pause", "resume"))  # each makes records

    def is_used_up() -> bool:
        fill(disk)
        said = daemon.cli(next(acts), "worker", exit_code=None)
        return said.returncode == 1 and not (daemon.data / "journal" / "ballast").exists()

    eventually(is_used_up, 120)
    fill(disk)


def released_for(daemon: Daemon) -> set[str]:
    """What the log says that the ballast was released for."""
    _, *said = daemon.log_tail(100_000).split("the ballast was released, so that ")
    return {one.splitlines()[0] for one in said}


def test_the_state_goes_on_and_content_is_erased_with_the_space_that_was_set_aside(daemon: Daemon, disk: Path) -> None:
    fill(disk)
    daemon.cli("pause", "worker")
    assert daemon.get("/readyz").status == 503
    done = daemon.cli_json("redact", "--repo", "octo/hello", "--yes")
    assert len(done["done"]) == 5
    assert released_for(daemon) & {"state.db can be written", "content can be erased"}
    assert "running tasks can record their end" not in released_for(daemon), "none ran"
    empty(disk)
    eventually(lambda: daemon.get("/readyz").status == 200, 60)
    eventually((daemon.data / "journal" / "ballast").exists, 30)


def test_what_cant_be_done_says_so_in_time_and_names_the_space(daemon: Daemon, disk: Path) -> None:
    use_up_the_ballast(daemon, disk)
    for words in (["redact", "--repo", "octo/hello", "--yes"], ["compact"], ["tasks"]):
        done = daemon.cli(*words, exit_code=None, timeout=40)
        while done.returncode == 4:  # the daemon's own upkeep is at it
            done = daemon.cli(*words, exit_code=None, timeout=40)
        said = done.stderr.decode()
        assert done.returncode == 1 and "full" in said and "hint: Free space" in said, said
    empty(disk)
    eventually(lambda: daemon.get("/readyz").status == 200, 60)
    eventually(lambda: daemon.cli("compact", exit_code=None).returncode == 0, 60)


def test_a_take_over_that_would_find_no_room_leaves_the_running_daemon_in_service(daemon: Daemon, disk: Path) -> None:
    use_up_the_ballast(daemon, disk)
    before = daemon.pid
    done = daemon.cli("serve", "--take-over", "--bind", f"127.0.0.1:{daemon.port}", exit_code=1)
    assert b"Free space" in done.stderr and b"the running daemon goes on" in done.stderr
    empty(disk)
    eventually(lambda: daemon.get("/readyz").status == 200, 60)
    assert daemon.api("/api/v1/status").json["pid"] == before
    assert daemon.post("issues", issue()).status == 202


def test_a_start_on_a_full_disk_keeps_the_intake_closed_until_there_is_room(daemon: Daemon, disk: Path) -> None:
    assert daemon.stop() == 0
    fill(disk)
    daemon.start(wait=False)
    eventually(lambda: daemon.get("/readyz").status == 503, 60, "it runs")
    assert released_for(daemon)
    assert "running tasks can record their end" not in released_for(daemon), "none ran"
    assert daemon.post("issues", issue()).status == 503
    empty(disk)
    eventually(lambda: daemon.post("issues", issue()).status == 202, 60)


def test_a_start_that_finds_no_room_at_all_says_what_to_do(daemon: Daemon, disk: Path) -> None:
    assert daemon.stop() == 0
    (daemon.data / "journal" / "ballast").unlink()
    fill(disk)
    done = daemon.cli("serve", "--bind", f"127.0.0.1:{daemon.port}", exit_code=1)
    assert b"no room for the journal" in done.stderr and b"hint: Free space" in done.stderr
