"""A reader gives what the engine that wrote it gave, and takes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from msgspec import structs

from journal.errors import JournalClosed
from journal.interface import Reader
from journal.records import Entry, Record
from tests.support.journals.engines import Opened
from tests.support.journals.entries import delivery


def test_a_reader_reads_the_same(opened: Opened, read: Callable[[], Reader]) -> None:
    journal = opened()
    for number in range(30):
        journal.append([delivery(number)])
    written = list(journal.read(0))
    id, epoch = journal.id, journal.epoch
    journal.close()
    with read() as reader:
        assert list(reader.read(0, only={1})) == written[:1]
        assert (reader.id, reader.epoch, list(reader.damage)) == (id, epoch, [])
        found = list(reader.read(0))
        assert found[: len(written)] == written
        assert list(reader.read(17)) == found[17:]
        assert list(reader.read(3, only={2, 9, 5, 10**9})) == [found[4], found[8]]
        assert reader.head().seq == found[-1].seq and reader.head().sum == found[-1].sum
        assert [reader.get(record.seq) for record in found] == found
        assert reader.get(0) is None and reader.get(found[-1].seq + 1) is None
        assert all(reader.last(record.subject) == record for record in written)
        assert reader.last("task.none") is None


def test_nothing_is_appended_by_a_reader(opened: Opened, read: Callable[[], Reader]) -> None:
    opened().close()
    with read() as reader:
        with pytest.raises(JournalClosed):
            reader.append([delivery(1)])
        assert not reader.wait(reader.head().seq, 0.0)


def bare(records: Iterable[Record]) -> list[Record]:
    return [structs.replace(record, payload=None) for record in records]


def test_without_payloads_a_record_lacks_its_payload_alone(opened: Opened, read: Callable[[], Reader]) -> None:
    journal = opened()
    for number in range(30):
        journal.append([delivery(number)])
    for erased in (False, True):
        if erased:
            journal.erase([Entry("ops.retention", "journal.dropped", {"drops": [[3, 5]], "about": False})])
            journal.erase([Entry("ops.retention", "journal.dropped", {"drops": [[5, 9]], "about": True})])
            journal.append([delivery(40)])
        written = list(journal.read(0))
        assert list(journal.read(0, payloads=False)) == bare(written)
        assert list(journal.read(17, payloads=False)) == bare(written[17:])
        assert list(journal.read(3, only={2, 9, 5, 10**9}, payloads=False)) == bare([written[4], written[8]])
        assert list(journal.read(0)) == written, "payloads are as they were"
    journal.close()
    with read() as reader:
        found = list(reader.read(0))
        assert list(reader.read(0, payloads=False)) == bare(found)
        for after in range(len(found)):
            assert next(reader.read(after, payloads=False)) == bare([found[after]])[0]
        assert list(reader.read(3, only={2, 9, 5, 10**9}, payloads=False)) == bare([found[4], found[8]])
        assert list(reader.read(found[-1].seq, payloads=False)) == []


def test_the_head_of_a_reader_never_goes_back(opened: Opened, read: Callable[[], Reader]) -> None:
    journal = opened()
    journal.append([delivery(1)])
    journal.append([delivery(2)])
    journal.close()
    with read() as reader:
        head = reader.head()
        reader.advance(1)
        assert reader.head() == head
        assert reader.wait(head.seq - 1, 0.0)
