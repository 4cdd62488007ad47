"""What workers elsewhere report of their attempts, as files: DATA/attempts/<task>/<n> has the same names as for a command here.

All of it is the worker's word, of a bounded size. It is written before the record of the attempt's end: as long as the claim is
the task's own the task runs, and no erasure takes a task that runs; so what an erasure finds afterwards is all there is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from covenq.tasks.execution.removal import remove_tree
from covenq.tasks.execution.scrub import Scrubber
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.scheduling.claim import Claim
from covenq.tasks.scheduling.outcome import OUTPUT_MAX


@dataclass(frozen=True, slots=True)
class Outputs:
    """The ends of what an attempt wrote, as text; None where the worker reported none."""

    stdout: str | None = None
    stderr: str | None = None


NO_OUTPUTS = Outputs()


class ReportFiles:
    """The files of attempts that workers report, below the data directory."""

    def __init__(self, data: Path, scrubber: Callable[[], Scrubber] = Scrubber) -> None:
        """`scrubber` makes one for outputs: their worker has scrubbed them too, but knows none of this daemon's secrets."""
        self._data = data.absolute()
        self._scrubber = scrubber

    def keep_result(self, claim: Claim, result: bytes) -> str:
        """Write the result, durable with its name when this returns; its path in the data directory. Raises OSError."""
        directory = self._directory(claim)
        directory.keep(result)
        return os.fspath(directory.result.relative_to(self._data))

    def keep_outputs(self, claim: Claim, outputs: Outputs) -> None:
        """Write the last OUTPUT_MAX bytes of each output, scrubbed. A full disk costs the output, not the work."""
        if outputs == NO_OUTPUTS:
            return
        directory, scrubber = self._directory(claim), self._scrubber()
        for name, text in (("stdout", outputs.stdout), ("stderr", outputs.stderr)):
            if text is not None:
                stream = scrubber.stream()
                content = stream.feed(text.encode("utf-8", "replace")) + stream.finish()
                directory.keep_output(name, content[-OUTPUT_MAX:])

    def discard(self, claim: Claim) -> None:
        """Remove what was kept for a claim that turned out to be stale: an erasure may have come first, and not seen it."""
        remove_tree(self._directory(claim).path)

    def _directory(self, claim: Claim) -> AttemptDirectory:
        return AttemptDirectory.for_attempt(self._data, claim.task, claim.attempt)
