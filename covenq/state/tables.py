"""The tables of rows in state.db, derived from the types of the rows: their columns, keys, and what may change."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from operator import attrgetter
from types import NoneType, UnionType
from typing import Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from covenq.model.rows import (
    ERASED,
    AttemptKey,
    AttemptRow,
    DeliveryOrigin,
    DeliveryRow,
    Row,
    TaskOrigin,
    TaskRow,
)

R = TypeVar("R", bound=Row)
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Table(Generic[R]):
    """A table: its columns are the fields of `row`, in their order."""

    name: str
    row: type[R]
    key: tuple[str, ...]
    """Unique."""
    rowid: str
    """The column that is the rowid: the seq of a record, so that new rows are at the table's end."""
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
        return decoder_of(self.row)

    @cached_property
    def rowid_of(self) -> Callable[[Row], int]:
        """The row's rowid: an attempt that begins anew is another row."""
        return attrgetter(self.rowid)

    @cached_property
    def erased(self) -> tuple[str, ...]:
        """The columns that an erasure clears."""
        hints = get_type_hints(self.row, include_extras=True)
        return tuple(name for name, hint in hints.items() if _is_erased(hint))

    def definition(self) -> str:
        """The statement that makes the table. A column may be null where its field may be None."""
        columns = ", ".join(
            f"{name} INTEGER PRIMARY KEY" if name == self.rowid else f"{name} {_column_type(hint)}"
            for name, hint in get_type_hints(self.row).items()
        )
        return f"CREATE TABLE {self.name} ({columns})"


def decoder_of(kind: type[T]) -> msgspec.json.Decoder[list[T]]:
    """The decoder of a JSON array of objects of that type."""
    return msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]  # the type is a value here


def decoded(decoder: msgspec.json.Decoder[list[T]], text: str) -> list[T]:
    """What a statement gave. Raises sqlite3.DatabaseError where a row isn't of its type: nothing of covenq wrote it."""
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise sqlite3.DatabaseError(f"a row is not as its table has it: {error}") from error


@cache
def values_of_columns(columns: tuple[str, ...]) -> Callable[[Row], tuple[object, ...]]:
    """The function that gives a row's values of these columns. Two or more: `attrgetter` of one gives a bare value."""
    return attrgetter(*columns)


def _is_erased(hint: object) -> bool:
    return any(isinstance(one, msgspec.Meta) and one.extra == ERASED for one in get_args(hint))


def _column_type(hint: object) -> str:
    """Raises TypeError for what no column has: anything but a text or a whole number."""
    kinds = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
    words = [word for kind, word in ((int, "INTEGER"), (str, "TEXT")) if kind in kinds]
    if len(words) != 1 or kinds - {int, str, NoneType}:
        raise TypeError(f"a column can't be {hint}")
    return words[0] if NoneType in kinds else f"{words[0]} NOT NULL"


DELIVERIES = Table("webhook_deliveries", DeliveryRow, ("seq",), "seq", DeliveryOrigin)
TASKS = Table("tasks", TaskRow, ("created_seq",), "created_seq", TaskOrigin)
# Not AttemptStart: a record may claim an older attempt again, and then all of it is written anew.
ATTEMPTS = Table("task_attempts", AttemptRow, ("task", "attempt"), "claim_seq", AttemptKey)
