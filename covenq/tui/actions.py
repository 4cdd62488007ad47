"""The actions on deliveries and tasks: each with its plan to show, its application, and the command line that does the same.

What is done is in the table `covenq.operate.operations`, and done through the source, as the command line does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from msgspec import structs

from covenq.client.interface import Source
from covenq.client.plans import A, Planned, parts_done, parts_of_plan
from covenq.errors import NotDurable, UsageError
from covenq.model.rows import Delivery, Task
from covenq.operate import operations
from covenq.operate.act import plan_text
from covenq.operate.answers import Paused, PlanAnswer, PlanSummary
from covenq.operate.operations import Operation, S
from covenq.operate.operator import operator_name
from covenq.operate.parameters import Pause, Redact, Replay, Reroute, Selection
from covenq.tui import text
from covenq.tui.rows import Row, subject_of

if TYPE_CHECKING:
    from covenq.model.status import ActivePause

Noun = tuple[str, str]
"""Singular and plural."""
DELIVERIES: Noun = ("delivery", "deliveries")
TASKS: Noun = ("task", "tasks")

COMMAND_IDS_MAX = 20
"""Ids that the equivalent command names one by one; it reads more from its standard input."""


@dataclass(frozen=True, slots=True)
class Target:
    """What an action is applied to: ids, or everything that `filter` matches (then `ids` is empty)."""

    ids: tuple[str, ...]
    filter: str | None = None
    description: str = ""
    """In words, for the dialog's title."""

    @property
    def is_empty(self) -> bool:
        return not self.ids and self.filter is None

    def command_words(self) -> list[str]:
        """As arguments of the command line."""
        if self.filter is not None:
            # An empty filter matches everything, which the command line takes only as an explicit filter.
            return [self.filter or "since:99999d", "--yes"]
        if len(self.ids) > COMMAND_IDS_MAX:
            return ["-", "--yes"]
        return [*self.ids, "--yes"] if len(self.ids) > 1 else list(self.ids)


@dataclass(frozen=True, slots=True)
class How:
    """How an action is applied. `reason` is recorded with it, if there is one."""

    force: bool = False
    reason: str | None = None

    def command_words(self) -> list[str]:
        """As options of the command line."""
        forced = ["--force"] if self.force else []
        return forced if self.reason is None else [*forced, "--reason", self.reason]


Progress = Callable[[int], None]
"""Called with how many have been looked at, or done, so far."""


@dataclass(frozen=True, slots=True)
class Action:
    """One action on one target. `plan` and `apply` block; `apply` does exactly what the plan has, in parts.

    `lines` puts the plan in words, as the command does, with so many groups at most, `warning` is said after it, and `command`
    gives the words of the equivalent command.
    """

    verb: str
    noun: Noun
    target: Target
    plan: Callable[[How, Progress], PlanAnswer]
    apply: Callable[[How, PlanAnswer, Progress], PlanAnswer]
    command: Callable[[How], list[str]]
    lines: Callable[[PlanAnswer, PlanSummary, float, int], list[str]]
    forceable: bool = False
    warning: str = ""


WritableSource = Callable[[], Source]
"""Returns the source to act on. Raises Refused where nothing may be written."""


def replay(writable: WritableSource, target: Target) -> Action:
    """New tasks by today's routes."""

    def wanted(how: How) -> Replay:
        return structs.replace(_selection(Replay, target, how), force=how.force)

    return replace(_action("Replay", DELIVERIES, operations.REPLAY, wanted, writable, target), forceable=True)


def reroute(writable: WritableSource, target: Target) -> Action:
    """First tasks for deliveries that have none."""
    return _action(
        "Reroute", DELIVERIES, operations.REROUTE, lambda how: _selection(Reroute, target, how), writable, target
    )


def requeue(writable: WritableSource, target: Target) -> Action:
    """The same tasks again, under the policy they were made with."""
    return _action(
        "Requeue", TASKS, operations.REQUEUE, lambda how: _selection(Selection, target, how), writable, target
    )


def cancel(writable: WritableSource, target: Target) -> Action:
    """End what waits or runs."""
    return _action(
        "Cancel tasks", TASKS, operations.CANCEL, lambda how: _selection(Selection, target, how), writable, target
    )


def redact(writable: WritableSource, target: Target) -> Action:
    """Erase content, forever."""

    def wanted(how: How) -> Redact:
        if target.filter is not None:
            raise UsageError(
                "what matches a filter can't be erased from here", hint="Mark the deliveries with Space, and press x."
            )
        return _selection(Redact, target, how)

    def lines(plan: PlanAnswer, summary: PlanSummary, now: float, groups: int) -> list[str]:
        return plan_text.redaction_lines(summary, now, text.clean, _short(plan), groups)

    made = _action("Redact", DELIVERIES, operations.REDACT, wanted, writable, target)
    return replace(made, lines=lines, warning=plan_text.FOR_EVER)


