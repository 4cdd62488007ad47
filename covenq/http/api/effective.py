"""The configuration in effect, as the API answers by it: what was configured last, and what holds tasks back besides."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from covenq.config.limits import Caps
from covenq.config.live import Live
from covenq.config.load import Config
from covenq.tasks.execution.pool import Pool


@dataclass(frozen=True, slots=True)
class EffectiveConfig:
    """The configuration in effect, and what the pool knows of the work that it starts."""

    live: Live
    pool: Pool

    @property
    def config(self) -> Config:
        """As it is now: take it once for one answer."""
        return self.live.now.config

    @property
    def caps(self) -> Caps:
        """The limits on queued tasks now: those configured, and receivers whose circuit breaker is open, and a shortage."""
        return replace(
            self.config.caps,
            backing_off=self.pool.blocked_routes(),
            short_of=self.pool.waits(),
            stopped=self.pool.stopped(),
            all_busy=self.pool.all_busy(),
        )
