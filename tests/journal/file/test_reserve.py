"""The room kept back: laid down while there is space, given back at once."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from journal.file.files import OsFiles
from journal.file.reserve import BALLAST_NAME, Reserve

MIB = 1 << 20


class Disk(OsFiles):
    """Of a size of its own, and perhaps full before it says so."""

    def __init__(self, free: int, total: int = 100 * MIB) -> None:
        self.free, self.total, self.full = free, total, False
        self.calls: list[str] = []

    def space(self, path: Path) -> tuple[int, int]:
        return self.free, self.total

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self.calls.append("pwrite")
        if self.full and offset > 0:
            raise OSError(errno.ENOSPC, "full")
        return super().pwrite(fd, data[: 32 << 10], offset)

    def fdatasync(self, fd: int) -> None:
        self.calls.append("fdatasync")
        super().fdatasync(fd)

    def unlink(self, path: Path) -> None:
        self.calls.append("unlink")
        super().unlink(path)

    def fsync_dir(self, path: Path) -> None:
        self.calls.append("fsync_dir")
        super().fsync_dir(path)


@pytest.mark.parametrize(
    ("total", "ballast", "threshold"),
    [(1 << 40, 16 * MIB, 64 * MIB), (100 * MIB, MIB, 5 * MIB), (MIB, 64 << 10, 256 << 10), (0, 64 << 10, 256 << 10)],
)
def test_sizes_follow_the_disk(tmp_path: Path, total: int, ballast: int, threshold: int) -> None:
    reserve = Reserve(tmp_path, files=Disk(0, total))
    assert (reserve.ballast, reserve.threshold) == (ballast, threshold)


def test_the_real_disk_is_asked(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    assert reserve.room().free > 0
    assert reserve.ballast <= 16 * MIB


def test_there_is_a_band_between_what_is_kept_and_what_opens_again(tmp_path: Path) -> None:
    disk = Disk(0)
    reserve = Reserve(tmp_path, files=disk)
    threshold, ballast = reserve.threshold, reserve.ballast
    room = reserve.room()
    assert (room.free, room.kept, room.set_aside, room.missing) == (0, threshold, 0, ballast)
    assert room.to_reopen == threshold * 3 // 2 + ballast
    disk.free = room.to_reopen - 1
    reserve.restore()
    assert not reserve.allocated()
    disk.free = room.to_reopen
    reserve.restore()
    assert reserve.allocated()
    room = reserve.room()
    assert (room.set_aside, room.missing) == (ballast, 0)
    assert room.to_reopen == threshold * 3 // 2, "the ballast is laid: it need not be found again"


def test_it_is_laid_synced_and_given_back(tmp_path: Path) -> None:
    disk = Disk(50 * MIB)
    reserve = Reserve(tmp_path, files=disk)
    assert not reserve.allocated()
    assert not reserve.release()
    assert reserve.allocate()
    assert disk.calls.index("fdatasync") > max(at for at, call in enumerate(disk.calls) if call == "pwrite")
    path = tmp_path / BALLAST_NAME
    assert path.stat().st_size == reserve.ballast
    assert path.stat().st_blocks * 512 >= reserve.ballast, "real blocks, no hole"
    assert len(set(path.read_bytes()[: 64 << 10])) == 256, "nothing that compresses away"
    disk.calls.clear()
    assert reserve.allocate()
    assert disk.calls == []
    assert reserve.release()
    assert disk.calls == ["unlink", "fsync_dir"]
    assert not path.exists()


def test_what_a_crash_left_of_one_is_no_ballast(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path, files=Disk(50 * MIB))
    (tmp_path / BALLAST_NAME).write_bytes(b"half")
    assert not reserve.allocated()
    assert reserve.allocate()
    assert (tmp_path / BALLAST_NAME).stat().st_size == reserve.ballast


def test_it_is_not_laid_where_there_is_no_room(tmp_path: Path) -> None:
    disk = Disk(0)
    reserve = Reserve(tmp_path, files=disk)
    disk.free = reserve.threshold + reserve.ballast - 1
    assert not reserve.allocate()
    assert list(tmp_path.iterdir()) == []
    disk.free += 1
    disk.full = True
    assert not reserve.allocate()
    assert list(tmp_path.iterdir()) == [], "what could not be written whole is taken away"
    disk.full = False
    assert reserve.allocate()


def test_it_is_given_up_for_what_frees_space_only_where_less_is_free_than_it_has(tmp_path: Path) -> None:
    disk = Disk(50 * MIB)
    reserve = Reserve(tmp_path, files=disk)
    assert reserve.allocate()
    disk.free = 2 * MIB
    assert not reserve.release_if_full() and (tmp_path / BALLAST_NAME).exists()
    disk.free = 1000
    assert reserve.release_if_full() and not (tmp_path / BALLAST_NAME).exists()
    assert not reserve.release_if_full()
