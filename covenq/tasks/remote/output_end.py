"""The ends of what a command of `covenq worker` wrote, as its report to the daemon has them."""

from __future__ import annotations

import contextlib
import os

from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.scheduling.outcome import OUTPUT_MAX

_NOTE_MAX = 100


def read_outputs(directory: AttemptDirectory) -> dict[str, str]:
    """The last OUTPUT_MAX bytes of each output as text, by its name. What can't be read is left out: it costs no task its end."""
    found: dict[str, str] = {}
    for path in (directory.stdout, directory.stderr):
        with contextlib.suppress(OSError), directory.open(path.name) as file:
            size = os.fstat(file.fileno()).st_size
            at = 0 if size <= OUTPUT_MAX else size - OUTPUT_MAX + _NOTE_MAX
            file.seek(at)
            note = f"[covenq: {at} bytes before this were not sent]\n" if at else ""
            found[path.name] = note + file.read(OUTPUT_MAX).decode("utf-8", "replace")
    return found
