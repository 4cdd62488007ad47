"""The tests' own surroundings: a home, and no covenq of whoever runs them, in this process and all that it starts."""

from __future__ import annotations

import atexit
import compileall
import functools
import importlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.checkout import ROOT

GUARD = Path(__file__).resolve().parent / "guard"
NOTE, KEPT = "GUARD_NOTE", "GUARD_KEPT"


def settle() -> Path:
    """Give this process a home of its own, and guard the user's covenq; the file in which the guard notes what it refused.

    At once when a test process starts: fixtures of modules and of the session run before those of a test. A worker of
    pytest-xdist inherits the guard, and has a home and notes of its own.
    """
    inherited = os.environ.get(KEPT)
    kept = os.pathsep.join(users_places(os.environ)) if inherited is None else inherited
    home = Path(tempfile.mkdtemp(prefix="covenq-tests-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    for name in list(os.environ):
        if name.startswith(("COVENQ_", "XDG_")) and not name.startswith("COVENQ_TEST_"):
            del os.environ[name]
    note = home / "refused"
    os.environ |= {"HOME": str(home), NOTE: str(note), KEPT: kept, "COVENQ_BIND": silent_address()}
    if inherited is None:
        _compile()
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(GUARD), os.environ.get("PYTHONPATH", "")]))
        sys.path.insert(0, str(GUARD))
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")
    return note


def _compile() -> None:
    """Compile what thousands of processes are to import, and have the tests' own bytecode kept.

    With PYTHONDONTWRITEBYTECODE set, as containers have it, each of them would compile covenq anew.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    for package in ("covenq", "journal", "tests/support"):
        compileall.compile_dir(ROOT / package, quiet=2)


def users_places(env: Mapping[str, str]) -> Iterator[str]:
    """The directories in which a covenq of this environment has its data and its settings."""
    home = Path(env.get("HOME") or Path.home())
    state = Path(env.get("XDG_STATE_HOME") or home / ".local" / "state")
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    named = [Path(env["COVENQ_DATA"]).expanduser()] if env.get("COVENQ_DATA") else []
    needed = [Path(tempfile.gettempdir()).absolute(), ROOT]
    for one in (state / "covenq", config / "covenq", *named):
        if not any(place.is_relative_to(one.absolute()) for place in needed):
            yield str(one.absolute())


@functools.cache
def silent_address() -> str:
    """An address on which nothing listens and nothing will: kept bound, without listening, for as long as this process lives.

    Whoever looks whether it is free, with SO_REUSEADDR as a server does, finds that it is.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    kept.set_inheritable(False)
    atexit.register(kept.close)
    return f"127.0.0.1:{kept.getsockname()[1]}"
