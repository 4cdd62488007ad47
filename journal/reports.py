"""What verifying and copying a journal report, whichever engine did it."""

from __future__ import annotations

from dataclasses import dataclass, field

from journal.records import NO_SUM, Damage, Head


@dataclass(slots=True)
class VerifyReport:
    """`ok` is whether nothing was found. `records` counts those that verify, each once; `head` is the newest that is linked."""

    records: int = 0
    head: Head = field(default_factory=lambda: Head(0, NO_SUM))
    damage: list[Damage] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.damage


@dataclass(frozen=True, slots=True)
class BackupReport:
    """The head that the copy ends at, segments copied and left as they were, bytes copied."""

    head: Head
    copied: int
    kept: int
    bytes: int
