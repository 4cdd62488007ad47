"""The implementation of `covenq.client.interface` over the files of a data directory, without a daemon."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from covenq import __version__
from covenq.client.interface import LOG_BYTES, Closing, Counted, Filter, Stream
from covenq.client.local_files import LOCK_S, LocalFiles, damage_of
from covenq.config.load import Config
from covenq.errors import NotFound, OnAnotherNode
from covenq.filter.grammar import parse
from covenq.model import NOT_RUNNING
from covenq.operate.inspect import view
from covenq.operate.maintain.state_witness import state_witness
from covenq.paths import NOTICES_NAME
from covenq.state import query

if TYPE_CHECKING:  # a command imports what it shows, and no more
    from covenq.config.limits import Caps
    from covenq.intake.refusal_log import Refusal
    from covenq.model.answers import Event, Secret, Stats, Tail, Throughput
    from covenq.model.audit import Audit
    from covenq.model.notices import Notices
    from covenq.model.rows import Attempt, Delivery, LatestAttempt, OneDelivery, Page, Task
    from covenq.model.status import ActivePause, LedgerHour, NodeStatus, ReconcileStatus, Status
    from covenq.model.usage import Usage
    from covenq.operate.inspect.history import Why
    from covenq.operate.inspect.slices import Exported
    from covenq.operate.operations import A, Operation, P
    from journal.interface import Reader


class LocalSource(Closing):
    """The files of a data directory that no daemon owns, or whose daemon doesn't answer.

    Every call opens and closes them: a reader must not keep a daemon from starting. While it reads it holds the lock if
    that is free, and so sees, and makes durable, everything that is whole in the log; else it reads up to what is proven
    durable.
    """

    live = False

    def __init__(self, data: Path, config: Config, lock_s: float = LOCK_S) -> None:
        """`lock_s` as `LocalFiles` takes it."""
        self._data = data
        self._config = config
        self._files = LocalFiles(data, config.journal, lock_s, config.node)

    @property
    def where(self) -> str:
        return str(self._data)

    @property
    def _no_daemon(self) -> str:
        """Why no daemon answers; while the files are open."""
        lock_holder = self._files.lock_holder
        return f"{lock_holder}, and no daemon answers" if lock_holder else NOT_RUNNING

    @property
    def _caps(self) -> Caps:
        """The limits on queued tasks, of which none is started; while the files are open."""
        return replace(self._config.caps, stopped=self._no_daemon)

    def status(self) -> Status:
        from covenq.model.status import StateStatus
        from covenq.operate.inspect.status import DaemonProcess, journal_status, status
        from covenq.operate.inspect.waiting import waiting

        with self._files.reading() as (conn, reader):
            position = state_witness(self._data)
            damage = damage_of(reader)
            return status(
                conn,
                self._data,
                self._config,
                version=__version__,
                reasons=[self._no_daemon, *damage],
                journal=journal_status(
                    reader.id,
                    reader.epoch,
                    reader.head(),
                    self._files.measurements(reader),
                    settings=self._config.journal,
                    database=self._files.database(reader),
                ),
                state=StateStatus(position.seq if position else 0, 0, None),
                process=DaemonProcess(
                    node=self._node_status(),
                    reconcile=self._reconcile_status(reader),
                    damaged=bool(damage),
                    waiting=waiting(conn, time.time(), self._caps),
                ),
            )

    def _node_status(self) -> NodeStatus | None:
        """None before the first start."""
        from covenq.model.status import NodeStatus
        from covenq.operate.maintain.node import known_node

        node = known_node(self._data, self._config.node)
        return None if node is None else NodeStatus(node.id, node.name)

    def _reconcile_status(self, reader: Reader) -> ReconcileStatus | None:
        """None where no log is configured, which is told without what asks GitHub."""
        if not self._config.github_logs.all:
            return None
        from covenq.operate.inspect.reconciling import reconcile_status

        return reconcile_status(reader, self._config, time.time())

    def deliveries(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Page[Delivery]:
        parsed = parse(filter)
        with self._files.reading() as (conn, reader):
            return view.deliveries(conn, reader, parsed, limit, after)

    def tasks(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Page[Task]:
        parsed = parse(filter)
        with self._files.reading() as (conn, reader):
            return view.tasks(conn, reader, parsed, limit, after, caps=self._caps)

    def latest_attempts(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Page[LatestAttempt]:
        parsed = parse(filter)
        with self._files.reading() as (conn, _):
            return query.latest_attempts(conn, parsed, limit, after)

    def log(self, task: str, attempt: int, stream: Stream, last: int = LOG_BYTES, offset: int | None = None) -> bytes:
        with self._files.reading() as (conn, reader):
            if stream == "result":
                recorded = view.recorded_result(conn, reader, task, attempt, last, offset)
                if recorded is not None:
                    return recorded
            return self._log(conn, task, attempt, stream, last, offset)

    def _log(
        self, conn: sqlite3.Connection, task: str, attempt: int, stream: str, last: int, offset: int | None = None
    ) -> bytes:
        """What lies here. Raises NotFound, and OnAnotherNode: without a daemon no other node is asked."""
        try:
            return view.log(conn, self._data, task, attempt, stream, last, offset)
        except NotFound:
            here, ran = self._node_status(), query.attempt_location(conn, task, attempt)
            if self._config.journal.url is None or ran is None or ran.node is None or view.is_erased(conn, task):
                raise
            if here is not None and here.name == ran.node:
                raise
            raise OnAnotherNode(
                f"attempt {attempt} of {task} ran on node {ran.node}, and no daemon runs here that could ask it",
                hint=f"There, covenq logs {task} {attempt} shows it.",
            ) from None

    def count(self, what: Counted, filter: Filter = "", *, limit: int = 0) -> int:
        parsed = parse(filter)
        with self._files.reading() as (conn, _):
            return view.count(conn, what, parsed, limit)

    def delivery(self, id: str) -> OneDelivery:
        with self._files.reading() as (conn, reader):
            return view.delivery(conn, reader, id)

    def payload(self, id: str) -> bytes:
        with self._files.reading() as (conn, reader):
            return view.payload(conn, reader, id)

    def task(self, id: str) -> Task:
        with self._files.reading() as (conn, _):
            return view.task(conn, id, caps=self._caps)

    def attempts(self, task: str) -> list[Attempt]:
        with self._files.reading() as (conn, _):
            return query.attempts(conn, task)

    def lots(self, filter: Filter = "") -> list[list[int]]:
        """The seqs of the deliveries that match, oldest first, in lots for `exported`."""
        from covenq.operate.inspect import slices

        parsed = parse(filter)
        with self._files.reading() as (conn, reader):
            return slices.lots_of(conn, reader, parsed)

    def exported(self, seqs: Sequence[int]) -> list[Exported]:
        """The deliveries with these seqs, whole, oldest first; the files are opened once for all of them."""
        from covenq.operate.inspect import slices

        with self._files.reading() as (conn, reader):
            return slices.exported(conn, reader, seqs, caps=self._caps)

    def why(self, id: str) -> Why:
        from covenq.intake import refusal_log
        from covenq.operate.inspect import why

        with self._files.reading() as (conn, reader):
            return why.why(
                conn,
                reader,
                self._config,
                id,
                now=time.time(),
                waiting=why.waiting(self._caps),
                refused=lambda: refusal_log.read(self._data),
                # Not `self.log`, which would wait for the journal's lock that this reading has.
                read_log=lambda task, attempt, stream, last: self._log(conn, task, attempt, stream, last),
            )

    def tail(
        self,
        filter: Filter = "",
        *,
        after: int | None = None,
        since_s: float | None = None,
        newest: int | None = None,
        wait_s: float = 0.0,
    ) -> Tail:
        from covenq.operate.inspect import tail

        parsed = parse(filter)
        with self._files.reading() as (conn, reader):
            return tail.answer(conn, reader, parsed, time.time(), after=after, since_s=since_s, newest=newest)

    def stats(self, filter: Filter = "", *, since_s: float = 86400.0) -> Stats:
        from covenq.operate.inspect import stats

        parsed, now = parse(filter), time.time()
        with self._files.reading() as (conn, _):
            return stats.stats(conn, parsed, since=now - since_s, now=now)

    def audit(
        self,
        filter: Filter = "",
        *,
        who: str | None = None,
        what: str | None = None,
        after: str | None = None,
        newest: int | None = None,
        limit: int = 0,
    ) -> Audit:
        from covenq.operate.inspect import audit

        asked = audit.wanted(parse(filter), who, what)
        with self._files.reading() as (conn, reader):
            return audit.answer(
                conn, reader, self._data, asked, after=after, newest=newest, limit=limit, now=time.time()
            )

    def usage(
        self,
        filter: Filter = "",
        *,
        month: str | None = None,
        by: str | None = None,
        limit: int = 0,
        after: str | None = None,
    ) -> Usage:
        from covenq.operate.inspect import usage

        asked = usage.question(parse(filter), month=month, by=by, limit=limit, after=after, now=time.time())
        with self._files.reading() as (conn, _):
            return usage.usage(conn, asked)

    def ledger(self, *, since_s: float) -> Page[LedgerHour]:
        from covenq.operate.inspect import ledger

        with self._files.reading() as (conn, _):
            return ledger.ledger(conn, self._config.github_logs, time.time() - since_s)

    def throughput(self, minutes: int = 60) -> Throughput:
        from covenq.intake import refusal_log
        from covenq.operate.inspect import throughput

        with self._files.reading() as (conn, _):
            return throughput.per_minute(conn, minutes=minutes, now=time.time(), log=refusal_log.read(self._data))

    def act(self, operation: Operation[P, A], parameters: P) -> A:
        from covenq.client.local_context import LocalContext

        return operation.function(LocalContext(self._files, self._config), parameters)

    def secrets(self) -> Page[Secret]:
        from covenq.config.secret_keys import secret_status
        from covenq.operate.inspect import secret_usage

        sources = secret_status(self._config, os.environ, self._data)
        with self._files.reading() as (conn, _):
            # A variable, or a credential, that only the daemon is given is no fault here.
            return secret_usage.view(conn, sources, time.time(), elsewhere=lambda one: bool(one.env or one.credential))

    def refused(self, *, limit: int = 50) -> list[Refusal]:
        from covenq.intake import refusal_hints

        return refusal_hints.latest(self._data, limit, bool(self._config.github_logs.all))

    def pauses(self) -> list[ActivePause]:
        with self._files.reading() as (conn, _):
            return view.pauses(conn)

    def notices(self) -> Notices:
        from covenq.model.notices import Notices
        from covenq.operate.notify import outbox

        kept = outbox.read(self._data / NOTICES_NAME)
        return Notices(configured=self._config.notify is not None, owed=kept.owed, sent=kept.sent[::-1])

    def events(self, after: int | None = None) -> Iterator[Event]:
        with self._files.reading() as (_, reader):
            for record in reader.read(reader.head().seq if after is None else after):
                yield view.event(record)

    def close(self) -> None:
        """Nothing stays open between calls."""
