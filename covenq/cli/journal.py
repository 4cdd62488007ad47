"""The command that proves the journal: verify."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.common import ConfigOption, DataOption, Json, place, source
from covenq.cli.output import clean, say
from covenq.errors import NotFound, UsageError

if TYPE_CHECKING:
    from journal.model import Damage, Head
    from journal.verify import VerifyReport

DAMAGED = 5
_HEAD = re.compile(r"(\d{1,19}):([0-9a-f]{64})\Z")


def verify(
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
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Prove every byte of the journal.

    Nothing is changed. Exits 5 if anything is damaged or missing.
    With a daemon running, what it has made durable at that moment is proven.
    """
    if head and json:
        raise UsageError("--head and --json can't be combined", hint="The JSON has the head in it.")
    wanted = parse_head(expect) if expect else None
    where = place(data, config)
    directory = where.data / "journal"
    if not directory.is_dir():
        raise NotFound(
            f"there is no journal in {where.data}", hint="`covenq serve` makes one; --data names another directory."
        )
    report = check(directory, _bound(data, config), wanted)
    if json:
        output.emit_json(
            {"ok": report.ok, "records": report.records, "head": asdict(report.head), "damage": _damage(report)}
        )
    elif head and report.ok:
        output.line(head_text(report.head))
    else:
        _print(report)
    if not report.ok:
        say("hint: nothing was changed; keep a copy of the journal before you do anything about it.")
        raise typer.Exit(DAMAGED)


def check(directory: Path, upto: int | None, wanted: tuple[int, str] | None = None) -> VerifyReport:
    """Verify the journal in that directory, up to `upto` if a daemon is writing there."""
    from covenq.state import read_witness
    from journal.verify import verify as prove

    seen = read_witness(directory.parent / "state.db") if upto is None else None
    report = prove(directory, upto=upto, witnesses=[seen] if seen else [], progress=_progress())
    if wanted is not None:
        found = _expected(directory, upto, wanted, report)
        if found is not None:
            report.damage.append(found)
    return report


def parse_head(text: str) -> tuple[int, str]:
    """`SEQ:SUM` as (seq, sum). Raises UsageError."""
    found = _HEAD.match(text.strip())
    if not found:
        raise UsageError(f"{text[:80]!r} is no head", hint="It is what `covenq verify --head` printed: SEQ:SUM.")
    return int(found[1]), found[2]


def head_text(head: Head) -> str:
    return f"{head.seq}:{head.sum}"


def _bound(data: str | None, config: str | None) -> int | None:
    """The newest durable seq as a running daemon tells it; None without one."""
    with source(data, config) as opened:
        return int(opened.status()["journal"]["head"]["seq"]) if opened.live else None


def _expected(directory: Path, upto: int | None, wanted: tuple[int, str], report: VerifyReport) -> Damage | None:
    """A finding if record `wanted` isn't there any more, or is another one: the whole chain may have been rewritten."""
    from journal.model import Damage
    from journal.reader import open_reader

    seq, sum = wanted
    if seq > report.head.seq:
        detail = f"the head noted was seq {seq}, the journal ends at {report.head.seq}"
    else:
        with open_reader(directory, upto=upto) as reader:
            record = reader.get(seq)
        if record is not None and record.sum == sum:
            return None
        detail = f"seq {seq} has the sum {record.sum}, not the one noted" if record else f"seq {seq} is not there"
    return Damage("not the journal noted", "journal", 0, seq, None, detail)


def _progress() -> Callable[[int, int], None] | None:
    """Percent on a terminal's stderr, some times a second; nothing elsewhere."""
    if not output.is_terminal(sys.stderr):
        return None
    shown = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= 0.2:
            shown = now
            percent = 100 * done // max(total, 1)
            print(f"\r{percent:3}% of {output.size(total)}\r", end="", file=sys.stderr, flush=True)

    return tell


def _damage(report: VerifyReport) -> list[dict[str, object]]:
    return [asdict(one) for one in report.damage]


def _print(report: VerifyReport) -> None:
    for one in report.damage:
        output.line(clean(one))
    records = output.count(report.records, "record")
    if report.ok:
        output.line(f"ok, {records}, head {head_text(report.head)}")
    else:
        say(
            f"{output.count(len(report.damage), 'finding')}; {records} verify, the newest linked one is seq {report.head.seq}."
        )
