"""Verification of a data directory's journal.

It checks its own chain, what its caches and an auditor had seen of it, and GitHub's signatures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from covenq.config.journal import IN_FILES, JournalSettings
from covenq.config.secret_keys import Key
from covenq.github.request import fold_headers
from covenq.github.signature import verify as verify_signature
from covenq.model import JsonObject, Kind
from covenq.operate.maintain.moved_journal import check_not_moved
from covenq.operate.maintain.state_witness import state_witness
from covenq.operate.origin import is_unverified
from covenq.operate.signed_later import parse_note
from covenq.paths import JOURNAL_NAME
from journal.engines import require_postgres
from journal.errors import JournalDamaged
from journal.file.files import OsFiles
from journal.file.reader import JournalReader, open_reader
from journal.file.scan import verified_lines
from journal.file.segment import list_segments, name_of
from journal.file.verify import verify as prove
from journal.format.header import GENESIS
from journal.interface import Reader
from journal.records import Damage, Record, Witness
from journal.reports import VerifyReport

Progress = Callable[[int, int], None]
"""(done, in all), in bytes or in records."""


@dataclass(slots=True)
class SignatureCounts:
    """How many stored payloads were checked against their signature, and how many could not be, by the reason."""

    checked: int = 0
    mismatched: int = 0
    payload_dropped: int = 0
    secret_unknown: int = 0
    unsigned: int = 0
    imported: int = 0
    """Imported by `covenq import`, with no signature that a secret known here makes: an import checks none."""
    unverified: int = 0
    """Imported out of GitHub's delivery log, where no secret had signed what could be rebuilt of them."""
    signed_later: int = 0
    """Of those that are held without a signature: the bytes that were signed came later, and a note has their hash."""
    unread: int = 0
    """Lines that do not verify: their content is unknown."""
    secrets: dict[str, int] = field(default_factory=dict)
    """How many payloads name each unknown secret."""

    def answer(self) -> JsonObject:
        return asdict(self)


