"""The house is built as CONTRIBUTING draws it: no module rests on a floor above its own, by whatever way, none on itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("covenq", "journal")
    for path in (ROOT / package).rglob("*.py")
}


def named(node: ast.AST) -> Iterator[str]:
    """The modules of ours that are imported in it, also in functions; not those that only a type checker reads."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    if isinstance(node, ast.Import):
        yield from (one.name for one in node.names if one.name in FILES)
    elif isinstance(node, ast.ImportFrom) and node.module in FILES:
        yield from (inner if (inner := f"{node.module}.{one.name}") in FILES else node.module for one in node.names)
    for child in ast.iter_child_nodes(node):
        yield from named(child)


@cache
def graph() -> dict[str, set[str]]:
    return {name: set(named(ast.parse(path.read_text()))) - {name} for name, path in FILES.items()}


@cache
def below(name: str) -> frozenset[str]:
    """Everything it imports, and what that imports."""
    found: set[str] = set()
    left = [name]
    while left:
        new = graph()[left.pop()] - found
        found |= new
        left += new
    return frozenset(found)


def test_nothing_is_imported_in_a_circle() -> None:
    assert len(graph()) > 200 and "covenq.config.load" in graph()["covenq.daemon.run"]
    TopologicalSorter(graph()).prepare()  # raises CycleError with the circle
