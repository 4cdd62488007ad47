"""Words on standard error, from any layer: one that is closed, full or broken never fails what is being done."""

from __future__ import annotations

import sys


def say(words: str = "") -> None:
    """One line for a person."""
    if sys.stderr is None:
        return  # print() takes None for standard output
    try:
        print(words, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass
