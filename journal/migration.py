"""Moving a journal from one engine to another: the same records, with the same seqs and the same sums, under the same id.

The order, and why no crash loses or forks anything:

1. What is there is copied, while the journal may still be written (`Migration.copy`, as often as one likes). The target is
   closed: nobody appends to it. Each part is durable before the next, so a copy that was cut short goes on where it ended.
   What is copied verifies, and its chain is whole: a record that is missing ends the copy, before anything is sealed.
2. The source is opened for writing, which nobody else can then, and `journal.sealed` is appended, which names the target. It is
   held from here on until it is closed: so its end stays where it is, and is copied up to that very record.
3. The two heads are compared. Where they differ, nothing more is done: the source goes on being the journal.
4. The source is closed for good: a directory gets another name, which no covenq opens; tables say so to whoever appends. After a
   crash here neither takes appends, and the same command, given again, does what is left.
5. The target is opened, and with the same step begins a new epoch: fencing tokens of work that ran before are no longer valid.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from journal.engines import IN_DATABASE, open_reader, require_postgres
from journal.erasure import ErasureLookup
from journal.errors import JournalDamaged, JournalGone, JournalLocked, MigrationRefused
from journal.file.erase import rewrite_segment
from journal.file.files import OsFiles
from journal.file.lines import FileLines, write_segment
from journal.file.lock import LOCK_NAME, DirectoryLock
from journal.file.open import open_journal
from journal.file.segment import SEALED_SUFFIX, list_segments, name_of
from journal.format.check import chain_fault, continuity_damage, erasure_in
from journal.format.codec import open_envelope
from journal.format.header import Header
from journal.interface import Engine
from journal.presence import exists, is_directory
from journal.records import NO_SUM, OWN_SUBJECT, Appended, Damage, Entry, Head

SEALED_KIND = "journal.sealed"
COPY_SUFFIX = ".migrating"
POLL_S = 0.2
"""Seconds between two tries for a lease."""
_OF_A_DATABASE = (LOCK_NAME, IN_DATABASE)
"""What is in a journal's directory while its records are in a database."""

Progress = Callable[[int, int], None]
"""(records copied, records in all)"""


class Lines(Protocol):
    """A journal as segments of lines."""

    def segments(self) -> list[tuple[Header, bytes]]: ...

    def lines(self, header: Header, after: int, upto: int) -> Iterator[bytes]: ...


class Target(Protocol):
    """What a journal is copied into."""

    def begin(self, first: Header, line: bytes) -> Head:
        """Make it, or find how far it is. Raises MigrationRefused for another journal."""

    def add(self, header: Header, line: bytes, lines: Iterator[bytes]) -> Iterator[int]:
        """Bring lines of a segment; yields the newest seq after each part."""

    def finish(self, epoch: str, salt: str) -> None:
        """Let it be opened, in that epoch."""

    def close(self) -> None: ...


class Store(Protocol):
    """Where a journal is, or shall be."""

    name: str
    """For people, and for the record that seals: without a password."""

    def identity(self) -> object:
        """Equal to that of another store where both are one, however they were named. Raises JournalUnavailable."""

    def head(self) -> tuple[str, Head]:
        """Its id, and its newest record. Raises JournalGone, JournalDamaged."""

    def lines(self) -> Lines: ...

    def target(self) -> Target: ...

    def is_sealed(self) -> bool:
        """Whether it was closed for good by a move that was cut short."""

    def open(self) -> Engine:
        """For writing. Raises JournalLocked while another process has it."""

    def held(self) -> AbstractContextManager[object]:
        """Nobody else opens it for writing meanwhile, so that its end stays where it is: a daemon may be started again by
        itself. Raises as `open`.
        """

    def seal(self, words: str) -> None:
        """Nobody appends to it any more; `words` say why. May be repeated."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is left to be copied."""

    journal: str
    copied: int
    records: int


