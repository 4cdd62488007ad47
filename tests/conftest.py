"""Fixtures of the whole suite. `tests/support/` has what they are made of."""

from __future__ import annotations

import compileall
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support import chosen_engine
from tests.support.checkout import ROOT
from tests.support.daemon import Daemon
from tests.support.own_covenq import settle, silent_address

os.environ.pop(chosen_engine.VARIABLE, None)  # of whoever runs the tests: it is no place for theirs

REFUSED = settle()
"""Where the guard of the user's covenq notes what a test, or what it started, would have touched."""

settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell's background jobs, and what they start, ignore Ctrl-C; the commands that tests start are to feel it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


OPERATIONS = (
    "actions",
    "archive",
    "audit",
    "commanded",
    "pauses",
    "redaction",
    "retention",
    "tail",
    "uninstall",
    "usage",
    "why",
)
BOTH = (
    *(ROOT / "tests" / name for name in ("cli", "intake", "tasks")),
    *(ROOT / "tests" / "operate" / f"test_{name}.py" for name in OPERATIONS),
    *(ROOT / "tests" / "http" / f"test_{name}.py" for name in ("api", "scope", "webhook")),
    ROOT / "tests" / "reconcile" / "test_redeliver_passes.py",
)
"""Where tests are that say the same of a journal in files and of one in PostgreSQL, and are run over that too."""

OF_PROCESSES = ("test_hostile_files.py", "test_process_setup.py", "test_process_tree.py", "test_shortage.py")
"""Of those, what is about the processes of attempts and their files, where nothing depends on who keeps the journal."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine",
        choices=chosen_engine.ENGINES,
        default=chosen_engine.FILE,
        help="postgres: the tests marked so, and those of BOTH that ask for `journal_engine`, with their journals there",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        marker = item.get_closest_marker("files")
        if marker is not None and not (marker.args and isinstance(marker.args[0], str)):
            raise pytest.UsageError(f"{item.nodeid}: `files` wants a reason")
    if config.getoption("--engine") != chosen_engine.FILE:
        left = [item for item in items if not (item.get_closest_marker("postgres") or _is_of_both(item))]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]


def _is_of_both(item: pytest.Item) -> bool:
    """Whether it is to be run with its journals in PostgreSQL too."""
    if item.get_closest_marker("files") or item.get_closest_marker("postgres") or item.path.name in OF_PROCESSES:
        return False
    return "journal_engine" in getattr(item, "fixturenames", ()) and any(item.path.is_relative_to(one) for one in BOTH)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture, of whatever scope."""
    chosen_engine.choose(item.config.getoption("--engine") if _is_of_both(item) else chosen_engine.FILE)


def pytest_configure(config: pytest.Config) -> None:
    """Compile what thousands of processes are to import: with PYTHONDONTWRITEBYTECODE set, each of them would do so by itself."""
    if not hasattr(config, "workerinput"):  # once, before the workers start
        for package in ("covenq", "journal", "tests/support"):
            compileall.compile_dir(ROOT / package, quiet=2)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what has nothing but deep tests where none is wanted: to collect those of a document takes seconds."""
    return (collection_path.name.endswith("_deep.py") and "not deep" in config.option.markexpr) or None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep what is collected, and all that it imports, from the garbage collector.

    It lives as long as the process, and is half a million objects, which each full collection of a test's garbage would
    look through: that was a sixth of what the tests cost.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(5000, 20, 20)
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: three times as many as there are processors, since many tests wait for processes and disks."""
    return 3 * (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@pytest.fixture(scope="session")
def _empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _own_home(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _empty_home: Path) -> Iterator[None]:
    """No test sees, or writes to, the covenq of the person who runs it: one that would fails, whatever came of it.

    Its home is its `tmp_path`. Thousands of tests ask for none, and have one that is empty again after each.
    """
    own = "tmp_path" in request.fixturenames
    home: Path = request.getfixturevalue("tmp_path") if own else _empty_home
    for name in list(os.environ):
        if name.startswith(("COVENQ_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setenv("COVENQ_BIND", silent_address())
    REFUSED.unlink(missing_ok=True)
    yield
    chosen_engine.give_back(home)
    if not own and any(home.iterdir()):
        shutil.rmtree(home)
        home.mkdir()
    tree = sys.modules.get("covenq.tasks.execution.process_tree")
    assert tree is None or not tree._commands.adopting, "this process would end its own helpers with the next command"
    assert not REFUSED.exists(), f"it would have touched the covenq of whoever runs the tests:\n{REFUSED.read_text()}"


@pytest.fixture(scope="session")
def journal_engine() -> None:
    """For fixtures and tests whose journals are of the engine that `--engine` names: opened through `Daemon`, or `open_chosen`.

    Who asks for it is run over each; if not, see the marker `files`.
    """


@pytest.fixture
def data(journal_engine: None) -> Iterator[Path]:
    """A place for a data directory, not made yet. Short: a Unix socket's path has about 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="cq-", ignore_cleanup_errors=True) as directory:
        yield Path(directory) / "data"
        chosen_engine.give_back(Path(directory))


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
