"""What the attempts of a pool share: the journal, the clock, all that one asks of the daemon around it; and how one ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from covenq.tasks.execution.breaker import Breakers
from covenq.tasks.execution.command import StopEvent
from covenq.tasks.execution.lease_renewal import LeaseRenewal
from covenq.tasks.execution.scrub import Scrubber
from covenq.tasks.execution.shortage import StartLimit
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.scheduling.attempt_times import AttemptTimes
from covenq.tasks.scheduling.outcome import RESULT_MAX, Task
from covenq.tasks.tokens.keeper import TokenKeeper
from journal.interface import Journal
from journal.records import Record

log = logging.getLogger("covenq.worker")


@dataclass(frozen=True, slots=True)
class AttemptContext:
    """What all attempts of a pool share.

    `node` is the name of the node that the pool runs on; `delivery_of` returns the record of a task's delivery; `scrubber` makes
    the scrubber for the output of a command that has these secrets; `secret_of` returns the webhook secret of that name as it is
    now, or None; `breakers` are those of the receivers that deliveries are forwarded to; `times` counts how long what.
    """

    journal: Journal
    data: Path
    worker: str
    node: str | None
    stop: StopEvent
    environ: Mapping[str, str]
    clock: Callable[[], float]
    random: Callable[[], float]
    grace_s: float
    output_limit: int
    delivery_of: Callable[[Task], Record | None]
    scrubber: Callable[[Sequence[bytes]], Scrubber] = lambda secrets: Scrubber((), secrets)
    secret_of: Callable[[str], bytes | None] = lambda name: None
    breakers: Breakers = field(default_factory=Breakers)
    times: AttemptTimes = field(default_factory=AttemptTimes)
    starts: StartLimit = field(default_factory=lambda: StartLimit(1))
    on_full: Callable[[], bool] = lambda: False
    """Called when there is no space to record the end of an attempt: whether it made some, so that a retry at once is useful."""
    tokens: TokenKeeper | None = None
    """Gets the tokens that routes want for their work; None where none can be had."""
    leases: LeaseRenewal | None = None
    """Renews the leases under which it claims; None where it claims without."""

    def shared_result(self, directory: AttemptDirectory) -> bytes | None:
        """What a command left as its result, if it is for the journal too: where other nodes have that, and if it is small."""
        if self.leases is None:
            return None
        try:
            return directory.read_result(RESULT_MAX)
        except OSError as error:
            log.warning("%s/result can't be read, and is in no record: %s", directory.path, error.strerror)
            return None


class AttemptResult(Enum):
    """How the run of a picked task ended."""

    DONE = "done"
    """The attempt's end is recorded."""
    LOST = "lost"
    """The task was claimed or moved by somebody else: nothing of this attempt counts."""
    UNRECORDED = "unrecorded"
    """It ended, or never began, and the journal could not record that before the stop: recovery will end it."""
    NOT_CLAIMED = "not_claimed"
    """The claim could not be recorded: the task is queued as before."""
