"""The configuration in effect, as the API answers by it: what was configured last, and what holds tasks back besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from covenq.config.limits import BackingOff, Caps
from covenq.config.live import Live
from covenq.config.load import Config


@dataclass(frozen=True, slots=True)
class EffectiveConfig:
    """`blocked_routes` returns the routes whose tasks wait for a receiver, each with the reason (`Pool.blocked_routes`).

    `short_of` returns what keeps the pool from starting as many tasks as are configured (`Pool.waits`), `stopped` why it starts
    nothing, and `all_busy` how many tasks run where no more can (`Pool.all_busy`).
    """

    live: Live
    blocked_routes: Callable[[], Mapping[str, BackingOff]]
    short_of: Callable[[], str | None] = lambda: None
    stopped: Callable[[], str | None] = lambda: None
    all_busy: Callable[[], int | None] = lambda: None

    @property
    def config(self) -> Config:
        """As it is now: take it once for one answer."""
        return self.live.now.config

    @property
    def caps(self) -> Caps:
        """The limits on queued tasks now: those configured, and receivers whose circuit breaker is open, and a shortage."""
        return replace(
            self.config.caps,
            backing_off=self.blocked_routes(),
            short_of=self.short_of(),
            stopped=self.stopped(),
            all_busy=self.all_busy(),
        )
