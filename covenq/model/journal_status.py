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


class StandbyStatus(Struct):
    """A server that gets what the database writes, in the database's words: `sync` and `quorum` are waited for."""

    name: str
    state: str
    sync_state: str
    behind: Count | None
    """Bytes that it doesn't have on its disk yet; null where it has not said."""


class DatabaseStatus(Struct):
    """What the database that keeps the journal said of itself, when it was last asked in the background."""

    standbys: list[StandbyStatus] | None = None
    """Null where covenq's role may not see them, or nothing was answered yet."""
    hidden: bool = False
    """Whether covenq's role may not see them: `GRANT pg_read_all_stats` to it."""
    named: list[str] = []
    """The names in synchronous_standby_names."""
    needed: Count = 0
    """Standbys that each commit waits for."""
    missing: list[str] = []
    """Those that are named and not connected, as far as this is known."""
    waits: str | None = None
    """Why commits wait for a standby now; null where they don't, or it isn't known."""
    ahead_s: float | None = None
    """Seconds that its clock is ahead of the daemon's; negative where it is behind."""
    seen_s: float | None = None
    """Seconds since it said so; null where it has not yet."""
    away_s: float | None = None
    """Seconds since it last answered; null while it does."""


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
    database: DatabaseStatus | None = None
    """Null of files, and of an older daemon."""
