"""How many columns a terminal has."""

from __future__ import annotations

import os
from typing import IO

COLUMNS = 80
"""Of a terminal that doesn't say."""


def columns(stream: IO[str] | None) -> int | None:
    """How many columns the terminal behind a stream has, or COLUMNS says; None for what is no terminal: nothing is cut there.

    As `shutil.get_terminal_size`, which looks at standard output alone.
    """
    if stream is None or not stream.isatty():
        return None
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdecimal() and int(told) > 0:
        return int(told)
    try:
        return os.get_terminal_size(stream.fileno()).columns or COLUMNS
    except (OSError, ValueError):
        return COLUMNS
