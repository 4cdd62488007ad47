"""`covenq migrate`: a journal moved from files into a database, or back.

The decision it serves is when to stop the daemon: all but the newest records are copied while it runs.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.options import Json, Jsonl
from covenq.cli.output import clean, say
from covenq.cli.progress import bar
from covenq.config.journal import SCHEMES, VARIABLE, JournalSettings, shown_url
from covenq.errors import Refused, UsageError
from covenq.paths import JOURNAL_NAME
from journal.errors import JournalLocked
from journal.presence import is_directory

if TYPE_CHECKING:
    from journal.migration import Store

ADDRESSES = "file:DIR, a data directory or the journal in it; or postgresql://USER@HOST/DATABASE"


def migrate(
    source: Annotated[str, typer.Option("--from", metavar="ADDRESS", help=f"Where the journal is: {ADDRESSES}.")],
    to: Annotated[str, typer.Option("--to", metavar="ADDRESS", help="Where it shall be.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be copied, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    json: Json = False,
    jsonl: Jsonl = False,
) -> None:
    """Move a journal from files into a database, or back.

    The same records, with the same seqs and sums. What is there is copied while a daemon runs; once it is stopped, the same
    command again copies the rest, seals the old journal, and opens the new one. Cut short, it goes on where it ended.
    """
    from covenq.cli.bulk import ask
    from journal.migration import Migration

    here, there = store_of(source), store_of(to)
    move = Migration(here, there)
    estimate = move.estimate()
    left = estimate.records - estimate.copied
    found = {"ok": True, **asdict(estimate), "from": here.name, "to": there.name, "moved": False}
    if dry_run:
        if json:
            output.emit_json(found)
        else:
            words = f"{output.count(left, 'record')} of {estimate.records:,} would be copied"
            output.prose(f"{words} from {clean(here.name)} to {clean(there.name)}.")
        return
    if not yes:
        ask(
            f"move the journal {estimate.journal[:8]} with {output.count(estimate.records, 'record')} to {clean(there.name)}",
            hint="Add --yes to do it, or --dry-run to see it.",
        )
    with bar("copy") as update:
        copied = move.copy(update)
        try:
            head = move.finish(update)
        except JournalLocked as locked:
            raise Refused(
                f"{locked}: {output.count(copied.seq, 'record')} are copied, and nothing is moved yet",
                hint="Stop the daemon, and give the same command again: little is left to be copied then.",
            ) from locked
    with output.report_of_act():
        if json:
            output.emit_json({**found, "copied": head.seq, "records": head.seq, "moved": True, "head": asdict(head)})
        else:
            output.line(f"{head.seq}:{head.sum}")
    say(f"Moved: {clean(here.name)} is sealed, and takes no records any more.")
    say(_next(to, there.name))


def store_of(address: str) -> Store:
    """Where an address points; a bare `postgresql:` is the database that COVENQ_JOURNAL_URL names. Raises UsageError."""
    from journal.migration import DatabaseStore, FileStore

    if address.startswith("file:"):
        path = Path(address.removeprefix("file:")).expanduser().absolute()
        inner = path / JOURNAL_NAME
        return FileStore(path if path.name == JOURNAL_NAME and not is_directory(inner) else inner)
    if address == "postgresql:" and os.environ.get(VARIABLE):
        address = os.environ[VARIABLE]
    elif address.startswith(SCHEMES):
        from covenq.cli.postgres_setup import checked

        address = checked(address, os.environ)
    else:
        raise UsageError(f"{address[:80]!r} is no address of a journal", hint=f"Write {ADDRESSES}.")
    return DatabaseStore(address, shown_url(JournalSettings(address)) or "postgresql:")


def _next(to: str, name: str) -> str:
    if to.startswith("file:"):
        return "Take [journal] out of the configuration, then `covenq serve`."
    return f'Next: [journal] engine = "postgres", url = "{clean(name)}" in the configuration, then `covenq serve`.'
