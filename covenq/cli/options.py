"""The options and arguments that commands share, each with its help, and what completes them in a shell.

A command names in its own signature all that it takes: `Annotated` types that Typer reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from covenq.cli.filter_words import filter_argument

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
UrlOption = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="A daemon elsewhere: the address of its API. Else COVENQ_URL."),
]
UrlsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="A daemon elsewhere: the address of its API; repeated, of each node that shares its journal. Else COVENQ_URL.",
    ),
]
TokenFileOption = Annotated[
    str | None,
    typer.Option(
        "--token-file", metavar="PATH", help="The token for --url. Else COVENQ_TOKEN_FILE, or COVENQ_TOKEN itself."
    ),
]
"""With `url: UrlOption` of every command that reads or acts through a source, as its last parameters. The command's function
ignores both: `covenq.cli.context.source` opens what they select (`covenq.cli.shared_options`)."""


LIMIT_MAX = 999_999_999
"""Of a --limit, as over HTTP: what a program passes for "all" is 0."""
SEQ_MAX = 10**18 - 1
"""Of a record's number, here and over HTTP; a larger one is a mistake, and none that a journal ever has."""


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


def complete_sample(incomplete: str) -> list[str]:
    from covenq.cli import completion

    return completion.samples(incomplete)


def one_of(*words: str) -> Callable[[str], list[str]]:
    """A completer of these words."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


Words = Annotated[list[str] | None, filter_argument()]
Deliveries = Annotated[list[str] | None, filter_argument("-", ids=["deliveries"])]
Tasks = Annotated[list[str] | None, filter_argument("-", ids=["tasks"])]
"""The deliveries, or tasks, that a command acts on: ids or a filter."""
Limit = Annotated[int, typer.Option("--limit", min=0, max=LIMIT_MAX, metavar="N", help="At most so many; 0 is all.")]
After = Annotated[
    str | None, typer.Option("--after", metavar="CURSOR", help="Go on after this `next` of an earlier page.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]
Jsonl = Annotated[bool, typer.Option("--jsonl", help="A JSON object a line: of a list, each item as it comes.")]
"""`jsonl: Jsonl` stands behind every `json: Json`. The command's function ignores it: `json` is true for both, and
`covenq.cli.output` prints lines where lines were chosen (`covenq.cli.shared_options`)."""
Reason = Annotated[str | None, typer.Option("--reason", metavar="WHY", help="Kept in the journal with what is done.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]
