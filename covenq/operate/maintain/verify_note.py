"""The result of the last whole verification of a journal, noted in the data directory for `covenq status` and doctor.

It proves nothing, and may be deleted: the proof is to verify again.
"""

from __future__ import annotations

from pathlib import Path

import orjson

from covenq import atomic_file
from covenq.model import JsonObject
from covenq.paths import VERIFIED_NAME
from journal.reports import VerifyReport

_MAX = 1 << 16
_FIELDS: dict[str, type] = {"at": str, "ok": bool, "records": int, "findings": int, "seq": int, "seconds": float}


def read(data: Path) -> JsonObject | None:
    """The note of the last verification; None if there is none that can be read.

    It is {"at", "ok", "records", "findings", "seq", "first", "seconds"}: when, how many records and findings, up to which seq,
    the first finding as text or None.
    """
    try:
        with (data / VERIFIED_NAME).open("rb") as file:
            found = orjson.loads(file.read(_MAX))
    except (OSError, orjson.JSONDecodeError):
        return None
    if not isinstance(found, dict) or not all(isinstance(found.get(name), kind) for name, kind in _FIELDS.items()):
        return None
    first = found.get("first")
    return {**{name: found[name] for name in _FIELDS}, "first": first if isinstance(first, str) else None}


def write(data: Path, report: VerifyReport, at: str, seconds: float) -> None:
    """Note the result of a verification of all of the journal, in place of the one before. Durable on return. Raises OSError."""
    note = {
        "at": at,
        "ok": report.ok,
        "records": report.records,
        "findings": len(report.damage),
        "seq": report.head.seq,
        "first": str(report.damage[0])[:500] if report.damage else None,
        "seconds": round(float(seconds), 3),
    }
    atomic_file.replace(data / VERIFIED_NAME, orjson.dumps(note, option=orjson.OPT_INDENT_2) + b"\n")
