"""Removal of what commands left: trees of any depth, names, links and permissions; and what is said of the rest."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from covenq.operate.maintain.cleanup import remove_attempts
from covenq.tasks.execution.removal import DEPTH_MAX, remove_named, remove_tree
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.remote.work_directory import prune_failed
from tests.support.other_user import as_nobody

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where a directory costs no waiting for a disk."""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory in which another user may work."""
    with tempfile.TemporaryDirectory(dir=MEMORY, ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


def nested(top: Path, depth: int, *, names: int = 1) -> None:
    """Directories in directories, `names` of them and a file on each level."""
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        for number in range(names):
            os.mkdir(f"d{number}", dir_fd=fd)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        below = os.open("d0", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


@pytest.mark.parametrize("depth", [DEPTH_MAX - 2, DEPTH_MAX - 1, DEPTH_MAX, DEPTH_MAX + 1, 3 * DEPTH_MAX, 1200])
def test_no_depth_is_too_deep(tmp_path: Path, depth: int) -> None:
    nested(tmp_path / "top", depth, names=3)
    assert remove_tree(tmp_path / "top") == []
    assert list(tmp_path.iterdir()) == []


DEEP = """
task = Path(sys.argv[1]) / "attempts" / "t1"
task.mkdir(parents=True)
os.chdir(task)
for _ in range(int(sys.argv[2])):
    os.mkdir("d")
    os.chdir("d")
open("file", "w").close()
os.chmod(".", 0)
os.chdir("/")
print(json.dumps([remove_attempts(Path(sys.argv[1]), "t1"), os.listdir(Path(sys.argv[1]) / "attempts")]))
"""


def test_a_hundred_thousand_directories_deep(shared: Path) -> None:
    assert as_nobody(DEEP, shared, 100_000 if MEMORY else 5000) == [[1, []], []]


LOCKED = """
task = Path(sys.argv[1]) / "attempts" / "t1"
for number, mode in enumerate((0o000, 0o100, 0o400, 0o500, 0o300)):
    (task / "1" / str(number) / "below").mkdir(parents=True)
    (task / "1" / str(number) / "below" / "file").touch()
    (task / "1" / str(number) / "below").chmod(mode)
    (task / "1" / str(number)).chmod(mode)
(task / "1").chmod(0)
task.chmod(0)
print(json.dumps([remove_attempts(Path(sys.argv[1]), "t1"), os.listdir(Path(sys.argv[1]) / "attempts")]))
"""


def test_permissions_that_a_command_took_away_are_given_back(shared: Path) -> None:
    assert as_nobody(LOCKED, shared) == [[1, []], []]


CLOSED = """
attempts = Path(sys.argv[1]) / "attempts"
(attempts / "t1" / "1").mkdir(parents=True)
attempts.chmod(0)
print(json.dumps(remove_attempts(Path(sys.argv[1]), "t1")))
"""


def test_a_directory_that_can_not_be_looked_at_is_not_taken_for_removed(shared: Path) -> None:
    assert as_nobody(CLOSED, shared) == [0, [f"{shared}/attempts/t1"]]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of another user")
def test_what_is_another_users_is_reported_and_the_rest_goes(shared: Path) -> None:
    """As a container leaves it that ran as root."""
    mine, theirs = shared / "attempts" / "t1" / "1", shared / "attempts" / "t1" / "1" / "build" / os.fsdecode(b"b\xff")
    theirs.mkdir(parents=True)
    for number in range(300):
        (theirs / f"object{number}").touch()
    (mine / "a").mkdir()
    (mine / "z").mkdir()
    (mine / "a" / "file").touch()
    nested(mine / "deep", 100)
    for path in (shared / "attempts", *(shared / "attempts").rglob("*")):
        if path != theirs and theirs not in path.parents:
            os.chown(path, 65534, 65534)
    gone, left = as_nobody("print(json.dumps(remove_attempts(Path(sys.argv[1]), 't1')))", shared)
    assert gone == 0
    assert len(left) == 100, "enough to look at"
    assert all(one.startswith(f"{mine}/build/b\\udcff/object") for one in left)
    assert [path.name for path in mine.iterdir()] == ["build"]


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "payload").touch()
    top = tmp_path / "attempts" / "t1"
    (top / "1").mkdir(parents=True)
    (top / "1" / "link").symlink_to(outside)
    (top / "1" / "dangling").symlink_to("nowhere")
    os.mkfifo(top / "1" / "pipe")
    (top / "1" / os.fsdecode(b"\xff\n")).touch()
    (top / "2").symlink_to(outside)
    assert remove_named(tmp_path / "attempts", "t1", "payload") == (0, [])
    assert (outside / "payload").exists(), "a payload that the link leads to is somebody else's"
    assert remove_attempts(tmp_path, "t1") == (1, [])
    top.symlink_to(outside)
    assert remove_attempts(tmp_path, "t1") == (1, [])
    assert [path.name for path in outside.iterdir()] == ["payload"]
    assert remove_tree(tmp_path / "absent") == []
    assert remove_tree(tmp_path / "absent" / "absent") == []


def test_a_directory_in_a_payloads_place_goes_too(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "t1" / str(number)).mkdir(parents=True)
    (tmp_path / "t1" / "1" / "payload" / "copy").mkdir(parents=True)
    (tmp_path / "t1" / "2" / "payload").touch()
    assert remove_named(tmp_path, "t1", "payload") == (2, [])
    assert remove_named(tmp_path, "t1", "payload") == (0, [])


def test_scratch_is_removed_from_the_attempts_own_directory_alone(tmp_path: Path) -> None:
    directory = AttemptDirectory.for_attempt(tmp_path, "t1", 1)
    directory.prepare(b"x", {})
    nested(directory.path / "clone", 1200)
    (directory.path / "cache").touch()
    directory.remove_scratch()
    assert {path.name for path in directory.path.iterdir()} == {"payload", "brief.json", "stdout", "stderr"}
    outside = tmp_path / "outside"
    directory.path.rename(outside)
    (outside / "file").touch()
    directory.path.symlink_to(outside)
    directory.remove_scratch()
    assert (outside / "file").exists()


def test_a_link_that_leads_nowhere_keeps_no_failed_task_from_being_removed(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / "attempts" / f"t{number}").mkdir(parents=True)
        os.utime(tmp_path / "attempts" / f"t{number}", (number, number))
    (tmp_path / "attempts" / "t9").symlink_to("nowhere")
    prune_failed(tmp_path, most=3)
    assert {path.name for path in (tmp_path / "attempts").iterdir()} == {"t3", "t4", "t9"}
