"""Work of a node that stands by: it runs commands of tasks for the node that leads, where `[worker] on_standby` says so.

It claims them as `covenq worker` does, from the API of whichever node leads, by the names of those of its own routes that have a
command; and it is its own configuration's command that runs, since the other node's word is none for what is executed here. The
payload is read from the journal, which both have, and the attempt's files stay here, as those of its own pool.

When this node leads, nothing more is claimed so. What runs keeps its lease, which this node's own API renews from then on, and
has its place among the pool's until it ends.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from covenq.config.live import Live
from covenq.daemon.datadir import Storage
from covenq.daemon.succession import Succession
from covenq.errors import CovenqError, DaemonUnreachable, NotFound, Refused, StateBehind, TokenRefused, UsageError
from covenq.github.request import content_type_of
from covenq.model.worker_status import WorkerAttempt
from covenq.net.address import Remote, token_in
from covenq.paths import SOCKET_NAME, STANDBY_NAME
from covenq.tasks.execution.scrub import Scrubber
from covenq.tasks.remote.client import ClaimGrant, ClaimsClient
from covenq.tasks.remote.nodes import wait_of
from covenq.tasks.remote.options import TaskCommand, WorkerOptions
from journal.errors import JournalError
from journal.interface import Engine

if TYPE_CHECKING:  # and imported where needed: a node that runs nothing while it stands by doesn't pay for it
    from covenq.tasks.remote.worker import Worker

REPORT_S = 3.0
"""Seconds for the reports of what was ended at a stop; what the node that leads wasn't told by then it learns by its lease."""
AGAIN_S = 30.0
"""Seconds after an error that ended the work until it is begun again."""

log = logging.getLogger("covenq.daemon")


@dataclass(frozen=True, slots=True)
class StandbySources:
    """What it works with. `name` is this node's, `worker` what its claims are recorded under."""

    live: Live
    journal: Engine
    data: Path
    succession: Succession
    token_file: Path
    name: str
    worker: str
    scrubber: Callable[[Sequence[bytes]], Scrubber]


def standby_work(
    live: Live, storage: Storage, succession: Succession, worker: str, scrubber: Callable[[Sequence[bytes]], Scrubber]
) -> StandbyWork | None:
    """As the configuration wants it; None where it doesn't. Not started."""
    token_file, name = live.now.config.on_standby, storage.node.name
    if token_file is None:
        return None
    return StandbyWork(
        StandbySources(live, storage.journal, storage.data, succession, token_file, name, worker, scrubber)
    )


class StandbyWork:
    """`start`, `finish` and `stop` once each, in this order, from one thread; the rest from any."""

    def __init__(self, sources: StandbySources) -> None:
        self._sources = sources
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._way = LeaderWay(sources)
        self._worker: Worker | None = None
        self._thread = threading.Thread(target=self._run, name="standby-work", daemon=True)
        try:
            token_in(sources.token_file)
        except UsageError as error:
            log.warning("while this node stands by it will run no task: [worker] token_file: %s", error)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """This node leads: claim nothing more, and go on with what runs."""
        self._end(lambda worker: worker.finish())

    def stop(self, grace_s: float) -> None:
        """End what runs, and give it back."""
        self._end(lambda worker: worker.stop(grace_s))
        if self._thread.ident is not None:
            self._thread.join(grace_s + REPORT_S)

    def _end(self, end: Callable[[Worker], None]) -> None:
        with self._lock:
            self._ending.set()
            if self._worker is not None:
                end(self._worker)

    def running(self) -> list[WorkerAttempt]:
        """The attempts in hand."""
        worker = self._worker
        grants = [] if worker is None else [one.grant for one in worker.held()]
        return [
            WorkerAttempt(one.id, one.attempt, one.task.get("route"), str(one.task.get("updated_at"))) for one in grants
        ]

    def problem(self) -> str | None:
        """Why nothing is claimed though this node stands by; None while that works, and once it leads."""
        return None if self._ending.is_set() else self._way.problem

    def _run(self) -> None:
        while not self._ending.is_set():
            with self._lock:
                if self._ending.is_set():
                    return
                self._worker = self._make_worker()
            try:
                self._worker.run()
            except (CovenqError, JournalError, OSError) as error:
                self._way.problem = str(error)
                log.error("no task of another node is run here: %s", error)
                self._ending.wait(AGAIN_S)

    def _make_worker(self) -> Worker:
        from covenq.tasks.remote.worker import Worker

        sources, config = self._sources, self._sources.live.now.config
        work = sources.data / STANDBY_NAME
        work.mkdir(mode=0o700, exist_ok=True)
        options = WorkerOptions(
            name=sources.worker,
            lease_s=config.lease_s,
            concurrency=config.concurrency,
            environ=dict(os.environ),
            of_route=self._command_of,
            attempts=sources.data,
            scrubber=sources.scrubber,
        )
        return Worker(lambda: LeaderClient(self._way, wait_of(config.lease_s)), options, work)

    def _command_of(self, route: str) -> TaskCommand | None:
        for one in self._sources.live.now.config.routes:
            if one.name == route and one.kind == "run":
                return TaskCommand(one.run, one.env, one.limits, one.keep)
        return None


