"""The parts of a running daemon, as its start makes them and its stop ends them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from covenq.config.live import Live
from covenq.daemon.acts import Acts
from covenq.daemon.datadir import Storage
from covenq.daemon.handover import Handover
from covenq.daemon.notifier import Notifier
from covenq.daemon.reconciler import Reconciler
from covenq.daemon.standby_work import StandbyWork
from covenq.daemon.succession import Succession
from covenq.daemon.takeover import TakeoverServer
from covenq.http.api.status import DaemonInfo
from covenq.http.counters import AcceptedCounts
from covenq.http.passing import Passing
from covenq.http.server.listener import Listener, ListenerStats
from covenq.intake.admission import Admission
from covenq.intake.refusal_log import Refusals
from covenq.intake.scope_bindings import ScopeBindings
from covenq.intake.twins import Twins
from covenq.operate.daemon_context import DaemonContext
from covenq.operate.maintain.known_damage import KnownDamage
from covenq.operate.maintain.upkeep import Upkeep
from covenq.tasks.execution.pool import Pool
from covenq.tasks.remote.claims import Claims
from covenq.tasks.scheduling.attempt_times import AttemptTimes
from covenq.tasks.tokens.keeper import TokenKeeper

StatsByName = dict[str, Callable[[], ListenerStats]]
"""The statistics of each listener, by its name."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What receives deliveries, and knows what became of requests."""

    admission: Admission
    refusals: Refusals
    twins: Twins
    bindings: ScopeBindings
    known_damage: KnownDamage
    passing: Passing | None = None
    """What becomes of deliveries while another node leads; None where there is no other."""
    accepted: AcceptedCounts = field(default_factory=AcceptedCounts)
    """Deliveries that the webhook accepted, by status and event."""


@dataclass(frozen=True, slots=True)
class Workers:
    """What runs tasks here, and hands them to workers elsewhere. They share one dispatcher, and count into the same times."""

    pool: Pool
    claims: Claims
    times: AttemptTimes
    tokens: TokenKeeper
    standby: StandbyWork | None = None
    """What runs here for the node that leads; None where that isn't wanted."""


@dataclass(frozen=True, slots=True)
class Background:
    """What works by itself: retention and erasure, the passes over GitHub's logs, notices, and what comments have an operator do.

    `operations` is what it does to stored deliveries with, and what the API does.
    """

    operations: DaemonContext
    reconciler: Reconciler
    notifier: Notifier
    acts: Acts

    @property
    def upkeep(self) -> Upkeep:
        return self.operations.upkeep


@dataclass(frozen=True, slots=True)
class Listeners:
    """`webhook` is open to the world, `api` is the Unix socket's, `phases` the commands' own.

    `remote` is that of [api], `metrics` that of [metrics], if there is one; there is no `webhook` where nothing is posted here.
    """

    webhook: Listener | None
    api: Listener
    phases: Listener
    remote: Listener | None = None
    metrics: Listener | None = None

    @property
    def tcp(self) -> tuple[Listener, ...]:
        """Those beside the webhook's that a successor takes over, too."""
        return tuple(one for one in (self.remote, self.metrics) if one is not None)

    @property
    def posted(self) -> tuple[Listener, ...]:
        """The webhook's, if there is one."""
        return () if self.webhook is None else (self.webhook,)

    @property
    def alive(self) -> bool:
        return all(one.alive for one in (*self.posted, self.api, self.phases, *self.tcp))

    def start(self) -> None:
        """The webhook last: a delivery is accepted when everything that works on it runs. `phases` has been started before."""
        for one in (self.api, *self.tcp, *self.posted):
            one.start()


@dataclass(frozen=True, slots=True)
class Daemon:
    """Everything that is started and stopped, for `covenq.daemon.start`, `run` and `stop` alone."""

    info: DaemonInfo
    live: Live
    storage: Storage
    intake: Intake
    workers: Workers
    background: Background
    listeners: Listeners
    takeover: TakeoverServer
    succession: Succession
    handover: Handover
    stopping: threading.Event
    """Set when event streams, waiting requests and rerouting have to end."""
