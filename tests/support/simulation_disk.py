"""The file engine on the simulated disk, as the journal of a simulated history."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path

from journal.errors import JournalFull
from journal.file.engine import FileJournal
from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from journal.records import Appended, Conflict, Entry, Head, Record, Unknown
from tests.support.journals.simdisk import SimDisk
from tests.support.simulation import Crash

NEVER_S = 1e6


class DiskJournal:
    """`simulation.SimJournal`'s other half: the same faults, over the real engine, its files and its recovery.

    A crash in an append leaves a whole number of its records and, most often, a piece of the next line; what was not synced
    is gone, and the log is opened again from the disk that is left.
    """

    def __init__(self, root: Path, clock: Callable[[], float], fault: Callable[[int], str | int | None]) -> None:
        self.records: list[Record] = []
        self.watch: Callable[[Record], None] = lambda record: None
        self._root = root
        self._clock = clock
        self._fault = fault
        self._rng = random.Random(5)
        self._attempts: dict[str, Appended] = {}
        (root / "journal").mkdir(exist_ok=True)
        self._open(SimDisk(root))

    def _open(self, disk: SimDisk) -> None:
        self._disk = disk
        self._journal: FileJournal = open_journal(
            self._root / "journal",
            files=disk,
            force_filesystem=True,
            settings=WriteSettings(idle_s=NEVER_S, clock=self._clock),
        )
        self.id, self.epoch = self._journal.id, self._journal.epoch
        assert list(self._journal.read(0))[: len(self.records)] == self.records, (
            "what was durable is not there any more"
        )
        self._see()

    def _see(self) -> None:
        for record in self._journal.read(len(self.records)):
            self.records.append(record)
            self.watch(record)

    def append(self, entries: Sequence[Entry]) -> Appended | Conflict | Unknown:
        fault = self._fault(len(entries))
        if fault == "full":
            raise JournalFull("there is no space")
        if fault == "unsent":
            return Unknown()
        attempt = entries[0].attempt
        if attempt is not None and (known := self._attempts.get(attempt)) is not None:
            return Unknown() if fault == "unanswered" else known
        kept = fault if isinstance(fault, int) else len(entries)
        answer = self._journal.append(entries[:kept]) if kept else None
        self._see()
        if isinstance(fault, int):
            self.crash()
        if attempt is not None and isinstance(answer, Appended):
            self._attempts[attempt] = answer
        if answer is None or fault == "unanswered":
            return Unknown()
        return answer

    def crash(self) -> None:
        """The process ends here; the disk is opened by another one. Raises Crash."""
        image = self._disk.image()
        name = max(name for name in image if name.endswith(".jsonl"))
        piece = b'{"seq":%d,"at":"20' % (len(self.records) + 1)
        image[name] += piece[: self._rng.randint(0, len(piece))]
        self.close()
        for path in (self._root / "journal").iterdir():
            path.unlink()
        self._open(SimDisk(self._root, {name: data for name, data in image.items() if not name.endswith("closed")}))
        raise Crash

    def close(self) -> None:
        self._journal.close()

    def read(self, after: int, only: Container[int] | None = None, *, payloads: bool = True) -> Iterator[Record]:
        return self._journal.read(after, only, payloads=payloads)

    def get(self, seq: int) -> Record | None:
        return self._journal.get(seq)

    def last(self, subject: str) -> Record | None:
        return self._journal.last(subject)

    def wait(self, after: int, timeout: float | None) -> bool:
        return self._journal.head().seq > after

    def head(self) -> Head:
        return self._journal.head()
