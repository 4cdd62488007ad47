"""Fixtures of the whole suite. `tests/support/` has what they are made of."""

from __future__ import annotations

import compileall
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support.checkout import ROOT
from tests.support.daemon import Daemon
from tests.support.own_covenq import settle, silent_address

REFUSED = settle()
"""Where the guard of the user's covenq notes what a test, or what it started, would have touched."""

settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell's background jobs, and what they start, ignore Ctrl-C; the commands that tests start are to feel it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Compile what thousands of processes are to import: with PYTHONDONTWRITEBYTECODE set, each of them would do so by itself."""
    if not hasattr(config, "workerinput"):  # once, before the workers start
        for package in ("covenq", "journal", "tests/support"):
            compileall.compile_dir(ROOT / package, quiet=2)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what has nothing but deep tests where none is wanted: to collect those of a document takes seconds."""
    return (collection_path.name.endswith("_deep.py") and "not deep" in config.option.markexpr) or None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: twice as many as there are processors, since many tests wait for processes and disks."""
    return 2 * (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No test sees, or writes to, the covenq of the person who runs it: one that would fails, whatever came of it."""
    for name in list(os.environ):
        if name.startswith(("COVENQ_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COVENQ_BIND", silent_address())
    REFUSED.unlink(missing_ok=True)
    yield
    assert not REFUSED.exists(), f"it would have touched the covenq of whoever runs the tests:\n{REFUSED.read_text()}"


@pytest.fixture
def data() -> Iterator[Path]:
    """A place for a data directory, not made yet. Short: a Unix socket's path has about 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="cq-", ignore_cleanup_errors=True) as directory:
        yield Path(directory) / "data"


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[[str], Path]:
    """Write a configuration, and return its path."""

    def write(text: str) -> Path:
        path = tmp_path / "covenq.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def forked() -> bool:
    """Whether `make_daemon` forks daemons from a process that has imported covenq: not where the process itself is tested."""
    return True


@pytest.fixture
def make_daemon(data: Path, write_config: Callable[[str], Path], forked: bool) -> Iterator[Callable[..., Daemon]]:
    """make_daemon(config="…TOML…", **fields of Daemon) → a Daemon, started unless start=False; ended with the test."""
    made: list[Daemon] = []

    def make(config: str | Path | None = None, *, start: bool = True, **fields: Any) -> Daemon:
        path = write_config(config) if isinstance(config, str) else config
        daemon = Daemon(data=fields.pop("data", data), config=path, **{"forked": forked, **fields})
        made.append(daemon)
        return daemon.start() if start else daemon

    yield make
    for daemon in made:
        daemon.kill()
        if daemon.before is not None:
            daemon.before.kill()
            daemon.before.wait(30)


@pytest.fixture
def faults(tmp_path: Path) -> Iterator[Path]:
    """A directory of triggers for `Daemon(faults=…)`: a file `fdatasync` in it makes each fdatasync fail."""
    directory = tmp_path / "faults"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
