"""Messages with descriptors, over a real pair of sockets, in whatever pieces they come."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from covenq.net.descriptors import LINE_MAX, MessageConnection, MessageError, peer_of


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, MessageConnection]]:
    here, there = socket.socketpair()
    here.settimeout(30)
    connection = MessageConnection(there)
    yield here, connection
    here.close()
    connection.close()


def test_messages_keep_their_descriptors(pair: tuple[socket.socket, MessageConnection]) -> None:
    here, there = pair
    sender = MessageConnection(here)
    read, write = os.pipe()
    sender.send({"a": 1}, [write])
    sender.send({"b": 2})
    sender.send({"c": 3}, [read, write])
    first, second, third = there.receive(30), there.receive(30), there.receive(30)
    assert first is not None and second is not None and third is not None
    assert (first.fields, second.fields, third.fields) == ({"a": 1}, {"b": 2}, {"c": 3})
    assert [len(one.descriptors) for one in (first, second, third)] == [1, 0, 2]
    assert not os.get_inheritable(first.descriptors[0])
    os.write(first.descriptors[0], b"x")
    assert os.read(third.descriptors[0], 1) == b"x"
    for number in (read, write, *first.descriptors, *third.descriptors):
        os.close(number)
    here.shutdown(socket.SHUT_WR)
    assert there.receive(30) is None


def test_pieces_are_put_together(pair: tuple[socket.socket, MessageConnection]) -> None:
    here, there = pair
    here.sendall(b'{"a"')
    with pytest.raises(TimeoutError):
        there.receive(0.05)
    here.sendall(b":1}\n{")
    message = there.receive(30)
    assert message is not None and message.fields == {"a": 1}


@pytest.mark.parametrize(
    "line",
    [b"[]\n", b"x\n", b'{"descriptors":1}\n', b'{"descriptors":true}\n', b'{"descriptors":-1}\n', b"[" * 4000 + b"\n"],
)
def test_what_is_no_message_is_an_error(pair: tuple[socket.socket, MessageConnection], line: bytes) -> None:
    here, there = pair
    here.sendall(line)
    with pytest.raises(MessageError):
        there.receive(30)


def test_a_line_without_an_end_is_bounded(pair: tuple[socket.socket, MessageConnection]) -> None:
    here, there = pair
    here.sendall(b"x" * (2 * LINE_MAX + 1))
    with pytest.raises(MessageError):
        there.receive(30)


def test_the_peer_is_known(pair: tuple[socket.socket, MessageConnection]) -> None:
    assert peer_of(pair[0]) in (None, (os.getpid(), os.geteuid()))
