"""A disk in memory behind `journal.file.files.Files`: what the engine's calls did, and what of it a crash may keep.

`SimDisk` holds the page cache's view (what reads see) and a trace of every call that changes something. `Crashes` replays a
trace and yields, at each point of it, the disks that a crash right there could leave, by the promises `journal.file.files`
relies on and no others:

- bytes are certain once a sync of their file returned; before, each write is kept, dropped, cut at a byte, or kept in any
  set of 512-byte sectors (holes read as NULs), with the size at its new value or at the end of what was kept; un-synced
  operations of a file survive in any subset;
- a name is certain once a sync of its directory returned; before, creations, renames and removals survive in any subset;
- after a sync that failed, the writes it was to make certain may be lost for good, though reads still show them and later
  syncs succeed (the pages were marked clean). Only writing them again makes them certain.

The lock file and the index stay on a real scratch directory: they don't go through the seam.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTOR = 512

Image = dict[str, bytes]
"""What is on a disk: path below the root → content."""

Event = tuple[Any, ...]
"""("write", inode, offset, data) ("truncate", inode, size) ("create", directory, name, inode)
("rename", directory, old, new, inode) ("unlink", directory, name) ("sync", inode) ("badsync", inode)
("syncdir", directory) ("note", anything)"""

Hook = Callable[["SimDisk", str, str, int], int | None]
"""Called before each call: (disk, kind of call, file's name, bytes of a write). Raise OSError to fail it; a number limits
how many bytes a write takes."""


class SimDisk:
    """Implements `Files`. Calls may come from any thread."""

    def __init__(self, root: Path, image: Mapping[str, bytes] | None = None, hook: Hook | None = None) -> None:
        self.root = root
        self.hook = hook
        self.trace: list[Event] = []
        self.base: Image = dict(image or {})
        self._contents: dict[int, bytearray] = {}
        self._names: dict[str, int] = {}
        self._fds: dict[int, tuple[int, bool, str]] = {}
        self._next = itertools.count(1000)
        self._lock = threading.RLock()
        self._aside = threading.local()
        for number, (name, content) in enumerate(sorted(self.base.items()), 1):
            self._names[name] = number
            self._contents[number] = bytearray(content)
        self._inodes = itertools.count(len(self.base) + 1)

    def fork(self) -> SimDisk:
        """The same disk and trace, for another process to go on with: what this one does from now on happens elsewhere."""
        with self._lock:
            twin = SimDisk(self.root, hook=self.hook)
            twin.base, twin.trace = self.base, list(self.trace)
            twin._contents = {inode: bytearray(content) for inode, content in self._contents.items()}
            twin._names = dict(self._names)
            twin._inodes = itertools.count(next(self._inodes) + 1)
            return twin

    def image(self) -> Image:
        """What reads see now."""
        with self._lock:
            return {name: bytes(self._contents[inode]) for name, inode in self._names.items()}

    def note(self, *what: Any) -> None:
        """Put a remark of the workload's into the trace."""
        with self._lock:
            self.trace.append(("note", *what))

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What this thread calls is the test's own, and no business of the hook's."""
        self._aside.on = True
        try:
            yield
        finally:
            self._aside.on = False

    def open_descriptors(self) -> list[str]:
        return [name for _, _, name in self._fds.values()]

    # ---- Files

    def open(self, path: Path, *, write: bool) -> int:
        with self._lock:
            self._ask("open", path.name)
            inode = self._names.get(self._key(path))
            if inode is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            return self._descriptor(inode, write, path.name)

    def create(self, path: Path) -> int:
        with self._lock:
            self._ask("create", path.name)
            key = self._key(path)
            if key in self._names:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            inode = next(self._inodes)
            self._names[key] = inode
            self._contents[inode] = bytearray()
            self.trace.append(("create", self._key(path.parent), key, inode))
            return self._descriptor(inode, True, path.name)

    def close(self, fd: int) -> None:
        with self._lock:
            del self._fds[fd]

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        with self._lock:
            self._ask("pread", self._fds[fd][2])
            return bytes(self._contents[self._fds[fd][0]][offset : offset + size])

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        with self._lock:
            inode, writable, name = self._fds[fd]
            limit = self._ask("pwrite", name, len(data))
            if not writable:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            taken = bytes(data if limit is None else data[:limit])
            overlay(self._contents[inode], offset, taken)
            self.trace.append(("write", inode, offset, taken))
            return len(taken)

    def size(self, fd: int) -> int:
        with self._lock:
            return len(self._contents[self._fds[fd][0]])

    def identity(self, fd: int) -> tuple[int, int]:
        return 1, self._fds[fd][0]

    def identity_at(self, path: Path) -> tuple[int, int]:
        with self._lock:
            self._ask("identity_at", path.name)
            inode = self._names.get(self._key(path))
            if inode is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            return 1, inode

    def fdatasync(self, fd: int) -> None:
        # The hook runs outside the lock, so that a test may hold up a sync while others look.
        inode, _, name = self._fds[fd]
        try:
            self._ask("fdatasync", name)
        except OSError:
            with self._lock:
                self.trace.append(("badsync", inode))
            raise
        with self._lock:
            self.trace.append(("sync", inode))

    def fsync_dir(self, path: Path) -> None:
        with self._lock:
            self._ask("fsync_dir", path.name)
            self.trace.append(("syncdir", self._key(path)))

    def truncate(self, fd: int, size: int) -> None:
        with self._lock:
            inode, _, name = self._fds[fd]
            self._ask("truncate", name)
            resize(self._contents[inode], size)
            self.trace.append(("truncate", inode, size))

    def rename(self, source: Path, target: Path) -> None:
        with self._lock:
            self._ask("rename", source.name)
            assert source.parent == target.parent, "only a rename within a directory is atomic everywhere"
            old, new = self._key(source), self._key(target)
            if old not in self._names:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
            inode = self._names.pop(old)
            self._names[new] = inode
            self.trace.append(("rename", self._key(source.parent), old, new, inode))

    def unlink(self, path: Path) -> None:
        with self._lock:
            self._ask("unlink", path.name)
            key = self._key(path)
            if key not in self._names:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            del self._names[key]
            self.trace.append(("unlink", self._key(path.parent), key))

    def listdir(self, path: Path) -> list[str]:
        with self._lock:
            self._ask("listdir", path.name)
            if not path.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            inside = self._key(path) + "/"
            return sorted(name[len(inside) :] for name in self._names if name.startswith(inside))

    def space(self, path: Path) -> tuple[int, int]:
        self._ask("space", path.name)
        return 1 << 40, 1 << 41

    def _ask(self, kind: str, name: str, size: int = 0) -> int | None:
        if self.hook is None or getattr(self._aside, "on", False):
            return None
        return self.hook(self, kind, name, size)

    def _key(self, path: Path) -> str:
        return os.path.relpath(path, self.root)

    def _descriptor(self, inode: int, write: bool, name: str) -> int:
        fd = next(self._next)
        self._fds[fd] = (inode, write, name)
        return fd


def overlay(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content += bytes(offset - len(content))
    content[offset : offset + len(data)] = data


def resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content += bytes(size - len(content))


# ---- what a crash may leave


@dataclass(frozen=True, slots=True)
class Density:
    """How many of the possible states to build. `stride` 1 cuts at every byte; `sets` random sector sets a write."""

    stride: int = 1
    sets: int = 16
    subsets: int = 64
    combinations: int = 4096


PENDING, LIMBO, CERTAIN = "pending", "limbo", "certain"

Part = tuple[int, int]
"""Bytes of a write, from and to these offsets of its file, that survive."""


@dataclass(slots=True)
class _Op:
    """A write (offset, data) or a resize (`data` None) of a file, and the file's whole content right after it."""

    offset: int
    data: bytes | None
    after: bytes
    state: str = PENDING

    @property
    def end(self) -> int:
        return self.offset + len(self.data or b"")


@dataclass(slots=True)
class _Inode:
    """Certain content, then operations that may or may not survive, in order; certain ones among them after a bad sync."""

    base: bytes = b""
    ops: list[_Op] = field(default_factory=list)
    cached: bytearray = field(default_factory=bytearray)

    def write(self, offset: int, data: bytes) -> None:
        overlay(self.cached, offset, data)
        self.ops.append(_Op(offset, data, bytes(self.cached)))

    def truncate(self, size: int) -> None:
        resize(self.cached, size)
        self.ops.append(_Op(size, None, bytes(self.cached)))

    def sync(self) -> None:
        """The inode's size is certain, and all data but what a failed sync had marked clean."""
        for op in self.ops:
            op.state = LIMBO if op.state == LIMBO and op.data is not None else CERTAIN
        if all(op.state == CERTAIN for op in self.ops):
            self.base, self.ops = bytes(self.cached), []
        else:
            self.ops.append(_Op(len(self.cached), None, bytes(self.cached), CERTAIN))

    def bad_sync(self) -> None:
        for op in self.ops:
            op.state = LIMBO if op.state == PENDING else op.state

    def content(self, changed: Mapping[int, tuple[bool, list[Part]]]) -> bytes:
        """What is on the medium if of the operations in `changed` only these parts survived: (whether the size did, parts).

        A sector reaches the medium as it stood at some moment, with all that had been written to it by then. So what is kept
        of an operation brings along its sectors' other bytes, and an earlier operation is lost only in sectors of its own.
        """
        content = bytearray(self.base)
        for at, op in enumerate(self.ops):
            sized, services = changed.get(at, (True, None))
            if op.data is None:
                if sized:
                    resize(content, op.offset)
                continue
            if sized and len(content) < op.end:
                resize(content, op.end)
            for low, high in [(op.offset, op.end)] if services is None else services:
                low = low // SECTOR * SECTOR
                if high == op.end:
                    high = min(-(-high // SECTOR) * SECTOR, len(op.after))
                overlay(content, low, op.after[low:high])
        return bytes(content)


class Crashes:
    """Iterate over (point, image) pairs: a crash after event number `point` of the trace may leave `image`. With repeats."""

    def __init__(self, base: Image, trace: list[Event], density: Density, points: range | None = None) -> None:
        self.trace = trace
        self.density = density
        self.points = points
        self._inodes: dict[int, _Inode] = {}
        self._names: dict[str, int] = {}
        self._pending: dict[str, list[Event]] = {}
        for number, (name, content) in enumerate(sorted(base.items()), 1):
            self._names[name] = number
            self._inodes[number] = _Inode(content, cached=bytearray(content))

    def __iter__(self) -> Iterator[tuple[int, Image]]:
        for point, event in enumerate(self.trace):
            self._step(event)
            if self.points is None or point in self.points:
                for image in self._images(random.Random(point)):
                    yield point, image

    def _step(self, event: Event) -> None:
        kind = event[0]
        if kind == "write":
            self._inodes[event[1]].write(event[2], event[3])
        elif kind == "truncate":
            self._inodes[event[1]].truncate(event[2])
        elif kind == "sync":
            self._inodes[event[1]].sync()
        elif kind == "badsync":
            self._inodes[event[1]].bad_sync()
        elif kind == "syncdir":
            for op in self._pending.pop(event[1], []):
                _rename(self._names, op)
        elif kind != "note":
            self._pending.setdefault(event[1], []).append(event)
            if kind == "create":
                self._inodes[event[3]] = _Inode()

    def _images(self, rng: random.Random) -> Iterator[Image]:
        ops = [op for pending in self._pending.values() for op in pending]
        variants: dict[int, list[bytes]] = {}
        for kept in _subsets(len(ops), self.density.subsets, rng):
            names = dict(self._names)
            for op, keep in zip(ops, kept, strict=True):
                if keep:
                    _rename(names, op)
            inodes = sorted(set(names.values()))
            for inode in inodes:
                if inode not in variants:
                    variants[inode] = list(dict.fromkeys(self._contents(self._inodes[inode], rng)))
            many = 1
            for inode in inodes:
                many *= len(variants[inode])
            if many <= self.density.combinations:
                choices: Iterator[tuple[bytes, ...]] = itertools.product(*(variants[inode] for inode in inodes))
            else:
                choices = (
                    tuple(rng.choice(variants[inode]) for inode in inodes) for _ in range(self.density.combinations)
                )
            for choice in choices:
                content = dict(zip(inodes, choice, strict=True))
                yield {name: content[inode] for name, inode in names.items()}

    def _contents(self, inode: _Inode, rng: random.Random) -> Iterator[bytes]:
        """Every content the file may have: subsets of its uncertain operations, and each of those torn."""
        uncertain = [at for at, op in enumerate(inode.ops) if op.state != CERTAIN]
        if not uncertain:
            yield inode.content({})
            return
        for kept in _subsets(len(uncertain), self.density.subsets, rng):
            lost: dict[int, tuple[bool, list[Part]]]
            lost = {at: (False, []) for at, keep in zip(uncertain, kept, strict=True) if not keep}
            yield inode.content(lost)
            for at in uncertain:
                op = inode.ops[at]
                if at not in lost and op.data is not None:
                    for services in self._torn(op.offset, op.data, rng):
                        yield inode.content({**lost, at: (False, services)})
                        yield inode.content({**lost, at: (True, services)})

    def _torn(self, offset: int, data: bytes, rng: random.Random) -> Iterator[list[Part]]:
        end = offset + len(data)
        for cut in _cuts(data, offset, self.density.stride):
            yield [(offset, offset + cut)]
            behind = -(-(offset + cut) // SECTOR) * SECTOR
            if offset + cut < behind < end:
                yield [
                    (offset, offset + cut),
                    (behind, end),
                ]  # the rest of this sector is lost, those behind it are not
        edges = [offset, *range((offset // SECTOR + 1) * SECTOR, end, SECTOR), end]
        pieces = list(itertools.pairwise(edges))
        masks = [[False] * len(pieces)]
        masks += [[at != hole for at in range(len(pieces))] for hole in range(len(pieces))]
        masks += [[at == only for at in range(len(pieces))] for only in range(len(pieces))]
        if len(pieces) > 3:
            masks += [[rng.random() < 0.5 for _ in pieces] for _ in range(self.density.sets)]
        for mask in masks:
            yield [piece for piece, keep in zip(pieces, mask, strict=True) if keep]


def _rename(names: dict[str, int], op: Event) -> None:
    if op[0] == "create":
        names[op[2]] = op[3]
    elif op[0] == "rename":
        names.pop(op[2], None)
        names[op[3]] = op[4]
    else:
        names.pop(op[2], None)


def _subsets(count: int, limit: int, rng: random.Random) -> Iterator[tuple[bool, ...]]:
    """All subsets, or all, none, each prefix, each one missing, and random ones, if there are more than `limit`."""
    if 1 << count <= limit:
        yield from itertools.product((True, False), repeat=count)
        return
    for prefix in range(count + 1):
        yield tuple(at < prefix for at in range(count))
    for missing in range(count):
        yield tuple(at != missing for at in range(count))
    for _ in range(max(0, limit - 2 * count)):
        yield tuple(rng.random() < 0.5 for _ in range(count))


def _cuts(data: bytes, offset: int, stride: int) -> list[int]:
    """Where to cut a write: each `stride`th byte, and the bytes about each line's end and each sector's edge."""
    chosen = set(range(1, len(data), stride))
    if stride > 1:
        marks = [at + 1 for at, byte in enumerate(data) if byte == 10]
        marks += [edge - offset for edge in range((offset // SECTOR + 1) * SECTOR, offset + len(data), SECTOR)]
        chosen.update(mark + step for mark in marks for step in (-2, -1, 0, 1))
    return sorted(at for at in chosen if 0 < at < len(data))
