"""What a worker is told: its name, the commands that it runs, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from covenq.config.resources import NO_LIMITS, ResourceLimits
from covenq.tasks.execution.scrub import Scrubber
from covenq.tasks.remote.client import ClaimGrant


@dataclass(frozen=True, slots=True)
class TaskCommand:
    """A task's command: as a route has it."""

    run: tuple[str, ...]
    env: tuple[str, ...] = ()
    limits: ResourceLimits = NO_LIMITS
    keep: str = "all"


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker runs, and how."""

    name: str
    run: tuple[str, ...] = ()
    """The command of every task, with `env`; empty where `of_route` says each one's."""
    routes: tuple[str, ...] = ()
    lease_s: float = 60.0
    env: tuple[str, ...] = ()
    keep: str = "failed"
    grace_s: float = 5.0
    concurrency: int = 1
    environ: Mapping[str, str] = field(default_factory=dict)
    of_route: Callable[[str], TaskCommand | None] = lambda route: None
    attempts: Path | None = None
    """The data directory in which attempts have directories that stay, as the route's `keep` says, and nothing is sent of their
    outputs. None: they are in the worker's own directory, as `keep` here says, and the ends of their outputs are sent."""
    scrubber: Callable[[Sequence[bytes]], Scrubber] = lambda secrets: Scrubber((), secrets)

    def keeps_logs_alone(self, grant: ClaimGrant, *, failed: bool) -> bool:
        """Whether the route keeps nothing else of an attempt that ended so."""
        keep = "all" if (found := self.command_of(grant)) is None else found.keep
        return keep == "logs" or (keep == "failed" and not failed)

    def command_of(self, grant: ClaimGrant) -> TaskCommand | None:
        """None where there is none for its route."""
        return TaskCommand(self.run, self.env) if self.run else self.of_route(str(grant.task.get("route")))
