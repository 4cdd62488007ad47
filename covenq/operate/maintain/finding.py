"""What `covenq doctor` examines, and its findings.

How grave one is follows from what happens while nobody does anything about it. A `problem`: deliveries are not received, not
recorded or not worked on now, or can be lost, forged or changed by others; so nothing is worse than that no daemon runs. A
`warning`: all of that goes on, and something is worse than it should be, could become a problem, or was chosen by somebody; so a
directory that others may look into, whose files are their owner's alone, is one. All else is `ok`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from covenq.config.load import Config
from covenq.model import JsonObject
from covenq.model.answers import Secret
from covenq.model.route_times import RouteMinutes
from covenq.model.status import Status
from covenq.operate.maintain.github_look import GithubSeen
from covenq.operate.maintain.renamed_routes import Renamed

GOOD, WARN, BAD = "ok", "warning", "problem"
GRAVEST_FIRST = (BAD, WARN, GOOD)


@dataclass(frozen=True, slots=True)
class Finding:
    """One result. `check` is what was examined, `next` what to type or do; None where all is well."""

    check: str
    level: str
    words: str
    next: str | None = None

    def object(self) -> JsonObject:
        """{"check", "level", "words", "next"}."""
        return {"check": self.check, "level": self.level, "words": self.words, "next": self.next}


@dataclass(frozen=True, slots=True)
class DoctorContext:
    """The installation that is examined. `status` is `Source.status`'s, None where it could not be had, and `trouble` why."""

    config: Config
    data: Path
    env: Mapping[str, str]
    status: Status | None
    trouble: str | None
    newest_at: str | None
    """When the newest record was written."""
    now: float
    damage: str | None = None
    """What of the journal could not be read for the status."""
    secrets: Sequence[Secret] = ()
    """The webhook secrets, where the scope of any has repositories."""
    renamed: Sequence[Renamed] = ()
    """Names in routes that their repositories no longer have."""
    trouble_next: str | None = None
    """What to do about the trouble."""
    github: GithubSeen | None = None
    """What GitHub says of the webhooks of the configuration, where it was asked."""
    failing: Sequence[RouteMinutes] = ()
    """The routes that fail, of the last hour, but for those whose receiver `status.waiting` tells of."""
    arrived: frozenset[str] = frozenset()
    """Events that came lately, of those that `doctor_github.not_subscribed` named."""
