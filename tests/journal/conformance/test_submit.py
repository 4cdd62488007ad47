"""Appends that do not block: answered once, and with what `append` would have said."""

from __future__ import annotations

import threading

import pytest

from journal.errors import EntryRefused, JournalClosed, JournalError
from journal.records import Appended, Conflict, Entry
from tests.support.journals.engines import Opened
from tests.support.journals.submissions import HANG_S, Answers, submission


def test_whoever_is_answered_finds_the_record_in_the_journal(opened: Opened) -> None:
    journal = opened()
    seen: list[int] = []
    settled = threading.Event()
    journal.submit([submission(1), submission(2)], lambda answer: seen.append(journal.head().seq), settled.set)
    journal.start_batch()
    assert settled.wait(HANG_S)
    assert seen == [2]


def test_what_can_not_be_recorded_is_said_at_once(opened: Opened) -> None:
    journal = opened()
    told = Answers()
    with pytest.raises(EntryRefused):
        journal.submit([Entry("nothing", "delivery.received", {})], told.done("refused"), told.after)
    journal.append([submission(1)])
    assert told.given == []


def test_closing_answers_what_was_submitted_and_takes_no_more(opened: Opened) -> None:
    journal = opened()
    told = Answers()
    for number in range(10):
        journal.submit([submission(number)], told.done(f"s{number}"), told.after)
    journal.close()
    answers = [one for one in told.given if one[0] != "after"]
    assert sorted(name for name, _ in answers) == [f"s{number}" for number in range(10)]
    seqs = [answer.seqs for _, answer in answers if isinstance(answer, Appended)]
    assert sorted(seqs) == [(number + 1,) for number in range(10)], "in any order: an answer that was lost comes later"
    assert told.given[-1] == ("after", None)
    with pytest.raises(JournalClosed):
        journal.submit([submission(11)], told.done("too late"))
    records = list(opened().read(0))
    assert {record.subject for record in records[:10]} == {submission(number).subject for number in range(10)}


def test_many_submitters_are_all_told_what_is_in_the_log(opened: Opened) -> None:
    journal = opened()
    told: dict[str, Appended | Conflict | JournalError] = {}
    left = threading.Semaphore(0)

    def work(start: int) -> None:
        for number in range(start, start + 50):
            one = submission(number % 150)  # a quarter of them are there already
            key = f"{number}"
            journal.submit([one], lambda answer, key=key: (told.__setitem__(key, answer), left.release()))
            journal.start_batch()

    threads = [threading.Thread(target=work, args=(50 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(200):
        assert left.acquire(timeout=HANG_S)
    assert sum(isinstance(answer, Conflict) for answer in told.values()) == 50
    for key, answer in told.items():
        seq = answer.seqs[0] if isinstance(answer, Appended) else answer.last  # type: ignore[union-attr]
        record = journal.get(seq)
        assert record is not None and record.subject == submission(int(key) % 150).subject
