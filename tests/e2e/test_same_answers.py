"""Fifty questions to a journal in files, moved into a database, and moved back: the same answers, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.in_process import run_piped
from tests.support.journal_json import records
from tests.support.postgres.journals import cluster
from tests.support.questions import FAILED, QUESTIONS, REPLAYED, Answer, alike, golden_data

pytestmark = pytest.mark.postgres


@pytest.fixture
def golden(data: Path, tmp_path: Path) -> Daemon:
    return golden_data(data, tmp_path)


def erase_more(daemon: Daemon) -> None:
    """What is erased by name, and what retention drops."""
    assert daemon.config is not None
    daemon.config.write_text(daemon.config.read_text() + '\n[retention]\npayloads = "1h"\n')
    daemon.cli("redact", FAILED, "--yes", "--reason", "asked")
    daemon.cli("compact", "--yes")
    assert b"was dropped by record" in daemon.cli("show", REPLAYED, "--payload", exit_code=3).stderr


def leave(_: Daemon) -> None:
    """As it was."""


@pytest.mark.parametrize("erase", [leave, erase_more])
def test_a_journal_that_moved_answers_fifty_questions_as_before(
    golden: Daemon, erase: Callable[[Daemon], None]
) -> None:
    assert len(QUESTIONS) >= 50
    servers = cluster(standby=False)
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    erase(golden)
    newest = records(golden.data)[-1]
    given = {"config": str(golden.config), "head": f"{newest['seq']}:{newest['sum']}"}

    def answers() -> dict[str, Answer]:
        """To each question, by a state.db that is made of the journal alone."""
        for cache in golden.data.glob("state.db*"):
            cache.unlink()
        env = golden.environment()
        return {one: alike(one, run_piped(one.format(**given).split(), env)) for one in QUESTIONS}

    in_files = answers()
    golden.cli("migrate", "--from", f"file:{golden.data}", "--to", servers.url, "--yes")
    golden.env["COVENQ_JOURNAL_URL"] = servers.url
    in_tables = answers()
    golden.cli("migrate", "--from", "postgresql:", "--to", f"file:{golden.data}", "--yes")
    del golden.env["COVENQ_JOURNAL_URL"]
    back = answers()
    for question, answer in in_files.items():
        assert (question, in_tables[question]) == (question, answer)
        assert (question, back[question]) == (question, answer)
