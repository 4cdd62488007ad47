"""The C library's allocator, told to give large blocks back.

glibc raises the size from which a block is mapped by itself to that of the largest one ever freed. After the first body of 25
MiB all later ones come from the arenas, of which each thread may have one and keeps what was freed: 32 threads have been
seen to hold 1.7 GiB of nothing. With a fixed size, what a body took is the system's again when it is answered.
"""

from __future__ import annotations

import ctypes

MAPPED_MIN = 1 << 20
"""Bytes from which on a block is mapped, and unmapped, by itself. Batches of the journal are smaller, as a rule."""
KEPT_MAX = 8 << 20
"""Free bytes that the top of an arena may keep."""
ARENAS = 4

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def give_back() -> bool:
    """Have large blocks given back from now on; False, and nothing done, where the C library has no mallopt (musl)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_THRESHOLD, MAPPED_MIN), (_M_TRIM_THRESHOLD, KEPT_MAX), (_M_ARENA_MAX, ARENAS))
    done = [mallopt(name, value) == 1 for name, value in settings]
    return all(done)
