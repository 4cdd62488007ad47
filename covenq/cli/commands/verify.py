"""`covenq verify`: verifies the journal."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.context import Location, locate, source
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl
from covenq.cli.output import clean, say
from covenq.cli.progress import bar
from covenq.errors import NotFound, Refused, UsageError
from covenq.paths import JOURNAL_NAME
from journal.presence import is_directory

if TYPE_CHECKING:
    from covenq.operate.maintain.verify import SignatureCounts
    from journal.records import Head
    from journal.reports import VerifyReport

DAMAGED = 5
_HEAD = re.compile(r"([0-9]{1,19}):([0-9a-f]{64})\Z")


def verify(
    since: Annotated[
        int | None,
        typer.Option("--since", min=1, metavar="SEQ", help="Only from the segment on that holds this record."),
    ] = None,
    segment: Annotated[
        str | None, typer.Option("--segment", metavar="FILE", help="Only this segment: its file, or a seq in it.")
    ] = None,
    signatures: Annotated[
        bool,
        typer.Option(
            "--signatures", help="Also hold every stored payload against GitHub's signature, with the known secrets."
        ),
    ] = False,
    head: Annotated[
        bool,
        typer.Option("--head", help="Print only the head as SEQ:SUM, to be noted elsewhere and checked with --expect."),
    ] = False,
    expect: Annotated[
        str | None,
        typer.Option(
            "--expect", metavar="SEQ:SUM", help="Fail unless the journal still holds this head of an earlier time."
        ),
    ] = None,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Prove every byte of the journal.

    Nothing is changed, but for a note of what was found. Exits 5 if anything is damaged or missing.
    With a daemon running, what it has made durable at that moment is proven.
    """
    if since is not None and segment is not None:
        raise UsageError(
            "--since and --segment can't be combined", hint="--segment is one, --since that one and all after."
        )
    wanted = parse_head(expect) if expect else None
    where = require_journal(locate(data, config))

    only = None if segment is None else _segment(where, segment)
    upto = durable_seq(data, config)
    report = _prove(where, upto, since, segment, only, wanted)
    signed = _signatures(where, upto, since or 0, only, report) if signatures else None
    _report(report, signed, head=head, json=json)
    if not report.ok:
        say(f"hint: nothing was changed. {_IN_FILES if where.config.journal.url is None else _IN_A_DATABASE}")
        raise typer.Exit(DAMAGED)


_IN_FILES = "Keep a copy; `covenq salvage` shows what can be kept, `covenq backup` has copies."
_IN_A_DATABASE = (
    "Keep a dump (pg_dump). Where the end is missing, put back the server that has it, or `covenq serve --accept-head SEQ`; "
    "what else is damaged comes back with a backup of the database: covenq-postgres(7)."
)


def _prove(
    where: Location,
    upto: int | None,
    since: int | None,
    segment: str | None,
    only: int | None,
    wanted: tuple[int, str] | None,
) -> VerifyReport:
    """Verify the journal, or from `since` on, or the segment `only` alone; the result of the whole is noted for `covenq status`.

    Raises NotFound where the record that `since` or `segment` names isn't there yet.
    """
    from covenq.model import now_text
    from covenq.operate.maintain import verify as integrity
    from covenq.operate.maintain import verify_note

    started = time.monotonic()
    journal = where.config.journal
    with bar("verify", bytes=journal.url is None) as update:
        report = integrity.check(
            where.data, journal, upto=upto, since=since or 0, segment=only, expect=wanted, progress=update
        )
    asked_seq = integrity.seq_of(segment, only) if segment is not None and only is not None else since
    if report.ok and asked_seq is not None and asked_seq > report.head.seq:
        raise NotFound(
            f"there is no record {asked_seq:,} yet: the newest is {report.head.seq:,}",
            hint="`covenq verify` proves all there is; `covenq status` says where the journal ends.",
        )
    if only is None and since is None:
        with suppress(OSError):  # the data directory may be another user's, and the note is only a service
            verify_note.write(where.data, report, now_text(), time.monotonic() - started, journal.engine)
    return report


