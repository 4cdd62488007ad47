"""Suggested commands: what a command says to type next, with the options by which it was itself told where to look.

Who types `covenq why ID --data DIR` and is then told `covenq requeue ID` would act elsewhere, or find nothing there. What comes
from the environment is not repeated: the next command has it too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

LOCAL = frozenset(
    [*"serve listen info verify salvage backup routes tokens send init bench doctor".split(), "secrets rotate"]
)
"""Commands that take --data and --config, and no --url and --token-file."""
ANYWHERE = frozenset(
    """tui status deliveries tasks show why logs tail audit stats usage refused replay reroute requeue cancel pause resume compact
    keep redact export import reconcile ledger nodes handover notify secrets worker""".split()
)
"""Those that take all four."""
_LOCAL_OPTIONS = ("data", "config")
_OPTIONS = (*_LOCAL_OPTIONS, "url", "token_file")

_QUOTED = re.compile(r"`(covenq [^`]+)`")
_AT_END = re.compile(r"(?<=: )covenq [^`]*[^`.]\Z")
_WHOLE = re.compile(r"covenq [^`]*[^`.]\Z")

_given: ContextVar[Mapping[str, str] | None] = ContextVar("given", default=None)


@contextmanager
def options_given(arguments: Mapping[str, object]) -> Iterator[None]:
    """Set, for the `with`, where the command that runs was told to look: its arguments, by their parameters' names."""
    options = {name: value for name in _OPTIONS if isinstance(value := arguments.get(name), str)}
    if "token_file" not in arguments:  # the `--url` of `covenq send` and `init` is another
        options.pop("url", None)
    before = _given.set(options or None)
    try:
        yield
    finally:
        _given.reset(before)


def suggested(command: str) -> str:
    """A command that begins with `covenq`, with those options that it takes and doesn't have yet."""
    given = _given.get()
    if given is None:
        return command
    name, sub = (*command.split()[1:3], "", "")[:2]
    import shlex  # here, for commands that suggest nothing: they must start fast

    local = not LOCAL.isdisjoint((name, f"{name} {sub}"))
    takes = _LOCAL_OPTIONS if local else _OPTIONS if name in ANYWHERE else ()
    options = [
        f" --{option.replace('_', '-')} {shlex.quote(given[option])}"
        for option in takes
        if option in given and f"--{option.replace('_', '-')}" not in command.split()
    ]
    before, dashes, after = command.partition(" -- ")
    return f"{before}{''.join(options)}{dashes}{after}"


def with_suggestions(words: str) -> str:
    """Words for a person, with the commands in them as they are to be typed: those in backquotes, or at the end by themselves."""
    if _given.get() is None or "covenq " not in words:
        return words
    if _WHOLE.match(words):
        return suggested(words)
    words = _QUOTED.sub(lambda found: f"`{suggested(found[1])}`", words)
    return _AT_END.sub(lambda found: suggested(found[0]), words)
