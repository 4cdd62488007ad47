"""What is remembered of how one likes to look at it, in the user's configuration directory: saved filters, and what is shown.

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


def shown_path_of(filters: Path) -> Path:
    """Of the file that says what is shown, beside the one of filters: `view.json`."""
    return filters.with_name("view.json")


def read_story_wanted(path: Path) -> bool:
    """Whether the story is to stand beside a list; True if there is no file. Raises CovenqError for one that can't be read."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return True
    except (OSError, ValueError) as error:
        raise CovenqError(f"{path} can't be read: {error}", hint="Mend it or remove it.") from None
    wanted = found.get("story", True) if isinstance(found, dict) else None
    if not isinstance(wanted, bool):
        raise CovenqError(f'{path} is not as it was written: {{"story": true}}', hint="Mend it or remove it.")
    return wanted


def write_story_wanted(path: Path, wanted: bool) -> None:
    """Replaces the file atomically. Raises CovenqError."""
    _replace(path, {"story": wanted})


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
    _replace(path, dict(filters))


def _replace(path: Path, found: Mapping[str, object]) -> None:
    content = (json.dumps(found, indent=2, ensure_ascii=False) + "\n").encode("utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not synced: what a power cut may lose is what was just saved.
        atomic_file.replace(path, content, suffix=".new", mode=0o666, durable=False)
    except OSError as error:
        raise CovenqError(f"{path} can't be written: {error.strerror}", hint="Check its permissions.") from None
