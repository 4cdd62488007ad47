"""covenq commands, run to their end: hundreds of them in the suite, so that what they share is started once."""

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
from tests.support.forking import MOST_STDIN, Forker

_forkers: dict[int, Forker] = {}
"""By the process whose it is: a test may fork."""


def run_command(
    args: Sequence[str], env: Mapping[str, str], input: bytes = b"", timeout: float = 120.0
) -> subprocess.CompletedProcess[bytes]:
    """What `python -m covenq ARGS` does, writes and exits with.

    It is forked from a process in which only Python and the libraries are started (`forking`): covenq itself is imported anew,
    from its `__main__` on. What can't be the same there is started as a user would: beside other threads' commands, with other
    settings of the interpreter, or with more on its standard input than a pipe takes.
    """
    ours = threading.current_thread() is threading.main_thread() and len(input) <= MOST_STDIN
    if not ours or _for_interpreter(env) != _for_interpreter(clean_env()):
        argv = [sys.executable, "-m", "covenq", *args]
        return subprocess.run(argv, env=env, input=input, capture_output=True, timeout=timeout)
    if os.getpid() not in _forkers:
        _forkers[os.getpid()] = Forker(libraries_only=True, env=clean_env())
        atexit.register(_forkers[os.getpid()].__exit__)
    umask = os.umask(0o077)
    os.umask(umask)
    done = _forkers[os.getpid()].run(*args, env=env, cwd=Path.cwd(), stdin=input, umask=umask, hang_s=timeout)
    if done.code == -signal.SIGALRM:
        raise subprocess.TimeoutExpired(["covenq", *args], timeout, done.stdout, done.stderr)
    return subprocess.CompletedProcess(args, done.code, done.stdout, done.stderr)


def _for_interpreter(env: Mapping[str, str]) -> dict[str, str]:
    """What Python, and what it is linked with, reads when it starts."""
    return {
        name: value
        for name, value in env.items()
        if name.startswith(("PYTHON", "LC_", "LD_")) or name in ("LANG", "LANGUAGE", "TZ", "OPENSSL_CONF")
    }
