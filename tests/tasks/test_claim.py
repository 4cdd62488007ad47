"""Claims on the real journal: one wins, the token fences, a lost answer is found again."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from covenq.model import Kind, fence
from covenq.tasks.scheduling.claim import Claim, StaleClaim
from covenq.tasks.scheduling.outcome import Policy, Task
from journal.errors import JournalFull
from journal.interface import Engine
from journal.records import Appended, Conflict, Entry, Unknown
from tests.support.journals.chosen import open_chosen


@pytest.fixture
def journal(journal_engine: None, tmp_path: Path) -> Iterator[Engine]:
    with open_chosen(tmp_path) as journal:
        yield journal


def queued(journal: Engine, name: str = "t1") -> Task:
    answer = journal.append([Entry(f"task.{name}", Kind.QUEUED, {}, expect=0)])
    assert isinstance(answer, Appended)
    return Task(
        id=name,
        hook="9",
        guid="g",
        delivery_seq=None,
        route="r",
        event=None,
        action=None,
        repo=None,
        installation=None,
        number=None,
        head_sha=None,
        key=None,
        attempts=0,
        retries=0,
        interruptions=0,
        last_seq=answer.seqs[0],
        claim_seq=None,
        policy=Policy(("true",)),
    )


def kinds(journal: Engine) -> list[str]:
    return [r.kind for r in journal.read(0) if r.subject.startswith("task.")]


def end(claim: Claim) -> None:
    claim.record([(Kind.COMPLETED, {"attempt": claim.attempt, "claim": claim.seq, "exit_code": 0, "result": None})])


def phase(claim: Claim, name: str) -> None:
    claim.record([(Kind.PHASE, {"attempt": claim.attempt, "claim": claim.seq, "phase": name})])


def test_of_many_that_claim_at_once_one_wins(journal: Engine) -> None:
    tasks = [queued(journal, f"t{n}") for n in range(8)]
    won: list[tuple[str, str]] = []
    start = threading.Barrier(8)

    def claim_all(worker: str) -> None:
        start.wait()
        for task in tasks:
            if Claim.acquire(journal, task, worker) is not None:
                won.append((task.id, worker))

    threads = [threading.Thread(target=claim_all, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(task for task, _ in won) == [task.id for task in tasks]
    claimed = [(r.subject, r.data["worker"]) for r in journal.read(0) if r.kind == "task.claimed"]
    assert sorted(claimed) == sorted((f"task.{task}", worker) for task, worker in won)


def test_the_token_is_the_seq_of_the_claim(journal: Engine) -> None:
    claim = Claim.acquire(journal, queued(journal), "w", node="alpha")
    assert claim is not None
    record = journal.get(claim.seq)
    assert record is not None
    data = {"attempt": 1, "worker": "w", "lease_until": None, "node": "alpha"}
    assert (record.kind, record.data) == ("task.claimed", data)
    assert claim.fence == fence(journal.epoch, claim.seq)
    phase(claim, "prepared")
    end(claim)
    assert {r.data["claim"] for r in journal.read(claim.seq) if r.subject == "task.t1"} == {claim.seq}


def test_a_phase_of_the_command_itself_does_not_end_the_claim(journal: Engine) -> None:
    claim = Claim.acquire(journal, queued(journal), "w")
    assert claim is not None
    note = {"attempt": 1, "claim": claim.seq, "phase": "running tests"}
    assert isinstance(journal.append([Entry("task.t1", Kind.PHASE, note, expect=claim.seq)]), Appended)
    end(claim)
    assert kinds(journal) == ["task.queued", "task.claimed", "task.phase", "task.completed"]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Kind.CANCELLED, {"by": "me", "reason": None}),
        (Kind.RETRY, {"attempt": 1, "claim": 2, "category": "lease_lost"}),
        (Kind.PHASE, {"attempt": 2, "claim": 99, "phase": "of another claim"}),
    ],
)
def test_a_late_word_is_refused(journal: Engine, kind: Kind, data: dict[str, object]) -> None:
    claim = Claim.acquire(journal, queued(journal), "w")
    assert claim is not None
    assert isinstance(journal.append([Entry("task.t1", kind, data, expect=claim.seq)]), Appended)
    for late in (end, lambda c: phase(c, "started")):
        with pytest.raises(StaleClaim):
            late(claim)
    assert kinds(journal) == ["task.queued", "task.claimed", kind.value]


def test_after_a_takeover_only_the_new_claim_finishes(journal: Engine) -> None:
    task = queued(journal)
    old = Claim.acquire(journal, task, "old")
    assert old is not None
    journal.append([Entry("task.t1", Kind.RETRY, {"attempt": 1, "claim": old.seq}, expect=old.seq)])
    newest = journal.last("task.t1")
    assert newest is not None
    new = Claim.acquire(journal, replace(task, attempts=1, last_seq=newest.seq), "new")
    assert new is not None
    with pytest.raises(StaleClaim):
        end(old)
    end(new)
    with pytest.raises(StaleClaim):
        end(old)
    assert kinds(journal).count("task.completed") == 1


class Deaf:
    """The real journal behind a line that loses answers: the append happens, the caller hears nothing."""

    def __init__(self, journal: Engine, lost: int) -> None:
        self.journal = journal
        self.lost = lost
        self.known: dict[str, Appended] = {}
        self.id, self.epoch, self.durability = journal.id, journal.epoch, journal.durability
        self.read, self.get, self.last = journal.read, journal.get, journal.last
        self.wait, self.head = journal.wait, journal.head

    def append(self, entries: Sequence[Entry]) -> Appended | Conflict | Unknown:
        attempt = entries[0].attempt
        assert attempt is not None, "every append of the product can be told from another"
        answer = self.known.get(attempt) or self.journal.append(entries)
        if isinstance(answer, Appended):
            self.known[attempt] = answer
        if self.lost:
            self.lost -= 1
            return Unknown()
        return answer


class Breaking:
    """The real journal until it has appended so often; then the disk is full."""

    def __init__(self, journal: Engine, appends: int) -> None:
        self.journal, self.appends = journal, appends
        self.id, self.epoch, self.durability = journal.id, journal.epoch, journal.durability
        self.read, self.get, self.last = journal.read, journal.get, journal.last
        self.wait, self.head = journal.wait, journal.head

    def append(self, entries: Sequence[Entry]) -> Appended | Conflict | Unknown:
        answer = self.journal.append(entries) if self.appends else None
        if answer is None:
            raise JournalFull("no space left on the disk")
        self.appends -= isinstance(answer, Appended)
        return answer


def test_claims_that_are_recorded_are_kept_when_the_next_one_fails(journal: Engine) -> None:
    tasks = [queued(journal, name) for name in ("t1", "t2", "t3", "t4")]
    assert Claim.acquire(journal, tasks[0], "another") is not None, "so that each is claimed by itself"
    claims = Claim.acquire_all(Breaking(journal, 2), tasks, "w", None)
    assert [claim.task for claim in claims] == ["t2", "t3"]
    with pytest.raises(JournalFull):
        Claim.acquire_all(Breaking(journal, 0), tasks[3:], "w", None)


def test_a_lost_answer_is_found_again(journal: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("journal.append.PAUSE_S", 0.0)
    deaf = Deaf(journal, 2)
    task = queued(journal)
    claim = Claim.acquire(deaf, task, "w")
    assert claim is not None
    newest = journal.last("task.t1")
    assert newest is not None
    assert newest.seq == claim.seq
    assert Claim.acquire(deaf, task, "another") is None
    deaf.lost = 2
    phase(claim, "prepared")
    deaf.lost = 1
    claim.record(
        [
            (Kind.PHASE, {"attempt": 1, "claim": claim.seq, "phase": "collected"}),
            (Kind.COMPLETED, {"attempt": 1, "claim": claim.seq, "exit_code": 0, "result": None}),
        ]
    )
    assert kinds(journal) == ["task.queued", "task.claimed", "task.phase", "task.phase", "task.completed"]
