"""Arguments that are words of a filter, where a dash negates a term: `covenq tasks -state:failed since:1h`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

import typer
from typer.core import TyperCommand

from covenq.errors import UsageError

if TYPE_CHECKING:  # Typer's own copy of Click, which it exports nowhere: for types alone
    from typer._click import Context as ClickContext
    from typer._click.shell_completion import CompletionItem


class FilterCommand(TyperCommand):
    """A command whose arguments may begin with a dash: `-state:failed` is completed as a term, not only as an option."""

    def shell_complete(self, ctx: ClickContext, incomplete: str) -> list[CompletionItem]:
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-") and not incomplete.startswith("--"):
            found += [
                term for one in self.params if one.name == "words" for term in one.shell_complete(ctx, incomplete)
            ]
        return found


TAKES_WORDS = {"ignore_unknown_options": True}
"""Context settings of a FilterCommand."""


def filter_argument(*dashed: str, ids: Sequence[str] = ()) -> object:
    """The argument of a command that takes filter words, for Annotated.

    `dashed` words are taken too, and `ids` are kinds of ids to complete.

    Typer's setting that lets `-field:x` through lets every unknown option through: those raise UsageError here.
    """

    def checked(ctx: typer.Context, words: list[str] | None) -> list[str] | None:
        given = words or []
        for index, word in enumerate(given, 1):
            short = word.startswith("-") and len(word) <= 2 and not word[1:].isdigit()
            if (short or word.startswith("--")) and word not in dashed:
                name, _, value = word.partition("=")
                if any(name in parameter.opts for parameter in ctx.command.params):
                    raise UsageError(
                        f"{name} is an option, and stands behind a --", hint=f"Write {name} before the --."
                    )
                value = value or "".join(given[index : index + 1])
                raise UsageError(f"there is no option {name}", hint=_suggestion(ctx, name, value))
        return words

    return typer.Argument(
        metavar="FILTER",
        help="Filter words, or ids.",
        show_default=False,
        autocompletion=_completer(ids),
        callback=checked,
    )


def _suggestion(ctx: typer.Context, name: str, value: str) -> str:
    """A hint for an unknown option: the filter's term, or the command's own option, that was probably meant."""
    from covenq.filter.grammar import FIELDS

    field = name.lstrip("-")
    if field in FIELDS:
        plain = value and ":" not in value and not value.startswith("-")
        return f"Write it as a filter word: {field}:{shlex.quote(value) if plain else '…'}"
    options = [option for parameter in ctx.command.params for option in parameter.opts if option.startswith("--")]
    near = get_close_matches(name, options, n=1)
    return f"Did you mean {near[0]}?" if near else "`--help` lists the options; a filter word is negated by one dash."


class _AfterColon(str):
    """What completes `route:` where bash has split it, and asks for the word `:`. Typer keeps only what begins so."""

    __slots__ = ()

    def startswith(self, *args: object) -> bool:
        return True


def _completer(id_kinds: Sequence[str]) -> Callable[..., list[str]]:
    """A completer of filter terms, and of ids of `id_kinds`."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        from covenq.cli import completion

        given = ctx.params
        words, where = given.get("words") or (), (given.get("data"), given.get("config"), given.get("url"))
        found = completion.complete_filter(words, incomplete, *where, id_kinds=id_kinds)
        return [_AfterColon(one) for one in found] if incomplete == ":" else found

    return complete
