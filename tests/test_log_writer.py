"""The writer of the log: order, bounds, what is dropped and said, and an end that waits for nobody."""

from __future__ import annotations

import errno
import threading

import pytest

from covenq.log_writer import LogWriter, plain_note
from tests.support.waiting import eventually


class Sink:
    """Takes what is written, unless it is `broken`; waits while it isn't `open`. It takes `most` bytes at a time."""

    def __init__(self, most: int = 1 << 20) -> None:
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()
        self.broken = False
        self.most = most
        self.written = b""

    def write(self, data: bytes) -> int:
        self.waiting.set()
        assert self.open.wait(60)
        if self.broken:
            raise OSError(errno.ENOSPC, "full")
        self.written += data[: self.most]
        return len(data[: self.most])


@pytest.mark.parametrize("most", [1, 7, 1 << 20])
def test_lines_come_whole_and_in_order(most: int) -> None:
    sink = Sink(most)
    writer = LogWriter(sink.write)
    lines = [f"line {number} é" for number in range(200)]
    for line in lines:
        writer.put(line)
    assert writer.flush(60)
    assert sink.written.decode().splitlines() == lines
    assert writer.dropped == 0


def test_who_logs_never_waits_and_what_has_no_room_is_counted_where_it_is_missing() -> None:
    sink = Sink()
    sink.open.clear()
    writer = LogWriter(sink.write, queue_max=100)
    writer.put("first")
    assert sink.waiting.wait(60)  # the thread has taken the first, and waits
    for number in range(50):
        writer.put(f"{number:09}")
    assert not writer.flush(0.0)
    assert writer.dropped == 40
    sink.open.set()
    assert writer.flush(60)
    writer.put("last")
    assert writer.flush(60)
    kept = [f"{number:09}" for number in range(10)]
    assert sink.written.decode().splitlines() == ["first", *kept, plain_note(40), "last"]


def test_what_could_not_be_written_is_counted_and_said_when_there_is_space_again() -> None:
    sink = Sink()
    writer = LogWriter(sink.write)
    sink.broken = True
    for number in range(3):
        writer.put(f"lost {number}")
        assert writer.flush(60)
    assert writer.dropped == 3
    sink.broken = False
    writer.note = lambda dropped: f"NOTE {dropped}"
    writer.put("kept")
    assert writer.flush(60)
    assert sink.written == b"NOTE 3\nkept\n"
    writer.put("more")
    assert writer.flush(60)
    assert sink.written == b"NOTE 3\nkept\nmore\n"


def test_a_torn_line_is_ended_before_the_next() -> None:
    sink = Sink(most=4)

    def write(data: bytes) -> int:
        if len(sink.written) == 4 and sink.broken:
            raise OSError(errno.ENOSPC, "full")
        return Sink.write(sink, data) if not sink.broken else _first(sink, data)

    writer = LogWriter(write)
    sink.broken = True
    writer.put("torn line")
    assert writer.flush(60)
    sink.broken = False
    writer.put("whole")
    assert writer.flush(60)
    assert sink.written.decode().splitlines() == ["torn", plain_note(1), "whole"]


def _first(sink: Sink, data: bytes) -> int:
    sink.written += data[:4]
    return 4


def test_the_end_waits_for_a_stuck_reader_for_a_while_alone() -> None:
    sink = Sink()
    sink.open.clear()
    writer = LogWriter(sink.write)
    writer.put("line")
    assert not writer.flush(0.05)
    sink.open.set()
    assert eventually(lambda: writer.flush(1.0), 60)
