"""The result of the last whole verification of a journal, noted in the data directory for `covenq status` and doctor.

It proves nothing, and may be deleted: the proof is to verify again.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from covenq import atomic_file
from covenq.model.status import Verified
from covenq.paths import VERIFIED_NAME
from journal.reports import VerifyReport

_MAX = 1 << 16


def read(data: Path, engine: str) -> Verified | None:
    """The note of the last verification; None if there is none that can be read, or it is of another engine's journal.

    So what was looked at while [journal] was missing in the configuration, or before a journal was moved, is told of no other.
    """
    try:
        with (data / VERIFIED_NAME).open("rb") as file:
            found = msgspec.json.decode(file.read(_MAX), type=Verified)
    except (OSError, ValueError, RecursionError):
        return None
    return found if found.engine in (None, engine) else None


def write(data: Path, report: VerifyReport, at: str, seconds: float, engine: str) -> None:
    """Note the result of a verification of all of the journal, in place of the one before. Durable on return. Raises OSError."""
    note = Verified(
        at=at,
        ok=report.ok,
        records=report.records,
        findings=len(report.damage),
        seq=report.head.seq,
        seconds=round(float(seconds), 3),
        first=str(report.damage[0])[:500] if report.damage else None,
        engine=engine,
    )
    atomic_file.replace(data / VERIFIED_NAME, msgspec.json.format(msgspec.json.encode(note), indent=2) + b"\n")
