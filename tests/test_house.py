"""The house: sizes and names that hold for every module. Who may import whom is import-linter's (pyproject.toml, `make lint`)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from tests.support.checkout import ROOT

MODULES = sorted(path for package in ("covenq", "journal") for path in (ROOT / package).rglob("*.py"))

LINES_MAX = 450
FUNCTION_MAX = 80
PARAMETERS_MAX = 8
"""Beside `self`. What takes more has a settings object, or takes together what belongs together."""

COMMANDS = ROOT / "covenq" / "cli" / "commands"
"""Typer makes a command's options of its parameters: they may be many."""

ANY_MAX = 67
"""Lines of covenq and journal with the word `Any`. It only goes down: foreign JSON is `JsonObject`, `Json` or `object`."""

METAPHORS = frozenset(
    """hands hush gate pace place setback regular rivals standing figures unfinished conduct conducted aftermath house
    patient surroundings legible lane lanes mend excuse acting""".split()
)
"""Words that no module, class or function has in its name: a name is the field's term for the thing."""

TERMS = frozenset(["regular_file"])
"""Names that have such a word and are the field's term."""

SWALLOWING = frozenset(
    """exists lexists is_file isfile is_dir isdir is_symlink islink is_mount ismount is_junction isjunction is_socket is_fifo
    is_block_device is_char_device glob rglob iglob walk""".split()
)
"""Methods of paths, and functions of `os.path`, `os` and `glob`, that may answer "no" to what can't be looked at."""

ENTRIES_OF_SCANDIR = {"covenq/tasks/execution/removal.py": ["is_dir"]}
"""Where the object is an `os.DirEntry`, whose methods raise whatever isn't a missing file."""

OF_THREADS = frozenset(
    """_args _bootstrap _bootstrap_inner _context _daemonic _delete _handle _ident _initialized _invoke_excepthook _is_stopped
    _kwargs _name _native_id _os_thread_handle _reset_internal_locks _set_ident _set_native_id _set_tstate_lock _started
    _stderr _stop _target _tstate_lock _wait_for_tstate_lock""".split()
)
"""What `threading.Thread` calls its own in one Python or another: a subclass that uses such a name doesn't start there."""


def words_of(name: str) -> set[str]:
    """The words of a name, split at underscores and capitals, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def named(path: Path) -> Iterator[str]:
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The names of its parameters, `*args` and `**more` among them, without `self` and `cls`."""
    given = node.args
    every = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    return [one.arg for one in every if one is not None and one.arg not in ("self", "cls")]


def swallowing(source: str) -> list[str]:
    """The names of SWALLOWING that are used of something, or imported from elsewhere than `journal.presence`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in SWALLOWING:
            found.append(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module != "journal.presence":
            found += [one.name for one in node.names if one.name in SWALLOWING]
    return found


def own_names(node: ast.ClassDef) -> set[str]:
    """The names of a class's methods, and of what it sets of `self`."""
    found = {one.name for one in ast.walk(node) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    for one in ast.walk(node):
        if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store) and ast.unparse(one.value) == "self":
            found.add(one.attr)
    return found


def test_there_are_few_rooms_at_the_top() -> None:
    top = ROOT / "covenq"
    modules = [path for path in top.glob("*.py") if path.stem != "__init__"]
    wings = [path for path in top.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert len(modules) <= 10 and len(wings) <= 20 and len(modules) + len(wings) <= 26
    assert all((wing / "__init__.py").exists() for wing in wings)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_has_a_size_and_names_that_can_be_read(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= LINES_MAX
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < FUNCTION_MAX, node.name
            if COMMANDS not in path.parents:
                assert len(parameters(node)) <= PARAMETERS_MAX, node.name
    assert not {one for one in named(path) if one not in TERMS and words_of(one) & METAPHORS}


def test_a_word_is_found_within_a_name() -> None:
    assert words_of("ErasureUnfinished") & words_of("_is_unfinished") == {"unfinished"}
    assert words_of("HTTPGate") == {"http", "gate"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_can_not_be_looked_at_is_taken_for_absent(path: Path) -> None:
    assert swallowing(path.read_text()) == ENTRIES_OF_SCANDIR.get(str(path.relative_to(ROOT)), []), (
        "see journal.presence"
    )


@pytest.mark.parametrize(
    "source",
    [
        "Path('a').exists()",
        "found = [*filter(Path.is_dir, paths)]",
        "import os\nos.path.lexists(path)",
        "from os.path import isfile",
        "import glob\nglob.glob('*')",
        "for one in directory.glob('*.jsonl'): ...",
        "for root, _, _ in os.walk(path): ...",
    ],
)
def test_a_question_that_swallows_errors_is_found(source: str) -> None:
    assert swallowing(source)
    assert not swallowing("from journal.presence import exists\nexists(path)")


def test_no_thread_takes_a_name_that_is_the_threads_own() -> None:
    threads = [
        node
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and "threading.Thread" in [ast.unparse(base) for base in node.bases]
    ]
    of_this_python = {name for name in {*vars(Thread()), *vars(Thread)} if name.startswith("_") and name[1] != "_"}
    assert len(threads) == 7
    for node in threads:
        assert not own_names(node) & (OF_THREADS | of_this_python), node.name


def test_few_lines_say_any() -> None:
    lines = [line for path in MODULES for line in path.read_text().splitlines() if re.search(r"\bAny\b", line)]
    assert len(lines) <= ANY_MAX


def test_whatever_the_type_checker_is_told_to_ignore_has_a_reason() -> None:
    for path in MODULES:
        for line in path.read_text().splitlines():
            if "type: ignore" in line:
                assert re.search(r"# type: ignore\[[a-z-]+\]  # \w", line), f"{path}: {line.strip()}"


def test_every_parameter_counts() -> None:
    (node,) = ast.parse("def f(self, a, /, b=1, *c, d, **e): ...").body
    assert isinstance(node, ast.FunctionDef)
    assert parameters(node) == ["a", "b", "c", "d", "e"]


def test_every_package_says_what_it_is_for() -> None:
    for path in MODULES:
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), path
