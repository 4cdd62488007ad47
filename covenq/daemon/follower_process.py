"""One process of the follower (`covenq.daemon.follower`), as the daemon holds it: started, told, heard, ended.

It is executed, never forked alone: a fork would share the journal's lock. It inherits its end of the socket and nothing else: no
descriptor, and of the environment only what an interpreter and SQLite need to find their files, and with a journal in a database
what its client reads, such as where the password is. It is started by the main thread, with whose end the system kills it.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import covenq
from covenq.daemon.follower_messages import Channel, Message
from covenq.tasks.execution import process_tree

MODULE = "covenq.daemon.follower"
KEPT = ("PYTHONHOME", "LD_LIBRARY_PATH", "TMPDIR", "SQLITE_TMPDIR")
"""Variables that it gets as the daemon has them."""
KEPT_FOR_DATABASE = ("HOME", "KRB5CCNAME", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Those that say to libpq and what it uses where passwords, tickets and certificates are; beside its own, which begin with PG."""
LINE_BYTES = 4096

log = logging.getLogger("covenq.daemon")


def environment(env: Mapping[str, str], path: Sequence[str], *, database: bool = False) -> dict[str, str]:
    """The follower's: it finds the modules that this process found, wherever they were installed, and no secret but, with a
    journal in a database, what leads there.

    Not what lies in the working directory, unless that is where covenq is: an interpreter imports some names of PYTHONPATH
    by itself.
    """
    names = [*KEPT, *KEPT_FOR_DATABASE, *(name for name in env if name.startswith("PG"))] if database else KEPT
    kept = {name: env[name] for name in names if name in env}
    here, home = str(Path.cwd()), str(Path(covenq.__file__).absolute().parents[1])
    places = [os.path.abspath(one) for one in path if one]  # noqa: PTH100 - of text
    return {**kept, "PYTHONPATH": os.pathsep.join(one for one in places if one != here or one == home)}


class FollowerProcess:
    """Starting one takes some milliseconds; it answers when its imports are done. All but `tell` is for the main thread."""

    def __init__(
        self, hear: Callable[[FollowerProcess, Message], None], gone: Callable[[], None], *, database: bool
    ) -> None:
        """`hear` is called with each message, on a thread of this process's own, and `gone` at its end; `database` says whether
        the journal is in one. Raises OSError.
        """
        self._hear = hear
        self._gone = gone
        ours, theirs = socket.socketpair()
        try:
            with theirs, process_tree.starting_own() as own:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", MODULE, str(theirs.fileno())],
                    env=environment(os.environ, sys.path, database=database),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=[theirs.fileno()],
                    # Of a session of its own: what is typed at the daemon's terminal is not for it.
                    start_new_session=True,
                )
                own.add(self._process.pid)
        except BaseException:
            ours.close()
            raise
        self._channel = Channel(ours)
        self._over = threading.Event()
        try:
            for work in (self._listen, self._log):
                threading.Thread(target=work, name="follower", daemon=True).start()
        except RuntimeError as error:  # no thread is left to this user
            self._channel.close()
            self._process.kill()
            self._process.wait()
            process_tree.forget_own(self.pid)
            raise OSError(errno.EAGAIN, f"{os.strerror(errno.EAGAIN)} ({error})") from error

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, message: Message) -> bool:
        """False if it has ended."""
        return self._channel.tell(message)

    def ended(self) -> str | None:
        """How it ended, in words; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        process_tree.forget_own(self.pid)
        return f"exit code {code}" if code >= 0 else f"signal {-code}"

    def wait(self, timeout: float) -> bool:
        """Wait for its end; whether it came."""
        return self._over.wait(timeout)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)

    def end(self, within_s: float) -> None:
        """Close the socket, at whose end it ends by itself; SIGKILL after `within_s`. It is gone on return."""
        self._channel.close()
        if not self._over.wait(within_s):
            self.kill()
            self._over.wait()
        self.ended()

    def _listen(self) -> None:
        try:
            for message in self._channel.hear():
                self._hear(self, message)
        finally:
            # Its descriptors are closed a moment before its end can be waited for.
            self._process.wait()
            self._over.set()
            self._gone()

    def _log(self) -> None:
        """What the interpreter itself writes, a traceback perhaps, is a line of the daemon's log each."""
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            while line := lines.readline(LINE_BYTES):
                log.error("the follower: %s", line.decode("utf-8", "replace").rstrip())
