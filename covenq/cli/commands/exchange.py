"""`covenq export`, `covenq import`: a filtered slice as one file, and deliveries from elsewhere."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from covenq import __version__, given_file
from covenq.cli import output
from covenq.cli.bulk import Wording, confirm, operator_name, reasons_of, report
from covenq.cli.context import locate_in_use, source
from covenq.cli.filter_hints import say_unknown_values
from covenq.cli.options import (
    ConfigOption,
    DataOption,
    DryRun,
    Json,
    Jsonl,
    Reason,
    TokenFileOption,
    UrlOption,
    Words,
    Yes,
)
from covenq.cli.output import clean, say
from covenq.cli.progress import bar
from covenq.cli.remote import selected_remote
from covenq.errors import CovenqError, NotFound, Refused, StateBehind, UsageError
from covenq.model import at_text
from journal.errors import JournalError
from journal.presence import exists, is_pipe

if TYPE_CHECKING:
    from covenq.client.interface import Source
    from covenq.client.local import LocalSource
    from covenq.operate.answers import Imported, Skipped
    from covenq.operate.imported import ImportedDelivery, NotImported
    from covenq.operate.inspect.slices import Exported

IMPORT = Wording("import", "imported", "delivery", "deliveries")
PROOF_S = 10.0
"""Seconds to wait until the files prove what a daemon has acknowledged."""
BATCH = 64
BATCH_BYTES = 2 << 20
"""Deliveries per request, and bytes of them, at most; a single larger one is sent alone."""


def export(
    words: Words = None,
    out: Annotated[
        str, typer.Option("--output", metavar="FILE", help="Where to; it must not be there. - is stdout.")
    ] = "-",
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Write deliveries, with their tasks and attempts, to one file.

    Those that a filter matches, oldest first: headers, exact bytes, and what became of them. `covenq import` reads it,
    here or elsewhere. It holds whole payloads: keep it as you keep them.

    \b
      covenq export repo:octo/hello since:1d --output slice.jsonl
    """
    from covenq.operate.act.archive import end, header, line

    filter = words or []
    if json and out == "-":
        raise UsageError(
            f"{output.json_option()} says what was written, and stdout has the file itself", hint="Add --output FILE."
        )
    written = lost = 0
    with source(data, config) as opened, _file(out) as file, bar("deliveries exported") as update:
        found, total = _found(opened, filter, data, config)
        _write_line(file, _json(header(__version__, at_text(time.time()), " ".join(filter))))
        for one in found:
            _write_line(file, line(one.delivery, one.body, one.tasks))
            lost += one.body is None
            written += 1
            if update is not None:
                update(written, total)
        _write_line(file, _json(end(written)))
        say_unknown_values(opened, filter, "deliveries")
    counted = output.count(written, "delivery", "deliveries")
    if json:
        with output.report_of_act():
            output.emit_json({"file": out, "deliveries": written, "without_payload": lost})
    say(f"{counted} written{'' if out == '-' else f' to {clean(out)}'}{f', {lost:,} without payload' if lost else ''}.")


def _found(opened: Source, filter: list[str], data: str | None, config: str | None) -> tuple[Iterator[Exported], int]:
    """The deliveries that match, oldest first, and how many they are.

    The files of this machine are read by many at a time, a running daemon's beside it; only one elsewhere is asked for each.
    """
    from covenq.client.local import LocalSource

    if isinstance(opened, LocalSource):
        files = opened
    elif selected_remote() is None:
        where = locate_in_use(data, config, say=lambda words: None)
        files = LocalSource(where.data, where.config, lock_s=0.0)  # the daemon holds it
        _wait_for(files, opened.status().journal.head.seq)
    else:
        return _asked_for(opened, filter)
    lots = files.lots(filter)
    return (one for lot in lots for one in files.exported(lot)), sum(map(len, lots))


