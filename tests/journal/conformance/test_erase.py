"""An erasure takes away exactly what its record names, leaves the chain whole, and is recorded once however often it is sent."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from journal.interface import Engine, Reader
from journal.records import Appended, Conflict, Entry, Record, Rewritten
from tests.support.journals.engines import Opened


def delivery(number: int) -> Entry:
    about = {"repo": f"octo/{number}"}
    return Entry(f"delivery.h.{number}", "delivery.received", {"n": number}, about, b'{"secret":%d}' % number, 0)


def naming(*drops: list[int], about: bool = True, expect: int | None = None, subject: str = "ops.redaction") -> Entry:
    return Entry(subject, "delivery.redacted", {"drops": list(drops), "about": about}, expect=expect)


def filled(journal: Engine, number: int = 12) -> list[Record]:
    for one in range(1, number + 1):
        assert journal.append([delivery(one)]) == Appended((one,))
    return list(journal.read(0))


def kept(record: Record) -> tuple[object, ...]:
    """What an erasure may not change."""
    return (
        record.seq,
        record.at,
        record.kind,
        record.data,
        record.payload_sha256,
        record.payload_bytes,
        record.prev,
        record.sum,
    )


def test_what_is_named_is_gone_and_the_rest_is_as_it_was(opened: Opened, read: Callable[[], Reader]) -> None:
    journal = opened()
    before = filled(journal)
    answer, rewritten = journal.erase([naming([2, 3], [7, 7])])
    assert answer == Appended((13,))
    assert isinstance(rewritten, Rewritten)

    def check(records: list[Record]) -> None:
        for old, new in zip(before, records, strict=False):
            assert kept(new) == kept(old)
            if old.seq in (2, 3, 7):
                assert (new.payload, new.about, new.dropped) == (None, None, 13)
            else:
                assert new == old

    for _ in range(2):
        check(list(journal.read(0)))
        check([record for seq in range(1, 13) if (record := journal.get(seq)) is not None])
        assert not journal.erasing
        journal.close()
        with read() as reader:
            assert not reader.damage
            check(list(reader.read(0)))
        journal = opened()


def test_without_about_only_the_payload_goes(opened: Opened) -> None:
    journal = opened()
    filled(journal, 3)
    journal.erase([naming([1, 2], about=False)])
    found = [journal.get(seq) for seq in (1, 2, 3)]
    assert [one is not None and one.payload is None for one in found] == [True, True, False]
    assert [one.about for one in found if one is not None] == [{"repo": f"octo/{n}"} for n in (1, 2, 3)]


def test_an_erasure_that_conflicts_erases_nothing_that_it_names(opened: Opened) -> None:
    journal = opened()
    before = filled(journal, 3)
    answer, _ = journal.erase([naming([1, 1], subject="delivery.h.1", expect=7)])
    assert answer == Conflict("delivery.h.1", 1)
    assert list(journal.read(0)) == before
    assert not journal.erasing


def test_an_erasure_is_recorded_once_whatever_becomes_of_its_answers(opened: Opened) -> None:
    """Half of them expect nothing, so that only the attempt tells a repetition from another erasure."""
    journal = opened()
    filled(journal, 40)
    for seq in range(1, 41):
        entry = naming([seq, seq], subject=f"delivery.h.{seq}", expect=seq if seq % 2 else None)
        answer, _ = journal.erase([entry])
        assert answer == Appended((40 + seq,))
    assert journal.head().seq == 80
    for seq in range(1, 41):
        record = journal.get(seq)
        assert record is not None and (record.payload, record.about, record.dropped) == (None, None, 40 + seq)


def test_several_entries_are_one_append(opened: Opened) -> None:
    journal = opened()
    filled(journal, 4)
    answer, _ = journal.erase([naming([1, 1]), Entry("task.t", "task.cancelled", {}), naming([4, 4], about=False)])
    assert answer == Appended((5, 6, 7))
    assert [record.dropped for record in journal.read(0)][:4] == [5, None, None, 7]


def test_progress_ends_the_work_and_it_can_be_resumed(opened: Opened) -> None:
    class Stop(Exception):
        pass

    asked = 0

    def stop(done: int, total: int) -> None:
        nonlocal asked
        asked += 1
        assert 0 < done <= total
        raise Stop

    journal = opened()
    filled(journal, 3)
    try:
        journal.erase([naming([1, 3])], stop)
    except Stop:
        journal.resume_erasure()
    assert asked == 1
    assert not journal.erasing
    assert [record.payload for record in journal.read(0)][:3] == [None] * 3
    assert journal.head().seq == 4
    assert journal.resume_erasure() == Rewritten(), "nothing is left to do"


def test_parts_are_in_order_and_hold_all_records(opened: Opened) -> None:
    journal = opened()
    filled(journal, 12)
    journal.erase([naming([1, 12])])
    parts = list(journal.parts())
    assert parts and parts[0][0] == 1 and parts == sorted(parts)
    assert all(size > 0 for _, size in parts)


@pytest.mark.parametrize("drops", [[], [[5, 9]], [[0, 0]], "all"])
def test_what_names_nothing_before_it_erases_nothing(opened: Opened, drops: object) -> None:
    journal = opened()
    before = filled(journal, 3)
    answer, rewritten = journal.erase([Entry("ops.redaction", "delivery.redacted", {"drops": drops, "about": True})])
    assert isinstance(answer, Appended) and rewritten == Rewritten()
    assert list(journal.read(0))[:3] == before
