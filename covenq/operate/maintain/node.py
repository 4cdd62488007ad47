"""Which node a data directory is: an id of 8 hex digits, made at the first start and kept in DATA/node.

The id identifies: by it a daemon that starts again takes its own lease at once, so no two directories may have the same. The
name is what is shown. A directory that was copied, or restored elsewhere, is another node than the one that it was copied from,
and both may run: so beside the id stand two digests of where it is (machine and directory, with its file system or its path),
neither of which a copy has too, and an id that was made elsewhere counts for nothing. What is restored into the directory itself,
a directory that is renamed, and one whose disk gets another number at a boot, is the node that it was: one of the two is as it
was. A copy of a whole machine can't be told from what it was copied from: there DATA/node has to be removed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from covenq import atomic_file
from covenq.config.node import NAME_MAX, NodeSettings
from covenq.config.regular_file import read
from covenq.errors import CovenqError
from covenq.paths import NODE_NAME
from journal.presence import is_named
from journal.records import Node

NOWHERE = "-" * 16
"""In the place of the digest with the path, where path and number of a directory say nothing: each container has the same path,
and the root of each file system the same number."""


class _Location(NamedTuple):
    """Two digests of where a directory is: of machine, directory and file system; and of machine, directory and path."""

    in_file_system: str
    at_path: str

    def is_that_of(self, other: _Location) -> bool:
        return self.in_file_system == other.in_file_system or self.at_path == other.at_path != NOWHERE


MACHINE_ID = Path("/etc/machine-id")
_FILE_MAX = 256
_CONTENT = re.compile(rb"([0-9a-f]{8}) ([0-9a-f]{16}) ([0-9a-f]{16}|-{16})\n?\Z")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_CHECK = "Check the data directory."


def known_node(data: Path, settings: NodeSettings, machine: Path = MACHINE_ID) -> Node | None:
    """The node that the directory is; None before its first start. It has no address: nobody listens. Raises CovenqError."""
    path = data / NODE_NAME
    try:
        kept = _read(path)
        id = kept[0] if kept is not None and kept[1].is_that_of(_location(data, machine)) else None
    except OSError as error:
        raise CovenqError(f"{path} can't be read: {error.strerror}", hint=_CHECK) from error
    return None if id is None else Node(id, name_of(id, settings))


def own_node(
    data: Path,
    settings: NodeSettings,
    address: str,
    *,
    machine: Path = MACHINE_ID,
    token: Callable[[int], str] = secrets.token_hex,
) -> tuple[Node, str | None]:
    """The node that the directory is, made one if it is none yet; and what an operator is to be told of that, if anything.

    For a daemon that holds the directory's lock: nobody else writes the file. Where there is no room for it, the id is this
    start's alone, and the next one makes another. Raises CovenqError.
    """
    path = data / NODE_NAME
    id = warning = None
    try:
        kept, here = _read(path), _location(data, machine)
        if kept is not None and kept[1].is_that_of(here):
            if kept[1] != here:
                with suppress(OSError):  # one of the two tells it the next time, too
                    atomic_file.replace(path, _line(kept[0], here))
            return Node(kept[0], name_of(kept[0], settings), address), None
        id = token(4)
        if is_named(path):
            what = "can't be understood" if kept is None else f"is that of {name_of(kept[0], settings)}, from elsewhere"
            warning = f"{path} {what}: this directory is a node of its own, with the id {id}"
        atomic_file.replace(path, _line(id, here))
    except OSError as error:
        if error.errno in _NO_SPACE and id is not None:
            told = f"{path} can't be written: {error.strerror}. The id of this node, {id}, is that of this start alone"
            return Node(id, name_of(id, settings), address), told
        raise CovenqError(f"{path} can't be read or written: {error.strerror}", hint=_CHECK) from error
    return Node(id, name_of(id, settings), address), warning


def name_of(id: str, settings: NodeSettings, host: Callable[[], str] = socket.gethostname) -> str:
    """As configured, else the host's name and the id."""
    if settings.name is not None:
        return settings.name
    own = re.sub(r"[^0-9A-Za-z._-]+", "-", host()).strip("-.")[: NAME_MAX - len(id) - 1]
    return f"{own or 'host'}-{id}"


def _line(id: str, location: _Location) -> bytes:
    return f"{id} {location.in_file_system} {location.at_path}\n".encode()


def _read(path: Path) -> tuple[str, _Location] | None:
    """The id and its place; None where there is no file, or none that can be understood. Raises OSError."""
    try:
        content, _ = read(path, _FILE_MAX)
    except FileNotFoundError:
        return None
    found = _CONTENT.match(content)
    return None if found is None else (found[1].decode(), _Location(found[2].decode(), found[3].decode()))


def _location(data: Path, machine: Path) -> _Location:
    """Where the directory is: another place for every copy, the same at every start. Raises OSError."""
    try:
        id, _ = read(machine, _FILE_MAX)
    except OSError:
        id = b""  # there is none everywhere: then file system and directory tell
    here = data.stat()
    directory = b"%s %d" % (id.strip(), here.st_ino)
    found = (b"%d" % os.statvfs(data).f_fsid, os.fsencode(data.resolve()))
    in_file_system, at_path = (hashlib.sha256(directory + b" " + one).hexdigest()[:16] for one in found)
    is_root = here.st_dev != data.resolve().parent.stat().st_dev
    return _Location(in_file_system, NOWHERE if is_root or not id.strip() else at_path)