def _wait_for(files: LocalSource, seq: int) -> None:
    """Wait until the files prove what a daemon has acknowledged: what its last record proves takes a tenth of a second.

    Raises StateBehind after PROOF_S.
    """
    deadline = time.monotonic() + PROOF_S
    while files.status().journal.head.seq < seq:
        if time.monotonic() > deadline:
            raise StateBehind(f"the files of the journal do not prove record {seq} yet", hint="Try again.")
        time.sleep(0.05)


def _asked_for(opened: Source, filter: list[str]) -> tuple[Iterator[Exported], int]:
    from covenq.client.interface import each

    ids = [f"{one.hook}/{one.guid}" for one in each(opened.deliveries, filter)][::-1]
    return (_exported(opened, id) for id in ids), len(ids)


def _exported(opened: Source, id: str) -> Exported:
    from msgspec.structs import asdict

    from covenq.model.answers import TaskHistory
    from covenq.operate.inspect.slices import Exported

    delivery = opened.delivery(id)
    try:
        body: bytes | None = opened.payload(id)
    except NotFound:
        body = None
    tasks = [TaskHistory(**asdict(opened.task(task)), attempt_objects=opened.attempts(task)) for task in delivery.tasks]
    return Exported(_json(delivery), body, _json(tasks))


def _json(value: object) -> bytes:
    import msgspec

    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # of a lone surrogate, which is escaped
        return output.json_text(value).encode()


def _write_line(file: IO[bytes], text: bytes) -> None:
    """Write a JSON document, with whatever a terminal would obey escaped."""
    if not text.isascii() or b"\x7f" in text:
        text = output.escape_json(text.decode()).encode()
    file.write(text + b"\n")


@contextmanager
def _file(name: str) -> Iterator[IO[bytes]]:
    """Stdout, or a new file, readable by its owner only, that appears complete or not at all. Raises Refused if it exists."""
    if name == "-":
        out = output.stdout()
        out.flush()
        with _naming("standard output"):
            yield out.buffer
            out.buffer.flush()
        return
    path = Path(name).expanduser()
    if exists(path):
        raise Refused(f"{path} is there already", hint="Name another file, or remove that one.")
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:  # from the open on: a signal may come when it is made and not yet known
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            error.filename = str(path)  # the user named that one, not the draft
            raise
        with _naming(path), os.fdopen(descriptor, "wb") as file:
            yield file
        draft.rename(path)
    finally:
        with suppress(OSError):  # what went wrong before is what is to be said
            draft.unlink()


