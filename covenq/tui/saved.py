"""The file of saved filters, in the user's configuration directory.

It is not in the data directory: a view is personal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from covenq import atomic_file
from covenq.errors import CovenqError

FILTERS_MAX = 100
NAME_MAX = 60
"""Characters of a name."""


def path_of(env: Mapping[str, str]) -> Path:
    """`$XDG_CONFIG_HOME/covenq/filters.json`, or the same below `~/.config`."""
    base = env.get("XDG_CONFIG_HOME", "")
    home = Path(base) if base and Path(base).is_absolute() else Path(env.get("HOME") or Path.home()) / ".config"
    return home / "covenq" / "filters.json"


def read(path: Path) -> dict[str, str]:
    """Name to filter; empty if there is no file. Raises CovenqError for one that can't be read."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CovenqError(f"{path} can't be read: {error}", hint="Mend it or remove it.") from None
    if not isinstance(found, dict) or not all(isinstance(words, str) for words in found.values()):
        raise CovenqError(f"{path} is not a JSON object of texts", hint="Mend it or remove it.")
    return found


def write(path: Path, filters: Mapping[str, str]) -> None:
    """Replaces the file atomically. Raises CovenqError."""
    if len(filters) > FILTERS_MAX:
        raise CovenqError(f"there are {FILTERS_MAX} saved filters already", hint="Remove one: F, then Delete.")
    content = (json.dumps(dict(filters), indent=2, ensure_ascii=False) + "\n").encode("utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not synced: what a power cut may lose is a filter that was just saved.
        atomic_file.replace(path, content, suffix=".new", mode=0o666, durable=False)
    except OSError as error:
        raise CovenqError(f"{path} can't be written: {error.strerror}", hint="Check its permissions.") from None
