"""Each engine against a dictionary: whatever is done in whatever order, it answers as a list of entries would."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.journals.engines import Open
from tests.support.journals.model import CHECKS, JournalModel


def test_it_answers_as_a_list_of_entries_would(engine: Open) -> None:
    short = settings(max_examples=15, stateful_step_count=25, suppress_health_check=CHECKS)
    run_state_machine_as_test(lambda: JournalModel(engine), settings=short)


@pytest.mark.deep
def test_it_answers_as_a_list_of_entries_would_at_length(engine: Open) -> None:
    long = settings(max_examples=1500, stateful_step_count=60, suppress_health_check=CHECKS)
    run_state_machine_as_test(lambda: JournalModel(engine), settings=long)
