"""How a file journal writes: its time and randomness, passed in here, and when it starts a segment or closes a proof."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from journal.format.header import SEGMENT_BYTES

IDLE_S = 0.05
"""After this long without an append a `journal.synced` record is appended: written and synced within the promised 100 ms."""


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """`token(n)` gives n random bytes as hex: ids, epochs and salts are made of it."""

    clock: Callable[[], float] = time.time
    token: Callable[[int], str] = secrets.token_hex
    segment_bytes: int = SEGMENT_BYTES
    """Bytes after which a batch starts a new segment."""
    idle_s: float = IDLE_S

    def salt(self) -> str:
        """A new segment's."""
        return self.token(32)


DEFAULTS = WriteSettings()
