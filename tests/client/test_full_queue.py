"""A Unix socket whose queue of connections is full: what is said of it, and that a turn is waited for."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from covenq.errors import DaemonUnreachable
from covenq.net import unix_socket
from covenq.net.http_client import Client

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the queue of Linux")


@pytest.fixture
def full(data: Path) -> Iterator[tuple[socket.socket, Path]]:
    """A socket that accepts nothing by itself, and its path; its queue is full."""
    data.mkdir(exist_ok=True)
    path = data / "full.sock"
    with unix_socket.bind(path) as bound:
        bound.listen(0)
        with unix_socket.connect(path, 5.0):
            yield bound, path


def test_a_full_queue_is_not_taken_for_a_daemon_that_does_not_run(full: tuple[socket.socket, Path]) -> None:
    with pytest.raises(DaemonUnreachable, match="too many connections") as raised:
        Client(full[1], timeout=0.05).get("/")
    assert "covenq serve" not in str(raised.value.hint)


def test_a_turn_is_waited_for(full: tuple[socket.socket, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    bound, path = full
    found_full, wait = threading.Event(), unix_socket._connect_in_turn

    def noted(connection: socket.socket, name: str, timeout: float) -> None:
        found_full.set()
        wait(connection, name, timeout)

    monkeypatch.setattr(unix_socket, "_connect_in_turn", noted)
    got: list[socket.socket] = []
    waiting = threading.Thread(target=lambda: got.append(unix_socket.connect(path, 30.0)), daemon=True)
    waiting.start()
    assert found_full.wait(30)
    bound.accept()[0].close()
    waiting.join(30)
    assert got and got[0].gettimeout() == 30.0
    got[0].close()
