"""The journal of a test's scratch directory in PostgreSQL, alone or with a synchronous standby."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from journal.postgres.engine import PostgresJournal
from tests.support.postgres.journals import open_in
from tests.support.postgres.server import Cluster, cluster


@pytest.fixture
def servers() -> Cluster:
    return cluster(standby=False)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], PostgresJournal]]:
    """opened() → the test's journal; closed with the test."""
    journals: list[PostgresJournal] = []

    def make() -> PostgresJournal:
        journals.append(open_in(tmp_path, standby=False))
        return journals[-1]

    yield make
    for journal in journals:
        journal.close()