def check(
    data: Path,
    settings: JournalSettings = IN_FILES,
    *,
    upto: int | None,
    since: int = 0,
    segment: int | None = None,
    expect: tuple[int, str] | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Verify the journal of a data directory, up to `upto` if a daemon is writing it.

    state.db's position is a witness: a log that is shorter, or holds another record there, has lost something.
    `expect` is a head noted earlier, as (seq, sum). Raises JournalGone, FormatUnknown, JournalUnavailable.
    """
    if settings.url is not None:
        return _check_database(settings.url, data, upto, since, segment, expect, progress)
    check_not_moved(data)
    directory = data / JOURNAL_NAME
    seen = state_witness(data)
    report = prove(
        directory,
        upto=upto,
        since=since,
        segment=segment,
        witnesses=[seen] if seen else [],
        progress=progress,
    )
    if expect is None and (seen is None or segment is not None):
        return report
    with open_reader(directory, upto=upto) as reader:
        if seen is not None and segment is None:
            report.damage += _check_witness(reader, seen, report)
        if expect is not None:
            report.damage += _check_head(reader, expect, report)
    return report


def _check_database(
    url: str,
    data: Path,
    upto: int | None,
    since: int,
    segment: int | None,
    expect: tuple[int, str] | None,
    progress: Progress | None,
) -> VerifyReport:
    require_postgres()
    from journal.postgres.reader import open_reader as open_database
    from journal.postgres.verify import verify as prove_tables

    seen = state_witness(data)
    witnesses = () if seen is None else (seen,)
    report = prove_tables(url, upto=upto, since=since, segment=segment, witnesses=witnesses, progress=progress)
    if expect is not None:
        with open_database(url, upto=upto) as reader:
            report.damage += _check_head(reader, expect, report)
    return report


def _check_witness(reader: JournalReader, seen: Witness, report: VerifyReport) -> list[Damage]:
    if seen.journal != reader.id or not 0 < seen.seq <= report.head.seq or report.damage:
        return []
    record = _get(reader, seen.seq)
    if record is None or record.sum == seen.sum:
        return []
    detail = "state.db had seen another record at this seq"
    return [_at(reader, "shorter than caches", seen.seq, None, detail)]


def _check_head(reader: Reader, noted: tuple[int, str], report: VerifyReport) -> list[Damage]:
    """A finding if record `noted` is gone, or is another one: the whole chain may have been rewritten."""
    seq, total = noted
    if noted == (0, GENESIS):
        return []  # the head of a journal without a record: every history begins with it
    if seq > report.head.seq:
        detail = f"the head noted was seq {seq}, the journal ends at {report.head.seq}"
    elif seq == report.head.seq:
        if report.head.sum == total:
            return []
        detail = f"seq {seq} has the sum {report.head.sum}, not the one noted"
    else:
        record = _get(reader, seq)
        if record is not None and record.sum == total:
            return []
        detail = f"seq {seq} has the sum {record.sum}, not the one noted" if record else f"seq {seq} can't be read"
    return [_at(reader, "other history", seq, None, detail)]


def _get(reader: Reader, seq: int) -> Record | None:
    try:
        return reader.get(seq)
    except JournalDamaged:
        return None  # a finding of the chain's verification already


def segment_of(data: Path, name: str, settings: JournalSettings = IN_FILES) -> int | None:
    """The first seq of the segment that `name` means: its file, with or without `.jsonl`, or any seq in it.

    Raises JournalUnavailable, NoJournal.
    """
    digits = Path(name).name.removesuffix(".jsonl")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 20):
        return None
    firsts = [first for first in _segments(data, settings) if first <= int(digits)]
    return firsts[-1] if firsts else None


def _segments(data: Path, settings: JournalSettings) -> list[int]:
    """The first seqs of the segments, ascending."""
    if settings.url is None:
        return list_segments(OsFiles(), data / JOURNAL_NAME)
    require_postgres()
    from journal.postgres.verify import list_segments as list_in_database

    return list_in_database(settings.url)


def seq_of(name: str, first: int) -> int | None:
    """The seq that `name` means in the segment that begins with `first`; None where it means the segment itself."""
    seq = int(Path(name).name.removesuffix(".jsonl"))
    return None if seq == first else seq


def bounds(data: Path, since: int, segment: int | None, settings: JournalSettings = IN_FILES) -> tuple[int, int | None]:
    """The range of seqs that `since` and `segment` select: after the first, up to the second (None: the end)."""
    if segment is None:
        return max(since - 1, 0), None
    later = [first for first in _segments(data, settings) if first > segment]
    return segment - 1, later[0] - 1 if later else None


def check_signatures(
    data: Path,
    keys: Sequence[Key],
    settings: JournalSettings = IN_FILES,
    *,
    upto: int | None,
    since: int = 0,
    segment: int | None = None,
    progress: Progress | None = None,
) -> tuple[SignatureCounts, list[Damage]]:
    """Check every stored payload that still verifies against the signature it came with. `check` reports other damage.

    A payload counts as signed if any configured secret signs it. It is a mismatch if the secret that it was accepted by,
    known by its name, is configured, and none of the configured ones signs it.
    """
    found, damage, later = SignatureCounts(), list[Damage](), set[int]()
    names = {key.name for key in keys}
    after, last = bounds(data, since, segment, settings)
    end = upto if last is None else last if upto is None else min(last, upto)
    for where, offset, record in _verified(data, settings, after, end):
        if record is None:
            found.unread += 1
            continue
        if record.kind == Kind.RECEIVED:
            mismatch = _check_one(record, keys, names, found)
            if mismatch is not None:
                delivery = "/".join(record.subject.split(".")[1:])
                damage.append(Damage("signature", where, offset, record.seq, delivery, mismatch))
        elif parse_note(record) is not None and isinstance(record.data.get("received"), int):
            later.add(record.data["received"])
        if progress is not None and record.seq % 256 == 0:
            progress(record.seq - after, 0 if end is None else end - after)
    found.signed_later = sum(seq > after for seq in later)
    return found, damage


def _verified(
    data: Path, settings: JournalSettings, after: int, end: int | None
) -> Iterator[tuple[str, int, Record | None]]:
    """(segment, offset, record) of each record up to `end`; the record is None where it does not verify."""
    if settings.url is None:
        yield from verified_lines(OsFiles(), data / JOURNAL_NAME, after, end)
        return
    require_postgres()
    from journal.postgres.reader import open_reader as open_database

    with open_database(settings.url, upto=end) as reader:
        last = reader.head().seq
        while after < last:
            try:
                for record in reader.read(after):
                    yield "the database", 0, record
                    after = record.seq
            except JournalDamaged as error:
                after = max(error.damage[0].seq or 0, after + 1)
                yield "the database", 0, None


def _check_one(record: Record, keys: Sequence[Key], names: set[str], found: SignatureCounts) -> str | None:
    """Count one payload; what is wrong with it, if anything."""
    if record.payload is None:
        found.payload_dropped += record.payload_sha256 is not None
        return None
    headers = fold_headers((str(name), str(value)) for name, value in record.data.get("headers") or ())
    signature = headers.get("x-hub-signature-256")
    if signature is not None and verify_signature(keys, record.payload, signature) is not None:
        found.checked += 1
        return None
    if record.data.get("source") == "import" and record.data.get("secret") is None:
        if is_unverified(record):
            found.unverified += 1
        else:
            found.imported += 1
        return None
    if signature is None:
        found.unsigned += 1
        return None
    name = str(record.data.get("secret"))
    if name not in names:
        found.secret_unknown += 1
        found.secrets[name] = found.secrets.get(name, 0) + 1
        return None
    found.mismatched += 1
    return f"no configured secret makes its signature, and it was accepted by the one named {name!r}"


def _at(reader: Reader, kind: str, seq: int, delivery: str | None, detail: str) -> Damage:
    if not isinstance(reader, JournalReader):
        return Damage(kind, "the database", 0, seq, delivery, detail)
    firsts = [first for first in list_segments(OsFiles(), reader.directory) if first <= max(seq, 1)]
    return Damage(kind, name_of(firsts[-1] if firsts else 1), reader.offset_of(seq) or 0, seq, delivery, detail)
