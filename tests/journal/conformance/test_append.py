"""What an append answers, and what every reading method gives of it."""

from __future__ import annotations

from typing import Any

import pytest

from journal.errors import EntryRefused, JournalClosed
from journal.records import Appended, Conflict, Entry
from tests.support.journals.engines import Opened
from tests.support.journals.entries import PAYLOADS, delivery, digest

A, B = "delivery.h.a", "delivery.h.b"


def entry(subject: str = A, expect: int | None = 0, **data: object) -> Entry:
    return Entry(subject, "delivery.received", data, None, b"{}", expect)


def test_expectations(opened: Opened) -> None:
    journal = opened()
    assert journal.append([entry(A)]) == Appended((1,))
    assert journal.append([entry(A)]) == Conflict(A, 1)
    assert journal.append([entry(B, 3)]) == Conflict(B, 0)
    assert journal.append([entry(A, 1), entry(B, 0)]) == Appended((2, 3))
    assert journal.append([entry(A, None)]) == Appended((4,))
    assert journal.append([entry(B, 3), entry(A, 2)]) == Conflict(A, 4)
    assert journal.head().seq == 4
    assert journal.last(B) == journal.get(3)
    assert journal.last("task.none") is None
    assert journal.get(0) is None
    assert journal.get(5) is None


def test_an_append_of_nothing_is_done(opened: Opened) -> None:
    journal = opened()
    assert journal.append([]) == Appended(())
    assert journal.append([entry()]) == Appended((1,))


def test_what_an_earlier_entry_of_the_same_append_changes_can_not_be_expected(opened: Opened) -> None:
    journal = opened()
    with pytest.raises(EntryRefused):
        journal.append([entry(A), entry(A)])
    assert journal.append([entry(A), entry(A, None)]) == Appended((1, 2))


@pytest.mark.parametrize(
    "bad",
    [
        {"subject": "delivery.h"},
        {"subject": "delivery.h.a\n"},
        {"subject": "delivery.h." + "a" * 65},
        {"subject": "ops..x"},
        {"kind": "Delivery.received"},
        {"data": {"a": 1, "sum": "x"}},
        {"data": {"a": {"b": 1, "sum": "x"}}},
        {"data": {"n": 1 << 65}},
        {"data": {"s": "\ud800"}},
        {"data": {1: 2}},
        {"about": {"a": b"bytes"}},
        {"data": {"long": "x" * (1 << 20)}},
    ],
)
def test_an_entry_that_the_format_can_not_hold_is_refused(opened: Opened, bad: dict[str, Any]) -> None:
    journal = opened()
    fields: dict[str, Any] = {"subject": A, "kind": "delivery.received", "data": {}, **bad}
    with pytest.raises(EntryRefused):
        journal.append([entry(B), Entry(**fields)])
    assert journal.append([entry(B)]) == Appended((1,)), "nothing of the refused append is there"


def test_every_form_comes_back_from_memory_and_from_disk(opened: Opened) -> None:
    journal = opened()
    entries = [delivery(number) for number in range(30)]
    for one in entries:
        journal.append([one])
    for _ in range(2):
        found = list(journal.read(0))
        assert [digest(record) for record in found[:30]] == [digest(one) for one in entries]
        assert [record.payload for record in found[:30]] == [one.payload for one in entries]
        assert [journal.get(record.seq) for record in found] == found
        assert list(journal.read(17)) == found[17:]
        assert len({record.payload for record in found[:7]}) == len(PAYLOADS)
        journal.close()
        journal = opened()


def test_read_ends_at_the_head_as_it_was_at_the_call(opened: Opened) -> None:
    journal = opened()
    journal.append([entry(A)])
    records = journal.read(0)
    journal.append([entry(B)])
    assert [record.seq for record in records] == [1]


def test_closed_is_closed(opened: Opened) -> None:
    journal = opened()
    journal.append([entry(A)])
    journal.close()
    journal.close()
    with pytest.raises(JournalClosed):
        journal.append([entry(B)])
    assert not journal.wait(99, 30)
