"""The file that a command reads its token from: private, replaced whole, and outside the command's own directory.

It is neither what is revoked with (`covenq.tasks.tokens.owed`), since the command may do to it what it likes, nor synced: a
power cut ends the command that reads it. The rename is atomic, so a command that reads while the token is replaced gets the
old one or the new one, both of which are good. The same for the daemon's commands and for those of `covenq worker`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from covenq import atomic_file
from covenq.model import TOKEN

SUFFIX = ".token"
_TEMPORARY = ".new"


def path_of(directory: Path, task: str, attempt: int) -> Path:
    """Only an id that is a single plain word becomes a path; any other raises ValueError."""
    if not TOKEN.match(task) or attempt < 1:
        raise ValueError(f"{task[:80]!r} attempt {attempt} names no file")
    return directory / f"{task}.{attempt}{SUFFIX}"


def write(path: Path, token: str) -> None:
    """The token alone, without a line end. Raises OSError."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    atomic_file.replace(path, token.encode("ascii"), suffix=_TEMPORARY, durable=False)


def remove(path: Path) -> None:
    """With what a write that was cut short left beside it. Nothing else is in the way of its task."""
    for one in (path, path.with_name(path.name + _TEMPORARY)):
        with contextlib.suppress(OSError):
            one.unlink()


def clear(directory: Path) -> None:
    """Remove those of commands that an earlier process ran."""
    with contextlib.suppress(OSError):
        for one in list(directory.iterdir()):
            if one.name.endswith((SUFFIX, SUFFIX + _TEMPORARY)):
                with contextlib.suppress(OSError):
                    one.unlink()
