"""The tables of rows in state.db, derived from the types of the rows: their columns, keys, and what may change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from operator import attrgetter
from types import NoneType
from typing import Generic, TypeVar, get_args, get_type_hints

import msgspec

from covenq.model.rows import (
    AttemptKey,
    AttemptRow,
    DeliveryOrigin,
    DeliveryRow,
    Row,
    TaskOrigin,
    TaskRow,
)

R = TypeVar("R", bound=Row)


@dataclass(frozen=True, eq=False)
class Table(Generic[R]):
    """A table: its columns are the fields of `row`, in their order."""

    name: str
    row: type[R]
    key: tuple[str, ...]
    """Unique. A single column is the rowid."""
    origin: type[Row]
    """The part of `row` that is set once, when the row is made."""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return self.row.__struct_fields__

    @cached_property
    def mutable(self) -> tuple[str, ...]:
        """The columns that may change after a row was made."""
        fixed = {*self.key, *self.origin.__struct_fields__}
        return tuple(name for name in self.columns if name not in fixed)

    @cached_property
    def decoder(self) -> msgspec.json.Decoder[list[R]]:
        """Of a JSON array of rows, each an array of its columns' values."""
        return msgspec.json.Decoder(list[self.row])  # type: ignore[name-defined]  # the type is a value here

    def key_of(self, row: R) -> tuple[object, ...]:
        """The row's key, unique among the rows of all tables."""
        return (self.name, *[getattr(row, name) for name in self.key])

    def definition(self) -> str:
        """The statement that makes the table. A column may be null where its field may be None."""
        rowid = self.key[0] if len(self.key) == 1 else None
        columns = ", ".join(
            f"{name} INTEGER PRIMARY KEY" if name == rowid else f"{name} {_column_type(hint)}"
            for name, hint in get_type_hints(self.row).items()
        )
        if rowid is not None:
            return f"CREATE TABLE {self.name} ({columns})"
        return f"CREATE TABLE {self.name} ({columns}, PRIMARY KEY ({', '.join(self.key)})) WITHOUT ROWID"


@cache
def values_of_columns(columns: tuple[str, ...]) -> Callable[[Row], tuple[object, ...]]:
    """The function that gives a row's values of these columns, of which there are two or more."""
    return attrgetter(*columns)


def _column_type(hint: object) -> str:
    kinds = get_args(hint) or (hint,)
    word = "INTEGER" if int in kinds else "TEXT"
    return word if NoneType in kinds else f"{word} NOT NULL"


DELIVERIES = Table("webhook_deliveries", DeliveryRow, ("seq",), DeliveryOrigin)
TASKS = Table("tasks", TaskRow, ("created_seq",), TaskOrigin)
ATTEMPTS = Table("task_attempts", AttemptRow, ("task", "attempt"), AttemptKey)
