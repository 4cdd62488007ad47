"""The commands that run now, DATA/running/<task>.<n>.json: what a later daemon or worker ends if this one is killed.

Beside attempts/, not in it: a command does what it likes with its own directory, and nothing of that may keep the next
process from knowing whom it has to end. A note is there from the start of a command to its end. It is not synced, since
after a power cut there is no process to find. A note that can't be read names nobody, and holds up nobody.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import msgspec

from covenq import atomic_file
from covenq.paths import RUNNING_NAME
from covenq.tasks.execution.process_tree import ProcessIdentity, ProcessMarks, identity_of
from covenq.tasks.execution.untrusted_files import read_file

_NAME = re.compile(r"[0-9A-Za-z_-]{1,64}\.[0-9]{1,10}\.json(\.tmp)?\Z")
"""With `.tmp` one that a daemon was writing when it was killed; it may be whole, or not."""
_SIZE_MAX = 4096
"""Bytes of a note: it has less than 300."""
_NOTES_MAX = 10_000
"""Notes that are read: a daemon runs far fewer commands."""


class _Note(msgspec.Struct, frozen=True):
    """A note's content. `fence` is the claim's token; without the others its process is known by that alone."""

    fence: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    pid: Annotated[int, msgspec.Meta(ge=1, le=2**31)] | None = None
    start: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    boot: Annotated[str, msgspec.Meta(max_length=100)] = ""


def note(root: Path, task: str, attempt: int, fence: str, pid: int | None = None) -> None:
    """Note a command in the data or work directory `root`: that it will be started, or its process. Raises OSError."""
    found = None if pid is None else identity_of(pid)
    content = _Note(fence) if found is None else _Note(fence, found.pid, found.start, found.boot)
    path = _path(root, task, attempt)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    atomic_file.replace(path, msgspec.json.encode(content), durable=False)


def remove(root: Path, task: str, attempt: int) -> None:
    """Remove the note of a command that ended. One that can't be removed names a process that is gone."""
    with contextlib.suppress(OSError):
        _path(root, task, attempt).unlink(missing_ok=True)


def noted(root: Path) -> list[ProcessMarks]:
    """What the processes of the noted commands are known by."""
    notes = (_read(root, name) for name in islice(_names(root), _NOTES_MAX))
    return [
        ProcessMarks(one.fence, None if one.pid is None else ProcessIdentity(one.pid, one.start, one.boot))
        for one in notes
        if one is not None
    ]


def noted_tasks(root: Path) -> set[str]:
    """The tasks whose commands are noted."""
    return {name.partition(".")[0] for name in islice(_names(root), _NOTES_MAX)}


def clear(root: Path) -> None:
    """Remove all notes: the commands they name have been ended."""
    for name in list(_names(root)):
        with contextlib.suppress(OSError):
            (root / RUNNING_NAME / name).unlink()


def _path(root: Path, task: str, attempt: int) -> Path:
    return root / RUNNING_NAME / f"{task}.{attempt}.json"


def _names(root: Path) -> Iterator[str]:
    with contextlib.suppress(OSError), os.scandir(root / RUNNING_NAME) as listing:
        for one in listing:
            if _NAME.match(one.name):
                yield one.name


def _read(root: Path, name: str) -> _Note | None:
    try:
        return msgspec.json.decode(read_file(root, RUNNING_NAME, name, limit=_SIZE_MAX), type=_Note)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None
