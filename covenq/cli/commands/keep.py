"""`covenq keep`: stop the erasure of an installation that was uninstalled."""

from __future__ import annotations

from typing import Annotated

import typer

from covenq.cli import output
from covenq.cli.bulk import operator_name
from covenq.cli.context import source
from covenq.cli.options import ConfigOption, DataOption, DryRun, Json, Jsonl, Reason, TokenFileOption, UrlOption
from covenq.cli.output import clean, say
from covenq.errors import UsageError


def keep(
    installation: Annotated[
        str, typer.Argument(metavar="INSTALLATION", help="The installation's number.", show_default=False)
    ],
    reason: Reason = None,
    dry_run: DryRun = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Keep the content of an uninstalled installation: stop its erasure before it begins.

    With [retention] on_uninstall = "erase" what came of an installation is erased some days after it is uninstalled;
    `covenq status` shows which, and when. This one is then left alone, until it is installed and uninstalled again. What would be
    erased is told by `covenq redact --installation NUMBER --dry-run`, which without --dry-run does it now.

    \b
      covenq keep 9001 --reason "they come back"
    """
    from covenq.operate import operations
    from covenq.operate.parameters import Keep

    if not (installation.isascii() and installation.isdecimal() and len(installation) < 19):
        raise UsageError(
            f"{clean(installation[:40])!r} is no installation", hint="It is a number: `covenq status` has it."
        )
    wanted = Keep(installation=int(installation), reason=reason, dry_run=dry_run, by=operator_name())
    with source(data, config) as opened:
        found = opened.act(operations.KEEP, wanted)
    with output.report_of_act(not dry_run):
        if json:
            output.emit_json(found)
        else:
            due = f"{found.due_at[:19]}Z"
            said = "would be kept" if dry_run else "is kept"
            say(f"The content of installation {found.installation} {said}: it would have been erased from {due} on.")