class Migration:
    """One journal's move from a place to another. Each step raises JournalError and OSError."""

    def __init__(self, source: Store, target: Store) -> None:
        self._source, self._target = source, target

    def estimate(self) -> Estimate:
        """Nothing is changed. Raises MigrationRefused for a target that holds another journal, JournalDamaged."""
        self._check_distinct()
        journal, head = self._source.head()
        try:
            other, copied = self._target.head()
        except JournalGone:
            return Estimate(journal, 0, head.seq)
        if other != journal and copied.seq:
            raise MigrationRefused(f"{self._target.name} holds another journal, of {copied.seq} records")
        return Estimate(journal, copied.seq if other == journal else 0, head.seq)

    def copy(self, progress: Progress | None = None) -> Head:
        """Copy what is there now; the newest record of the target. May be repeated."""
        self._check_distinct()
        _, head = self._source.head()
        lines = self._source.lines()
        segments = lines.segments()
        if not segments:
            raise JournalGone(f"there is no journal at {self._source.name}")
        with closing(self._target.target()) as target:
            copied = target.begin(*segments[0])
            if copied.seq and _sum_at(lines, segments, copied.seq) != copied.sum:
                raise MigrationRefused(f"record {copied.seq} of {self._target.name} is another one than here")
            chain = Chain(segments[0][0].journal, copied)
            for number, (header, line) in enumerate(segments):
                if header.after > head.seq:  # begun since
                    break
                newest = number + 1 == len(segments)
                last = head.seq if newest else segments[number + 1][0].after
                if last <= copied.seq and not newest:
                    continue
                upto = min(last, head.seq)
                for seq in target.add(header, line, chain.checked(header, lines.lines(header, copied.seq, upto), upto)):
                    if progress is not None:
                        progress(seq, head.seq)
            return target.begin(*segments[0])

    def finish(self, progress: Progress | None = None) -> Head:
        """Seal the source, copy the rest, and open the target. Raises JournalLocked while another process writes the source."""
        self._check_distinct()
        if not self._source.is_sealed():
            self._append_seal()
        with self._source.held():
            copied = self.copy(progress)
            _, head = self._source.head()
            if copied != head:
                raise MigrationRefused(
                    f"the copy ends at record {copied.seq}, the journal at {head.seq}: nothing was moved"
                )
            self._source.seal(f"this journal was moved to {self._target.name}")
        with closing(self._target.target()) as target:
            target.finish(secrets.token_hex(8), secrets.token_hex(32))
        return head

    def _check_distinct(self) -> None:
        """A journal that was moved onto itself would be sealed, and opened again behind the back of where it is now."""
        if self._source.identity() == self._target.identity():
            raise MigrationRefused(f"{self._source.name} and {self._target.name} are one place")

    def _append_seal(self) -> None:
        """The record that names where the journal goes, unless it is the newest already."""
        with closing(self._source.open()) as source:
            newest = source.last(OWN_SUBJECT)
            if newest is None or newest.kind != SEALED_KIND or newest.data.get("to") != self._target.name:
                answer = source.append([Entry(OWN_SUBJECT, SEALED_KIND, {"to": self._target.name})])
                assert isinstance(answer, Appended)


class Chain:
    """Where a copy is: what comes next has to continue that, or records are missing where it comes from."""

    def __init__(self, journal: str, copied: Head) -> None:
        self._journal, self._at = journal, copied

    def checked(self, header: Header, lines: Iterator[bytes], upto: int) -> Iterator[bytes]:
        """The lines of a segment behind what was copied, up to record `upto`. Raises JournalDamaged where one is missing."""
        name, salted = name_of(header.first), header.salted
        if header.first > self._at.seq:
            found = continuity_damage(name, header, self._journal, self._at if self._at.seq else None)
            if found:
                raise JournalDamaged(found)
            self._at = Head(header.first - 1, header.sum)
        for line in lines:
            envelope = open_envelope(line, salted)
            fault = chain_fault(envelope, self._at.seq + 1, self._at.sum, linked=True)
            if fault is not None:
                raise JournalDamaged([Damage(fault[0], name, 0, envelope.seq, envelope.delivery, fault[1])])
            self._at = Head(envelope.seq, envelope.sum)
            yield line
        if self._at.seq < upto:
            detail = f"the records end at seq {self._at.seq}, and should at {upto}"
            raise JournalDamaged([Damage("missing record", name, 0, self._at.seq + 1, None, detail)])


def _sum_at(lines: Lines, segments: list[tuple[Header, bytes]], seq: int) -> str | None:
    """The sum of a record; None if there is none with that seq."""
    for header, _ in reversed(segments):
        if header.first <= seq:
            return next((open_envelope(line, header.salted).sum for line in lines.lines(header, seq - 1, seq)), None)
    return None


