"""Reading and acting on a data directory without a daemon: the other half of `covenq.client.interface`."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from covenq import __version__
from covenq.client.interface import LOG_BYTES, Closing, Counted, Filter, Object, Stream
from covenq.config.load import Config
from covenq.errors import DaemonUnreachable, NotFound, Refused
from covenq.filter.grammar import parse
from covenq.model import NOT_RUNNING
from covenq.net import unix_socket
from covenq.operate.inspect import view
from covenq.paths import JOURNAL_NAME, SOCKET_NAME, STATE_NAME
from covenq.state import query
from covenq.state.store import StateStore, overlay, read_witness
from journal.errors import JournalClosed, JournalLocked, JournalReadOnly
from journal.file.reader import JournalReader, open_reader
from journal.file.segment import GENESIS, NAME
from journal.interface import Journal
from journal.records import Entry, Head, Record

if TYPE_CHECKING:
    from covenq.operate.maintain.upkeep import UpkeepContext
    from journal.file.engine import FileJournal

LOCK_S = 1.0
"""Seconds to wait for another command that reads, before reading without the lock, or refusing to write."""


class LocalSource(Closing):
    """The files of a data directory that no daemon owns, or whose daemon doesn't answer.

    Every call opens and closes them: who looks must not keep a daemon from starting. While it reads it holds the lock
    if nobody else does, and so sees, and makes durable, everything that is whole in the log; else it reads up to what
    is proven durable.
    """

    live = False

    def __init__(self, data: Path, config: Config) -> None:
        self._data = data
        self._config = config
        self._state = data / STATE_NAME
        self._journal = data / JOURNAL_NAME
        self._locked: JournalLocked | None = None
        """Who held the journal while it was read last, if somebody did."""

    @property
    def where(self) -> str:
        return str(self._data)

    def status(self) -> Object:
        from covenq.operate.inspect import throughput
        from covenq.operate.maintain import verify_note

        with self._reading() as (conn, reader):
            position = read_witness(self._state)
            segments = [path for path in self._journal.glob("*.jsonl") if NAME.match(path.name) and path.exists()]
            damage = [str(one) for one in reader.damage] if isinstance(reader, JournalReader) else []
            return {
                "ok": True,
                "ready": False,
                "reasons": [f"{self._locked}, and no daemon answers" if self._locked else NOT_RUNNING, *damage],
                "version": __version__,
                "pid": None,
                "started_at": None,
                "data": str(self._data),
                "webhook_url": None,
                "api_url": None,
                "journal": {
                    "id": reader.id,
                    "epoch": reader.epoch,
                    "head": view.head(reader.head()),
                    "segments": len(segments),
                    "bytes": sum(path.stat().st_size for path in segments),
                    "poisoned": False,
                    "full": False,
                    "last_sync_ms": None,
                    "recent_syncs_ms": None,
                    "recent_batches": None,
                },
                "state": {"seq": position.seq if position else 0, "lag": 0, "error": None},
                "segments": view.segments(self._journal),
                "verified": verify_note.last(self._data),
                "running": throughput.running(conn),
                "stuck": [],
                "secrets": [],
                **view.counts(conn),
                "oldest": query.oldest(conn),
                "disk": view.disk(self._data),
                "worker": None,
                "upkeep": None,
                "routes": [route.name for route in self._config.routes],
                "reload": None,
                "refused": {},
                "pauses": view.pauses(conn),
            }

    def deliveries(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Object:
        parsed = parse(filter)
        with self._reading() as (conn, reader):
            return view.items(conn, reader, "deliveries", parsed, limit, after)

    def tasks(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Object:
        parsed = parse(filter)
        with self._reading() as (conn, reader):
            return view.items(conn, reader, "tasks", parsed, limit, after, caps=self._config.caps)

    def latest_attempts(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Object:
        parsed = parse(filter)
        with self._reading() as (conn, reader):
            return view.items(conn, reader, "attempts", parsed, limit, after)

    def log(self, task: str, attempt: int, stream: Stream, last: int = LOG_BYTES) -> bytes:
        return view.log(self._data, task, attempt, stream, last)

    def count(self, what: Counted, filter: Filter = "") -> int:
        parsed = parse(filter)
        with self._reading() as (conn, _):
            return view.count(conn, what, parsed)

    def delivery(self, id: str) -> Object:
        with self._reading() as (conn, reader):
            return view.delivery(conn, reader, id)

    def payload(self, id: str) -> bytes:
        with self._reading() as (conn, reader):
            return view.payload(conn, reader, id)

    def task(self, id: str) -> Object:
        with self._reading() as (conn, _):
            return view.task(conn, id, caps=self._config.caps)

    def attempts(self, task: str) -> list[Object]:
        with self._reading() as (conn, _):
            return query.attempts(conn, task)

    def why(self, id: str) -> Object:
        from covenq.intake import refusal_log
        from covenq.operate.inspect import why

        with self._reading() as (conn, reader):
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
        with self._reading() as (conn, reader):
            return tail.answer(conn, reader, parsed, time.time(), after=after, since_s=since_s, newest=newest)

    def stats(self, filter: Filter = "", *, since_s: float = 86400.0) -> Object:
        from covenq.operate.inspect import stats

        parsed, now = parse(filter), time.time()
        with self._reading() as (conn, _):
            return stats.stats(conn, parsed, since=now - since_s, now=now)

    def throughput(self, minutes: int = 60) -> Object:
        from covenq.intake import refusal_log
        from covenq.operate.inspect import throughput

        with self._reading() as (conn, _):
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

        parsed = None if filter is None else parse(filter)
        with self._writing() as (journal, store):
            return actions.replay(
                journal,
                store.reader(),
                self._config,
                ids=ids,
                filter=parsed,
                route=route,
                to=to,
                force=force,
                reason=reason,
                by=by,
                dry_run=dry_run,
            )

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

        parsed = None if filter is None else parse(filter)
        with self._writing() as (journal, store):
            return actions.reroute(
                journal, store.reader(), self._config, ids=ids, filter=parsed, reason=reason, by=by, dry_run=dry_run
            )

    def take(
        self,
        items: Sequence[Object],
        *,
        routed: bool = False,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        from covenq.operate.act import importing
        from covenq.operate.act.archive import incoming

        taken = [incoming(one) for one in items]

        def take(journal: Journal) -> Object:
            return importing.take(
                journal,
                self._config,
                taken,
                routed=routed,
                reason=reason,
                dry_run=dry_run,
                by=by,
                clock=time.time,
            )

        if dry_run:
            with self._reading() as (_, reader):
                return take(reader)
        with self._writing(fresh=True) as (journal, _store):
            return take(journal)

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

        parsed = None if filter is None else parse(filter)
        with self._writing() as (journal, store):
            return actions.requeue(
                journal, store.reader(), ids=ids, filter=parsed, reason=reason, by=by, dry_run=dry_run
            )

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

        parsed = None if filter is None else parse(filter)
        with self._writing() as (journal, store):
            return actions.cancel(
                journal, store.reader(), ids=ids, filter=parsed, reason=reason, by=by, dry_run=dry_run
            )

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
        with self._context() as context:
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

        with self._context() as context:
            return upkeep.compact(context, dry_run=dry_run, by=by)

    def secrets(self) -> Object:
        from covenq.config.secret_keys import secret_status
        from covenq.operate.inspect import secret_usage

        held = secret_status(self._config, os.environ, self._data)
        with self._reading() as (conn, _):
            # A variable, or a credential, that only the daemon is given is no fault here.
            return secret_usage.view(conn, held, time.time(), elsewhere=lambda one: bool(one.env or one.credential))

    def refused(self, *, limit: int = 50) -> list[Object]:
        from covenq.intake import refusal_hints

        return refusal_hints.latest(self._data, limit)

    def pauses(self) -> list[Object]:
        with self._reading() as (conn, _):
            return view.pauses(conn)

    def pause(self, what: str, name: str | None = None, *, reason: str | None = None, by: str | None = None) -> Object:
        from covenq.operate.act import pauses

        routes = [route.name for route in self._config.routes]
        with self._writing() as (journal, store):
            return pauses.pause(journal, _folded(store), what, name, routes=routes, reason=reason, by=by)

    def resume(self, what: str, name: str | None = None, *, reason: str | None = None, by: str | None = None) -> Object:
        from covenq.operate.act import pauses

        with self._writing() as (journal, store):
            return pauses.resume(journal, _folded(store), what, name, reason=reason, by=by)

    def events(self, after: int | None = None) -> Iterator[Object]:
        with self._reading() as (_, reader):
            for record in reader.read(reader.head().seq if after is None else after):
                yield view.event(record)

    def close(self) -> None:
        """Nothing stays open between calls."""

    @contextmanager
    def _context(self) -> Iterator[UpkeepContext]:
        from covenq.operate.maintain.upkeep import UpkeepContext

        with self._writing() as (journal, store):

            def fold() -> None:
                store.catch_up()

            yield UpkeepContext(journal, self._data, self._config.retention, store.reader, fold, store.scrub)

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, JournalReader | _Nothing]]:
        if not self._journal.exists() and not self._state.exists():
            with overlay(self._state, _Nothing()) as conn:
                yield conn, _Nothing()
            return
        with self._reader() as reader:
            # With damage the state may be ahead of what still verifies; it is left as it is, and shown.
            commit = reader.locked and not reader.damage
            with overlay(self._state, reader, commit=commit) as conn:
                yield conn, reader

    def _reader(self) -> JournalReader:
        """With the lock, if it is to be had soon: another command may hold it for a moment. Without it otherwise."""
        deadline = time.monotonic() + LOCK_S
        seen = read_witness(self._state)
        witnesses = [seen] if seen else []
        while True:
            try:
                self._locked = None
                return open_reader(self._journal, witnesses=witnesses, adopt=True)
            except JournalReadOnly:
                break
            except JournalLocked as locked:
                self._locked = locked
                if time.monotonic() > deadline:
                    break
            time.sleep(0.02)
        return open_reader(self._journal, witnesses=witnesses)

    @contextmanager
    def _writing(self, *, fresh: bool = False) -> Iterator[tuple[FileJournal, StateStore]]:
        """The journal, open for writing, and the state, caught up before and after. `fresh` makes them if there are none."""
        from journal.file.open import open_journal

        if fresh:
            self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not self._journal.exists() and not self._state.exists():
            raise NotFound(f"nothing was ever received in {self._data}", hint="Start with `covenq serve`.")
        deadline = time.monotonic() + LOCK_S
        while True:
            seen = read_witness(self._state)
            try:
                journal = open_journal(self._journal, witnesses=[seen] if seen else [])
                break
            except JournalLocked as locked:
                if time.monotonic() > deadline:
                    raise self._held(locked) from None
            time.sleep(0.02)
        with journal, StateStore(self._state, journal) as store:
            store.catch_up()
            yield journal, store
            store.catch_up()

    def _held(self, locked: JournalLocked) -> Exception:
        """Why the lock isn't to be had: a daemon that listens and yet didn't answer, or somebody else."""
        try:
            unix_socket.connect(self._data / SOCKET_NAME, 1.0).close()
        except (OSError, Refused):
            return locked
        return DaemonUnreachable(f"{locked}, which doesn't answer", hint="Look at that process, or restart it.")


def _folded(store: StateStore) -> Callable[[], sqlite3.Connection]:
    """The rows as they are once all that is durable is folded."""

    def rows() -> sqlite3.Connection:
        store.catch_up()
        return store.reader()

    return rows


class _Nothing:
    """The journal of a data directory in which nothing ever was."""

    id = ""
    epoch = ""

    def head(self) -> Head:
        return Head(0, GENESIS)

    def read(self, after: int) -> Iterator[Record]:
        return iter(())

    def get(self, seq: int) -> Record | None:
        return None

    def last(self, subject: str) -> Record | None:
        return None

    def wait(self, after: int, timeout: float | None) -> bool:
        return False

    def append(self, entries: Sequence[Entry]) -> NoReturn:
        raise JournalClosed("there is no journal here")
