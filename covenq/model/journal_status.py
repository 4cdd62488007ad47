"""The status of the journal and of its group commit."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from covenq.model.rows import Count

Milliseconds = float


class HeadStatus(Struct):
    """The newest durable record."""

    seq: Count
    sum: str


class SyncTimes(Struct):
    """Of the newest syncs: how many, and how long they took. `counts` has how many took at most each of `bounds`, and more."""

    count: Count
    median: Milliseconds
    p99: Milliseconds
    slowest: Milliseconds
    bounds: list[Milliseconds] = []
    counts: list[Count] = []
    """One more than bounds, the last of those above all. An older daemon doesn't say."""


class BatchSizes(Struct):
    """Of the newest syncs: how many, and how many records shared one."""

    count: Count
    median: Count
    largest: Count


class JournalStatus(Struct):
    """The journal. Of one that nobody writes there are no syncs."""

    id: str
    epoch: str
    head: HeadStatus
    segments: Count
    bytes: Count
    poisoned: bool = False
    full: bool = False
    last_sync_ms: Milliseconds | None = None
    recent_syncs_ms: SyncTimes | None = None
    recent_batches: BatchSizes | None = None
    engine: Literal["file", "postgres"] = "file"
    """What keeps it: files of the data directory, or a database."""
    durability: Literal["fsync", "replicated", "managed"] = "fsync"
    """What an answer rests on: one machine's disk; several machines, as the newest append saw; or that by an operator's word."""
