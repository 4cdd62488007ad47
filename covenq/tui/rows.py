"""What the lists show: deliveries, tasks and attempts, each list rows of one type."""

from __future__ import annotations

from typing import TypeVar

from covenq.model.rows import Delivery, LatestAttempt, Task

Row = Delivery | Task | LatestAttempt
"""A row of any list."""
R = TypeVar("R", bound=Row)
"""The rows of one list."""
