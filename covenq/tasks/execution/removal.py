"""Removing what commands left: trees of any depth, shape and permissions, without following a link.

The walk is a loop over open directories, in which each name is looked up. So no path is too long, no depth too great for the
stack, and a link that is put in a directory's place meanwhile leads nowhere. DEPTH_MAX directories are open at a time: one
that lies deeper is moved to the top of the tree, and removed from there. What can't be removed is reported, and the walk goes
on with the rest.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from covenq.tasks.execution.untrusted_files import opened_directory
from covenq.text import escape

DEPTH_MAX = 32
"""Directories of one tree that are open at a time."""
LEFT_MAX = 100
"""Paths that are reported of one tree: enough to look at, however many files it has."""

_STEPS_MAX = 20_000_000
"""Names that are looked at in one removal: a process that keeps making new ones must not hold it up for ever."""
_PASSES = 3
"""How often a directory is read that is not empty afterwards, though all that was found in it is removed."""
_TRIES = 100
"""How many names are tried for a directory that is moved, if a command has taken them."""
_MOVED = ".covenq-removal-"
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR})


def remove_tree(path: Path) -> list[str]:
    """Remove a directory with all below it, or a file; the paths that could not be removed. A missing one is removed already."""
    try:
        with opened_directory(path.parent) as parent:
            return remove_entry(parent, path.name, path)
    except FileNotFoundError:
        return []
    except OSError:
        return [_shown(path)]


def remove_entry(parent: int, name: str, path: Path) -> list[str]:
    """`remove_tree` of a name in an open directory; `path` is how it is reported."""
    removal = _Removal(path)
    removal.remove(parent, name)
    return list(removal.left)


def remove_content(path: Path, *names: str, keep: Collection[str] = ()) -> list[str]:
    """Remove all in the directory path/names… but what is called as one of `keep`; the paths that could not be removed.

    No link below `path` is followed.
    """
    left: list[str] = []
    directory = path.joinpath(*names)
    try:
        with opened_directory(path, *names[:-1]) as above, _listing(above, names[-1]) as (fd, listing):
            for one in listing:
                if one.name not in keep:
                    left += remove_entry(fd, one.name, directory / one.name)[: LEFT_MAX - len(left)]
    except FileNotFoundError:
        pass
    except OSError:
        left.append(_shown(directory))
    return left


def remove_named(path: Path, directory: str, name: str) -> tuple[int, list[str]]:
    """Remove path/directory/*/name, whatever it is: how many are gone, and the paths that could not be removed."""
    gone, left = 0, list[str]()
    try:
        with opened_directory(path) as above, _listing(above, directory) as (fd, listing):
            for one in listing:
                shown = path / directory / one.name
                try:
                    with _listing(fd, one.name) as (inner, _):
                        os.lstat(name, dir_fd=inner)
                        failed = remove_entry(inner, name, shown / name)
                except (FileNotFoundError, NotADirectoryError):  # a link is no directory either
                    continue
                except OSError:
                    failed = [_shown(shown)]
                gone += not failed
                left += failed[: LEFT_MAX - len(left)]
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError:
        left.append(_shown(path / directory))
    return gone, left


@dataclass(slots=True)
class _Level:
    """An open directory of the walk."""

    fd: int
    name: str
    listing: Iterator[os.DirEntry[str]] = field(default_factory=lambda: iter(()))
    close_listing: Callable[[], None] = lambda: None
    passes: int = 0
    failed: bool = False
    """Whether something in it stays, and is reported."""

    def read(self) -> None:
        """Begin to read it, or begin again. Raises OSError."""
        self.close_listing()
        listing = os.scandir(self.fd)
        self.listing, self.close_listing = listing, listing.close
        self.passes += 1

    def close(self) -> None:
        self.close_listing()
        os.close(self.fd)


class _Removal:
    """The removal of one tree, or of one file."""

    def __init__(self, path: Path) -> None:
        """`path` is how the tree is reported."""
        self.left: dict[str, None] = {}
        self._path = path
        self._levels: list[_Level] = []
        self._steps = 0
        self._moved = 0
        """How many directories were moved to the top."""
        self._taken = 0
        """How many of them were taken up again from there."""

    def remove(self, parent: int, name: str) -> None:
        try:
            self._remove_entry(parent, name, is_directory=None)
            while self._levels:
                self._step(parent)
        finally:
            for level in self._levels:
                level.close()

    def _step(self, parent: int) -> None:
        """Take the next name of the innermost directory, or leave it."""
        level = self._levels[-1]
        self._steps += 1
        try:
            if self._steps > _STEPS_MAX:
                raise OSError(errno.EBUSY, "it does not get less")
            if len(self._levels) == 1 and self._taken < self._moved:
                self._taken += 1
                self._remove_entry(level.fd, f"{_MOVED}{self._taken}", is_directory=None)
                return
            entry = next(level.listing, None)
        except OSError:
            self._report("")
            entry = None
        if entry is None:
            self._leave(parent)
            return
        try:
            is_directory = entry.is_dir(follow_symlinks=False)
        except OSError:
            is_directory = None
        self._remove_entry(level.fd, entry.name, is_directory=is_directory)

    def _remove_entry(self, directory: int, name: str, *, is_directory: bool | None) -> None:
        """Remove a file, or begin with a directory. None: it isn't known which of them it is."""
        try:
            if is_directory is None:
                is_directory = stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode)
            if not is_directory:
                os.unlink(name, dir_fd=directory)
            elif len(self._levels) < DEPTH_MAX:
                level = _Level(_open(directory, name), name)
                try:
                    level.read()
                except OSError:
                    level.close()
                    raise
                self._levels.append(level)
            else:
                self._move_to_top(directory, name)
        except FileNotFoundError:
            pass
        except OSError:
            self._report(name)

    def _move_to_top(self, directory: int, name: str) -> None:
        os.close(_open(directory, name))  # to move a directory takes the permission to write into it
        for _ in range(_TRIES):
            self._moved += 1
            try:
                os.rename(name, f"{_MOVED}{self._moved}", src_dir_fd=directory, dst_dir_fd=self._levels[0].fd)
                return
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
        raise OSError(errno.EEXIST, "all names are taken")

    def _leave(self, parent: int) -> None:
        """Remove the innermost directory, of which all was taken; or read it again, if there is more."""
        level = self._levels[-1]
        above = self._levels[-2].fd if len(self._levels) > 1 else parent
        try:
            os.rmdir(level.name, dir_fd=above)
        except FileNotFoundError:
            pass
        except OSError as error:
            more = error.errno in (errno.ENOTEMPTY, errno.EEXIST) and not level.failed
            if more and level.passes < _PASSES and self._steps <= _STEPS_MAX:
                with contextlib.suppress(OSError):
                    level.read()
                    return
            if not level.failed:
                self._report("")
        self._levels.pop()
        level.close()
        if level.failed and self._levels:
            self._levels[-1].failed = True

    def _report(self, name: str) -> None:
        """Report a name in the innermost directory, or with "" that directory."""
        if self._levels:
            self._levels[-1].failed = True
        if len(self.left) < LEFT_MAX:
            names = [level.name for level in self._levels[1:]]
            self.left[_shown(self._path.joinpath(*names, *([name] if name and self._levels else [])))] = None


@contextlib.contextmanager
def _listing(directory: int, name: str) -> Iterator[tuple[int, Iterator[os.DirEntry[str]]]]:
    fd = _open(directory, name)
    try:
        with os.scandir(fd) as listing:
            yield fd, listing
    finally:
        os.close(fd)


def _open(parent: int, name: str) -> int:
    """A directory, open for reading. A command may have taken permissions away from its own: they are given back."""
    try:
        fd = os.open(name, _READ, dir_fd=parent)
    except PermissionError:
        _make_accessible(parent, name)
        fd = os.open(name, _READ, dir_fd=parent)
    with contextlib.suppress(OSError):  # another user's: removing something in it fails, and is reported
        if os.fstat(fd).st_mode & 0o700 != 0o700:
            os.fchmod(fd, 0o700)
    return fd


def _make_accessible(parent: int, name: str) -> None:
    if sys.platform != "linux":
        os.chmod(name, 0o700, dir_fd=parent, follow_symlinks=False)
        return
    # Linux changes the mode of what a name leads to, or of an open file; a directory that can't be read can be opened so.
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        Path(f"/proc/self/fd/{fd}").chmod(0o700)
    finally:
        os.close(fd)


def _shown(path: Path) -> str:
    """A path as one line of text that can be encoded, whatever bytes its names have."""
    return escape(str(path))
