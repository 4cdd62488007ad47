"""Fixtures of the journal's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from journal.file.engine import FileJournal
from tests.support.journals.explorer import NEVER_S, scratch
from tests.support.journals.opening import open_with


@pytest.fixture
def root() -> Iterator[Path]:
    """A scratch directory with an empty `journal` in it, in memory where that can be had."""
    with scratch() as path:
        yield path


@pytest.fixture
def opened(root: Path) -> Iterator[Callable[..., FileJournal]]:
    """opened(**options) → the journal in `root`, closed with the test; no record but what the test appends."""
    journals: list[FileJournal] = []

    def make(**options: Any) -> FileJournal:
        journal = open_with(root / "journal", **{"idle_s": NEVER_S, "force_filesystem": True, **options})
        journals.append(journal)
        return journal

    yield make
    for journal in journals:
        journal.close()