@contextmanager
def _naming(what: Path | str) -> Iterator[None]:
    """Have the error of a full disk, which names no file, name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            advice = (
                "Raise the limit of a file's size (`ulimit -f`)" if error.errno == errno.EFBIG else "Free space there"
            )
            raise CovenqError(
                f"{what} can't be written: {error.strerror}", hint=f"{advice}: what was written is not complete."
            ) from error
        raise


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What `covenq export` or GitHub's API gave; - is stdin.")],
    route: Annotated[
        bool, typer.Option("--route", help="Route them now, as if GitHub had sent them: their tasks will run.")
    ] = False,
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
    """Record deliveries from a file.

    From `covenq export`, or a delivery as GitHub's API gives it (`gh api /app/hook/deliveries/ID`), one or many. They say
    `source:import`. Of GitHub's the bytes that were signed are rebuilt: those whose signature fits have its secret, all
    others none. What is here already is skipped. They are ignored, and run nothing, until `covenq reroute source:import`,
    or with --route.
    """
    from covenq.operate import operations
    from covenq.operate.act.archive import read
    from covenq.operate.answers import ALREADY_HERE, Imported, Skipped
    from covenq.operate.parameters import Import

    counted = None
    name = "standard input" if file == "-" else file
    if file == "-" or is_pipe(Path(file).expanduser()):
        if not (yes or dry_run):
            why = (
                "a file on stdin leaves nobody to ask"
                if file == "-"
                else f"{file} is a pipe, which can't be looked through before it is imported"
            )
            raise UsageError(why, hint="Add --yes to import it, or --dry-run.")
    else:
        with _opened(file) as opened:
            counted = sum(1 for _ in read(opened, name))  # the whole file, before anything of it is recorded
    found = Imported([], [], [])
    with source(data, config) as to:
        if counted is not None and counted > 1 and not (yes or dry_run):
            confirm(IMPORT, counted)
        with _opened(file) as opened, bar(IMPORT.past) as update, _told_of_interruption(found, counted):
            done, eligible = 0, set[str]()
            for batch in _batches(read(opened, name), found.skipped):
                wanted = Import(items=batch, routed=route, reason=reason, dry_run=dry_run, by=operator_name())
                answer = to.act(operations.IMPORT, wanted)
                # Of a dry run a later request can't know what an earlier one would have recorded.
                found.skipped += [Skipped(id, ALREADY_HERE) for id in answer.eligible if id in eligible]
                found.skipped += answer.skipped
                for all, some in (
                    (found.eligible, answer.eligible),
                    (found.verified, answer.verified),
                    (found.unverified, answer.unverified),
                ):
                    all += [id for id in some if id not in eligible]
                eligible.update(answer.eligible)
                found.done += answer.done
                found.signed_later += answer.signed_later
                found.secrets_unread = answer.secrets_unread or found.secrets_unread
                done += len(batch)
                if update is not None:
                    update(done, counted or 0)
    with output.report_of_act(not dry_run):
        report(found, reasons_of(found.skipped), IMPORT, dry_run, json)
    _say_signatures(found)
    known = [one for one in found.skipped if one.reason == ALREADY_HERE]
    if found.skipped and not found.eligible and len(known) == len(found.skipped):
        say("All of it is here already: there was nothing to do.")
    elif found.skipped and not found.eligible:
        raise typer.Exit(4)


def _say_signatures(found: Imported) -> None:
    """Of what came out of GitHub's delivery log: how many are what was signed, and how many only say so."""
    if found.verified:
        say(f"{len(found.verified):,} verified: the bytes that were signed, rebuilt, and GitHub's signature fits them.")
    if found.unverified:
        say(
            f"{len(found.unverified):,} unverified: no secret here signed them in any way to write their JSON; "
            "they are recorded without one."
        )
        for problem in found.secrets_unread:
            say(f"not tried: {clean(problem)}")
    if found.signed_later:
        say(f"{len(found.signed_later):,} held without a signature: the bytes that were signed are known now.")


@contextmanager
def _told_of_interruption(found: Imported, counted: int | None) -> Iterator[None]:
    """Say how far the import came, where it is interrupted, or what comes next can't be read or recorded."""
    whole = "" if counted is None else f" of {counted:,}"
    try:
        yield
    except KeyboardInterrupt:
        number = output.count(len(found.done), IMPORT.one, IMPORT.many)
        say(f"Interrupted: {number}{whole} imported, and perhaps up to {BATCH} more.")
        say("hint: Run it again for the rest; what is here already is skipped.")
        raise
    except (CovenqError, JournalError):
        if found.done:
            say(f"{output.count(len(found.done), IMPORT.one, IMPORT.many)}{whole} imported before this:")
        raise


def _batches(
    incoming: Iterator[ImportedDelivery | NotImported], skipped: list[Skipped]
) -> Iterator[list[ImportedDelivery]]:
    """Lots to send; what is none to import is `skipped`."""
    from covenq.operate.answers import Skipped
    from covenq.operate.imported import NotImported

    batch: list[ImportedDelivery] = []
    size = 0
    for one in incoming:
        if isinstance(one, NotImported):
            skipped.append(Skipped(one.id, one.reason))
            continue
        batch.append(one)
        size += len(one.body or b"")
        if len(batch) == BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    """The file, or stdin. Raises UsageError."""
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        opened = given_file.opened(Path(file).expanduser(), wait=True)
    except OSError as error:
        raise UsageError(f"{file}: can't be read: {error.strerror}", hint="Name a file, or - for stdin.") from None
    with opened:
        yield opened
