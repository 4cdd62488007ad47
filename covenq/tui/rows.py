"""What the lists show: deliveries, tasks and attempts, each list rows of one type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from covenq.model.rows import Delivery, LatestAttempt, Task

Row = Delivery | Task | LatestAttempt
"""A row of any list."""
R = TypeVar("R", bound=Row)
"""The rows of one list."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a row is about: a delivery, as hook/GUID, and of it the task and the attempt, where it is about one."""

    delivery: str
    task: str | None = None
    attempt: int | None = None


def subject_of(row: Row) -> Subject:
    """What is opened with the row."""
    delivery = f"{row.hook}/{row.guid}"
    if isinstance(row, LatestAttempt):
        return Subject(delivery, row.task, row.attempt)
    return Subject(delivery, row.id if isinstance(row, Task) else None)
