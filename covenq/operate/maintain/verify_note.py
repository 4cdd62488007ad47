"""What the last whole verification of a journal found: a note in the data directory, for whoever asks how it does.

It is no proof of anything, and may be deleted: the proof is to verify again.
"""

from __future__ import annotations

from pathlib import Path

import orjson

from covenq.model import JsonObject
from covenq.paths import VERIFIED_NAME
from journal.file.files import OsFiles, publish
from journal.file.verify import VerifyReport

_MAX = 1 << 16
_FIELDS: dict[str, type] = {"at": str, "ok": bool, "records": int, "findings": int, "seq": int, "seconds": float}


def last(data: Path) -> JsonObject | None:
    """{"at", "ok", "records", "findings", "seq", "first", "seconds"}: when, how many records and findings, up to which seq,
    the first finding in words or None. None if nothing is noted that can be read."""
    try:
        with (data / VERIFIED_NAME).open("rb") as file:
            found = orjson.loads(file.read(_MAX))
    except (OSError, orjson.JSONDecodeError):
        return None
    if not isinstance(found, dict) or not all(isinstance(found.get(name), kind) for name, kind in _FIELDS.items()):
        return None
    first = found.get("first")
    return {**{name: found[name] for name in _FIELDS}, "first": first if isinstance(first, str) else None}


def remember(data: Path, report: VerifyReport, at: str, seconds: float) -> None:
    """Note what a verification of all of the journal found, in place of the one before. Raises OSError."""
    note = {
        "at": at,
        "ok": report.ok,
        "records": report.records,
        "findings": len(report.damage),
        "seq": report.head.seq,
        "first": str(report.damage[0])[:500] if report.damage else None,
        "seconds": round(float(seconds), 3),
    }
    publish(OsFiles(), data / VERIFIED_NAME, orjson.dumps(note, option=orjson.OPT_INDENT_2) + b"\n")
