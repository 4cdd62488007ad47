"""covenq commands, run to their end, and daemons: thousands of them in the suite, so that what they share is started once."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.checkout import clean_env
from tests.support.forking import MOST_STDIN, ForkedDaemon, Forker

_forkers: dict[tuple[int, str], Forker] = {}
"""By the process whose it is, for a test may fork, and by what it forks."""


def run_command(
    args: Sequence[str], env: Mapping[str, str], input: bytes = b"", timeout: float = 120.0
) -> subprocess.CompletedProcess[bytes]:
    """What `python -m covenq ARGS` does, writes and exits with.

    It is forked from a process that has imported covenq (`forking`). What can't be the same there is started as a user would:
    beside other threads' commands, with other settings of the interpreter, or with more on its standard input than a pipe takes.
    """
    forker = _forker("commands", env)
    if forker is None or len(input) > MOST_STDIN:
        argv = [sys.executable, "-m", "covenq", *args]
        return subprocess.run(argv, env=env, input=input, capture_output=True, timeout=timeout)
    done = forker.run(*args, env=env, cwd=Path.cwd(), stdin=input, umask=_umask(), hang_s=timeout)
    if done.code == -signal.SIGALRM:
        raise subprocess.TimeoutExpired(["covenq", *args], timeout, done.stdout, done.stderr)
    return subprocess.CompletedProcess(args, done.code, done.stdout, done.stderr)


def fork_daemon(args: Sequence[str], env: Mapping[str, str], log: Path) -> ForkedDaemon | None:
    """`covenq ARGS`, running, with its output at the end of `log`; None where only an interpreter of its own will do."""
    forker = _forker("daemons", env)
    return None if forker is None else forker.start_daemon(*args, env=env, cwd=Path.cwd(), umask=_umask(), log=log)


def _forker(of: str, env: Mapping[str, str]) -> Forker | None:
    """This process's; None beside the main thread, where the umask is another's, and for other settings of the interpreter."""
    if threading.current_thread() is not threading.main_thread() or _for_interpreter(env) != _for_interpreter(
        clean_env()
    ):
        return None
    key = (os.getpid(), of)
    if key not in _forkers:
        _forkers[key] = Forker(env=clean_env())
        atexit.register(_forkers[key].__exit__)
    return _forkers[key]


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _for_interpreter(env: Mapping[str, str]) -> dict[str, str]:
    """What Python, and what it is linked with, reads when it starts."""
    return {
        name: value
        for name, value in env.items()
        if name.startswith(("PYTHON", "LC_", "LD_")) or name in ("LANG", "LANGUAGE", "TZ", "OPENSSL_CONF")
    }
