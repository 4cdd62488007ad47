"""The erasure of uninstalled installations, as one operation that a crash resumes: the daemon's part of `uninstall`.

Each step is a record, or follows from one. `uninstall.noticed` begins the grace. `uninstall.begun` is durable before anything
is cancelled or erased, and names the boundary: the last record that was folded when it was judged. From then on all follows from
that record, whatever the configuration says later: the tasks of the installation's deliveries up to the boundary are cancelled;
when no command of theirs runs, their content is erased (`redaction`, whose every record is complete by itself); when no delivery
up to the boundary has content and no file is left, `uninstall.done` is appended. A crash between two steps leaves rows that say
what is left: what is cancelled is no longer queued or running, what is erased is passed over, so no step is done twice to
anything, and what comes after the boundary is never touched. Each record of the installation is appended against its newest one,
so that of two outcomes one is recorded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from covenq.config.retention import ERASE
from covenq.errors import CovenqError
from covenq.model import Kind, task_subject
from covenq.model.uninstall_record import UninstallState
from covenq.operate.act.plan import Item, append_all
from covenq.operate.maintain import redaction, uninstall
from covenq.operate.maintain.uninstall import Pending
from covenq.operate.maintain.upkeep_work import UpkeepContext, finish
from covenq.state.schema import position
from covenq.tasks.execution import running
from journal.append import append_known
from journal.interface import Progress
from journal.records import Appended, Entry

ASK_FIRST_S = 60.0
ASK_MAX_S = 6 * 3600.0
"""Seconds to the next question to GitHub: the first, doubled each time up to this."""
ASKS_A_ROUND = 4
CANCEL_AT_ONCE = 500

TASKS_LEFT = """SELECT t.id, t.last_seq FROM tasks t JOIN webhook_deliveries d ON d.seq = t.delivery_seq
    WHERE t.state IN ('queued', 'running') AND d.installation = :installation AND d.seq <= :boundary LIMIT :most"""
_TASKS_OF = """SELECT t.id FROM tasks t JOIN webhook_deliveries d ON d.seq = t.delivery_seq
    WHERE t.id = :task AND d.installation = :installation AND d.seq <= :boundary"""
_ERASED = """SELECT count(*), coalesce(sum((SELECT count(*) FROM tasks t WHERE t.delivery_seq = d.seq)), 0)
    FROM webhook_deliveries d WHERE d.installation = :installation AND d.seq <= :boundary AND d.redacted > :begun"""

IsInstalled = Callable[[int, int | None], bool | None]
"""Asks GitHub whether an installation of that App is there; None where no App is configured. Raises CovenqError."""
Redacting = Callable[[], AbstractContextManager[tuple[UpkeepContext, Progress | None]]]
"""Keeps other operations on stored deliveries away meanwhile."""

log = logging.getLogger("covenq.upkeep")


@dataclass(slots=True)
class _Asked:
    """What GitHub said last of an installation, how often in a row it was no end, and when it is asked again (monotonic)."""

    why: str
    times: int
    next: float


class Uninstalls:
    """What is remembered between two rounds: what GitHub said. For one thread, but for `waits`."""

    def __init__(self, is_installed: IsInstalled, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._is_installed = is_installed
        self._monotonic = monotonic
        self._asked: dict[int, _Asked] = {}

    def waits(self) -> dict[int, str]:
        """Why those that are due are not erased, by installation. From any thread."""
        return {installation: one.why for installation, one in list(self._asked.items())}

    def work(self, context: UpkeepContext, redacting: Redacting) -> bool:
        """One round; whether something is left that is to be tried again soon. Raises as redaction, and JournalError.

        What was begun is gone on with whatever the configuration says; what waits is settled only as it says now.
        """
        conn = context.conn()
        left = uninstall.pending(conn, context.policy)
        waiting = [one for one in left if one.state is UninstallState.WAITING]
        self._forget({one.installation for one in waiting})
        again = False
        for one in left:
            if one.state is UninstallState.ERASING:
                again |= not _erase(one, redacting)
        if context.policy.on_uninstall != ERASE:
            for one in waiting:
                append_known(context.journal, [uninstall.kept_by_policy(one)])
            return again
        if uninstall.is_news(conn):
            for entry in uninstall.noticed(context.rows(), context.journal):
                append_known(context.journal, [entry])
        now = context.clock()
        due = [one for one in waiting if one.due <= now and self._may_ask(one)]
        for one in due[:ASKS_A_ROUND]:
            context.step()
            self._settle(context, one)
        return again

    def _forget(self, waiting: set[int]) -> None:
        for installation in [one for one in self._asked if one not in waiting]:
            del self._asked[installation]

    def _may_ask(self, one: Pending) -> bool:
        asked = self._asked.get(one.installation)
        return asked is None or asked.next <= self._monotonic()

    def _settle(self, context: UpkeepContext, one: Pending) -> None:
        """Begin its erasure, keep it, or wait.

        The boundary is read first, before GitHub is asked and before it is looked what came later: so all up to it came before it
        was shown that the installation is gone.
        """
        conn = context.rows()
        found = position(conn)
        boundary = 0 if found is None else found.witness.seq
        try:
            there = self._is_installed(one.installation, one.app)
        except CovenqError as error:
            self._wait(one, str(error))
            return
        if there:
            self._wait(one, "GitHub says that it is installed")
            return
        if there is None:
            later = uninstall.later_delivery(conn, one)
            if later is not None:
                log.warning("installation %d was uninstalled, and its content is kept: %s", one.installation, later)
                append_known(context.journal, [uninstall.kept(one, uninstall.BY, later)])
                return
        entry = uninstall.begun(one, boundary, "deliveries" if there is None else "github")
        if isinstance(append_known(context.journal, [entry]), Appended):
            log.info("installation %d was uninstalled: its content is erased", one.installation)

    def _wait(self, one: Pending, why: str) -> None:
        before = self._asked.get(one.installation)
        times = 0 if before is None else before.times + 1
        if before is None or before.why != why:
            log.warning("installation %d was uninstalled, and its content is not erased yet: %s", one.installation, why)
        pause = min(ASK_MAX_S, ASK_FIRST_S * (1 << min(times, 20)))
        self._asked[one.installation] = _Asked(why, times, self._monotonic() + pause)


def _erase(one: Pending, redacting: Redacting) -> bool:
    """Go on with what was begun; whether it is done."""
    with redacting() as (context, progress):
        context.make_room()
        if not finish(context, progress).complete:
            return False
        if not _cancelled(context, one) or _runs(context, one):
            return False
        reason = f"installation {one.installation} was uninstalled"
        plan = redaction.plan_uninstalled(context.rows(), one.installation, _boundary(one), reason, uninstall.BY)
        answer, _ = redaction.apply(plan, context.journal, context.fold, progress)
        if answer.skipped or not finish(context, progress).complete:
            return False
        deliveries, tasks = context.rows().execute(_ERASED, _named(one) | {"begun": one.begun}).fetchone()
        if isinstance(append_known(context.journal, [uninstall.done(one, deliveries, tasks)]), Appended):
            log.info("installation %d was uninstalled: %d deliveries were erased", one.installation, deliveries)
        context.fold()  # the next round reads that it is done
        return True


def _cancelled(context: UpkeepContext, one: Pending) -> bool:
    """Cancel what waits and what runs, as an operator does: whether nothing of it is left to be cancelled."""
    ignored = frozenset({str(Kind.CLAIMED), str(Kind.PHASE), str(Kind.RENEWED), str(Kind.RETRY), str(Kind.DELAYED)})
    data = {"by": uninstall.BY, "reason": f"installation {one.installation} was uninstalled"}
    while True:
        rows = context.rows().execute(TASKS_LEFT, _named(one) | {"most": CANCEL_AT_ONCE}).fetchall()
        if not rows:
            return True
        items = [
            Item(
                row["id"],
                (Entry(task_subject(row["id"]), Kind.CANCELLED, data, expect=row["last_seq"]),),
                (row["id"],),
                ignored_kinds=ignored,
            )
            for row in rows
        ]
        if all(seq is None for _, seq in list(append_all(context.journal, items))):
            return False  # all of them move at this moment
        context.step()


def _runs(context: UpkeepContext, one: Pending) -> bool:
    """Whether a command of its tasks has not ended yet here: it would leave files where they were removed."""
    conn = context.conn()
    return any(
        conn.execute(_TASKS_OF, _named(one) | {"task": task}).fetchone() is not None
        for task in running.noted_tasks(context.data)
    )


def _named(one: Pending) -> dict[str, int | None]:
    return {"installation": one.installation, "boundary": _boundary(one)}


def _boundary(one: Pending) -> int:
    assert one.boundary is not None, "what is being erased has a boundary"
    return one.boundary
