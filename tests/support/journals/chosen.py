"""Opening the journal of a data directory in this process, in the engine that this run of the tests has chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covenq.config.journal import JournalSettings
from covenq.config.load import Config
from journal.file.engine import FileJournal
from journal.file.files import Files
from journal.file.open import open_journal
from tests.support import chosen_engine
from tests.support.journals.opening import open_with

if TYPE_CHECKING:
    from journal.postgres.engine import PostgresJournal


def open_chosen(data: Path, *, files: Files | None = None, **options: Any) -> FileJournal | PostgresJournal:
    """`files` and `options` are of files alone: a seam for the disk, and settings that a test measures nothing by."""
    url = chosen_engine.url_of(data)
    if url is not None:
        from journal.postgres.open import open_journal as open_database
        from journal.records import Node

        return open_database(url, node=Node(str(data)))
    if files is None:
        return open_with(data / "journal", **options)
    return open_journal(data / "journal", files=files, **options)


def config_in(data: Path, config: Config | None = None) -> Config:
    """That configuration, or an empty one, with the journal of this data directory."""
    return replace(config or Config(), journal=JournalSettings(chosen_engine.url_of(data)))
