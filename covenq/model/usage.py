"""Usage as it is answered: what a month had of each installation, repository and familiar.

Each number is a sum over records of that month, and over nothing else: `covenq.state.fold_usage`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from covenq.model.rows import Count

By = Literal["month", "installation", "repository", "familiar"]
Month = Annotated[str | None, Meta(extra_json_schema={"pattern": "^[0-9]{4}-[0-9]{2}$"})]


class UsageSums(Struct, kw_only=True):
    """Deliveries that came, were ignored, came again; tasks, their attempts, how those ended, and the seconds that they ran."""

    accepted: Count
    ignored: Count
    duplicated: Count
    tasks: Count
    attempts: Count
    completed: Count
    failed: Count
    retried: Count
    seconds: float


class UsageRow(UsageSums, kw_only=True):
    """The sums of a group. What it isn't grouped by is null, and so is what its records have none of.

    `repo` is the name in the newest delivery of the repository with that number, null where that was erased.
    """

    month: Month
    installation: int | None
    repo_id: int | None
    repo: str | None
    familiar: str | None


class Usage(Struct, kw_only=True):
    """Groups, in the order in which each was counted first, and the sums of all that match, also of those on other pages.

    `month` is the one that was asked for, null where all were; `by` what they are grouped by, null where by all four; `seq` the
    record up to which all is counted.
    """

    month: Month
    by: By | None
    seq: Count
    items: list[UsageRow]
    next: str | None
    total: UsageSums