def parse_head(text: str) -> tuple[int, str]:
    """`SEQ:SUM` as (seq, sum). Raises UsageError."""
    found = _HEAD.match(text.strip())
    if not found:
        raise UsageError(f"{text[:80]!r} is no head", hint="It is what `covenq verify --head` printed: SEQ:SUM.")
    return int(found[1]), found[2]


def head_text(head: Head) -> str:
    return f"{head.seq}:{head.sum}"


def require_journal(where: Location) -> Location:
    """The location, if it has a journal. Raises NotFound, Refused where it was moved elsewhere."""
    if where.config.journal.url is None and not is_directory(where.data / JOURNAL_NAME):
        from covenq.operate.maintain.moved_journal import check_not_moved

        check_not_moved(where.data)
        raise NotFound(
            f"there is no journal in {where.data}", hint="`covenq serve` makes one; --data names another directory."
        )
    return where


def durable_seq(data: str | None, config: str | None) -> int | None:
    """The newest durable seq, according to a running daemon; None without a daemon."""
    with source(data, config) as opened:
        return opened.status().journal.head.seq if opened.live else None


def require_files(where: Location, instead: str) -> Location:
    """The location, if its journal is one of files. Raises Refused; `instead` says what does the same for a database."""
    if where.config.journal.url is not None:
        raise Refused("the journal is in a database, and this is for one in files", hint=instead)
    return where


def _segment(where: Location, name: str) -> int:
    from covenq.operate.maintain import verify as integrity

    found = integrity.segment_of(where.data, name, where.config.journal)
    if found is None:
        are = f"They are files in {where.data / JOURNAL_NAME}; a" if where.config.journal.url is None else "A"
        raise NotFound(f"no segment {name[:80]!r}", hint=f"{are} seq will do.")
    return found


def _signatures(
    where: Location, upto: int | None, since: int, segment: int | None, report: VerifyReport
) -> SignatureCounts:
    from covenq.config.secret_keys import known_secrets
    from covenq.operate.maintain import verify as integrity

    secrets, problems = known_secrets(where.config, os.environ, where.data)
    for problem in problems:
        say(f"covenq: {clean(problem)}; what it signed can't be checked")
    with bar("signatures") as update:
        signed, mismatches = integrity.check_signatures(
            where.data, secrets, where.config.journal, upto=upto, since=since, segment=segment, progress=update
        )
    report.damage += mismatches
    return signed


def _report(report: VerifyReport, signed: SignatureCounts | None, *, head: bool, json: bool) -> None:
    if json and head and report.ok:
        output.emit_json(asdict(report.head))
    elif json:
        found: dict[str, object] = {"ok": report.ok, "records": report.records, "head": asdict(report.head)}
        found["damage"] = [asdict(one) for one in report.damage]
        if signed is not None:
            found["signatures"] = signed.answer()
        output.emit_json(found)
    elif head and report.ok:
        output.line(head_text(report.head))
    else:
        _print_report(report)
    if signed is not None and not json:
        _say_signatures(signed)


def _print_report(report: VerifyReport) -> None:
    for one in report.damage:
        output.prose(clean(one))
    records = output.count(report.records, "record")
    if report.ok:
        output.prose(f"ok, {records}, head {head_text(report.head)}")
    else:
        say(
            f"{output.count(len(report.damage), 'finding')}; {records} verify, the newest linked one is seq {report.head.seq}."
        )


def _say_signatures(signed: SignatureCounts) -> None:
    say(f"{output.count(signed.checked, 'signature')} right, {signed.mismatched:,} wrong.")
    if signed.payload_dropped:
        say(f"{signed.payload_dropped:,} not checked: the payload was dropped.")
    for name, number in sorted(signed.secrets.items()):
        say(f"{number:,} not checked: the secret named {clean(name)!r} is not known here.")
    if signed.imported:
        say(f"{signed.imported:,} not checked: they were imported, without a signature that can be checked.")
    if signed.unverified:
        say(
            f"{signed.unverified:,} not checked: they came out of GitHub's delivery log, without the bytes that were signed."
        )
    if signed.signed_later:
        say(f"{signed.signed_later:,} held without a signature were signed: the bytes came later, and are not kept.")
    if signed.unread:
        say(f"{output.count(signed.unread, 'line')} not checked: damaged, so what they held can't be told.")
    if signed.unsigned:
        say(f"{signed.unsigned:,} not checked: they came without a signature.")
