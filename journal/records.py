"""The journal's data types: entries going in, records coming out, and the three answers of an append.

They are the same for every engine (`journal.interface`), so nothing here names a file. What is made for each delivery is a
NamedTuple: a frozen dataclass takes four times as long to make.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

TOKEN = re.compile(r"[0-9A-Za-z_-]{1,64}\Z")
"""A part of a subject between dots. No character of it is special in a path, a shell word or a NATS subject."""

SUBJECT = re.compile(r"(?:delivery\.[0-9A-Za-z_-]{1,64}|task|ops)\.[0-9A-Za-z_-]{1,64}\Z")
KIND = re.compile(r"[a-z]{1,16}\.[a-z_]{1,32}\Z")
OWN_SUBJECT = "ops.journal"
"""The subject of the records that a journal writes by itself."""

SEQ_MAX = (1 << 63) - 1
"""The greatest seq there can be: where the integers of SQLite end, and those of most readers."""
PAYLOAD_MAX = 64 << 20
"""Bytes of the largest payload of a record."""
NO_SUM = "0" * 64
"""The sum of the head of a journal that has no record yet."""
NO_SEQ_HINT = "No covenq counted that far: put back a backup, or begin a new journal in another directory."


class ParsedJson(NamedTuple):
    """Proof that these bytes are JSON: a caller that had to parse them anyway spares the journal doing it again.

    Only `journal.payload.parse` makes one, when it has parsed them.
    """

    payload: bytes


@dataclass(frozen=True, slots=True)
class Node:
    """Who opens a journal that several share. The id identifies; name and address are for who asks."""

    id: str = ""
    """Empty: nobody that could be known again."""
    name: str = ""
    address: str = ""
    """`host:port`, or a URL; empty where it doesn't listen."""


NOBODY = Node()


class Entry(NamedTuple):
    """What a caller wants recorded.

    `expect` is the seq of the subject's newest record that the caller has seen; 0 means "the subject must be new"; None
    appends whatever the subject's newest record is (for notes that claim nothing); what others expect of that subject fails
    after it.
    `data` holds ids, sizes and names of rules, nothing that would ever have to be erased; `about` holds what was read out of
    a payload, and can be erased with it. `payload` is any bytes.
    """

    subject: str
    kind: str
    data: Mapping[str, Any]
    about: Mapping[str, Any] | None = None
    payload: bytes | None = None
    expect: int | None = None
    parsed_json: ParsedJson | None = None
    """For the very object `payload`; it proves nothing about other bytes, not even equal ones."""
    attempt: str | None = None
    """Names the append that this entry is part of, over its repetitions (`journal.append`). No part of the record."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One durable record. `at` is RFC 3339 UTC with microseconds; order is by `seq`, never by `at`.

    A Struct, because who reads a long journal makes millions: a frozen dataclass of as many fields takes ten times as long. The
    collection of cycles needn't look at it: what was read out of JSON is in none.

    `payload` is exactly the bytes that were appended, or None: there was none (`payload_sha256` is None too), or it
    was dropped by the record `dropped`.
    """

    seq: int
    at: str
    synced: int
    subject: str
    kind: str
    data: dict[str, Any]
    about: dict[str, Any] | None
    payload: bytes | None
    payload_sha256: str | None
    payload_bytes: int | None
    dropped: int | None
    prev: str
    sum: str
    epoch: str


class Appended(NamedTuple):
    """The entries are durable, with these seqs, in the order given."""

    seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Nothing was appended: `subject`'s newest durable record is `last` (0: it has none), not what was expected."""

    subject: str
    last: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """Sent, but no answer came. Repeat the identical entries until Appended or Conflict.

    The file engine never returns it.
    """


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What an erasure has rewritten: the parts of the journal, each by its first seq, and how many bytes that freed."""

    parts: frozenset[int] = frozenset()
    freed: int = 0

    def __add__(self, other: Rewritten) -> Rewritten:
        return Rewritten(self.parts | other.parts, self.freed + other.freed)


@dataclass(frozen=True, slots=True)
class Head:
    """The newest durable record: its seq (0: none yet) and its sum, 64 hex digits."""

    seq: int
    sum: str


@dataclass(frozen=True, slots=True)
class Leader:
    """The node that appends to a journal of several: its name, where it is reached, if it said so, and since when (RFC 3339)."""

    node: str
    address: str
    since: str


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A node that has, or had, a journal of several open. Times are the journal's, in RFC 3339."""

    id: str
    name: str
    address: str
    since: str
    """When it was opened there; of the one that leads since when it does; of one that was stopped when it was."""
    seen: str
    """When it last said that it is there."""
    silent_s: float
    stopped: bool
    """Whether it closed the journal in order."""
    about: str
    """What it says of itself."""
    leads: bool


@dataclass(frozen=True, slots=True)
class Witness:
    """A cache's position: it had seen record `seq`, with sum `sum`, of journal `journal`, as durable.

    A log that ends before a witness, or has another sum there, has lost records.
    """

    journal: str
    seq: int
    sum: str


@dataclass(frozen=True, slots=True)
class Damage:
    """One finding: what kind, where, and whose. `seq` and `delivery` are None where they can't be known."""

    kind: str
    segment: str
    offset: int
    seq: int | None
    delivery: str | None
    detail: str

    @property
    def in_database(self) -> bool:
        """Whether it is of a journal in a database: its segments are called by their first seqs, in files by those of files."""
        return self.segment == "the database" or self.segment.startswith("segment ")

    def __str__(self) -> str:
        where = f"{self.segment} at byte {self.offset}" + (f", seq {self.seq}" if self.seq is not None else "")
        whose = f", delivery {self.delivery}" if self.delivery else ""
        return f"{self.kind} in {where}{whose}: {self.detail}"
