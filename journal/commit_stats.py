"""Statistics of the group commit, for status and metrics: how many batches, how large, how long their syncs took."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from journal.histogram import Histogram

SYNC_BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Histogram buckets of a sync's seconds."""
BATCH_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
"""Histogram buckets of a batch's records."""


@dataclass(slots=True)
class CommitStats:
    """Written by the committer's thread alone, read by any."""

    batches: int = 0
    records: int = 0
    bytes: int = 0
    last_sync_s: float | None = None
    recent_syncs_s: deque[float] = field(default_factory=lambda: deque(maxlen=512))
    recent_batches: deque[int] = field(default_factory=lambda: deque(maxlen=512))
    syncs_s: Histogram = field(default_factory=lambda: Histogram(SYNC_BOUNDS_S))
    batch_records: Histogram = field(default_factory=lambda: Histogram(BATCH_BOUNDS))

    def add(self, records: int, size: int, took: float) -> None:
        """One batch: its records, its bytes, and how many seconds its sync took."""
        self.batches += 1
        self.records += records
        self.bytes += size
        self.last_sync_s = took
        self.recent_syncs_s.append(took)
        self.recent_batches.append(records)
        self.syncs_s.add(took)
        self.batch_records.add(records)
