"""What a caller may see, as tests say it."""

from __future__ import annotations

from typing import NamedTuple


class Scope(NamedTuple):
    """Installations, and, if not all of theirs, repositories by their numbers."""

    installations: frozenset[int]
    repositories: frozenset[int] | None = None
