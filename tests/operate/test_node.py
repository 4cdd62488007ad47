"""Which node a data directory is: made once, kept, and never that of another directory."""

from __future__ import annotations

import os
import re
import shutil
import stat
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from covenq.config.node import UNNAMED, NodeSettings
from covenq.errors import CovenqError
from covenq.operate.maintain.node import known_node, name_of, own_node
from tests.support.small_disk import mounted

ADDRESS = "10.0.0.5:8787"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    return made


def test_an_id_is_made_once_and_kept(data: Path) -> None:
    node, warning = own_node(data, UNNAMED, ADDRESS)
    assert re.fullmatch("[0-9a-f]{8}", node.id) and node.address == ADDRESS and warning is None
    assert node.name.endswith(f"-{node.id}")
    assert own_node(data, UNNAMED, ADDRESS) == (node, None)
    assert own_node(data, NodeSettings("a"), "")[0].id == node.id, "a name changes nothing of it"
    assert stat.S_IMODE((data / "node").stat().st_mode) == 0o600
    assert [path.name for path in data.iterdir()] == ["node"]


def test_reading_makes_none(data: Path) -> None:
    assert known_node(data, UNNAMED) is None
    assert list(data.iterdir()) == []
    node, _ = own_node(data, NodeSettings("a"), ADDRESS)
    found = known_node(data, NodeSettings("a"))
    assert found is not None and (found.id, found.name, found.address) == (node.id, "a", "")


def test_a_directory_that_is_renamed_is_the_node_that_it_was(data: Path) -> None:
    node, _ = own_node(data, UNNAMED, ADDRESS)
    assert own_node(data.rename(data.with_name("moved")), UNNAMED, ADDRESS) == (node, None)


def test_a_directory_whose_disk_has_another_number_is_the_node_that_it_was(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As XFS has at a boot that finds the disks in another order; renamed after that, too."""
    node, _ = own_node(data, UNNAMED, ADDRESS)
    found = os.statvfs(data)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_fsid=found.f_fsid + 1))
    assert known_node(data, UNNAMED) is not None and own_node(data, UNNAMED, ADDRESS) == (node, None)
    assert own_node(data.rename(data.with_name("moved")), UNNAMED, ADDRESS) == (node, None)


@pytest.mark.parametrize("machine", ["", "7\n"])
def test_where_path_and_number_say_nothing_the_file_system_decides(
    tmp_path: Path, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in two containers: without an id of the machine; or with one, where the directory is the root of a file system."""
    data = tmp_path / "data"
    (tmp_path / "machine").write_text(machine)
    with mounted(data, 1) if machine else nullcontext(data.mkdir()):
        node, _ = own_node(data, UNNAMED, "", machine=tmp_path / "machine")
        found = os.statvfs(data)
        monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_fsid=found.f_fsid + 1))
        other, warning = own_node(data, UNNAMED, "", machine=tmp_path / "machine")
        assert other.id != node.id and warning is not None and "from elsewhere" in warning


def test_what_is_put_back_into_the_directory_is_the_node_that_it_was(data: Path) -> None:
    node, _ = own_node(data, UNNAMED, ADDRESS)
    kept = (data / "node").read_bytes()
    (data / "node").unlink()
    (data / "node").write_bytes(kept)
    assert own_node(data, UNNAMED, ADDRESS) == (node, None)


def test_a_copy_is_a_node_of_its_own_and_says_so(data: Path) -> None:
    node, _ = own_node(data, NodeSettings("a"), ADDRESS)
    copy = Path(shutil.copytree(data, data.with_name("copy"), copy_function=shutil.copy2))
    assert known_node(copy, UNNAMED) is None
    other, warning = own_node(copy, NodeSettings("a"), ADDRESS)
    assert other.id != node.id and other.name == node.name == "a"
    assert warning is not None and "from elsewhere" in warning and other.id in warning
    assert own_node(copy, UNNAMED, ADDRESS)[1] is None, "it is said once"
    assert own_node(data, NodeSettings("a"), ADDRESS) == (node, None), "nothing of the other is touched"


def test_on_another_machine_it_is_another_node(data: Path, tmp_path: Path) -> None:
    machines = [tmp_path / "one", tmp_path / "two", tmp_path / "none"]
    for number, machine in enumerate(machines[:2]):
        machine.write_text(f"{number}\n")
    ids = [own_node(data, UNNAMED, "", machine=machine)[0].id for machine in machines]
    assert len(set(ids)) == 3
    assert own_node(data, UNNAMED, "", machine=machines[2])[0].id == ids[2], (
        "without an id of the machine too it is kept"
    )


@pytest.mark.parametrize("content", [b"", b"5f0c3a9e\n", b"x" * 5000, b"\xff\xfe"])
def test_what_cant_be_understood_is_made_anew(data: Path, content: bytes) -> None:
    (data / "node").write_bytes(content)
    assert known_node(data, UNNAMED) is None
    node, warning = own_node(data, UNNAMED, ADDRESS)
    assert warning is not None and "can't be understood" in warning
    assert own_node(data, UNNAMED, ADDRESS) == (node, None)


def test_what_is_no_file_is_told_and_not_waited_for(data: Path) -> None:
    os.mkfifo(data / "node")
    for ask in (lambda: known_node(data, UNNAMED), lambda: own_node(data, UNNAMED, ADDRESS)):
        with pytest.raises(CovenqError, match="/node can't be read"):
            ask()


@pytest.mark.parametrize(
    ("host", "name"),
    [("web-1", "web-1-5f0c3a9e"), ("Café du Nord", "Caf-du-Nord-5f0c3a9e"), ("", "host-5f0c3a9e")],
)
def test_the_name_is_the_hosts_and_the_id(host: str, name: str) -> None:
    assert name_of("5f0c3a9e", UNNAMED, lambda: host) == name
    assert name_of("5f0c3a9e", NodeSettings("a"), lambda: host) == "a"


def test_the_name_of_a_host_is_cut_to_what_a_name_may_have() -> None:
    assert name_of("5f0c3a9e", UNNAMED, lambda: "x" * 253) == "x" * 55 + "-5f0c3a9e"


def test_on_a_full_disk_a_start_has_an_id_of_its_own(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 1) as disk:
        with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while filler.write(b"x" * 4096):
                pass
        node, warning = own_node(disk, UNNAMED, ADDRESS)
        assert warning is not None and "No space left" in warning and node.id in warning
        assert own_node(disk, UNNAMED, ADDRESS)[0].id != node.id
        (disk / "filler").unlink()
        kept, warning = own_node(disk, UNNAMED, ADDRESS)
        assert warning is None and own_node(disk, UNNAMED, ADDRESS) == (kept, None)
