"""Resource limits of a command: processor time, memory, file sizes, processes, open files, output."""

from __future__ import annotations

import re
import resource
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import SupportsInt

from covenq.errors import UsageError
from covenq.model import Json

OUTPUT_LIMIT = 16 * 1024 * 1024
"""Bytes kept of stdout, and of stderr, unless a route says otherwise."""

CPU_GRACE_S = 5
"""Seconds of processor time between SIGXCPU, which a command may handle, and SIGKILL."""

_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB)\Z")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE_MAX = 1 << 50


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """Resource limits of a command. None is no limit but the daemon's own.

    `cpu_s`, `memory` (bytes of address space), `file_size` (bytes of any file it writes) and `open_files` apply to each
    process; `processes` counts all processes of the daemon's user, because the system counts so; `output` is the bytes kept of
    stdout, and of stderr.
    """

    cpu_s: int | None = None
    memory: int | None = None
    file_size: int | None = None
    processes: int | None = None
    open_files: int | None = None
    output: int | None = None

    def as_json(self) -> dict[str, Json]:
        """Only what is set."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, str | SupportsInt]) -> ResourceLimits:
        """The inverse of `as_json`. Raises TypeError or ValueError, also for an unknown limit, which must not mean no limit."""
        return cls(**{name: int(value) for name, value in data.items()})

    def resources(self) -> list[tuple[int, int, int]]:
        """(resource, soft, hard) for setrlimit, none above this process's own hard limit."""
        wanted = [
            (resource.RLIMIT_CPU, self.cpu_s, CPU_GRACE_S),
            (resource.RLIMIT_AS, self.memory, 0),
            (resource.RLIMIT_FSIZE, self.file_size, 0),
            (resource.RLIMIT_NPROC, self.processes, 0),
            (resource.RLIMIT_NOFILE, self.open_files, 0),
        ]
        made = []
        for number, value, grace in wanted:
            if value is not None:
                _, ceiling = resource.getrlimit(number)
                hard = value + grace if ceiling == resource.RLIM_INFINITY else min(value + grace, ceiling)
                made.append((number, min(value, hard), hard))
        return made


NO_LIMITS = ResourceLimits()


def parse_size(text: str) -> int:
    """`<n>(B|KiB|MiB|GiB)` in bytes. Raises UsageError."""
    found = _SIZE.match(text)
    size = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < size <= _SIZE_MAX:
        raise UsageError(f"{text[:40]!r} is no size", hint="Write a number and B, KiB, MiB or GiB: 512MiB.")
    return size
