"""Reading ahead: the same records in the same order, no thread that outlives the reading, and errors where they belong."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest
from msgspec import structs

from covenq.state.read_ahead import CHUNK, CHUNKS, read_ahead
from journal.records import Record
from tests.support.records import as_records, received

_ONE = as_records([received("a")])[0]


def records(number: int, read: list[int], fails: bool = False) -> Iterator[Record]:
    """Records 1 to `number`; `read` notes which were asked for, and 0 that the reader was closed."""
    try:
        for seq in range(1, number + 1):
            read.append(seq)
            yield structs.replace(_ONE, seq=seq)
        if fails:
            raise OSError("the disk is gone")
    finally:
        read.append(0)


@pytest.mark.parametrize("number", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, (CHUNKS + 3) * CHUNK + 7])
def test_all_records_come_in_their_order(number: int) -> None:
    read: list[int] = []
    with read_ahead(records(number, read)) as ahead:
        assert [one.seq for one in ahead] == list(range(1, number + 1))
    assert read[-1] == 0


def test_what_reading_raises_is_raised_after_what_was_read_before() -> None:
    seen: list[int] = []
    with pytest.raises(OSError, match="the disk is gone"), read_ahead(records(CHUNK * 2, [], fails=True)) as ahead:
        seen.extend(one.seq for one in ahead)
    assert len(seen) == CHUNK * 2


def test_who_stops_early_leaves_no_thread_and_no_setting_and_reads_no_more_than_was_waiting() -> None:
    read: list[int] = []
    before = sys.getswitchinterval()
    source = records(1_000_000, read)
    with read_ahead(source) as ahead:
        assert next(iter(ahead)).seq == 1
    assert not [one for one in threading.enumerate() if one.name == "read ahead"]
    assert sys.getswitchinterval() == before
    source.close()
    assert read[-1] == 0
    assert max(read) <= (CHUNKS + 3) * CHUNK


def test_what_the_fold_raises_ends_the_thread() -> None:
    with pytest.raises(ZeroDivisionError), read_ahead(records(1_000_000, [])):
        raise ZeroDivisionError
    assert not [one for one in threading.enumerate() if one.name == "read ahead"]
