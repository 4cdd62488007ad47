"""`covenq salvage`: makes a new journal from what still verifies of a damaged one."""

from __future__ import annotations

import os
import secrets
import shlex
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.commands.verify import durable_seq, require_files, require_journal
from covenq.cli.context import Location, locate
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl
from covenq.cli.output import clean, say
from covenq.cli.progress import bar
from covenq.errors import Refused, UsageError
from covenq.paths import JOURNAL_NAME, STATE_NAME

if TYPE_CHECKING:
    from journal.file.salvage import Plan

SHOWN_MAX = 50
"""Findings and ids listed in words; --json has all."""


TO_RESTORE = "Restore the database from a backup of its own, then `covenq serve --accept-head SEQ`: covenq-postgres(7)."


def salvage(
    write: Annotated[
        bool, typer.Option("--write", "--yes", help="Write the new journal. Without this only the plan is shown.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and write nothing: the default.")] = False,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="DIR", help="The new journal's directory. Else journal.salvaged-TIME beside the old."
        ),
    ] = None,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Save what still verifies of a damaged journal.

    Shows what would be kept and what is lost, by delivery id. With --write a new journal, of another id and in a new
    epoch, is written beside the old one, which is never touched.
    """
    if write and dry_run:
        raise UsageError("--write and --dry-run can't be combined", hint="--dry-run is the default.")
    where = require_journal(require_files(locate(data, config), TO_RESTORE))
    directory = where.data / JOURNAL_NAME

    from journal.file.lock import DirectoryLock
    from journal.file.salvage import plan

    if not write:
        upto = durable_seq(data, config)
        with bar("salvage") as update:
            found = plan(directory, progress=None if update is None else lambda count: update(count, 0))
        _add_verified_damage(found, where.data, upto)
        _report(found, where, None, json)
        return
    target = Path(to).expanduser().absolute() if to else directory.with_name(f"journal.salvaged-{_file_timestamp()}")
    if directory.absolute() in (target, *target.parents):
        raise UsageError(f"{target} is in the damaged journal", hint="Give a directory beside it, or elsewhere.")
    # A process that holds the lock may still be writing: what it accepts from now on would be missing.
    lock = DirectoryLock(directory)
    try:
        found = _write(directory, target, where.data)
    finally:
        lock.release()
    with output.report_of_act():
        _report(found, where, target, json)


def _write(directory: Path, target: Path, data: Path) -> Plan:
    from journal.file.salvage import plan
    from journal.file.salvage import salvage as save

    found = plan(directory)
    _add_verified_damage(found, data, None)
    if not found.damage:
        raise Refused("nothing is damaged, so there is nothing to salvage", hint="`covenq backup` makes a copy.")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with bar("salvage") as update:
        save(
            directory,
            target,
            now=time.time(),
            token=secrets.token_hex,
            progress=None if update is None else lambda count: update(count, found.kept),
        )
    return found


def _file_timestamp() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def _add_verified_damage(found: Plan, data: Path, upto: int | None) -> None:
    """Replace the plan's damage by what `covenq verify` finds, and add what only the caches know.

    The caches know of records cut off cleanly at the end, and of the deliveries of lost records. A bad mark is no reason to
    salvage: the journal opens without it.
    """
    from covenq.operate.maintain.state_witness import state_witness
    from covenq.operate.maintain.verify import check
    from journal.file.files import OsFiles
    from journal.file.verify import witnesses_in

    seen = state_witness(data)
    with bar("verify", bytes=True) as update:
        report = check(data, upto=upto, progress=update)
    found.damage = [one for one in report.damage if one.kind != "bad mark"]
    if upto is None:
        known = [*witnesses_in(OsFiles(), data / JOURNAL_NAME), *([seen] if seen else [])]
        newest = max((one.seq for one in known if one.journal == found.journal), default=0)
        if newest > found.last:
            found.lost.append([found.last + 1, newest])
    ids = [*found.deliveries, *(one.delivery for one in found.damage if one.kind == "payload" and one.delivery)]
    if seen is not None and seen.journal == found.journal:
        ids += _lost_deliveries(data / STATE_NAME, found)
    found.deliveries = list(dict.fromkeys(ids))


def _lost_deliveries(state: Path, found: Plan) -> list[str]:
    """The deliveries that state.db has for the seqs that are lost, or whose content is lost."""
    import contextlib
    import sqlite3

    ids: list[str] = []
    uri = f"{state.absolute().as_uri()}?mode=ro"
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(uri, uri=True)) as conn:
        for low, high in [*found.lost, *found.dropped]:
            rows = conn.execute(
                "SELECT hook, guid FROM webhook_deliveries WHERE seq BETWEEN ? AND ? AND payload_dropped IS NULL",
                (low, high),
            )
            ids += [f"{hook}/{guid}" for hook, guid in rows]
    return ids


def _report(found: Plan, where: Location, target: Path | None, json: bool) -> None:
    following = _next_commands(where, target) if found.damage else []
    if json:
        plan = asdict(found)
        plan["records"] = plan.pop("kept")
        output.emit_json({**plan, "written": None if target is None else str(target), "next": following})
        return
    for one in found.damage[:SHOWN_MAX]:
        output.prose(clean(one))
    if len(found.damage) > SHOWN_MAX:
        say(f"… and {len(found.damage) - SHOWN_MAX:,} more.")
    lost = sum(high - low + 1 for low, high in found.lost)
    emptied = sum(high - low + 1 for low, high in found.dropped)
    kept = "kept" if target is not None else "would be kept"
    say(f"{output.count(found.kept, 'record')} {kept}, {lost:,} lost, {emptied:,} without their content.")
    if found.deliveries:
        say(f"{output.count(len(found.deliveries), 'delivery', 'deliveries')} concerned; GitHub can send them again:")
        for id in found.deliveries[:SHOWN_MAX]:
            output.line(clean(id))
        if len(found.deliveries) > SHOWN_MAX:
            say(f"… and {len(found.deliveries) - SHOWN_MAX:,} more (--json has all).")
    if target is not None:
        say(f"Written to {clean(target)}; the old journal was not touched. To put it in its place:")
    elif found.damage:
        say(f"Nothing was written. `{clean(following[0])}` writes the new journal, with the daemon stopped.")
    else:
        say("Nothing is damaged: there is nothing to salvage.")
    for command in following if target is not None else ():
        say(f"  {clean(command)}")


def _next_commands(where: Location, target: Path | None) -> list[str]:
    """The commands that put the new journal in place. state.db needs none: it is rebuilt for a journal of another id.

    They name the data directory and the configuration where another terminal, without our variables, would find others.
    """
    from covenq.daemon.greeting import options

    named = options(where.config, where.data, os.environ)
    if target is None:
        return [f"covenq salvage --write{named}"]
    journal = shlex.quote(str(where.data / JOURNAL_NAME))
    return [
        f"mv {journal} {shlex.quote(str(where.data / f'journal.damaged-{_file_timestamp()}'))}",
        f"mv {shlex.quote(str(target))} {journal}",
        f"covenq verify{named}",
        f"covenq serve{named}",
    ]
