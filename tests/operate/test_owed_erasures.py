"""Erasures that a node has not carried out on its own files: who owes what, and who does it when."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from covenq.config.retention import Retention
from covenq.model.nodes_text import owed_text
from covenq.operate.inspect.nodes import absent_nodes, known_nodes
from covenq.operate.maintain.upkeep import Upkeep
from covenq.state.fold import fold
from covenq.state.store import StateStore
from journal.append import append_known
from journal.errors import JournalUnavailable
from journal.records import NodeSeen
from tests.support.fold_thread import FoldThread
from tests.support.journals.chosen import open_chosen
from tests.support.records import START, as_records, empty_state, moved, note, of, queued, received
from tests.support.waiting import eventually

AT = "2026-11-30T02:03:04.000000Z"


def seen(name: str, silent_s: float = 0.5, *, stopped: bool = False, **about: object) -> NodeSeen:
    return NodeSeen(name, name, "h:1", AT, AT, silent_s, stopped, json.dumps(about), False)


@pytest.mark.parametrize(
    ("about", "owes"),
    [
        ({"folded": 6, "erased": 6}, 0),
        ({"folded": 6, "erased": 4}, 1),
        ({"folded": 6, "erased": 3}, 2),
        ({"folded": 3, "erased": 3}, 2),  # the records of both erasures it has not seen
        ({"folded": 1, "erased": 1}, 1),  # nor the second delivery
        ({"folded": 0, "erased": 0}, 0),
        ({"folded": 4}, 1),  # an older one, which says nothing of it
        ({}, 0),
        ({"folded": "x", "erased": []}, 0),
    ],
)
def test_a_node_owes_what_was_erased_since_of_what_it_had(about: dict[str, object], owes: int) -> None:
    conn = empty_state()
    gone = [note("redacted", guid, drops=[[seq, seq]], about=True, received=seq) for guid, seq in (("a", 1), ("b", 2))]
    fold(conn, as_records([received("a"), received("b"), received("kept"), gone[0], gone[1], received("later")]))
    (found,) = known_nodes([seen("b", 60.0, **about)], "a", 6, "", conn)
    assert found.owes == owes
    assert known_nodes([seen("b", **about)], "a", 6, "")[0].owes == 0, "nobody looked"


def test_a_sentence_says_since_when_it_is_away() -> None:
    (away, there) = known_nodes([seen("b", 60.0), seen("c")], "a", 6, "")
    away.owes, there.owes = 2, 1
    assert owed_text(away) == (
        "node b (h:1) has to remove what was erased of 2 deliveries: it is away since 2026-11-30 02:03:04Z, "
        "and does it when it is back"
    )
    assert owed_text(there).endswith("of 1 delivery: it does it now")


class Journal:
    """The nodes of a journal that perhaps doesn't answer."""

    def __init__(self, nodes: Sequence[NodeSeen], *, answers: bool) -> None:
        self._nodes, self._answers = nodes, answers

    def nodes(self, *, ask: bool = False) -> Sequence[NodeSeen]:
        if ask and not self._answers:
            raise JournalUnavailable("it is away")
        return self._nodes


@pytest.mark.parametrize("answers", [True, False])
def test_who_is_not_there_is_named_also_where_the_journal_does_not_answer(answers: bool) -> None:
    nodes = [seen("a", 60.0), seen("b", 60.0), seen("c"), seen("d", stopped=True)]
    found = absent_nodes(Journal(nodes, answers=answers), "a")  # type: ignore[arg-type]
    assert [(one.name, one.state) for one in found] == [("b", "away"), ("d", "stopped")]
    assert absent_nodes(None, "a") == []


def test_a_node_that_stands_by_sees_to_its_own_files_and_appends_nothing(tmp_path: Path) -> None:
    """It follows what is recorded: retention of outputs by its own clock, erasures as the other node records them."""
    tasks = {guid: of(guid) for guid in ("old", "erased", "kept")}
    for task in tasks.values():
        directory = tmp_path / "attempts" / task / "1"
        directory.mkdir(parents=True)
        (directory / "stdout").write_bytes(b"HUSH")
    with open_chosen(tmp_path) as journal, StateStore(tmp_path / "state.db", journal) as store:
        for guid, task in tasks.items():
            append_known(journal, [received(guid), queued(guid), moved("cancelled", task, by="t", reason="r")])
        now = [START]
        thread = FoldThread(store, journal)
        thread.start()
        policy = [Retention()]
        upkeep = Upkeep(
            journal, store, thread, tmp_path, lambda: policy[0], truncate_wal=store.truncate_wal, clock=lambda: now[0]
        )
        leads = [False]
        upkeep.share(lambda: leads[0], list)
        assert upkeep.carried_out == 0
        upkeep.start()
        try:
            eventually(lambda: upkeep.carried_out == journal.head().seq, 30, "it is as far as the journal")
            left = {path.name for path in (tmp_path / "attempts").iterdir()}
            assert left == set(tasks.values())
            erasure = note("redacted", "erased", drops=[[4, 5]], about=True, received=4)
            append_known(journal, [erasure])
            eventually(lambda: upkeep.carried_out == journal.head().seq, 30, "it has followed")
            assert {path.name for path in (tmp_path / "attempts").iterdir()} == {tasks["old"], tasks["kept"]}
            head = journal.head().seq
            policy[0], now[0] = Retention(payloads_s=1.0, attempts_s=1.0), START + 10**9
            eventually(lambda: not list((tmp_path / "attempts").iterdir()), 30, "what is too old is gone here")
            assert journal.head().seq == head, "of the journal's payloads nothing was dropped"
            leads[0] = True
            eventually(lambda: journal.last("ops.retention"), 30, "until it leads")
        finally:
            upkeep.stop(30.0)
            thread.stop()
