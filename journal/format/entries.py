"""The entries of one append as bytes, and what they can't expect of each other."""

from __future__ import annotations

from collections.abc import Sequence

from journal.errors import EntryRefused
from journal.format.codec import Prepared, prepare
from journal.records import Entry


def prepare_append(entries: Sequence[Entry]) -> list[Prepared]:
    """`prepare` for the entries of one append. Raises EntryRefused, also for what they can't expect of each other."""
    prepared = [prepare(entry) for entry in entries]
    if len(prepared) > 1:
        _check_subjects(entries)
    return prepared


def _check_subjects(entries: Sequence[Entry]) -> None:
    """Refuse an `expect` on a subject of an earlier entry of the same call: no caller can know the seq that it will get."""
    before: set[str] = set()
    for entry in entries:
        if entry.expect is not None and entry.subject in before:
            raise EntryRefused(
                f"{entry.subject} is changed by an earlier entry of the same append: it can't be expected"
            )
        before.add(entry.subject)
