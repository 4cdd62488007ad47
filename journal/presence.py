"""Whether something is at a path: yes, no, or an error where that can't be told.

`pathlib` and `os.path` have functions for this that answer "no" to what can't be looked at: all of them since Python 3.14,
some ever since. Whoever decides by them takes a directory that this user may not enter for an empty one: nothing was received,
nothing is to be backed up, nothing of what is to be erased is left. So only "there is no such name" is a no here, and any other
error is raised: permission, input or output, a stale mount, links in a circle.

`tests/test_house.py` finds whoever asks `pathlib` or `os.path` instead.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def exists(path: Path) -> bool:
    """Whether something is there, at the end of its links. Raises OSError where that can't be told."""
    return _mode(path, follow=True) is not None


def is_named(path: Path) -> bool:
    """As `exists`, and also for a link that leads nowhere."""
    return _mode(path, follow=False) is not None


def is_directory(path: Path) -> bool:
    """Whether a directory is there, at the end of its links. Raises OSError where that can't be told."""
    mode = _mode(path, follow=True)
    return mode is not None and stat.S_ISDIR(mode)


def is_file(path: Path) -> bool:
    """Whether a regular file is there, at the end of its links. Raises OSError where that can't be told."""
    mode = _mode(path, follow=True)
    return mode is not None and stat.S_ISREG(mode)


def is_pipe(path: Path) -> bool:
    """Whether a named pipe is there, at the end of its links. Raises OSError where that can't be told."""
    mode = _mode(path, follow=True)
    return mode is not None and stat.S_ISFIFO(mode)


def is_absent(path: Path) -> bool:
    """Whether it is known that nothing is there: for whoever reads the file otherwise, and reports what is wrong with it."""
    try:
        return not exists(path)
    except OSError:
        return False


def _mode(path: Path, *, follow: bool) -> int | None:
    try:
        return os.stat(path, follow_symlinks=follow).st_mode  # noqa: PTH116 - the same for links and what they lead to
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:  # a NUL in it: nothing has such a name
        return None
