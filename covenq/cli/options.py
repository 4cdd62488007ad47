"""What commands share: their options, their words, and what completes them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from covenq.errors import UsageError

DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="The data directory. Else COVENQ_DATA, the configuration's, ~/.local/state/covenq.",
    ),
]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config", metavar="PATH", help="The configuration. Else COVENQ_CONFIG, covenq.toml in the data directory."
    ),
]


def _completes(also: Sequence[str]) -> Callable[..., list[str]]:
    """Completes to terms of a filter, and ids of `also`."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        from covenq.cli import completion

        given = ctx.params
        words, where = given.get("words") or (), (given.get("data"), given.get("config"), given.get("url"))
        return completion.of_filter(words, incomplete, *where, also=also)

    return complete


def complete_id(ctx: typer.Context, incomplete: str) -> list[str]:
    from covenq.cli import completion

    return completion.ids(incomplete, ctx.params.get("data"), ctx.params.get("config"), ctx.params.get("url"))


def complete_route(ctx: typer.Context, incomplete: str) -> list[str]:
    from covenq.cli import completion

    return completion.routes(incomplete, ctx.params.get("config"), ctx.params.get("data"))


def complete_paused(ctx: typer.Context, incomplete: str) -> list[str]:
    from covenq.cli import completion

    given = ctx.params
    return completion.pause_names(given.get("what"), incomplete, given.get("config"), given.get("data"))


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Completes to one of these."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


class FilterCommand(TyperCommand):
    """A command whose words may begin with a dash: `-state:failed` is completed as a word, not only as an option."""

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-") and not incomplete.startswith("--"):
            found += [
                term for one in self.params if one.name == "words" for term in one.shell_complete(ctx, incomplete)
            ]
        return found


TAKES_WORDS = {"ignore_unknown_options": True}
"""The settings of such a command."""


def words_and(*dashed: str, ids: Sequence[str] = ()) -> Any:
    """The argument of a command that takes filter words, these words that begin with a dash, and ids (of deliveries, tasks).

    Typer, told to let `-field:x` through, lets every unknown option through with it: UsageError for those.
    """

    def checked(ctx: typer.Context, words: list[str] | None) -> list[str] | None:
        given = words or []
        for index, word in enumerate(given, 1):
            short = word.startswith("-") and len(word) <= 2 and not word[1:].isdigit()
            if (short or word.startswith("--")) and word not in dashed:
                name, _, value = word.partition("=")
                value = value or "".join(given[index : index + 1])
                raise UsageError(f"there is no option {name}", hint=_meant(ctx, name, value))
        return words

    return typer.Argument(
        metavar="FILTER",
        help="Filter words, or ids.",
        show_default=False,
        autocompletion=_completes(ids),
        callback=checked,
    )


def _meant(ctx: typer.Context, name: str, value: str) -> str:
    """The filter's term, or this command's own option, that an unknown option stands for."""
    from covenq.filter.grammar import FIELDS

    field = name.lstrip("-")
    if field in FIELDS:
        plain = value and ":" not in value and not value.startswith("-")
        return f"Write it as a filter word: {field}:{shlex.quote(value) if plain else '…'}"
    options = [option for parameter in ctx.command.params for option in parameter.opts if option.startswith("--")]
    near = get_close_matches(name, options, n=1)
    return f"Did you mean {near[0]}?" if near else "`--help` lists the options; a filter word is negated by one dash."


Words = Annotated[list[str] | None, words_and()]
Deliveries = Annotated[list[str] | None, words_and("-", ids=["deliveries"])]
Tasks = Annotated[list[str] | None, words_and("-", ids=["tasks"])]
"""What a command is to act on."""
Limit = Annotated[int, typer.Option("--limit", min=0, metavar="N", help="At most so many; 0 is all.")]
After = Annotated[
    str | None, typer.Option("--after", metavar="CURSOR", help="Go on after this `next` of an earlier page.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]
