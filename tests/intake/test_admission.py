"""What admission logs of a journal that can't be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from covenq.intake.admission import Admission, Reason
from journal.errors import JournalUnavailable
from journal.file.open import open_journal


def test_a_journal_that_is_away_is_logged_once_and_the_last_answer_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reason = Reason("paused", "An operator has paused it.")
    answers: list[Reason | Exception | None] = [
        reason,
        *[JournalUnavailable("gone")] * 5,
        None,
        JournalUnavailable("again"),
    ]

    def paused() -> Reason | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with open_journal(tmp_path / "journal", force_filesystem=True) as journal:
        admission = Admission(journal, paused=paused)
        for _ in range(5):
            admission.refresh()
        assert admission.intake() == reason
        assert [one.getMessage() for one in caplog.records] == ["whether the intake is paused can't be read: gone"]
        admission.refresh()
        assert admission.intake() is None and admission.resumed == 1
        admission.refresh()
        assert len(caplog.records) == 2
