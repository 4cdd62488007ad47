"""Where else content of this journal may be: the backups that were taken, and what stands beside it.

An erasure reaches what covenq owns. Copies are named to the operator, who alone can reach them. Backups are remembered in
DATA/backups.json, each with the head it ended at; one taken by other means isn't known here.
"""

from __future__ import annotations

import json
from pathlib import Path

from covenq.model import JsonObject
from journal.files import OsFiles, publish
from journal.model import Head

NOTE_NAME = "backups.json"


def known(data: Path) -> list[JsonObject]:
    """[{"path", "at", "seq", "sum"}…], the newest last. Empty if there is no note that can be read."""
    try:
        found = json.loads((data / NOTE_NAME).read_bytes())["backups"]
        return [dict(one) for one in found if isinstance(one["path"], str)]
    except (OSError, KeyError, TypeError, ValueError):
        return []


def remember(data: Path, target: Path, at: str, head: Head) -> None:
    """Note a backup, in place of an earlier one in the same directory. Durable on return. Raises OSError."""
    path = str(target.resolve())
    kept = [one for one in known(data) if one["path"] != path]
    kept.append({"path": path, "at": at, "seq": head.seq, "sum": head.sum})
    # orjson would refuse a name that is not UTF-8; here it comes back as it was.
    publish(OsFiles(), data / NOTE_NAME, json.dumps({"backups": kept}, indent=2).encode() + b"\n")


def copies(data: Path) -> list[str]:
    """Directories outside the journal that may hold content of it: backups that are still there or can't be seen from
    here, and journals that were put aside in the data directory."""
    aside = sorted(str(path) for path in data.glob("journal?*") if path.is_dir())
    return [str(one["path"]) for one in known(data)] + aside
