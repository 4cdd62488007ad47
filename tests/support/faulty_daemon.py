"""`covenq` with a disk that fails on demand: run as a program, its arguments are covenq's.

COVENQ_TEST_FAULTS names a directory. While it holds a file named like a method of `journal.file.files.OsFiles` (`pwrite`,
`fdatasync`, …), each call of that method fails with the errno the file names (`EIO`, `ENOSPC`; EIO if it is empty), or, if it
says `HANG`, comes back only when the file is gone. Everything else is the ordinary program.
"""

from __future__ import annotations

import errno
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def failing(method: Callable[..., Any], trigger: Path) -> Callable[..., Any]:
    """`method`, but raising OSError while `trigger` exists."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            word = trigger.read_text().strip() or "EIO"
        except FileNotFoundError:
            return method(*args, **kwargs)
        while word == "HANG" and trigger.exists():
            time.sleep(0.01)
        if word == "HANG":
            return method(*args, **kwargs)
        number = getattr(errno, word)
        raise OSError(number, os.strerror(number))

    return call


def install(directory: Path) -> None:
    """Wrap every method of OsFiles."""
    from journal.file.files import OsFiles

    for name in dir(OsFiles):
        method = getattr(OsFiles, name)
        if not name.startswith("_") and callable(method):
            setattr(OsFiles, name, failing(method, directory / name))


if __name__ == "__main__":
    install(Path(os.environ["COVENQ_TEST_FAULTS"]))
    from covenq.cli.main import main

    main()
