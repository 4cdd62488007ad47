"""The lists that have a page of their own: how each is read, its order key, its columns and what a filter's matches count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from covenq.client.interface import Counted, Source
from covenq.tui.panes import columns
from covenq.tui.panes.columns import Column
from covenq.tui.rows import R

if TYPE_CHECKING:
    from covenq.model.rows import Page


@dataclass(frozen=True, slots=True)
class Listing(Generic[R]):
    """One list. `read(source, filter, limit, cursor)` blocks; `key` is the order key of a row, descending from the newest."""

    name: str
    columns: Sequence[Column[R]]
    read: Callable[[Source, str, int, str | None], Page[R]]
    key: Callable[[R], int]
    counted: Counted | None = None
    """What `Source.count` counts of a filter's matches, None where it can't."""


DELIVERIES = Listing(
    "deliveries",
    columns.DELIVERIES,
    lambda source, words, limit, after: source.deliveries(words, limit=limit, after=after),
    lambda row: row.seq,
    "deliveries",
)
TASKS = Listing(
    "tasks",
    columns.TASKS,
    lambda source, words, limit, after: source.tasks(words, limit=limit, after=after),
    lambda row: row.created_seq,
    "tasks",
)
ATTEMPTS = Listing(
    "attempts",
    columns.ATTEMPTS,
    lambda source, words, limit, after: source.latest_attempts(words, limit=limit, after=after),
    lambda row: row.claim_seq or 0,
    "attempts",
)
