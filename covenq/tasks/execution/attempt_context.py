"""What the attempts of a pool share: the journal, the clock, and all that an attempt asks of the daemon around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from covenq.tasks.execution.breaker import Breakers
from covenq.tasks.execution.command import StopEvent
from covenq.tasks.execution.scrub import Scrubber
from covenq.tasks.execution.shortage import StartLimit
from covenq.tasks.scheduling.attempt_times import AttemptTimes
from covenq.tasks.scheduling.outcome import Task
from journal.interface import Journal
from journal.records import Record


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
