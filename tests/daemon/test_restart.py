"""A restart in the same process: what it takes along, and that it says nothing to any other process."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from covenq.daemon.restart import VARIABLE, Restart, inherited
from covenq.errors import CovenqError
from covenq.http.server.listener import bind_tcp


def left_by(*managed: socket.socket, env: dict[str, str] | None = None) -> dict[str, str]:
    """The environment that a restart gives to the program."""
    given: list[tuple[str, list[str], dict[str, str]]] = []
    Restart(managed).execute(["python", "-m", "covenq"], env or {}, lambda *words: given.append(words))
    ((program, argv, environment),) = given
    assert (program, argv) == (sys.executable, ["python", "-m", "covenq"])
    return environment


def test_a_service_managers_sockets_stay_open_over_it_and_are_closed_on_exec_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        address = bound.getsockname()
        env = left_by(bound, env={"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "KEPT": "yes"})
    assert {name for name in env if name != VARIABLE} == {"KEPT"}
    (found,) = inherited(env) or ()
    with found:
        assert found.getsockname() == address and not found.get_inheritable()
        socket.create_connection(address).close()


def test_it_is_a_restart_also_without_any() -> None:
    assert inherited(left_by()) == []


@pytest.mark.parametrize("said", ["", "x", "[]", "{}", '{"pid": 0, "sockets": []}', '{"sockets": []}'])
def test_what_is_not_of_this_process_says_nothing(said: str) -> None:
    assert inherited({VARIABLE: said}) is None and inherited({}) is None


def test_the_pid_is_that_of_the_process() -> None:
    assert f'"pid": {os.getpid()}' in left_by()[VARIABLE]


def test_a_program_that_is_gone_is_an_error_with_a_sentence() -> None:
    def gone(program: str, argv: list[str], env: dict[str, str]) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(CovenqError, match="can't start again by itself: No such file"):
        Restart([]).execute(["python"], {}, gone)


def test_an_address_is_taken_before_anything_answers_there_and_connections_are_refused_until_then() -> None:
    """Another node leads, and takes them: who waited here would wait for the whole start."""
    with bind_tcp("127.0.0.1", 0, listens=False) as bound:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(bound.getsockname())
        bound.listen()
        socket.create_connection(bound.getsockname()).close()
