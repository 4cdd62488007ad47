"""Which engine keeps the journals of the test that runs: files, or with `pytest --engine postgres` a database for each.

What is shared by tests of both asks here: `Daemon`, the reader of records, and what opens a journal in this process. Nothing here
imports the product.
"""

from __future__ import annotations

import os
from pathlib import Path

FILE, POSTGRES = "file", "postgres"
ENGINES = (FILE, POSTGRES)
VARIABLE = "COVENQ_JOURNAL_URL"

_chosen = FILE


def choose(engine: str) -> None:
    """For the tests that follow."""
    global _chosen
    _chosen = engine


def url_of(data: Path) -> str | None:
    """Of the database that has the journal of this data directory; None if it is in files.

    A process that a test has started with `variables` has the same one.
    """
    if given := os.environ.get(VARIABLE):
        return given
    if _chosen == FILE:
        return None
    from tests.support.postgres import databases

    return databases.url_of(data)


def variables(data: Path) -> dict[str, str]:
    """What the environment of a process says of where the journal of this data directory is."""
    url = url_of(data)
    return {} if url is None else {VARIABLE: url}


def give_back(directory: Path) -> None:
    """The databases of the data directories below this one are not needed any more."""
    if _chosen != FILE:
        from tests.support.postgres import databases

        databases.give_back(directory)
