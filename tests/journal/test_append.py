"""Appending until the answer is known: repeated under one attempt id, within a deadline, and nothing recorded twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from journal.append import append_known, erase_known, submit_known
from journal.errors import ErasureFailed, JournalError, JournalFull, JournalUnanswered, JournalUnavailable
from journal.file.engine import FileJournal
from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from journal.interface import Progress
from journal.records import Appended, Conflict, Entry, Rewritten, Unknown
from tests.support.flaky import FlakyJournal
from tests.support.journals.making import NEVER_S

NOTE = Entry("ops.note", "ops.note", {"n": 1})


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[FileJournal]:
    with open_journal(tmp_path / "journal", force_filesystem=True, settings=WriteSettings(idle_s=NEVER_S)) as opened:
        yield opened


class Scripted:
    """Answers in the order given, and remembers what was asked."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[Sequence[Entry]] = []

    def append(self, entries: Sequence[Entry]) -> Appended | Conflict | Unknown:
        self.asked.append(entries)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Appended | Conflict | Unknown)
        return answer


class Time:
    """A clock that moves as far as is slept."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def known(journal: Scripted, time: Time, deadline: float | None = None) -> Appended | Conflict:
    return append_known(journal, [NOTE, NOTE], deadline, monotonic=lambda: time.now, sleep=time.sleep)


def test_an_answer_that_comes_is_given_at_once() -> None:
    time = Time()
    for answer in (Appended((1, 2)), Conflict("ops.note", 7)):
        assert known(Scripted(answer), time) is answer
    assert time.now == 0


def test_all_tries_are_the_same_and_no_two_appends_are() -> None:
    journal = Scripted(Unknown(), Unknown(), Appended((1, 2)), Appended((3, 4)))
    time = Time()
    known(journal, time)
    known(journal, time)
    first, second, third, other = journal.asked
    assert first == second == third
    assert [entry.attempt for entry in first] == [first[0].attempt] * 2
    assert first[0].attempt is not None
    assert first[0].attempt != other[0].attempt


def test_it_gives_up_at_the_deadline_and_says_what_is_not_known() -> None:
    journal, time = Scripted(*[Unknown()] * 1000), Time()
    with pytest.raises(JournalUnanswered):
        known(journal, time)
    assert time.now == pytest.approx(8.0)
    assert 15 < len(journal.asked) < 30, "pauses grow, up to half a second"


def test_a_stop_ends_the_tries() -> None:
    journal = Scripted(*[Unknown()] * 1000)
    with pytest.raises(JournalUnanswered):
        append_known(journal, [NOTE], float("inf"), stopped=lambda: len(journal.asked) >= 5, sleep=lambda s: None)
    assert len(journal.asked) == 5


def test_a_full_disk_is_told_only_where_nothing_may_have_been_recorded() -> None:
    with pytest.raises(JournalFull):
        known(Scripted(JournalFull("no space")), Time())
    journal = Scripted(Unknown(), JournalFull("no space"), Appended((1, 2)))
    assert known(journal, Time()) == Appended((1, 2))


class ScriptedErasing(FlakyJournal):
    """A journal whose erasures are answered in the order given, each with what it rewrote."""

    def __init__(self, journal: FileJournal, *answers: tuple[Appended | Conflict | Unknown, Rewritten] | ErasureFailed):
        super().__init__(journal, 0)
        self.answers = list(answers)
        self.asked: list[Sequence[Entry]] = []

    def erase(
        self, entries: Sequence[Entry], progress: Progress | None = None
    ) -> tuple[Appended | Conflict | Unknown, Rewritten]:
        self.asked.append(entries)
        answer = self.answers.pop(0)
        if isinstance(answer, ErasureFailed):
            raise answer
        return answer


UNKNOWN = (Unknown(), Rewritten())
NO_SPACE = ErasureFailed("no space", recorded=False)


def test_an_erasure_is_repeated_as_an_append_is(journal: FileJournal) -> None:
    erased = (Appended((5,)), Rewritten(frozenset({1, 4}), 70))
    scripted = ScriptedErasing(journal, UNKNOWN, UNKNOWN, NO_SPACE, erased)
    assert erase_known(scripted, [NOTE], sleep=lambda seconds: None) == erased
    assert len({entry.attempt for entries in scripted.asked for entry in entries}) == 1
    assert len(scripted.asked) == 4


def test_an_erasure_that_failed_is_told_where_it_is_known_what_was_recorded(journal: FileJournal) -> None:
    recorded = ErasureFailed("no space", recorded=True)
    for answers in ([NO_SPACE], [recorded], [UNKNOWN, recorded]):
        with pytest.raises(ErasureFailed):
            erase_known(ScriptedErasing(journal, *answers), [NOTE], sleep=lambda seconds: None)


def test_an_erasure_that_is_never_answered_ends_at_its_deadline(journal: FileJournal) -> None:
    time = Time()
    with pytest.raises(JournalUnanswered):
        erase_known(
            ScriptedErasing(journal, *[UNKNOWN] * 99), [NOTE], None, 2.0, monotonic=lambda: time.now, sleep=time.sleep
        )
    assert time.now == pytest.approx(2.0)


def test_a_lost_connection_is_told_only_where_nothing_may_have_been_recorded() -> None:
    with pytest.raises(JournalUnavailable):
        known(Scripted(JournalUnavailable("cut")), Time())
    journal = Scripted(Unknown(), JournalUnavailable("cut"), Appended((1, 2)))
    assert known(journal, Time()) == Appended((1, 2))


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_recorded_twice_over_a_bad_connection(journal: FileJournal, seed: int) -> None:
    flaky = FlakyJournal(journal, seed)
    last: dict[str, int] = {}
    recorded = 0
    for number in range(60):
        subject = f"task.t{number % 5}"
        entries = [
            Entry(subject, "task.phase", {"n": number}, expect=last.get(subject, 0)),
            Entry("ops.note", "ops.note", {"n": number}),
        ]
        answer = append_known(flaky, entries, sleep=lambda seconds: None)
        assert isinstance(answer, Appended)
        last[subject] = answer.seqs[0]
        recorded += 2
        assert isinstance(append_known(flaky, [entries[0]], sleep=lambda seconds: None), Conflict)
    assert flaky.lost > 10
    assert [record.seq for record in journal.read(0)] == list(range(1, recorded + 1))
    assert [record.data["n"] for record in journal.read(0)] == [n for n in range(60) for _ in range(2)]


@pytest.mark.parametrize("seed", range(20))
def test_submissions_are_answered_once_and_known(
    journal: FileJournal, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("journal.append.PAUSE_S", 0.001)
    flaky = FlakyJournal(journal, seed)
    answers: list[object] = []
    told = threading.Semaphore(0)

    def done(answer: Appended | Conflict | Unknown | JournalError) -> None:
        answers.append(answer)
        told.release()

    for number in range(20):
        submit_known(flaky, [Entry(f"task.t{number}", "task.queued", {}, expect=0)], done)
    for _ in range(20):
        assert told.acquire(timeout=30)
    assert all(isinstance(answer, Appended) for answer in answers)
    assert sorted(seq for answer in answers if isinstance(answer, Appended) for seq in answer.seqs) == list(
        range(1, 21)
    )


def test_a_submission_that_stays_unanswered_is_told_so_and_its_batch_is_ended() -> None:
    class Dead(Scripted):
        def submit(self, entries: Sequence[Entry], done: object, after: object = None) -> None:
            assert callable(done)
            done(Unknown())

        def start_batch(self) -> None: ...

    found: list[object] = []
    ended = threading.Event()
    submit_known(Dead(*[Unknown()] * 1000), [NOTE], found.append, ended.set, deadline=0.0)  # type: ignore[arg-type]
    assert ended.wait(30)
    assert [type(one) for one in found] == [JournalUnanswered]
