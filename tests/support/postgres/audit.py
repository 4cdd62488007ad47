"""What a journal's tables say, by a program that shares no code with covenq: `python audit.py URL` prints it as JSON.

It reads the rows, takes the envelopes apart with the standard library's JSON, and computes every sum again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from typing import Any

import psycopg

FINAL = {"task.completed", "task.failed", "task.cancelled", "task.superseded"}


def audit(url: str) -> dict[str, Any]:
    """Counts, and `faults`: a sentence for each thing that must not be."""
    with psycopg.connect(url) as conn:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        segments = conn.execute(
            "SELECT first, convert_from(header, 'UTF8') FROM covenq.segment ORDER BY first"
        ).fetchall()
        rows = conn.execute("SELECT seq, subject, before, sum, envelope FROM covenq.record ORDER BY seq").fetchall()
        [head] = conn.execute("SELECT seq, sum FROM covenq.head").fetchall()
    faults: list[str] = []
    starts = {first: json.loads(text) for first, text in segments}
    prev, salt = "0" * 64, ""
    newest: dict[str, int] = {}
    deliveries: dict[str, int] = {}
    queued: set[str] = set()
    ends: Counter[str] = Counter()
    claims: dict[str, int] = {}
    for place, (seq, subject, before, total, envelope) in enumerate(rows, 1):
        if seq != place:
            faults.append(f"record {seq} stands at {place}")
            break
        if seq in starts:
            start = starts[seq]
            if start["prev"] != prev or start["after"] != seq - 1:
                faults.append(f"segment {seq} does not follow record {seq - 1}")
            salt, prev = start["salt"], start["sum"]
        if hashlib.sha256(salt.encode() + envelope).hexdigest() != total:
            faults.append(f"record {seq} has another sum")
        record = json.loads(envelope + b"}")
        if (record["seq"], record["subject"], record["prev"]) != (seq, subject, prev) or record["synced"] >= seq:
            faults.append(f"record {seq} says {record['seq']} of {record['subject']}, behind {record['prev'][:8]}")
        if newest.get(subject, 0) != before:
            faults.append(f"record {seq} stands behind {before} of {subject}, not {newest.get(subject, 0)}")
        prev, newest[subject] = total, seq
        kind = record["kind"]
        if kind == "delivery.received":
            guid = subject.rpartition(".")[2]
            if guid in deliveries:
                faults.append(f"{guid} was received twice")
            deliveries[guid] = seq
        elif kind == "task.queued":
            if subject in queued:
                faults.append(f"{subject} was queued twice")
            queued.add(subject)
        elif kind == "task.claimed":
            claims[subject] = seq
        elif kind in FINAL:
            ends[subject] += 1
            if ends[subject] > 1:
                faults.append(f"{subject} has {ends[subject]} ends")
            if subject not in claims:
                faults.append(f"{subject} ended without being claimed")
    if rows and (head[0], head[1]) != (rows[-1][0], rows[-1][3]):
        faults.append(f"the head is {head[0]}, the newest record {rows[-1][0]}")
    return {
        "faults": faults[:50],
        "records": len(rows),
        "deliveries": deliveries,
        "tasks": len(queued),
        "ended": sum(1 for subject in queued if ends[subject]),
    }


if __name__ == "__main__":
    print(json.dumps(audit(sys.argv[1])))
