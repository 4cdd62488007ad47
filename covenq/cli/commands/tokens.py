"""`covenq tokens`: the API's bearer tokens. They are read from and written to a file: no daemon is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.context import locate_in_use
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl
from covenq.cli.output import clean, say
from covenq.cli.table import Column, print_table
from covenq.errors import CovenqError, NotFound, UsageError
from covenq.model.token_scope import NUMBER_MAX
from journal.presence import is_directory

if TYPE_CHECKING:
    from covenq.config.api_tokens import Token
    from covenq.model.token_scope import Scope

tokens = typer.Typer(
    name="tokens", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=False
)

COLUMNS: list[Column[Token]] = [
    Column("NAME", lambda t: t.name),
    Column("ROLE", lambda t: t.role),
    Column("SCOPE", lambda t: "" if t.scope is None else str(t.scope)),
    Column("CREATED", lambda t: output.timestamp(t.created_at), rank=1),
]


@tokens.callback(invoke_without_command=True)
def listing(
    ctx: typer.Context,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """List the API's tokens; make and revoke them.

    A token lets a program, or a person elsewhere, use the API on the listener of [api]: `read` reads; `operate` reads and
    acts; `worker` takes tasks and finishes them. Only a hash of it is kept. What is made or revoked counts at once.

    With --installation it sees and acts on the deliveries and tasks of that installation of the App alone.

    \b
      covenq tokens
      covenq tokens new --name ci --role read
      covenq tokens new --name acme --role read --installation 4711
      covenq tokens revoke ci
    """
    if ctx.invoked_subcommand is not None:
        if data is not None or config is not None or json:
            word = ctx.invoked_subcommand
            raise UsageError(f"options stand behind {word}", hint=f"As in `covenq tokens {word} --data DIR`.")
        return
    from covenq.config.api_tokens import read

    path = token_file(data, config)
    found = list(read(path))
    if json:
        output.emit_page([token.about() for token in found], next=None)
    elif not print_table(COLUMNS, found):
        say(f"There are no tokens in {clean(path)}; `covenq tokens new` makes one.")


@tokens.command()
def new(
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What it is called in lists, logs and records.")],
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="read, operate or worker.")],
    installation: Annotated[
        list[int] | None,
        typer.Option(
            "--installation",
            metavar="N",
            min=1,
            max=NUMBER_MAX,
            help="Only what came by this installation; may be repeated.",
        ),
    ] = None,
    repository: Annotated[
        list[int] | None,
        typer.Option(
            "--repository", metavar="N", min=1, max=NUMBER_MAX, help="And only of this repository; may be repeated."
        ),
    ] = None,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a token, and print it once.

    It is the only line on stdout, and can't be shown again: `covenq tokens new ... > file`, or a secret store's input.

    Installations and repositories are numbers, as `covenq deliveries --json` has them. Without any the token sees everything.
    """
    from covenq.config.api_tokens import create, scope_numbers
    from covenq.config.api_tokens import revoke as take_out

    scope = _scope(installation, repository)
    where = locate_in_use(data, config)
    path = where.config.token_file(where.data)
    token = create(path, name, role, scope)
    try:
        if json:
            output.emit_json({"name": name, "role": role, "token": token, **scope_numbers(scope)})
        else:
            output.line(token)
        output.flush()
    except (CovenqError, OSError):
        say(f"The token {clean(name)} could not be shown, and is taken back.")
        take_out(path, name)
        raise
    if scope is not None:
        say(f"It is for {scope}.")
    say(
        f"The token {clean(name)} ({clean(role)}) is kept as a hash in {clean(path)}: this is the only time it is shown."
    )
    if where.config.api_bind is None:
        say("Nothing listens for it yet: the configuration has no [api] section.")


@tokens.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which.", show_default=False)],
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Let a token in no more, from the next request on."""
    from covenq.config.api_tokens import revoke as take_out

    gone = take_out(token_file(data, config), name)
    say(f"The token {clean(gone.name)} ({gone.role}) is revoked.")


def _scope(installations: list[int] | None, repositories: list[int] | None) -> Scope | None:
    """Raises UsageError."""
    if not installations and not repositories:
        return None
    if not installations:
        raise UsageError("of which installation?", hint="Say it, too: --installation N.")
    from covenq.model.token_scope import scope_of

    return scope_of(installations, repositories or None)


def token_file(data: str | None, config: str | None) -> Path:
    """The file of the tokens. Raises NotFound if its directory doesn't exist."""
    where = locate_in_use(data, config)
    path = where.config.token_file(where.data)
    if not is_directory(path.parent):
        raise NotFound(f"there is no directory {path.parent}", hint="`covenq serve` makes it; --data names another.")
    return path
