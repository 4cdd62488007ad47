"""The manual page covenq-bench(7): the words of covenq-bench.7.in beside this, with the machine and the tables of the results."""

from __future__ import annotations

from pathlib import Path

from covenq import __version__
from tests.bench.compare import table
from tests.bench.compare.results import Results

WORDS = Path(__file__).resolve().parent / "covenq-bench.7.in"
SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "×": "\\(mu", "µ": "\\(mc", "–": "\\(en", "…": "..."}


def page(results: Results) -> str:
    """The whole page, as roff."""
    figures = [_section(block.title, block.lines) for block in table.blocks(results)]
    if results.skipped:
        figures.append(
            _section("Left out", folded([f"{name}: {why}" for name, why in sorted(results.skipped.items())]))
        )
    filled = {
        "@DAY@": results.machine.day,
        "@VERSION@": __version__,
        "@MACHINE@": "\n".join(map(roff, folded(table.machine_lines(results)))),
        "@FIGURES@": "\n".join(figures),
    }
    text = WORDS.read_text()
    for name, value in filled.items():
        text = text.replace(name, value)
    return text


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([f".SS {roff(title)}", ".nf", *map(roff, lines), ".fi"])


def folded(lines: list[str]) -> list[str]:
    """No line longer than a page has room for, broken at spaces, the rest of it indented."""
    found = []
    for line in lines:
        rest, indent = line, ""
        while len(indent + rest) > table.WIDTH and " " in rest[: table.WIDTH]:
            at = rest.rfind(" ", 0, table.WIDTH - len(indent))
            found.append(indent + rest[:at])
            rest, indent = rest[at + 1 :], "  "
        found.append(indent + rest)
    return found


def roff(text: str) -> str:
    """Text that roff prints as it is."""
    written = "".join(SPECIAL.get(character, character) for character in text)
    return "\\&" + written if written.startswith((".", " ")) else written
