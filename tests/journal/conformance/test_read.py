"""A reader gives what the engine that wrote it gave, and takes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from journal.errors import JournalClosed
from journal.interface import Reader
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
