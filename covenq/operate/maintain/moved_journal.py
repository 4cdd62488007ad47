"""A data directory whose journal was moved elsewhere: it is not an empty one, nor one that has lost everything.

Who forgets to change the configuration after `covenq migrate` would else begin a second journal, or be told of damage.
"""

from __future__ import annotations

from pathlib import Path

from covenq.errors import Refused
from covenq.paths import JOURNAL_NAME
from journal.file.segment import NAME, SEALED_SUFFIX
from journal.presence import exists, is_directory


def check_not_moved(data: Path) -> None:
    """Raises Refused where the journal of files was sealed, and no other has taken its place."""
    sealed = data / f"{JOURNAL_NAME}{SEALED_SUFFIX}"
    if exists(sealed) and not _has_segments(data / JOURNAL_NAME) and _has_segments(sealed):
        raise Refused(
            f"the journal of {data} was moved elsewhere by `covenq migrate`: {sealed.name} is what it was",
            hint='Name the database in the configuration ([journal] engine = "postgres"), or choose another --data.',
        )


def _has_segments(directory: Path) -> bool:
    return is_directory(directory) and any(NAME.match(path.name) for path in directory.iterdir())
