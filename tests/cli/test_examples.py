"""The examples in the commands' help: every command and option that they type exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

import pytest

from covenq.cli.app import COMMANDS, app, build

JOINS = frozenset({"&&", "||", "|", ";", ">", "<"})


def helps() -> Iterator[tuple[str, str]]:
    yield "covenq", app.info.help or ""
    for name in COMMANDS:
        command = build(name)
        yield name, command.help or ""
        for inner_name, inner in getattr(command, "commands", {}).items():
            yield f"{name} {inner_name}", inner.help or ""


def calls(line: str) -> Iterator[list[str]]:
    """The words after each `covenq` of a line for a shell; those in `$(…)` are a call of their own, after its outer one's."""
    for text in (re.sub(r"\$\([^)]*\)", "ID", line), *re.findall(r"\$\(([^)]*)\)", line)):
        call: list[str] | None = None
        for word in [*shlex.split(text.replace(";", " ; "), comments=True), ";"]:
            if word in JOINS:
                if call is not None:
                    yield call
                call = None
            elif call is not None:
                call.append(word)
            elif word.rpartition("/")[2] == "covenq":
                call = []


EXAMPLES = [
    (where, call)
    for where, text in helps()
    for block in text.split("\b\n")[1:]
    for line in re.sub(r"\\\n *", "", block.partition("\n\n")[0]).splitlines()
    for call in calls(line)
]


def unknown(call: Sequence[str]) -> set[str]:
    """The options of a call that its command doesn't have."""
    assert call and call[0] in COMMANDS, f"there is no such command: {call}"
    command, rest = build(call[0]), call[1:]
    inner = getattr(command, "commands", {})
    if rest and rest[0] in inner:
        command, rest = inner[rest[0]], rest[1:]
    rest = rest[: rest.index("--")] if "--" in rest else rest  # behind it are another program's
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    # A command that takes filter words can't have short options of its own: it takes them as words, as its help says.
    known |= {name for option in command.params for name in re.findall(r"Also (-[a-z])\.", option.help or "")}
    typed = {found[1] for word in rest if (found := re.match(r"(--?[a-z][a-z-]*)(?:=.*)?\Z", word))}
    return typed - known


@pytest.mark.parametrize(("where", "call"), EXAMPLES, ids=[f"{where}: {' '.join(call)}" for where, call in EXAMPLES])
def test_every_option_of_an_example_is_one_of_its_command(where: str, call: list[str]) -> None:
    assert unknown(call) == set(), f"the help of {where} types them"


def test_the_examples_are_found() -> None:
    assert len(EXAMPLES) > 30
    assert len({where for where, _ in EXAMPLES}) > 15
    assert list(
        calls("A=1 covenq export 'repo:a/b x' > f && covenq show $(covenq send issues) --curl # covenq no")
    ) == [
        ["export", "repo:a/b x"],
        ["show", "ID", "--curl"],
        ["send", "issues"],
    ]
    assert unknown(["export", "-o", "file", "-repo:a/b", "--output=file"]) == {"-o"}
