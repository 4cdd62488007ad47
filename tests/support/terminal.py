"""A command at a terminal: what a person sees of it."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys

from tests.support.daemon import Daemon


class InTerminal:
    """A command with a terminal of its own. `said` is everything that came out of it, both streams."""

    def __init__(self, daemon: Daemon, *args: str, typed: bytes = b"", **env: str) -> None:
        master, slave = pty.openpty()
        environment = {**daemon.environment(), "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "", **env}
        command = [sys.executable, "-m", "covenq", *args]
        process = subprocess.Popen(
            command, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        if typed:
            os.write(master, typed)
        said = b""
        with contextlib.suppress(OSError):  # a terminal whose other side is gone answers EIO
            while chunk := os.read(master, 65536):
                said += chunk
        os.close(master)
        self.code = process.wait(60)
        self.said = said.decode("utf-8", "replace")
