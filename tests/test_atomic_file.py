"""Atomic writes: what is under the name after each interruption, and what is never followed or replaced."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from covenq import atomic_file


class PowerCut(BaseException):
    """Ends a write as a crash would, but for what `except` clauses do."""


def failing(monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(os, call, fails)


def names(directory: Path) -> list[str]:
    return sorted(one.name for one in directory.iterdir())


def test_it_writes_and_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "note"
    atomic_file.replace(path, b"one")
    assert path.read_bytes() == b"one"
    atomic_file.replace(path, b"")
    assert path.read_bytes() == b"" and names(tmp_path) == ["note"]


def test_it_is_private_unless_told_otherwise(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        path = tmp_path / "note"
        path.write_bytes(b"open")
        path.chmod(0o666)
        atomic_file.replace(path, b"private")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        atomic_file.replace(path, b"public", mode=0o666)
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert atomic_file.create(tmp_path / "secret", b"x")
        assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_the_bytes_are_synced_before_the_name_and_the_directory_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, calls = tmp_path / "note", []
    fsync = os.fsync

    def synced(fd: int) -> None:
        calls.append(("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file", path.exists()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", synced)
    atomic_file.replace(path, b"one")
    assert calls == [("file", False), ("directory", True)]
    path.unlink()
    calls.clear()
    assert atomic_file.create(path, b"one")
    assert calls == [("file", False), ("directory", True)]
    calls.clear()
    atomic_file.replace(path, b"two", durable=False)
    assert calls == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), PowerCut()])
@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_before_the_rename_the_old_content_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException
) -> None:
    path = tmp_path / "note"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        failing(patch, call, error)
        with pytest.raises(type(error)):
            atomic_file.replace(path, b"new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["note"]
    atomic_file.replace(path, b"new")
    assert path.read_bytes() == b"new"


def test_after_the_rename_the_new_content_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "note"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(atomic_file, "sync_directory", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "gone")))
        with pytest.raises(OSError, match="gone"):
            atomic_file.replace(path, b"new")
    assert path.read_bytes() == b"new" and names(tmp_path) == ["note"]


def test_an_interrupt_right_after_the_rename_stays_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        rename(self, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic_file.replace(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_what_went_wrong_first_is_what_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> Callable[..., None]:
        def call(*args: object, **kwargs: object) -> None:
            raise OSError(number, os.strerror(number))

        return call

    monkeypatch.setattr(atomic_file, "_sync", fail(errno.EIO))
    real = Path.unlink
    monkeypatch.setattr(
        Path, "unlink", lambda self, missing_ok=False: real(self, missing_ok) if missing_ok else fail(errno.EROFS)()
    )
    with pytest.raises(OSError) as found:
        atomic_file.replace(tmp_path / "file", b"new")
    assert found.value.errno == errno.EIO


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_a_crash_left_at_the_temporary_name_is_removed_and_not_written_through(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "note", tmp_path / "other"
    other.write_bytes(b"other")
    if kind == "file":
        (tmp_path / "note.tmp").write_bytes(b"half of i")
    else:
        (tmp_path / "note.tmp").symlink_to(other)
    atomic_file.replace(path, b"new")
    assert path.read_bytes() == b"new" and other.read_bytes() == b"other" and names(tmp_path) == ["note", "other"]
    assert not path.is_symlink()


def test_a_link_in_the_place_is_replaced_and_its_target_is_not(tmp_path: Path) -> None:
    path, other = tmp_path / "note", tmp_path / "other"
    other.write_bytes(b"other")
    path.symlink_to(other)
    atomic_file.replace(path, b"new")
    assert not path.is_symlink() and path.read_bytes() == b"new" and other.read_bytes() == b"other"


def test_a_directory_in_the_place_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "note"
    path.mkdir()
    with pytest.raises(OSError):
        atomic_file.replace(path, b"new")
    assert path.is_dir() and names(tmp_path) == ["note"]
    assert not atomic_file.create(path, b"new")
    assert path.is_dir() and names(tmp_path) == ["note"]


def test_a_directory_at_the_temporary_name_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "note"
    path.write_bytes(b"old")
    (tmp_path / "note.new").mkdir()
    with pytest.raises(OSError):
        atomic_file.replace(path, b"new", suffix=".new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("there", ["file", "dangling link"])
def test_creating_never_replaces(tmp_path: Path, there: str) -> None:
    path = tmp_path / "secret"
    if there == "file":
        path.write_bytes(b"first")
    else:
        path.symlink_to(tmp_path / "nowhere")
    assert not atomic_file.create(path, b"second")
    assert names(tmp_path) == ["secret"] and not (tmp_path / "nowhere").exists()
    assert path.is_symlink() or path.read_bytes() == b"first"


def test_a_creation_that_is_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        failing(patch, "link", PowerCut())
        with pytest.raises(PowerCut):
            atomic_file.create(tmp_path / "secret", b"x")
    assert names(tmp_path) == []
    assert atomic_file.create(tmp_path / "secret", b"x")
