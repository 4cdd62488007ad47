"""A source's answers of a daemon that runs and has work, for tests of what shows them. `msgspec.structs.replace` changes them."""

from __future__ import annotations

from types import NoneType
from typing import TypeVar, get_args, get_origin, get_type_hints

from msgspec import Struct
from msgspec.structs import fields

from covenq.model.answers import Throughput
from covenq.model.journal_status import BatchSizes, HeadStatus, JournalStatus, SyncTimes
from covenq.model.status import Disk, Oldest, Running, Segment, StateStatus, Status
from covenq.model.worker_status import WorkerAttempt, WorkerStatus

NOW = 1_800_000_000.0
AGO = "2027-01-15T07:55:00.000000Z"
"""Five minutes before NOW."""

STATUS = Status(
    ready=True,
    reasons=[],
    version="0.1.0",
    pid=7,
    started_at=AGO,
    data="/var/lib/covenq",
    webhook_url="http://127.0.0.1:8787/webhook",
    journal=JournalStatus(
        id="j",
        epoch="e",
        head=HeadStatus(1234, "ab" * 32),
        segments=3,
        bytes=3 << 20,
        last_sync_ms=1.0,
        recent_syncs_ms=SyncTimes(1024, median=1.2, p99=4.5, slowest=9.0),
        recent_batches=BatchSizes(512, median=3, largest=64),
    ),
    state=StateStatus(seq=1234, lag=0, error=None),
    deliveries={"completed": 1000, "failed": 3},
    tasks={"queued": 4, "running": 1, "completed": 1000},
    oldest=Oldest(deliveries={}, tasks={"queued": AGO, "running": AGO}),
    disk=Disk(free=40 << 30, total=100 << 30),
    worker=WorkerStatus("w", concurrency=4, running=[WorkerAttempt("t1", 1, "fix", AGO)], error=None),
    routes=["fix"],
    refused={"signature_wrong": 2},
    pauses=[],
    segments=[
        Segment("00000000000000001000.jsonl", first=1000, bytes=1 << 20),
        Segment("00000000000000000500.jsonl", first=500, bytes=2 << 20),
    ],
    verified=None,
    running=[
        Running(
            "t1",
            attempt=1,
            route="fix",
            repo="octo/hello",
            number=12,
            worker="w",
            since=AGO,
            timeout_s=600.0,
            lease_until=None,
        )
    ],
)

THROUGHPUT = Throughput(
    at="2027-01-15T07:01:00.000000Z",
    minutes=60,
    accepted=[*[0] * 57, 8, 4, 1],
    refused=[0] * 60,
    completed=[*[0] * 59, 2],
    failed=[0] * 60,
)

S = TypeVar("S", bound=Struct)


def blank(kind: type[S], **given: object) -> S:
    """An object with these fields; of the others, what may be None is, and the rest is empty."""
    hints = get_type_hints(kind)
    missing = [one.name for one in fields(kind) if one.required and one.name not in given]
    return kind(**given, **{name: _empty(hints[name]) for name in missing})


def _empty(hint: object) -> object:
    if NoneType in get_args(hint):
        return None
    return (get_origin(hint) or hint)()  # type: ignore[operator]  # a class, as the fields of rows have them
