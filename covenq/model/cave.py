"""What CovenCave is answered at /api/github: the objects of coven-github's API, in its names.

Their fields are camelCase in JSON, as there. What covenq's own objects call otherwise is named beside the field.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from covenq.model.rows import Count, Time

STATUSES = ("queued", "running", "review", "done", "failed", "cancelled", "superseded")
Status = Annotated[str, Meta(extra_json_schema={"enum": list(STATUSES)})]


class CaveTask(Struct, kw_only=True, rename="camel"):
    """A task. Who shows tasks drops one without an id, a repository, a number, a title or a status that it knows."""

    id: str
    repo: str | None
    """None of an event without a repository, and after an erasure."""
    issue_number: int | None
    """The issue's, or the pull request's: covenq's `number`."""
    issue_title: str
    branch: str | None
    pr_number: int | None
    pr_url: str | None
    status: Status
    familiar_id: str | None
    familiar_name: str | None
    session_id: str
    """The id once more."""
    updated_at: Time
    check_run_url: str | None


class CaveTasks(Struct, kw_only=True):
    """A page of tasks, the one that changed last first; `next` is the cursor for `after`, None when there is no more."""

    tasks: list[CaveTask]
    next: str | None


class CaveUsage(Struct, kw_only=True, rename="camel"):
    """What a familiar did for a repository: how many tasks, how many of them ended how, and for how long their attempts ran."""

    installation_id: int | None
    repo: str | None
    """By its newest name; None where that is erased, or there is none."""
    familiar_id: str | None
    tasks: Count
    completed: Count
    failed: Count
    runtime_secs: Count


class CaveEvent(Struct, kw_only=True, rename="camel"):
    """Something that happened: a delivery was ignored, an attempt began, a task made a pull request."""

    at: Time
    task_id: str | None
    repo: str | None
    kind: str
    """`ignored:<reason>`, `attempt:<outcome, or running>` or `pr_opened`."""
    detail: str | None


class Triggers(Struct, kw_only=True, frozen=True):
    """Which ways there are to give a familiar work."""

    assignment: bool = True
    labels: bool = True
    commands: bool = True
    reviews: bool = True


class RepositoryTriggers(Triggers, kw_only=True, frozen=True):
    """Those of one repository, whose own settings are counted in."""

    enabled: bool = True


class InstallationRouting(Struct, kw_only=True, rename="camel"):
    """What the configuration says of an installation. `listed`: it is named there."""

    installation_id: int
    account: str | None
    familiars: list[str]
    """The ids of those that work for it."""
    triggers: Triggers
    repos: dict[str, RepositoryTriggers]
    """Repositories with settings of their own, by name or number as the configuration has them."""
    listed: bool
