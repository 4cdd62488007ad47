"""The files of a data directory as the context of operations (`covenq.operate.operations.Context`)."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from covenq.client.local_files import LocalFiles
from covenq.config.limits import Caps
from covenq.config.load import Config
from covenq.config.secret_keys import readable, sources_of
from covenq.errors import DaemonUnreachable
from covenq.intake.scope_bindings import ScopeBindings
from covenq.operate.act.importing import SigningSecrets
from covenq.operate.maintain.upkeep_work import UpkeepContext
from covenq.operate.notify.send import Sender, sender_of
from covenq.state.store import StateStore
from journal.interface import Journal, Progress


@dataclass(frozen=True, slots=True)
class LocalContext:
    """Files that are opened for one operation, under the journal's lock; each raises as `LocalFiles.writing`."""

    files: LocalFiles
    config: Config
    clock: Callable[[], float] = time.time

    @property
    def caps(self) -> Caps:
        return self.config.caps

    def sender(self) -> Sender:
        keys, _ = readable(sources_of(self.config, self.files.data), os.environ)
        return sender_of(self.config, os.environ, keys)

    def hand_over(self, by: str | None) -> NoReturn:
        raise DaemonUnreachable(f"no daemon runs in {self.files.data}: this node doesn't lead", hint=_ASK_THE_LEADER)

    @contextmanager
    def writing(self) -> Iterator[tuple[Journal, sqlite3.Connection]]:
        with self.files.writing() as (journal, store):
            yield journal, store.reader()

    @contextmanager
    def pausing(self) -> Iterator[tuple[Journal, Callable[[], sqlite3.Connection]]]:
        with self.files.writing() as (journal, store):
            yield journal, _rows(store)

    @contextmanager
    def unbinding(self, *, dry_run: bool) -> Iterator[tuple[Journal, Callable[[], sqlite3.Connection]]]:
        if dry_run:
            with self.files.reading() as (conn, reader):
                yield reader, lambda: conn
        else:
            with self.pausing() as opened:
                yield opened

    @contextmanager
    def importing(self, *, dry_run: bool) -> Iterator[tuple[Journal, SigningSecrets, Callable[[], sqlite3.Connection]]]:
        keys, unread = readable(sources_of(self.config, self.files.data), os.environ)
        if dry_run:
            with self.files.reading() as (conn, reader):
                yield reader, SigningSecrets(keys, ScopeBindings(reader), unread), lambda: conn
        else:
            with self.files.writing(create=True) as (journal, store):
                yield journal, SigningSecrets(keys, ScopeBindings(journal), unread), _rows(store)

    @contextmanager
    def redacting(self, *, dry_run: bool) -> Iterator[tuple[UpkeepContext, Progress | None]]:
        with self.files.upkeep(self.config.retention) as context:
            yield context, None

    compacting = redacting


_ASK_THE_LEADER = (
    "Ask the one that leads: on its machine, or by --url. `covenq nodes` on any that runs says which it is."
)


def _rows(store: StateStore) -> Callable[[], sqlite3.Connection]:
    """The rows, each time folded up to what is durable then."""

    def rows() -> sqlite3.Connection:
        store.catch_up()
        return store.reader()

    return rows
