"""`covenq backup`: copies the journal while it is written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.commands.verify import DAMAGED, head_text, require_files, require_journal
from covenq.cli.context import locate, source
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl
from covenq.cli.output import clean, say
from covenq.cli.progress import bar

if TYPE_CHECKING:
    from covenq.model.journal_status import JournalStatus
    from journal.records import Damage
    from journal.reports import BackupReport


TO_BACK_UP = (
    "Back the database up with what it has for that: pg_dump, or base backups and the archived log; covenq-postgres(7)."
)


def backup(
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="Where to: the copy is DIR/journal.", show_default=False)
    ],
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Don't prove the copy afterwards.")] = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Copy the journal, also while the daemon runs.

    The copy ends at what was durable when it began, and opens as a journal of its own. Run it again on the same directory
    to bring the copy up to date: only what changed is copied, and what was erased meanwhile is erased there too.
    Copied is the journal, which is all there is to know of deliveries and tasks; not the secret, the configuration, nor
    the files of attempts.
    """
    where = require_journal(require_files(locate(data, config), TO_BACK_UP))
    from covenq.operate.maintain import backup as copying

    def live() -> JournalStatus | None:
        with source(data, config) as opened:
            return opened.status().journal if opened.live else None

    target = copying.target_in(where.data, directory)
    report, damage, forgotten = copying.copy(
        where.data, target, live, verify=not no_verify, progress=lambda what: bar(what, bytes=True)
    )
    if forgotten:
        say(f"covenq: {clean(forgotten)}")
    with output.report_of_act():
        if json:
            output.emit_json(_answer(report, target, damage, verified=not no_verify))
        else:
            for one in damage:
                output.prose(clean(one))
            output.line(head_text(report.head))
    if not json:
        copied = output.count(report.copied, "segment")
        say(f"{copied} copied ({output.size(report.bytes)}), {report.kept:,} unchanged, to {clean(target)}.")
        say(
            "Not in it: the secret, the configuration, the files of attempts. To restore, put it in place of a data directory's "
            "journal: the rest is made again from it."
        )
    if damage:
        say("hint: the copy is damaged as the journal is: `covenq verify` says how, an older backup may be whole.")
        raise typer.Exit(DAMAGED)


def _answer(report: BackupReport, target: Path, damage: list[Damage], *, verified: bool) -> dict[str, object]:
    return {
        "ok": not damage,
        "path": str(target),
        "head": asdict(report.head),
        "copied": report.copied,
        "kept": report.kept,
        "bytes": report.bytes,
        "verified": verified,
        "damage": [asdict(one) for one in damage],
    }
