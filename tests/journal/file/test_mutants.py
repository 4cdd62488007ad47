"""Every way in which the engine is broken on purpose is caught by the test that is named beside it (`mutants.py`)."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from journal.file.index import Index
from journal.file.open import open_journal
from journal.records import Conflict, Entry
from tests.support.checkout import ROOT
from tests.support.journals.mutants import MUTANTS

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_engine_is_caught(name: str, tmp_path: Path) -> None:
    mutant = MUTANTS[name]
    environment = {**os.environ, "COVENQ_MUTANT": name, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    environment.pop("PYTEST_XDIST_WORKER", None)
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # most of what such a process would do is import them
    found = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-x",
                "-p",
                "tests.support.journals.mutants",
                "-p",
                "pytest_asyncio.plugin",
                "-p",
                "no:cacheprovider",
            ),
            *("--no-header", "--basetemp", str(tmp_path / "pytest"), f"{HERE}/{mutant.caught_by}"),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    # 1: tests ran, and failed. Anything else (2 interrupted, 4 usage, 5 no such test) proves nothing.
    assert found.returncode == 1, found.stdout[-2000:] + found.stderr[-2000:]
    assert " failed" in found.stdout


def test_an_index_that_stops_between_rows_and_position_is_only_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies while it writes the index: the next one must not take its position for more than it holds."""
    directory = tmp_path / "journal"
    entry = Entry("delivery.1.known", "delivery.received", {}, expect=0)
    with monkeypatch.context() as broken:

        def die(self: Index, rows: object) -> None:
            raise sqlite3.OperationalError("the process is gone")

        broken.setattr(Index, "add", die)
        journal = open_journal(directory, force_filesystem=True)
        journal.append([entry])
        journal.close()
    with open_journal(directory, force_filesystem=True) as journal:
        assert journal.append([entry]) == Conflict(entry.subject, 1)
