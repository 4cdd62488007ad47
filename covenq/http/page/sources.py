"""What the pages are read from: what the API's answers are."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import falcon

from covenq.errors import UsageError
from covenq.filter.grammar import Filter, parse
from covenq.http.api.effective import EffectiveConfig
from covenq.http.api.node_logs import NodeLogs
from covenq.http.api.status import StatusSources
from covenq.http.page.bounded import BoundedRecords, Turns, bounded
from covenq.model.token_scope import Scope
from covenq.state.folded import FoldedState
from journal.interface import Journal


@dataclass(frozen=True, slots=True)
class PageSources:
    """`payloads`: whether a page shows them."""

    data: Path
    journal: Journal
    state: FoldedState
    config: EffectiveConfig
    status: StatusSources
    logs: NodeLogs
    payloads: bool
    clock: Callable[[], float] = time.time
    turns: Turns = field(default_factory=Turns)

    @contextmanager
    def reading(self, scope: Scope | None) -> Iterator[tuple[sqlite3.Connection, BoundedRecords]]:
        """The rows, with all that is durable now, and the records, for one page. Raises TookTooLong, TooMany, StateBehind.

        `scope` is what the session's token is for (`covenq.http.page.access.scope_of_page`).
        """
        with self.turns.one():
            conn = self.state.reader(scope)
            with bounded(conn, self.journal) as records:
                yield conn, records

    def parsed(self, filter: str) -> Filter:
        """Raises FilterError, and UsageError where it asks after what is in payloads, and no page shows that."""
        found = parse(filter)
        if found.needs_payload and not self.payloads:
            raise UsageError("no page looks into payloads here", hint="Leave out the terms that begin with payload.")
        return found


def only(req: falcon.Request, *known: str) -> dict[str, str]:
    """The parameters of a page's address. Raises UsageError for others, and for one that is there twice."""
    found: dict[str, str] = {}
    for name, value in req.params.items():
        if name not in known or not isinstance(value, str):
            raise UsageError(
                f"this page takes no {name[:40]!r}" if name not in known else f"{name} is there more than once",
                hint=f"It takes {', '.join(known) or 'none'}.",
            )
        found[name] = value
    return found
