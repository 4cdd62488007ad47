"""An operation of the HTTP interface, as the table of them says it (`operations`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from covenq.http.openapi.from_types import Schema
from covenq.operate.operations import Scoping

Access = Literal["open", "read", "worker", "operate"]
"""`open` needs no token. `operate` includes `read`; `worker` is for claims only."""

Answer = Schema | str
"""The content of an answer: a JSON schema, or another media type."""

PAGE_MAX = 1000
WHOLE: Schema = {"type": "string", "pattern": "^[0-9]{1,18}$"}
"""A whole number, in a query."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter."""

    name: str
    schema: Schema
    about: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    """As the application's router has it: {names} are segments."""
    access: Access
    summary: str
    answers: Mapping[int, Answer]
    """Status → content, without errors."""
    errors: tuple[int, ...] = ()
    """Statuses of its own errors. Those common to all operations are added: see `document`."""
    query: tuple[Query, ...] = ()
    body: Schema | None = None
    """The schema of the JSON body."""
    workers: bool = False
    """Open to a `worker` token too, as far as the resource itself permits."""
    scoped: Scoping | None = None
    """What a token with a scope gets of it: `open` the same, `filter` what is in its scope, `one` the thing if it is in scope and
    else what is answered where there is none, `never` and None 403. None fails a test: each operation says what it means."""
    notes: Mapping[int, str] = field(default_factory=dict)
    """What a status means for this operation, where that is not obvious."""
