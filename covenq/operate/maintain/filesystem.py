"""The filesystem that a data directory is on: its type, and whether it is one that keeps nothing."""

from __future__ import annotations

from pathlib import Path

from journal.file.lock import MEMORY, filesystem_of


def kind_of(path: Path) -> str:
    """The type, as the system calls it; "" where that can't be known."""
    return filesystem_of(path)


def is_memory(kind: str) -> bool:
    """Whether a filesystem of this type is memory: nothing in it outlives a power cut."""
    return kind in MEMORY