def _action(
    verb: str,
    noun: Noun,
    operation: Operation[S, A],
    wanted: Callable[[How], S],
    writable: WritableSource,
    target: Target,
) -> Action:
    def plan(how: How, progress: Progress) -> PlanAnswer:
        planned = Planned(by_filter=target.filter is not None, keep_skipped=False)
        for part in parts_of_plan(writable(), operation, wanted(how)):
            planned.add(part)
            progress(planned.looked_at)
        return planned.whole()

    def apply(how: How, plan: PlanAnswer, progress: Progress) -> PlanAnswer:
        found = PlanAnswer([], [], [])
        for part, reached in parts_done(writable(), operation, wanted(how), plan.eligible):
            found.eligible += part.eligible
            found.skipped += part.skipped
            found.done += part.done
            progress(reached)
        return found

    def command(how: How) -> list[str]:
        return ["covenq", operation.name, *target.command_words(), *how.command_words()]

    def lines(plan: PlanAnswer, summary: PlanSummary, now: float, groups: int) -> list[str]:
        return plan_text.plan_lines(summary, noun, now, text.clean, _short(plan), groups)

    return Action(verb, noun, target, plan, apply, command, lines)


def _short(plan: PlanAnswer) -> list[str]:
    """The ids, as they are listed where there are few."""
    return [text.short_id(id) for id in plan.eligible]


def operator() -> str:
    """Who acts in the dashboard, for the journal."""
    return operator_name("tui")


def _selection(kind: type[S], target: Target, how: How) -> S:
    return kind(ids=list(target.ids), filter=target.filter, reason=how.reason, by=operator())


# ---- pauses


@dataclass(frozen=True, slots=True)
class PauseChoice:
    """One thing that can be paused or, if it is paused, resumed."""

    what: str
    name: str | None
    paused: bool
    since: str | None = None
    reason: str | None = None

    @property
    def description(self) -> str:
        of = self.what if self.name is None else f"{self.what} {self.name}"
        return f"{'resume' if self.paused else 'pause'} {of}"

    @property
    def closes_intake(self) -> bool:
        """It is to be asked about first: what is refused meanwhile, GitHub does not send again."""
        return self.what == "intake" and not self.paused

    def command(self, reason: str | None = None) -> list[str]:
        words = ["covenq", "resume" if self.paused else "pause", self.what]
        words += [] if self.name is None else [self.name]
        return words if reason is None else [*words, "--reason", reason]


ROUTES_MAX = 5
"""Routes of one delivery that are offered, at most."""


def routes_of(source: Source, row: Row | None) -> list[str]:
    """The route of a task or an attempt, the routes of a delivery's tasks. Blocks. Raises Failure."""
    if row is None:
        return []
    routes = [source.task(one).route for one in row.tasks[:ROUTES_MAX]] if isinstance(row, Delivery) else [row.route]
    return [name for name in dict.fromkeys(routes) if name is not None]


def pause_choices(row: Row | None, routes: Iterable[str], pauses: Iterable[ActivePause]) -> list[PauseChoice]:
    """What is paused and can be resumed, then what can be paused.

    That is the worker, the row's `routes`, repository and installation, and at last the intake.
    """
    found = [PauseChoice(one.what, one.repo or one.name, True, one.since, one.reason) for one in pauses]
    paused = {(one.what, one.name) for one in found}
    candidates: list[tuple[str, str | None]] = [("worker", None)]
    candidates += [("route", name) for name in routes]
    if row is not None and row.repo is not None:
        candidates.append(("repo", row.repo))
    if isinstance(row, Delivery | Task) and row.installation is not None:
        candidates.append(("installation", str(row.installation)))
    candidates.append(("intake", None))
    return found + [PauseChoice(what, name, False) for what, name in candidates if (what, name) not in paused]


def pause_plan(source: Source, choice: PauseChoice, now: float) -> list[str]:
    """What it comes to, in the command's words. Blocks. Raises Failure."""
    operation = operations.RESUME if choice.paused else operations.PAUSE
    wanted = Pause(what=choice.what, name=choice.name, by=operator(), dry_run=True)
    return plan_text.pause_lines(source.act(operation, wanted), now, text.clean)


def pause_or_resume(source: Source, choice: PauseChoice, reason: str | None) -> Paused:
    """Pause or resume. Blocks. Raises Failure."""
    operation = operations.RESUME if choice.paused else operations.PAUSE
    answer = source.act(operation, Pause(what=choice.what, name=choice.name, reason=reason, by=operator()))
    if answer.paused is choice.paused:
        raise NotDurable(f"{choice.description}: it was not recorded")
    return answer


# ---- targets


def delivery_id(row: Row) -> str:
    """`hook/GUID`, which identifies a delivery; of a task or an attempt, the delivery it belongs to."""
    return subject_of(row).delivery


def deliveries_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """The deliveries of the rows of any list, each once, as hook/GUID."""
    return tuple(dict.fromkeys(delivery_id(row) for row in rows if row.guid))


def tasks_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """The tasks of the rows of any list, each once: those of a delivery, that of an attempt, or the task itself."""
    found: list[str] = []
    for row in rows:
        if isinstance(row, Delivery):
            found += row.tasks
        else:
            found.append(row.id if isinstance(row, Task) else row.task)
    return tuple(dict.fromkeys(found))
