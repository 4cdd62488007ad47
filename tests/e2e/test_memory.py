"""The memory of the daemon and its follower with bodies in flight, measured: many large ones at once, some of them slow."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.requests import Answer, new_guid, signed
from tests.support.waiting import eventually

BOUND = 384 << 20
"""The bound in covenq-http(7) for bodies in flight, with the default settings."""
FOLLOWER_IDLE, FOLLOWER_MAX = 60 << 20, 80 << 20
"""The follower's, whatever is in flight: it reads no payload."""
SIZE = 24 << 20


@pytest.fixture
def forked() -> bool:
    return False  # the memory of a process that imports only what it needs


def memory(pid: int, what: str) -> int:
    """A value of /proc/PID/status, in bytes: VmRSS is the current size, VmHWM the peak."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == what:
            return int(value.split()[0]) * 1024
    raise AssertionError(what)


@pytest.mark.parametrize("count", [8, *(pytest.param(count, marks=pytest.mark.deep) for count in (24, 96))])
def test_many_large_bodies_at_once_are_all_accepted_within_the_bound(
    make_daemon: Callable[..., Daemon], count: int
) -> None:
    daemon = make_daemon('[server]\nbody_timeout = "5m"\n')
    follower = int(daemon.api("/api/v1/status").json["state"]["follower"]["pid"])
    idle = memory(follower, "VmRSS")
    assert idle < FOLLOWER_IDLE, f"{idle >> 20} MiB"
    before = memory(daemon.pid, "VmRSS")
    content = b'{"x":"' + b"y" * (SIZE - 8) + b'"}'
    _, headers = signed("star", content)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    stalled = []
    for _ in range(10):
        connection = socket.create_connection(("127.0.0.1", daemon.port), timeout=60)
        connection.sendall(f"POST /webhook HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {SIZE}\r\n\r\n".encode())
        connection.sendall(content[: 1 << 20])
        stalled.append(connection)

    def post(number: int) -> Answer:
        _, headers = signed("star", content, guid=new_guid())
        if number % 3:
            return daemon.request("POST", "/webhook", content, headers, timeout=300)
        connection = daemon.connect(300)
        pieces = (content[start : start + 100_000] for start in range(0, SIZE, 100_000))
        connection.request("POST", "/webhook", pieces, headers, encode_chunked=True)
        response = connection.getresponse()
        answer = Answer(response.status, {}, response.read())
        connection.close()
        return answer

    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(post, range(count)))
    assert [answer.status for answer in answers] == [202] * count
    eventually(lambda: daemon.api("/api/v1/status").json["state"]["lag"] == 0, 60)
    most, folding = memory(daemon.pid, "VmHWM"), memory(follower, "VmHWM")
    print(f"idle {before >> 20} + {idle >> 20} MiB, at most {most >> 20} + {folding >> 20} MiB")
    assert folding < FOLLOWER_MAX, f"{folding >> 20} MiB"
    assert most + folding < before + idle + BOUND, f"{most >> 20} + {folding >> 20} MiB"
    for connection in stalled:
        connection.close()
    # And given back: what the bodies took is not kept.
    eventually(lambda: memory(daemon.pid, "VmRSS") < before + (BOUND // 4), 60, "the memory is given back")
