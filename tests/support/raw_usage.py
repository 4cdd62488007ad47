"""Usage counted over the raw journal: lines of JSON and arithmetic, and nothing of the product, nor of its package journal.

It was written from the manual alone: covenq-state(5). `python -m tests.support.raw_usage DATA/journal` prints it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

Group = tuple[str, int | None, int | None, str | None]
"""Month, installation, repository's number, familiar."""

OF_DELIVERY = {"delivery.ignored": "ignored", "delivery.repeated": "duplicated"}
OF_TASK = {
    "task.claimed": "attempts",
    "task.completed": "completed",
    "task.failed": "failed",
    "task.retry": "retried",
}
ENDS = {"task.completed", "task.failed", "task.retry", "task.cancelled", "task.superseded"}
NONE = {
    "accepted": 0,
    "ignored": 0,
    "duplicated": 0,
    "tasks": 0,
    "attempts": 0,
    "completed": 0,
    "failed": 0,
    "retried": 0,
}


def usage(lines: Iterable[bytes]) -> dict[Group, dict[str, float]]:
    """The sums of each group that has any."""
    owners: dict[str, tuple[int | None, int | None, str | None]] = {}
    began: dict[str, str] = {}
    found: dict[Group, dict[str, int]] = {}
    micros: dict[Group, int] = {}
    for line in lines:
        record: dict[str, Any] = json.loads(line)
        if "kind" not in record or "subject" not in record:
            continue  # the header of a segment
        subject, kind, data, at = record["subject"], record["kind"], record["data"], record["at"]
        if kind in ("delivery.received", "task.queued") and subject not in owners:
            familiar = data.get("familiar") if kind == "task.queued" else None
            owners[subject] = number(data.get("installation")), number(data.get("repo_id")), familiar
            word = "accepted" if kind == "delivery.received" else "tasks"
        elif subject in owners:
            word = OF_DELIVERY.get(kind) or OF_TASK.get(kind) or ""
        else:
            continue
        group = (at[:7], *owners[subject])
        if word:
            found.setdefault(group, dict(NONE))[word] += 1
        if kind == "task.claimed":
            began[subject] = at
        elif kind in ENDS and subject in began:
            ran = datetime.fromisoformat(at) - datetime.fromisoformat(began.pop(subject))
            found.setdefault(group, dict(NONE))
            micros[group] = micros.get(group, 0) + max(ran // timedelta(microseconds=1), 0)
    return {group: {**sums, "seconds": micros.get(group, 0) / 1e6} for group, sums in found.items()}


def number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def total(groups: Iterable[dict[str, float]]) -> dict[str, float]:
    """Their sums."""
    found: dict[str, float] = {**NONE, "seconds": 0.0}
    micros = 0
    for one in groups:
        for word in NONE:
            found[word] += one[word]
        micros += round(one["seconds"] * 1e6)
    return found | {"seconds": micros / 1e6}


def lines_of(journal: Path) -> Iterator[bytes]:
    """Every whole line of the segments of a directory."""
    for path in sorted(journal.glob("*.jsonl")):
        yield from path.read_bytes().split(b"\n")[:-1]


if __name__ == "__main__":
    for group, sums in sorted(usage(lines_of(Path(sys.argv[1]))).items(), key=repr):
        print(json.dumps([*group, sums]))
