"""glibc's malloc settings, so that large blocks are returned to the system.

glibc raises the size from which a block is mapped by itself to that of the largest one ever freed. After the first body of 25
MiB all later ones come from the arenas, of which each thread may have one and keeps what was freed: 32 threads have been
seen to hold 1.7 GiB of free memory. With a fixed threshold, a body's memory returns to the system when it is answered.
"""

from __future__ import annotations

import ctypes

MMAP_THRESHOLD = 1 << 20
"""Bytes from which a block is mapped, and unmapped, by itself. Batches of the journal are usually smaller."""
TRIM_THRESHOLD = 8 << 20
"""Free bytes that the top of an arena may keep."""
ARENA_MAX = 4

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def configure() -> bool:
    """Return large blocks to the system from now on; False, and nothing is changed, where the C library has no mallopt (musl)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_THRESHOLD, MMAP_THRESHOLD), (_M_TRIM_THRESHOLD, TRIM_THRESHOLD), (_M_ARENA_MAX, ARENA_MAX))
    done = [mallopt(name, value) == 1 for name, value in settings]
    return all(done)
