"""The first page of the journal is true: its example runs."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

import journal


def test_the_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVENQ_UNSAFE_FILESYSTEM", "1")
    page = journal.__doc__ or ""
    example = page[page.index("    from journal.file.open") : page.index("`expect` is the seq")]
    exec(textwrap.dedent(example), {"directory": tmp_path / "journal"})
    assert capsys.readouterr().out.splitlines() == [
        "1 task.queued {'route': 'ci'}",
        "2 task.claimed {'worker': 'w'}",
    ]