class FileStore:
    """A directory of segments; once it is sealed, under another name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sealed = directory.with_name(directory.name + SEALED_SUFFIX)
        self.name = f"file:{directory}"

    def identity(self) -> object:
        return self._directory.resolve()

    def is_sealed(self) -> bool:
        return not _has_segments(self._directory) and _has_segments(self._sealed)

    @property
    def directory(self) -> Path:
        return self._sealed if self.is_sealed() else self._directory

    def head(self) -> tuple[str, Head]:
        if not _has_segments(self.directory):
            raise JournalGone(f"there is no journal at {self.name}", hint="Look at the directory that was given.")
        with open_reader(self.directory) as reader:
            if reader.damage:
                raise JournalDamaged(reader.damage)
            return reader.id, reader.head()

    def lines(self) -> Lines:
        return FileLines(self.directory)

    def target(self) -> FileTarget:
        return FileTarget(self._directory)

    def open(self) -> Engine:
        self.head()
        self._check_sealed()
        return open_journal(self.directory)

    def held(self) -> AbstractContextManager[object]:
        return nullcontext() if self.is_sealed() else self._locked()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = DirectoryLock(self._directory)
        try:
            yield
        finally:
            lock.release()

    def _check_sealed(self) -> None:
        """The name that it gets when it is sealed has to be free: what is there is of an earlier move."""
        if exists(self._sealed):
            raise MigrationRefused(
                f"{self._sealed} is there already", hint="Look what it is, and give it another name."
            )

    def seal(self, words: str) -> None:
        """Another name, which is durable on return: no covenq opens a directory that is not there."""
        if self.is_sealed():
            return
        self._check_sealed()
        self._directory.rename(self._sealed)
        OsFiles().fsync_dir(self._directory.parent)


def _has_segments(directory: Path) -> bool:
    return is_directory(directory) and bool(list_segments(OsFiles(), directory))


class FileTarget:
    """A directory beside the one that a journal is copied into, which it becomes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._copy = directory.with_name(directory.name + COPY_SUFFIX)
        self._files = OsFiles()
        self._lock: DirectoryLock | None = None
        """Held from the beginning of a copy on: two at once would write over each other's segments."""

    def begin(self, first: Header, line: bytes) -> Head:
        if _has_segments(self._directory):
            raise MigrationRefused(f"{self._directory} holds a journal")
        others = (
            [path.name for path in self._directory.iterdir() if path.name not in _OF_A_DATABASE]
            if exists(self._directory)
            else []
        )
        if others:
            raise MigrationRefused(
                f"{self._directory} holds {others[0][:80]!r}, which is of no journal in a database",
                hint="Move it elsewhere: the journal gets the directory for itself.",
            )
        self._copy.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_lock()
        segments = FileLines(self._copy).segments()
        if not segments:
            return Head(0, NO_SUM)
        if segments[0][0].journal != first.journal:
            raise MigrationRefused(f"{self._copy} holds a copy of another journal")
        newest = Head(segments[-1][0].after, segments[-1][0].prev)
        header = segments[-1][0]
        for one in FileLines(self._copy).lines(header, 0, (1 << 63) - 1):
            envelope = open_envelope(one, header.salted)
            newest = Head(envelope.seq, envelope.sum)
        return newest

    def add(self, header: Header, line: bytes, lines: Iterator[bytes]) -> Iterator[int]:
        """The segment is written anew with what it has: so it is there whole, or as it was."""
        seqs: list[int] = []
        erasures = []

        def all_lines() -> Iterator[bytes]:
            here = FileLines(self._copy)
            for known, _ in here.segments():
                if known.first == header.first:
                    yield from here.lines(known, 0, (1 << 63) - 1)
            for one in lines:
                envelope = open_envelope(one, header.salted)
                seqs.append(envelope.seq)
                erasure = erasure_in(envelope)
                if erasure is not None:
                    erasures.append(erasure)
                yield one

        write_segment(self._copy, header, line, all_lines(), self._files)
        if erasures:
            # What they name may have been copied before it was erased.
            lookup = ErasureLookup(erasures)
            for first in list_segments(self._files, self._copy):
                rewrite_segment(self._files, self._copy, first, lookup)
        if seqs:
            yield seqs[-1]

    def finish(self, epoch: str, salt: str) -> None:
        """A new epoch begins in the copy, which then gets the name: an opening finds all of it or nothing."""
        self.close()  # the opening takes the lock
        with open_journal(self._copy) as journal:
            journal.begin_epoch(epoch)
        if exists(self._directory):
            for name in _OF_A_DATABASE:
                (self._directory / name).unlink(missing_ok=True)
            self._directory.rmdir()
        self._copy.rename(self._directory)
        self._files.fsync_dir(self._directory.parent)

    def _take_lock(self) -> None:
        if self._lock is None:
            try:
                self._lock = DirectoryLock(self._copy)
            except JournalLocked as locked:
                raise MigrationRefused(
                    f"{locked}: another `covenq migrate` copies into it",
                    hint="Wait until it has ended, and give the same again.",
                ) from locked

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class DatabaseStore:
    """A PostgreSQL database."""

    def __init__(self, url: str, name: str, now: Callable[[], float] = time.time) -> None:
        """`name` is the URL for people, without a password. Raises EngineNotInstalled."""
        require_postgres()
        self._url, self.name, self._now = url, name, now

    def identity(self) -> object:
        from journal.postgres.lines import identity

        return identity(self._url)

    def head(self) -> tuple[str, Head]:
        with open_reader(self._url) as reader:
            if reader.damage:
                raise JournalDamaged(reader.damage)
            return reader.id, reader.head()

    def lines(self) -> Lines:
        from journal.postgres.lines import TableLines

        return TableLines(self._url)

    def target(self) -> Target:
        from journal.postgres.lines import TableTarget

        return TableTarget(self._url, self._now)

    def open(self) -> Engine:
        """The lease of a process that was killed ends by itself, and is waited for: one that lives renews it."""
        from journal.postgres.lease import LEASE_S
        from journal.postgres.open import open_journal as open_database

        deadline = time.monotonic() + LEASE_S + POLL_S
        while True:
            try:
                return open_database(self._url)
            except JournalLocked:
                if time.monotonic() > deadline:
                    raise
            time.sleep(POLL_S)

    def held(self) -> AbstractContextManager[object]:
        return nullcontext() if self.is_sealed() else closing(self.open())

    def is_sealed(self) -> bool:
        from journal.postgres.lines import is_sealed

        return is_sealed(self._url)

    def seal(self, words: str) -> None:
        from journal.postgres.lines import seal

        seal(self._url, words)
