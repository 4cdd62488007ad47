"""Retention: which payloads of finished deliveries, and which attempts' directories, are older than the policy keeps them.

What a task's command left as its result goes with the payload of its delivery, where the journal has it.

Retention drops content only. The delivery, its hash, its states and its history stay forever, so an old redelivery is
still a duplicate.

A segment is rewritten whole, so the daemon's daily run leaves one alone until that is worth it: when an eighth of it can go,
when nothing would be left in it to drop later, or when something in it is kept for twice as long as the policy says.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from covenq.config.retention import Retention
from covenq.model import FINAL, TOKEN, State, at_text
from covenq.paths import ATTEMPTS_NAME
from covenq.state import query
from journal.erasure import covers
from journal.records import Entry

SUBJECT = "ops.retention"
KIND = "journal.dropped"

PAIRS_MAX = 10_000
"""Ranges of seqs in one record: some hundred kilobytes."""
SEGMENTS_AT_ONCE = 16
"""Segments whose records share one append: bounds what is planned before anything is dropped."""
REWRITE_FRACTION = 8
"""A segment is rewritten when one part in so many of its bytes can go."""

_PAGE = 2000
_NAMES = 500


@dataclass(slots=True)
class Segment:
    """What can be dropped of one segment. `pairs` are ranges of seqs, which may include records without a payload."""

    first: int
    bytes: int
    deliveries: int = 0
    payload_bytes: int = 0
    pairs: list[list[int]] = field(default_factory=list)
    kept: int = 0
    """Deliveries in it whose payload is still to be kept."""
    oldest: str | None = None

    def worth_rewriting(self, *, active: bool, late: str) -> bool:
        """Whether the daemon's daily run rewrites it; `late` is the time before which something is overdue."""
        if not self.deliveries:
            return False
        done_for_good = not self.kept and not active
        return (
            done_for_good
            or self.payload_bytes * REWRITE_FRACTION >= self.bytes
            or (self.oldest is not None and self.oldest < late)
        )


def droppable(
    conn: sqlite3.Connection,
    sizes: Sequence[tuple[int, int]],
    policy: Retention,
    now: float,
    *,
    all: bool,
    step: Callable[[], None] = lambda: None,
) -> Iterator[Segment]:
    """The segments that have payloads to drop, one at a time. `sizes` is (first seq, bytes) of each, in order.

    `all` is for an operator's command: everything that can go, goes. A delivery is finished when it is ignored, or every task of
    it is final; its age is counted from its newest change. A delivery that is replayed while this runs may lose its
    payload all the same: the new task then fails and says so. `step` is called for each segment.
    """
    if policy.payloads_s is None:
        return
    cutoff, late = at_text(now - policy.payloads_s), at_text(now - 2 * policy.payloads_s)
    for number, (first, size) in enumerate(sizes):
        step()
        active = number == len(sizes) - 1
        end = (1 << 62) if active else sizes[number + 1][0] - 1
        segment = _scan(conn, Segment(first, size), end, cutoff)
        if segment.deliveries and (all or segment.worth_rewriting(active=active, late=late)):
            yield segment


_ROWS = f"""SELECT d.seq, d.payload_bytes, d.received_at,
        d.payload_dropped IS NOT NULL OR d.payload_sha256 IS NULL AS gone,
        d.received_at < :cutoff AND d.state IN ({", ".join(f"'{state}'" for state in [*sorted(FINAL), State.IGNORED])})
        AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.delivery_seq = d.seq AND (t.updated_at >= :cutoff
            OR t.state NOT IN ({", ".join(f"'{state}'" for state in sorted(FINAL))}))) AS old
    FROM webhook_deliveries d WHERE d.seq > :after AND d.seq <= :end ORDER BY d.seq LIMIT {_PAGE}"""  # noqa: S608 - constants


def _scan(conn: sqlite3.Connection, segment: Segment, end: int, cutoff: str) -> Segment:
    after, broken = segment.first - 1, True
    while True:
        rows = conn.execute(_ROWS, {"cutoff": cutoff, "after": after, "end": end}).fetchall()
        for row in rows:
            if row["gone"]:
                continue
            if not row["old"]:
                segment.kept += 1
                broken = True
                continue
            if broken:
                segment.pairs.append([row["seq"], row["seq"]])
            segment.pairs[-1][1] = row["seq"]
            broken = False
            segment.deliveries += 1
            segment.payload_bytes += row["payload_bytes"] or 0
            segment.oldest = min(segment.oldest or row["received_at"], row["received_at"])
        if len(rows) < _PAGE:
            segment.pairs = _with_results(conn, segment.pairs)
            return segment
        after = rows[-1]["seq"]


def _with_results(conn: sqlite3.Connection, pairs: list[list[int]]) -> list[list[int]]:
    """The same, with the results of these deliveries' tasks that the journal has, and without those of others in between."""
    if conn.execute("SELECT 1 FROM task_attempts WHERE result_seq IS NOT NULL LIMIT 1").fetchone() is None:
        return pairs
    own = {seq for low, high in pairs for seq in query.results_of(conn, low, high)}
    found: list[list[int]] = []
    for low, high in pairs:
        for seq in sorted(query.results_between(conn, low, high)):
            if seq not in own:
                if low < seq:
                    found.append([low, seq - 1])
                low = seq + 1
        if low <= high:
            found.append([low, high])
    ranges = [(low, high) for low, high in pairs]
    found += [[seq, seq] for seq in own if not covers(ranges, seq)]
    return sorted(found)


def entries(segments: Sequence[Segment], by: str | None) -> list[Entry]:
    """The records that name what is dropped."""
    pairs = [pair for segment in segments for pair in segment.pairs]
    return [
        Entry(SUBJECT, KIND, {"drops": pairs[at : at + PAIRS_MAX], "about": False, "reason": "retention", "by": by})
        for at in range(0, len(pairs), PAIRS_MAX)
    ]


def expired_attempts(conn: sqlite3.Connection, data: Path, policy: Retention, now: float) -> Iterator[str]:
    """The tasks whose attempts' directories can go: final, and unchanged for as long as the policy says."""
    if policy.attempts_s is None:
        return
    cutoff = at_text(now - policy.attempts_s)
    try:
        listing = os.scandir(data / ATTEMPTS_NAME)
    except FileNotFoundError:
        return
    with listing:
        names: list[str] = []
        for one in listing:
            if TOKEN.match(one.name):
                names.append(one.name)
            if len(names) == _NAMES:
                yield from _expired(conn, names, cutoff)
                names.clear()
        yield from _expired(conn, names, cutoff)


def _expired(conn: sqlite3.Connection, names: list[str], cutoff: str) -> list[str]:
    states = orjson.dumps(sorted(FINAL)).decode()
    rows = conn.execute(
        """SELECT t.id FROM json_each(?) named CROSS JOIN tasks t ON t.id = named.value
            WHERE t.updated_at < ? AND t.state IN (SELECT value FROM json_each(?))""",
        (orjson.dumps(names).decode(), cutoff, states),
    ).fetchall()
    return [row["id"] for row in rows]
