"""The command that copies the journal while it is written: backup."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covenq.cli import output
from covenq.cli.common import ConfigOption, DataOption, Json, Place, place, source
from covenq.cli.journal import DAMAGED, existing, head_text
from covenq.cli.output import clean, say
from covenq.cli.progress import bar
from covenq.errors import Refused, UsageError

if TYPE_CHECKING:
    from journal.backup import BackupReport
    from journal.model import Damage, Head

TRIES = 4
"""Copies begun again because segments were rewritten meanwhile: each time only those are copied again."""


def backup(
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="Where to: the copy is DIR/journal.", show_default=False)
    ],
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Don't prove the copy afterwards.")] = False,
    json: Json = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Copy the journal, also while the daemon runs.

    The copy ends at what was durable when it began, and opens as a journal of its own. Run it again on the same directory
    to bring the copy up to date: only what changed is copied, and what was erased meanwhile is erased there too.
    Copied is the journal, which is all there is to know of deliveries and tasks; not the secret, the configuration, nor
    the files of attempts.
    """
    where = existing(place(data, config))
    target = Path(directory).expanduser().absolute() / "journal"
    own = (where.data / "journal").resolve()
    if own in (target.resolve(), *target.resolve().parents):
        raise UsageError(f"{target} is the journal itself", hint="Give another directory, best on another disk.")
    report, damage = _copy(where, target, data, config, verify=not no_verify)
    _remember(where, target.parent, report.head)
    if json:
        output.emit_json(_answer(report, target, damage, verified=not no_verify))
    else:
        for one in damage:
            output.line(clean(one))
        output.line(head_text(report.head))
        copied = output.count(report.copied, "segment")
        say(f"{copied} copied ({output.size(report.bytes)}), {report.kept:,} unchanged, to {clean(target)}.")
        say("Not in it: the secret, the configuration, the files of attempts. To restore, put it in place of a data")
        say("directory's journal: the rest is made again from it.")
    if damage:
        say("hint: the copy is damaged as the journal is: `covenq verify` says how, an older backup may be whole.")
        raise typer.Exit(DAMAGED)


def _copy(
    where: Place, target: Path, data: str | None, config: str | None, *, verify: bool
) -> tuple[BackupReport, list[Damage]]:
    from journal.backup import backup as take
    from journal.backup import room_for

    journal = where.data / "journal"
    if not target.exists() and not room_for(journal, target):
        raise Refused(f"there is not room enough for the journal at {target}", hint="Choose another disk.")
    for _ in range(TRIES):
        before = _identities(journal)
        with _head(where, data, config) as (id, head), bar("backup", bytes=True) as tell:
            report = take(journal, target, journal=id, head=head, progress=tell)
        after = _identities(journal)
        # What was rewritten meanwhile may name, as the record that erased it, one that is newer than this head.
        if all(after.get(name) == identity for name, identity in before.items()):
            break
    return report, _verify(target, report.head) if verify else []


def _verify(target: Path, head: Head) -> list[Damage]:
    from journal.model import Damage as Finding
    from journal.segment import name_of
    from journal.verify import verify as prove

    with bar("verify", bytes=True) as tell:
        proof = prove(target, progress=tell)
    found = list(proof.damage)
    if not found and (proof.head.seq, proof.head.sum) != (head.seq, head.sum):
        found.append(Finding("truncated", name_of(1), 0, head.seq, None, f"the copy ends at seq {proof.head.seq}"))
    return found


@contextmanager
def _head(where: Place, data: str | None, config: str | None) -> Iterator[tuple[str, Head]]:
    """The journal's id and its head: the daemon's, or, with the lock held meanwhile, the files'. Raises JournalDamaged."""
    from covenq.source import JOURNAL_NAME, STATE_NAME
    from covenq.state import read_witness
    from journal.errors import JournalDamaged, JournalLocked
    from journal.model import Head as At
    from journal.reader import open_reader

    with source(data, config) as opened:
        if opened.live:
            told = opened.status()["journal"]
            yield str(told["id"]), At(int(told["head"]["seq"]), str(told["head"]["sum"]))
            return
    seen = read_witness(where.data / STATE_NAME)
    witnesses = [seen] if seen else []
    try:
        reader = open_reader(where.data / JOURNAL_NAME, witnesses=witnesses, adopt=True)
    except JournalLocked:
        reader = open_reader(where.data / JOURNAL_NAME, witnesses=witnesses)
    with reader:
        if reader.damage:
            raise JournalDamaged(
                reader.damage,
                hint="A copy of a damaged journal is a matter for `cp -a`; `covenq salvage` shows what can be kept.",
            )
        yield reader.id, reader.head()


def _identities(journal: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in journal.glob("*.jsonl"):
        told = path.stat()
        found[path.name] = (told.st_dev, told.st_ino)
    return found


def _remember(where: Place, target: Path, head: Head) -> None:
    """So that whoever erases something is told of the copy."""
    from covenq import backups
    from covenq.model import now_text

    try:
        backups.remember(where.data, target, now_text(), head)
    except OSError as error:
        say(f"covenq: this backup can't be remembered in {clean(where.data / backups.NOTE_NAME)}: {error.strerror}")


def _answer(report: BackupReport, target: Path, damage: list[Damage], *, verified: bool) -> dict[str, Any]:
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
