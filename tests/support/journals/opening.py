"""Opening a file journal with options by name, for helpers that pass on what a test gives them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from journal.file.engine import FileJournal
from journal.file.open import open_journal
from journal.file.settings import WriteSettings

_SETTINGS = {field.name for field in fields(WriteSettings)}


def open_with(directory: Path, **options: Any) -> FileJournal:
    """`options` are parameters of `open_journal`, and fields of its settings."""
    settings = WriteSettings(**{name: value for name, value in options.items() if name in _SETTINGS})
    others = {name: value for name, value in options.items() if name not in _SETTINGS}
    return open_journal(directory, settings=settings, **others)
