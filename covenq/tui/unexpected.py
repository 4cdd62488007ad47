"""What nobody expected, as a sentence: an exception on a background thread, or while a page is drawn, ends nothing."""

from __future__ import annotations

import sqlite3
import traceback
from pathlib import Path

from covenq.errors import CovenqError, Unexpected

_ROOT = Path(__file__).parents[2]
_OWN = (f"{_ROOT}/covenq/", f"{_ROOT}/journal/")
_THREAD = str(Path(__file__).with_name("background.py"))


def as_failure(error: BaseException) -> CovenqError:
    """Of the operating system or SQLite: what it says. Of anything else: its type, its message, and where it was raised."""
    if isinstance(error, OSError):
        words = error.strerror or str(error) or type(error).__name__
        hint = "Check the path, the space there, and that this user may use it."
        found = CovenqError(f"{error.filename}: {words}" if error.filename else words, hint=hint)
    elif isinstance(error, sqlite3.Error):
        hint = "Check the space and the permissions of the data directory."
        found = CovenqError(f"index or state.db, the journal's caches, can't be used: {error}", hint=hint)
    else:
        words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        found = Unexpected(f"unexpected {words}{_location(error)}")
    found.__cause__ = error
    return found


def _location(error: BaseException) -> str:
    """The innermost line of covenq's own, else of anything, that raised it."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename != _THREAD]
    if not frames:
        return ""
    last = next((one for one in reversed(frames) if one.filename.startswith(_OWN)), frames[-1])
    path = Path(last.filename)
    return f" ({path.parent.name}/{path.name}, line {last.lineno})"
