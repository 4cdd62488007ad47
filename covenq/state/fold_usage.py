"""The fold of usage: what each month had of each installation, repository and familiar, counted record by record.

A record counts in the month of its own time (UTC), whatever becomes of its delivery or task later: so the sums of a month that is
over never change, and they add up to the journal. Whose a record is says the first one of its delivery or task, in `data`, which
is never erased. One whose first record the journal hasn't, because a salvage lost it, is nobody's, and isn't counted.

Only numbers are kept: a repository's name is looked up when it is shown, so an erasure has nothing to clear here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, MutableMapping
from datetime import datetime

from covenq.model import Kind
from covenq.model.rows import DeliveryRow, TaskRow
from journal.records import Record

COLUMNS = ("accepted", "ignored", "duplicated", "tasks", "attempts", "completed", "failed", "retried", "micros")
"""What is summed up, as columns of the table `usage`: records of a kind each, and the microseconds that attempts ran."""
_PLACES = {name: place for place, name in enumerate(COLUMNS, 1)}
_OF_DELIVERY = {
    Kind.RECEIVED.value: _PLACES["accepted"],
    Kind.IGNORED.value: _PLACES["ignored"],
    Kind.REPEATED.value: _PLACES["duplicated"],
}
_OF_TASK = {
    Kind.QUEUED.value: _PLACES["tasks"],
    Kind.CLAIMED.value: _PLACES["attempts"],
    Kind.COMPLETED.value: _PLACES["completed"],
    Kind.FAILED.value: _PLACES["failed"],
    Kind.RETRY.value: _PLACES["retried"],
}
_MICROS = _PLACES["micros"]
MICROS_MAX = 1 << 53
"""Of a group, 285 years: records with forged times must not bring a sum to where SQLite's integers end."""


UsageGroup = tuple[str, int | None, int | None, str | None]
"""What is counted together: the month (2026-11), the installation, the repository's number, and the familiar, None of what is no
familiar's. A plain tuple, since one is made for each record."""
Usage = MutableMapping[UsageGroup, list[int]]
"""What a batch adds to each group: the seq of its first record that counts, and a number for each of COLUMNS."""

_ADD = f"""INSERT INTO usage (first, month, installation, repo_id, familiar, {", ".join(COLUMNS)})
    VALUES ({", ".join("?" * (5 + len(COLUMNS)))})
    ON CONFLICT (month, coalesce(installation, ''), coalesce(repo_id, ''), coalesce(familiar, '')) DO UPDATE SET
    {", ".join(f"{name} = {name} + excluded.{name}" for name in COLUMNS[:-1])},
    micros = min(micros + excluded.micros, {MICROS_MAX})"""  # noqa: S608 - constants


def note_delivery(usage: Usage, record: Record, row: DeliveryRow) -> None:
    """Count a record of the delivery, if its kind counts."""
    place = _OF_DELIVERY.get(record.kind)
    if place is not None:
        _numbers(usage, record, row.installation, row.repo_id, None)[place] += 1


def note_task(usage: Usage, record: Record, row: TaskRow) -> None:
    """Count a record of the task, if its kind counts."""
    place = _OF_TASK.get(record.kind)
    if place is not None:
        _numbers(usage, record, row.installation, row.repo_id, row.familiar)[place] += 1


def end_attempt(usage: Usage, record: Record, row: TaskRow, began: str) -> None:
    """Count the time of the attempt that this record ends: from its claim on, all of it in the month in which it ends."""
    numbers = _numbers(usage, record, row.installation, row.repo_id, row.familiar)
    numbers[_MICROS] = min(numbers[_MICROS] + _micros(began, record.at), MICROS_MAX)


def store(conn: sqlite3.Connection, usage: Mapping[UsageGroup, list[int]]) -> None:
    """Add it to the table, inside the caller's transaction."""
    if usage:
        conn.executemany(_ADD, [(first, *group, *numbers) for group, (first, *numbers) in usage.items()])


def _numbers(
    usage: Usage, record: Record, installation: int | None, repo_id: int | None, familiar: str | None
) -> list[int]:
    """The numbers of the record's group, which its `_PLACES` are places in."""
    group = record.at[:7], installation, repo_id, familiar or None
    found = usage.get(group)
    if found is None:
        found = usage[group] = [record.seq, *[0] * len(COLUMNS)]
    return found


def _micros(began: str, ended: str) -> int:
    """The microseconds between two times as records have them: none where the clock was set back, or one is no date."""
    try:
        ran = datetime.fromisoformat(ended) - datetime.fromisoformat(began)
    except ValueError:
        return 0
    return max(ran.days * 86_400_000_000 + ran.seconds * 1_000_000 + ran.microseconds, 0)
