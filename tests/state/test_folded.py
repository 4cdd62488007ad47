"""Looking up a delivery that came again, in a state that is behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from covenq.model import DeliveryId
from covenq.state import folded
from covenq.state.folded import FoldedState
from covenq.state.progress import FoldProgress
from covenq.state.readers import Readers
from covenq.state.store import StateStore
from journal.file.open import open_journal
from journal.records import Entry


@pytest.mark.parametrize("lag", [1, folded.FAR - 1, folded.FAR])
def test_a_state_that_is_far_behind_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lag: int) -> None:
    """It may be built anew, and then each look would go through all of it; the journal answers instead."""
    monkeypatch.setattr(folded, "LOOKUP_S", 0.01)
    id = DeliveryId("9", "g")
    with open_journal(tmp_path / "journal") as journal, StateStore(tmp_path / "state.db", journal) as store:
        journal.append(
            [Entry(id.subject, "delivery.received", {"hook": "9", "guid": "g", "event": "issues"}, {}, b"{}")]
        )
        store.catch_up()
        readers = Readers(store.path)
        seq = store.folded
        state = FoldedState(journal, readers, FoldProgress(lambda: seq + lag, seq))
        found = state.lookup(id, seq + 1)
        assert (found is None) == (lag == folded.FAR)
        assert state.lookup(id, seq) is not None, "what it waits for is folded"
        readers.close_readers()
