"""The implementation of `covenq.client.interface` over the files of a data directory, without a daemon."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from covenq import __version__
from covenq.client.interface import LOG_BYTES, Closing, Counted, Filter, Object, Stream
from covenq.client.local_files import LocalFiles, damage_of
from covenq.config.load import Config
from covenq.filter.grammar import parse
from covenq.model import NOT_RUNNING
from covenq.operate.inspect import view
from covenq.operate.maintain.state_witness import state_witness
from covenq.state import query
from covenq.state.store import StateStore
from journal.interface import Journal


class LocalSource(Closing):
    """The files of a data directory that no daemon owns, or whose daemon doesn't answer.

    Every call opens and closes them: a reader must not keep a daemon from starting. While it reads it holds the lock if
    that is free, and so sees, and makes durable, everything that is whole in the log; else it reads up to what is proven
    durable.
    """

    live = False

    def __init__(self, data: Path, config: Config) -> None:
        self._data = data
        self._config = config
        self._files = LocalFiles(data)

    @property
    def where(self) -> str:
        return str(self._data)

    def status(self) -> Object:
        from covenq.operate.inspect.status import journal_object, status

        with self._files.reading() as (conn, reader):
            position = state_witness(self._data)
            segments = self._files.segments()
            lock_holder = self._files.lock_holder
            return status(
                conn,
                self._data,
                self._config.routes,
                version=__version__,
                reasons=[f"{lock_holder}, and no daemon answers" if lock_holder else NOT_RUNNING, *damage_of(reader)],
                journal=journal_object(
                    reader.id,
                    reader.epoch,
                    reader.head(),
                    {"segments": len(segments), "bytes": sum(path.stat().st_size for path in segments)},
                ),
                state={"seq": position.seq if position else 0, "lag": 0, "error": None},
            )

    def deliveries(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Object:
        parsed = parse(filter)
        with self._files.reading() as (conn, reader):
            return view.items(conn, reader, "deliveries", parsed, limit, after)

    def tasks(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Object:
        parsed = parse(filter)
        with self._files.reading() as (conn, reader):
            return view.items(conn, reader, "tasks", parsed, limit, after, caps=self._config.caps)

    def latest_attempts(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Object:
        parsed = parse(filter)
        with self._files.reading() as (conn, reader):
            return view.items(conn, reader, "attempts", parsed, limit, after)

    def log(self, task: str, attempt: int, stream: Stream, last: int = LOG_BYTES) -> bytes:
        return view.log(self._data, task, attempt, stream, last)

    def count(self, what: Counted, filter: Filter = "") -> int:
        parsed = parse(filter)
        with self._files.reading() as (conn, _):
            return view.count(conn, what, parsed)

    def delivery(self, id: str) -> Object:
        with self._files.reading() as (conn, reader):
            return view.delivery(conn, reader, id)

    def payload(self, id: str) -> bytes:
        with self._files.reading() as (conn, reader):
            return view.payload(conn, reader, id)

    def task(self, id: str) -> Object:
        with self._files.reading() as (conn, _):
            return view.task(conn, id, caps=self._config.caps)

    def attempts(self, task: str) -> list[Object]:
        with self._files.reading() as (conn, _):
            return query.attempts(conn, task)

    def why(self, id: str) -> Object:
        from covenq.intake import refusal_log
        from covenq.operate.inspect import why

        with self._files.reading() as (conn, reader):
            return why.why(
                conn,
                reader,
                self._config.routes,
                self._config.sha256,
                id,
                now=time.time(),
                waiting=why.waiting(self._config),
                refused=lambda: refusal_log.read(self._data),
            )

    def tail(
        self,
        filter: Filter = "",
        *,
        after: int | None = None,
        since_s: float | None = None,
        newest: int | None = None,
        wait_s: float = 0.0,
    ) -> Object:
        from covenq.operate.inspect import tail

        parsed = parse(filter)
        with self._files.reading() as (conn, reader):
            return tail.answer(conn, reader, parsed, time.time(), after=after, since_s=since_s, newest=newest)

    def stats(self, filter: Filter = "", *, since_s: float = 86400.0) -> Object:
        from covenq.operate.inspect import stats

        parsed, now = parse(filter), time.time()
        with self._files.reading() as (conn, _):
            return stats.stats(conn, parsed, since=now - since_s, now=now)

    def throughput(self, minutes: int = 60) -> Object:
        from covenq.intake import refusal_log
        from covenq.operate.inspect import throughput

        with self._files.reading() as (conn, _):
            return throughput.per_minute(conn, minutes=minutes, now=time.time(), log=refusal_log.read(self._data))

    def replay(
        self,
        *,
        ids: Sequence[str] = (),
        filter: Filter | None = None,
        route: str | None = None,
        to: str | None = None,
        force: bool = False,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        from covenq.operate.act import actions

        options = {"route": route, "to": to, "force": force, "reason": reason, "dry_run": dry_run, "by": by}
        return self._operate(actions.replay, ids, filter, config=self._config, **options)

    def reroute(
        self,
        *,
        ids: Sequence[str] = (),
        filter: Filter | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        from covenq.operate.act import actions

        return self._operate(actions.reroute, ids, filter, config=self._config, reason=reason, dry_run=dry_run, by=by)

    def import_deliveries(
        self,
        items: Sequence[Object],
        *,
        routed: bool = False,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        from covenq.operate.act import importing
        from covenq.operate.act.archive import parse_item

        parsed = [parse_item(one) for one in items]

        def record(journal: Journal) -> Object:
            return importing.import_deliveries(
                journal,
                self._config,
                parsed,
                routed=routed,
                reason=reason,
                dry_run=dry_run,
                by=by,
                clock=time.time,
            )

        if dry_run:
            with self._files.reading() as (_, reader):
                return record(reader)
        with self._files.writing(create=True) as (journal, _store):
            return record(journal)

    def requeue(
        self,
        *,
        ids: Sequence[str] = (),
        filter: Filter | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        from covenq.operate.act import actions

        return self._operate(actions.requeue, ids, filter, reason=reason, dry_run=dry_run, by=by)

    def cancel(
        self,
        *,
        ids: Sequence[str] = (),
        filter: Filter | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        from covenq.operate.act import actions

        return self._operate(actions.cancel, ids, filter, reason=reason, dry_run=dry_run, by=by)

    def redact(
        self,
        *,
        ids: Sequence[str] = (),
        filter: Filter | None = None,
        repo: str | None = None,
        installation: int | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        from covenq.operate.maintain import upkeep

        parsed = None if filter is None else parse(filter)
        with self._files.upkeep(self._config.retention) as context:
            return upkeep.redact(
                context,
                dry_run=dry_run,
                ids=ids,
                filter=parsed,
                reason=reason,
                by=by,
                repo=repo,
                installation=installation,
            )

    def compact(self, *, dry_run: bool = False, by: str | None = None) -> Object:
        from covenq.operate.maintain import upkeep

        with self._files.upkeep(self._config.retention) as context:
            return upkeep.compact(context, dry_run=dry_run, by=by)

    def secrets(self) -> Object:
        from covenq.config.secret_keys import secret_status
        from covenq.operate.inspect import secret_usage

        sources = secret_status(self._config, os.environ, self._data)
        with self._files.reading() as (conn, _):
            # A variable, or a credential, that only the daemon is given is no fault here.
            return secret_usage.view(conn, sources, time.time(), elsewhere=lambda one: bool(one.env or one.credential))

    def refused(self, *, limit: int = 50) -> list[Object]:
        from covenq.intake import refusal_hints

        return refusal_hints.latest(self._data, limit)

    def pauses(self) -> list[Object]:
        with self._files.reading() as (conn, _):
            return view.pauses(conn)

    def pause(self, what: str, name: str | None = None, *, reason: str | None = None, by: str | None = None) -> Object:
        from covenq.operate.act import pauses

        routes = [route.name for route in self._config.routes]
        with self._files.writing() as (journal, store):
            return pauses.pause(journal, _folded(store), what, name, routes=routes, reason=reason, by=by)

    def resume(self, what: str, name: str | None = None, *, reason: str | None = None, by: str | None = None) -> Object:
        from covenq.operate.act import pauses

        with self._files.writing() as (journal, store):
            return pauses.resume(journal, _folded(store), what, name, reason=reason, by=by)

    def events(self, after: int | None = None) -> Iterator[Object]:
        with self._files.reading() as (_, reader):
            for record in reader.read(reader.head().seq if after is None else after):
                yield view.event(record)

    def close(self) -> None:
        """Nothing stays open between calls."""

    def _operate(
        self, operation: Callable[..., Object], ids: Sequence[str], filter: Filter | None, **options: Any
    ) -> Object:
        parsed = None if filter is None else parse(filter)
        with self._files.writing() as (journal, store):
            return operation(journal, store.reader(), ids=ids, filter=parsed, **options)


def _folded(store: StateStore) -> Callable[[], sqlite3.Connection]:
    """`pauses.FoldedRows` of a store."""

    def rows() -> sqlite3.Connection:
        store.catch_up()
        return store.reader()

    return rows
