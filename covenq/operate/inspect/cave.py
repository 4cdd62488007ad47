"""What CovenCave is answered: tasks, usage and events as coven-github's API has them, out of state.db.

The states of tasks are projected as there (`status_of`), titles are made as there (`title_of`). What there is more of here than
there, or otherwise, is told in covenq-http(7).
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Mapping
from typing import Protocol

from covenq.model import State, Target
from covenq.model.cave import CaveEvent, CaveTask, CaveTasks, CaveUsage, InstallationRouting
from covenq.state import repositories
from covenq.state.changed_tasks import ChangedTask, changed_tasks
from covenq.state.in_scope import Scope, holds
from covenq.state.newest_events import begun_attempts, ignored_deliveries, made_pulls

LIMIT = 500
"""Tasks of an answer, if the request names no limit."""
EVENTS = 200

_STATUS = {
    State.QUEUED: "queued",
    State.RUNNING: "running",
    State.COMPLETED: "done",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.SUPERSEDED: "superseded",
}


class Familiars(Protocol):
    """What the configuration in effect says of familiars, and of who may have them work."""

    def names(self) -> Mapping[str, str]:
        """The display name of each, by its id."""

    def routing(self, installation: int) -> InstallationRouting:
        """What holds for an installation, whether it is named in the configuration or not."""


# ---- tasks


def tasks(
    conn: sqlite3.Connection, scope: Scope | None, before: int | None, limit: int, names: Mapping[str, str], web: str
) -> CaveTasks:
    """Up to `limit` tasks of the scope, the one that changed last first; `before` is the `next` of the page before.

    `names` are the familiars' (`Familiars.names`), `web` is where GitHub's pages are.
    """
    found = changed_tasks(conn, scope, before, limit + 1)
    more = len(found) > limit
    shown = [task_object(one, names, web) for one in found[:limit]]
    return CaveTasks(tasks=shown, next=str(found[limit - 1].last_seq) if more else None)


def task_object(row: ChangedTask, names: Mapping[str, str], web: str) -> CaveTask:
    """A task as it is shown."""
    number = row.pr_number
    return CaveTask(
        id=row.id,
        repo=row.repo,
        issue_number=row.number,
        issue_title=title_of(row),
        branch=row.branch,
        pr_number=number,
        pr_url=None if number is None or row.repo is None else f"{web}/{row.repo}/pull/{number}",
        status=status_of(row.state, row.result_status, number),
        familiar_id=row.familiar,
        familiar_name=None if row.familiar is None else names.get(row.familiar, row.familiar),
        session_id=row.id,
        updated_at=row.updated_at,
        check_run_url=row.check_run_url,
    )


def status_of(state: str, result_status: str | None, pr_number: int | None) -> str:
    """The word for a task's state: what is completed is to be reviewed where it asks for something, or made a pull request.

    `cancelled` isn't among coven-github's, which supersedes what is cancelled: its client drops `superseded`, and knows this.
    """
    if state == State.COMPLETED and (result_status == "needs_input" or pr_number is not None):
        return "review"
    return _STATUS[State(state)]


def title_of(row: ChangedTask) -> str:
    """The title that a task is shown by. Never empty: a row without one is dropped by the client."""
    number = "" if row.number is None else f"#{row.number}"
    match row.purpose:
        case "address_review_comment" if number:
            return f"Address review on PR {number}"
        case "review_pull_request" if number:
            return f"Review PR {number}: {row.title}" if row.title else f"Review PR {number}"
        case "garden" | "garden_run":
            return "Branch gardener run"
        case "cancel" | "cancel_reviews" if number and row.target == Target.PULL:
            return f"Cancel queued reviews on PR {number}"
        case "cancel" | "retry" if number:
            return f"{row.purpose.capitalize()} on {number}"
    return row.title or " ".join(filter(None, (row.event or "task", number)))


# ---- usage


_SUMS = """SELECT installation, repo_id, familiar, sum(tasks), sum(completed), sum(micros) FROM usage
    GROUP BY installation, repo_id, familiar HAVING sum(tasks) > 0"""
_FAILED = """SELECT installation, repo_id, familiar, count(*) FROM tasks WHERE state = 'failed'
    GROUP BY installation, repo_id, familiar"""


def usage(conn: sqlite3.Connection, scope: Scope | None) -> list[CaveUsage]:
    """The sums of the scope's tasks, by installation, repository and familiar, in that order; `conn` shows everything.

    How many there are, were completed, and ran for how long is summed up by month already (`covenq.state.fold_usage`): a task
    is queued once and completed once at most. It may fail several times, so those that are failed now are counted.
    """
    failed = {(row[0], row[1], row[2]): int(row[3]) for row in conn.execute(_FAILED)}
    rows = [
        CaveUsage(
            installation_id=installation,
            repo=None if repo_id is None else repositories.present_name(conn, repo_id),
            familiar_id=familiar,
            tasks=tasks,
            completed=completed,
            failed=failed.get((installation, repo_id, familiar), 0),
            runtime_secs=micros // 1_000_000,
        )
        for installation, repo_id, familiar, tasks, completed, micros in conn.execute(_SUMS).fetchall()
        if holds(scope, installation, repo_id)
    ]
    rows.sort(key=lambda one: (one.installation_id or 0, one.repo or "", one.familiar_id or ""))
    return rows


# ---- events


def audit(conn: sqlite3.Connection, scope: Scope | None) -> list[CaveEvent]:
    """The newest events of the scope, newest first: ignored deliveries, attempts by when they began, and pull requests."""
    ignored = [
        CaveEvent(at=one.received_at, task_id=None, repo=one.repo, kind=f"ignored:{one.reason}", detail=one.detail)
        for one in ignored_deliveries(conn, scope, EVENTS)
    ]
    attempts = [
        CaveEvent(
            at=one.started_at,
            task_id=one.task,
            repo=one.repo,
            kind=f"attempt:{one.outcome or 'running'}",
            detail=": ".join(filter(None, (one.category, one.detail))) or None,
        )
        for one in begun_attempts(conn, scope, EVENTS)
    ]
    pulls = [
        CaveEvent(at=one.updated_at, task_id=one.id, repo=one.repo, kind="pr_opened", detail=f"#{one.pr_number}")
        for one in made_pulls(conn, scope, EVENTS)
    ]
    return heapq.nlargest(EVENTS, [*ignored, *attempts, *pulls], key=lambda one: one.at)
