"""`covenq secrets`: how each webhook secret is used, which may be retired, and which repositories its scope is bound to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.bulk import ask, operator_name
from covenq.cli.commands.secrets_rotate import rotate
from covenq.cli.context import source
from covenq.cli.options import ConfigOption, DataOption, DryRun, Json, Jsonl, Reason, TokenFileOption, UrlOption, Yes
from covenq.cli.output import BAD, GOOD, WARNING, clean, say
from covenq.cli.table import Column, print_table
from covenq.errors import UsageError
from covenq.filter.tree import fold_case
from covenq.text import shorten_middle

if TYPE_CHECKING:
    from covenq.model.answers import ScopeBinding, Secret
    from covenq.operate.answers import Unbound, UnboundName

secrets = typer.Typer(
    name="secrets", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=False
)

_COLOURS = {"retire": GOOD, "unreadable": BAD, "wait": WARNING, "gone": WARNING}
BINDINGS_SHOWN = 20
"""Bindings of a secret that are told in words; --json has all of them."""
_SCOPES = {"hooks": "hook", "installations": "installation", "repositories": ""}


@secrets.callback(invoke_without_command=True)
def listing(
    ctx: typer.Context,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Show the webhook secrets: where each is, its scope, when it was last used, and which is safe to retire.

    To rotate one: `rotate`, or name the new secret beside the old one in [github] webhook_secrets (the daemon takes it up by
    itself) and give it to GitHub. Take the old one away when its verdict here is `retire`. Values are never shown.

    A repository in a scope is bound to its number by its first delivery: it stays in scope under any name, and another that
    gets its name is refused. `unbind` has the next delivery bind it anew.

    \b
      covenq secrets
      covenq secrets unbind app octo/hello --reason "moved to another account"
    """
    if ctx.invoked_subcommand is not None:
        if json or any(value is not None for value in (data, config, url, token_file)):
            word = ctx.invoked_subcommand
            raise UsageError(f"options stand behind {word}", hint=f"As in `covenq secrets {word} NAME --data DIR`.")
        return
    with source(data, config) as opened:
        found = opened.secrets()
    if json:
        output.emit_page(found.items, next=found.next)
    else:
        _show(found.items, time.time())


secrets.command()(rotate)


@secrets.command()
def unbind(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The secret's name.", show_default=False)],
    repo: Annotated[
        str | None,
        typer.Argument(
            metavar="OWNER/NAME", help="The repository, as the scope names it. Else all.", show_default=False
        ),
    ] = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Release repositories of a secret's scope from their numbers: the next delivery of each name binds it anew.

    For when a name was given to another repository on purpose. What is in scope then follows the name once: the repository
    that had it is out of scope, unless the configuration names what it is called now.
    """
    from msgspec.structs import replace

    from covenq.operate import operations
    from covenq.operate.parameters import Unbind

    wanted = Unbind(secret=name, repo=repo, reason=reason, dry_run=True, by=operator_name())
    with source(data, config) as opened:
        found = opened.act(operations.UNBIND, wanted)
        if not dry_run:
            if not yes:
                told = ", ".join(map(_subject, found.bindings[:BINDINGS_SHOWN]))
                more = (
                    f" and {len(found.bindings) - BINDINGS_SHOWN:,} more"
                    if len(found.bindings) > BINDINGS_SHOWN
                    else ""
                )
                ask(
                    f"unbind {told}{more} in the scope of {clean(name)}",
                    hint="Add --yes to do it, or --dry-run to see it.",
                )
            found = opened.act(operations.UNBIND, replace(wanted, dry_run=False))
    with output.report_of_act(not dry_run):
        _report(found, json)


def _subject(one: UnboundName) -> str:
    return f"{clean(one.repository or 'an erased name')} (repository {one.repo_id})"


def _report(found: Unbound, json: bool) -> None:
    if json:
        output.emit_json(found)
        return
    for one in found.bindings:
        output.line(f"{clean(one.repository or '-')} {one.repo_id}")
    count = output.count(len(found.bindings), "repository", "repositories")
    say(
        f"{count} would be unbound."
        if found.dry_run
        else f"{count} unbound: the next delivery of each name binds it anew."
    )


def _show(items: list[Secret], now: float) -> None:
    columns: list[Column[Secret]] = [
        Column("NAME", lambda item: item.name),
        Column("FROM", _origin, shrink=16, cut=shorten_middle, rank=3),
        Column("SCOPE", _scope, shrink=12, wraps=True, rank=4),
        Column("LAST USED", lambda item: _last_used(item, now), rank=1),
        Column("30 DAYS", lambda item: f"{item.recent:,}", right=True, rank=2),
        Column("VERDICT", lambda item: item.verdict, colour=lambda word: _COLOURS.get(word, "")),
    ]
    if not print_table(columns, items):
        say("There is no webhook secret yet: `covenq serve` makes one at its first start.")
        return
    for item in items:
        say(f"{clean(item.name)}: {clean(item.reason)}")
        for one in item.bindings[:BINDINGS_SHOWN]:
            say(f"{clean(item.name)}: {_binding(one, now)}")
        if len(item.bindings) > BINDINGS_SHOWN:
            say(f"{clean(item.name)}: {len(item.bindings) - BINDINGS_SHOWN:,} more are bound: `covenq secrets --json`.")


def _binding(one: ScopeBinding, now: float) -> str:
    """`octo/hello is bound to repository 5501, which is octo/new now; since 3h.`"""
    present = one.present if fold_case(one.present or "") != fold_case(one.repository or "") else None
    named = f", which is {clean(present)} now" if present else ""
    idle = "" if one.in_effect else "; the scope doesn't name it now"
    what = clean(one.repository or "an erased name")
    return f"{what} is bound to repository {one.repo_id}{named}{idle}; for {output.elapsed(one.since, now)}."


def _origin(item: Secret) -> str:
    match item.source:
        case None:
            return "not configured"
        case "value":
            return "the configuration"
        case "env":
            return f"${item.place}"
        case "credential":
            return f"credential {item.place}"
        case _:
            return str(item.place)


def _scope(item: Secret) -> str:
    """`everything`, or the hooks, installations and repositories it is limited to."""
    scope = item.scope
    if scope is None:
        return ""
    words = [f"{word} {one}".lstrip() for key, word in _SCOPES.items() for one in getattr(scope, key)]
    return ", ".join(words) or "everything"


def _last_used(item: Secret, now: float) -> str:
    at = item.last_used_at
    return f"{output.age(at, now)} ago" if at else "never"
