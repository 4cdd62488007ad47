"""The follower of a forked daemon, forked too: in hundreds of tests an interpreter of its own costs more than the daemon.

It is forked while the daemon has one thread, and waits to be started. Where the product then executes its first follower, this
one goes on instead, with the environment and the socket that it would have had; the ones after that are executed. What is the
process's own (its command line, what an interpreter reads) is tested by daemons that are not forked.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import IO, Any, NoReturn

import orjson


class ForkedFollower:
    """What the daemon uses of `subprocess.Popen`; for any thread."""

    def __init__(self, pid: int, stderr: IO[bytes]) -> None:
        self.pid = pid
        self.stderr = stderr
        self.returncode: int | None = None
        self._reaping = threading.Lock()

    def poll(self) -> int | None:
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        try:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)  # without the lock, and another may be quicker
        except ChildProcessError:
            pass
        code = self._reap(0)
        assert code is not None
        return code

    def _reap(self, how: int) -> int | None:
        with self._reaping:
            if self.returncode is None:
                try:
                    pid, status = os.waitpid(self.pid, how)
                    self.returncode = os.waitstatus_to_exitcode(status) if pid else None
                except ChildProcessError:  # as subprocess has it where somebody else has reaped it
                    self.returncode = 0
            return self.returncode

    def send_signal(self, number: int) -> None:
        with self._reaping:
            if self.returncode is None:
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork_follower() -> None:
    """To be called by a daemon's process before anything of the daemon runs."""
    from covenq.daemon import follower_process

    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        ours.close()
        os.close(reading)
        _wait_and_follow(theirs, writing)
    theirs.close()
    os.close(writing)

    def start(
        command: Sequence[str], *, env: Mapping[str, str], pass_fds: Sequence[int], **options: Any
    ) -> ForkedFollower | subprocess.Popen[bytes]:
        follower_process.subprocess = subprocess  # type: ignore[assignment]
        try:
            with ours:
                socket.send_fds(ours, [orjson.dumps(dict(env))], list(pass_fds))
        except OSError:  # it was killed before it was needed
            os.close(reading)
            return subprocess.Popen(command, env=env, pass_fds=pass_fds, **options)
        return ForkedFollower(pid, os.fdopen(reading, "rb"))

    instead = SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL, PIPE=subprocess.PIPE)
    follower_process.subprocess = instead  # type: ignore[assignment]


def _wait_and_follow(asked: socket.socket, stderr: int) -> NoReturn:
    """In the child. A daemon that needs no follower ends, and with it this."""
    code = 1
    try:
        env, [given], _, _ = socket.recv_fds(asked, 1 << 20, 1)
        asked.detach()  # its number may become another's
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor, place in ((null, 0), (null, 1), (stderr, 2)):
            os.dup2(descriptor, place)
        given = os.dup2(given, 3)
        os.closerange(4, 256)
        os.environ.clear()
        os.environ.update(orjson.loads(env))
        from covenq.daemon import follower

        follower.main([str(given)])
    except ValueError:
        code = 0
    finally:
        os._exit(code)
