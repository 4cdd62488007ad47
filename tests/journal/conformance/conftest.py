"""The conformance suite: what `journal.interface` promises, of every engine. Nothing here knows how one keeps its records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from journal.interface import Engine, Reader
from tests.support.journals.engines import ENGINES, READERS, Open, Opened

_ENGINES = [pytest.param(name, marks=pytest.mark.postgres if "postgres" in name else ()) for name in ENGINES]


@pytest.fixture(params=_ENGINES)
def engine(request: pytest.FixtureRequest) -> Open:
    return ENGINES[request.param]


@pytest.fixture
def read(request: pytest.FixtureRequest, root: Path) -> Callable[[], Reader]:
    """read() → a reader of the test's journal, once that is closed."""
    reader = READERS[request.node.callspec.params["engine"]]
    return lambda: reader(root)


@pytest.fixture
def opened(engine: Open, root: Path) -> Iterator[Opened]:
    """opened() → the journal of the test, closed with it."""
    journals: list[Engine] = []

    def make() -> Engine:
        journals.append(engine(root))
        return journals[-1]

    yield make
    for journal in journals:
        journal.close()