class LeaderWay:
    """How the node that leads is asked, and what keeps it from being. From any thread."""

    def __init__(self, sources: StandbySources) -> None:
        self.sources = sources
        self.problem: str | None = None

    def target(self) -> Path | Remote:
        """Its API: this node's own socket once that leads. Raises DaemonUnreachable."""
        sources = self.sources
        if sources.succession.leads:
            return sources.data / SOCKET_NAME
        address = sources.succession.leader_api()
        if address is None:
            raise DaemonUnreachable("no node leads, or the one that does says no address of its API: [node] api")
        try:
            found = Remote(address, token_in(sources.token_file))
        except UsageError as error:
            raise DaemonUnreachable(f"[worker] token_file: {error}") from None
        try:
            exposed = found.exposed  # the address is another node's word, not this one's configuration
        except UsageError as error:
            raise DaemonUnreachable(f"the API of the node that leads can't be asked: {error}") from None
        if exposed:
            raise DaemonUnreachable(
                f"the token would reach {address} in clear: have that node say https, with [node] api"
            )
        return found

    def missed(self, problem: str) -> DaemonUnreachable:
        """What to raise where it answers, and can't be worked for now: it is asked again."""
        self.problem = problem
        return DaemonUnreachable(problem)

    def routes(self) -> list[str]:
        """The routes that have a command here."""
        return [one.name for one in self.sources.live.now.config.routes if one.kind == "run"]


class LeaderClient(ClaimsClient):
    """A client of whichever node leads. For one thread. Raises as ClaimsClient does; a token that isn't taken may be mended."""

    def __init__(self, way: LeaderWay, timeout: float) -> None:
        super().__init__(way.sources.data / SOCKET_NAME, timeout=timeout)
        self._way = way
        self._asked: tuple[Path | Remote, ClaimsClient] | None = None

    def claim(
        self, worker: str, lease_s: float, *, routes: Sequence[str] | None = None, wait_s: float = 0.0
    ) -> ClaimGrant | None:
        wanted = self._way.routes()
        if not wanted:
            return None
        try:
            found = self.claim_all(worker, lease_s, 1, routes=wanted, wait_s=wait_s, node=self._way.sources.name)
        except Refused as error:  # that node's configuration is another, and may be mended
            raise self._way.missed(str(error)) from None
        return found[0] if found else None

    def payload(self, grant: ClaimGrant) -> tuple[bytes, str | None]:
        """Out of this node's own journal. Raises StateBehind, NotFound, and the journal's errors."""
        record = self._way.sources.journal.get(int(grant.task["delivery_seq"]))
        if record is None:
            raise StateBehind("this node has not read the delivery yet", hint="It follows by itself.")
        if record.payload is None:
            raise NotFound("the delivery's payload is no longer kept")
        return record.payload, content_type_of(record.data.get("headers"))

    def close(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            asked[1].close()

    def _ask(self, method: str, target: str, body: bytes | None = None, timeout: float | None = None) -> bytes:
        try:
            answer = self._client().ask(method, target, body, timeout)
        except TokenRefused as error:
            self.close()  # the file may have another by the next time
            raise self._way.missed(f"{error} ([worker] token_file)") from None
        except (DaemonUnreachable, JournalError) as error:
            self._way.problem = str(error)
            raise
        self._way.problem = None
        return answer

    def _client(self) -> ClaimsClient:
        target = self._way.target()
        if self._asked is None or self._asked[0] != target:
            with suppress(OSError):
                self.close()
            self._asked = (target, ClaimsClient(target, timeout=self.timeout))
        return self._asked[1]
