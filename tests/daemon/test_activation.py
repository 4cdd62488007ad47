"""The sockets that a service manager passes: as sd_listen_fds(3) says, and nothing else."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from covenq.daemon.activation import listening
from covenq.errors import Refused
from tests.support.checkout import clean_env


@pytest.fixture
def first() -> Iterator[int]:
    """A run of three free descriptors: the number of the first, put at a place where nothing else is."""
    yield 200
    for number in (200, 201, 202):
        try:
            os.close(number)
        except OSError:
            pass


def test_they_are_taken_by_number_and_closed_on_exec(first: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        for at, bound in enumerate((one, two)):
            os.dup2(bound.fileno(), first + at, inheritable=True)
        env = {"LISTEN_PID": "77", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"}
        found = listening(env, "127.0.0.1:18120", pid=77, first=first)
        assert [each.getsockname() for each in found] == [one.getsockname(), two.getsockname()]
        assert not any(os.get_inheritable(first + at) for at in range(2))
        for each in found:
            each.close()


@pytest.mark.parametrize(
    "env", [{}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "78"}, {"LISTEN_FDS": "x", "LISTEN_PID": "77"}]
)
def test_what_is_meant_for_another_process_is_left_alone(env: dict[str, str], first: int) -> None:
    assert listening(env, "127.0.0.1:18120", pid=77, first=first) == []


def test_what_is_no_listening_tcp_socket_is_refused(first: int) -> None:
    env = {"LISTEN_PID": "77", "LISTEN_FDS": "1"}
    with pytest.raises(Refused, match="is none"):
        listening(env, "127.0.0.1:18120", pid=77, first=first)
    with socket.socket(socket.AF_UNIX) as unix, socket.socket() as silent, Path(os.devnull).open("rb") as file:
        for other in (unix, silent, file):
            os.dup2(other.fileno(), first)
            with pytest.raises(Refused, match=r"no socket|no TCP socket that listens"):
                listening(env, "127.0.0.1:18120", pid=77, first=first)


def test_what_is_wrong_with_a_passed_socket_is_told_with_the_address_that_is_configured(data: Path) -> None:
    command = ["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3>&-', "sh", sys.executable, "-m", "covenq", "serve"]
    env = clean_env(COVENQ_DATA=str(data), COVENQ_BIND="127.0.0.1:18120")
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    # A library that is loaded meanwhile may have opened a file of its own in its place, as newer versions of libffi do.
    told = r"descriptor 3( \(without a name\))?, which was passed, is (none|no socket)"
    assert re.search(told, done.stderr), done.stderr
    assert "ListenStream=127.0.0.1:18120," in done.stderr
