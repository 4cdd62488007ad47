"""What the dashboard can do to what it lists: each action as a plan to show, its doing, and the command that does the same.

The plans and their application are `covenq.operate.act.actions`', asked for through the source, as the command line does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from covenq.client.interface import Object, Source
from covenq.errors import NotDurable, UsageError

Noun = tuple[str, str]
"""One, and several."""
DELIVERIES: Noun = ("delivery", "deliveries")
TASKS: Noun = ("task", "tasks")

BY = "tui"
REASON = "from the dashboard"
SPELLED = 20
"""Ids that the equivalent command names one by one; beyond, it reads them."""


@dataclass(frozen=True, slots=True)
class Target:
    """What an action is to be done to: ids, or everything that `words` match (then `ids` is empty)."""

    ids: tuple[str, ...]
    words: str | None = None
    told: str = ""
    """In words, for the dialog's title."""

    @property
    def nothing(self) -> bool:
        return not self.ids and self.words is None

    def arguments(self) -> dict[str, Any]:
        """As the source's methods take it."""
        return {"filter": self.words} if self.words is not None else {"ids": list(self.ids)}

    def spelled(self) -> list[str]:
        """As the command line takes it."""
        if self.words is not None:
            # No words are every one: the command line wants that said.
            return [self.words or "since:99999d", "--yes"]
        if len(self.ids) > SPELLED:
            return ["-", "--yes"]
        return [*self.ids, "--yes"] if len(self.ids) > 1 else list(self.ids)


@dataclass(frozen=True, slots=True)
class Act:
    """One action on one target. `apply(dry_run, force)` blocks, and answers with eligible, skipped and done."""

    verb: str
    noun: Noun
    target: Target
    apply: Callable[[bool, bool], Object]
    command: Callable[[bool], list[str]]
    forceable: bool = False
    warning: str = ""


Writable = Callable[[], Source]
"""The source to act on. Raises Refused where nothing may be written."""


def replay(writable: Writable, target: Target) -> Act:
    """New tasks by today's routes."""

    def apply(dry_run: bool, force: bool) -> Object:
        return writable().replay(**target.arguments(), force=force, dry_run=dry_run, reason=REASON, by=BY)

    def command(force: bool) -> list[str]:
        return ["covenq", "replay", *target.spelled(), *(["--force"] if force else [])]

    return Act("Replay", DELIVERIES, target, apply, command, forceable=True)


def reroute(writable: Writable, target: Target) -> Act:
    """First tasks for deliveries that have none."""

    def apply(dry_run: bool, force: bool) -> Object:
        return writable().reroute(**target.arguments(), dry_run=dry_run, reason=REASON, by=BY)

    return Act("Reroute", DELIVERIES, target, apply, lambda force: ["covenq", "reroute", *target.spelled()])


def requeue(writable: Writable, target: Target) -> Act:
    """The same tasks again, under the policy they were made with."""

    def apply(dry_run: bool, force: bool) -> Object:
        return writable().requeue(**target.arguments(), dry_run=dry_run, reason=REASON, by=BY)

    return Act("Requeue", TASKS, target, apply, lambda force: ["covenq", "requeue", *target.spelled()])


def cancel(writable: Writable, target: Target) -> Act:
    """End what waits or runs."""

    def apply(dry_run: bool, force: bool) -> Object:
        return writable().cancel(**target.arguments(), dry_run=dry_run, reason=REASON, by=BY)

    return Act("Cancel tasks", TASKS, target, apply, lambda force: ["covenq", "cancel", *target.spelled()])


def redact(writable: Writable, target: Target) -> Act:
    """Erase content, for ever."""

    def apply(dry_run: bool, force: bool) -> Object:
        if target.words is not None:
            raise UsageError(
                "what matches a filter can't be erased from here", hint="Mark the deliveries with Space, and press x."
            )
        return writable().redact(ids=list(target.ids), dry_run=dry_run, reason=REASON, by=BY)

    def command(force: bool) -> list[str]:
        return ["covenq", "redact", *target.spelled()]

    warning = "Payload, titles and names are erased from every file, and nothing brings them back."
    return Act("Redact", DELIVERIES, target, apply, command, warning=warning)


# ---- pauses


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing that can be paused, or, if it is, resumed."""

    what: str
    name: str | None
    paused: bool
    since: str | None = None
    reason: str | None = None

    @property
    def told(self) -> str:
        of = self.what if self.name is None else f"{self.what} {self.name}"
        return f"{'resume' if self.paused else 'pause'} {of}"

    def command(self) -> list[str]:
        words = ["covenq", "resume" if self.paused else "pause", self.what]
        return words if self.name is None else [*words, self.name]


ROUTES = 5
"""Routes of one delivery that are offered."""


def with_routes(source: Source, row: Mapping[str, Any] | None) -> Object:
    """The row with its `routes`: a task's or attempt's own, a delivery's those of its tasks. Blocks. Raises Failure."""
    if row is None:
        return {}
    routes = [row["route"]] if row.get("route") else [source.task(str(one))["route"] for one in row["tasks"][:ROUTES]]
    return {**row, "routes": list(dict.fromkeys(routes))}


def choices(row: Mapping[str, Any], pauses: Iterable[Mapping[str, Any]]) -> list[Choice]:
    """What is paused, to be resumed, then what could be paused: the intake, the worker, and the row's routes, repository
    and installation."""
    found = [Choice(str(one["what"]), _name(one), True, one.get("since"), one.get("reason")) for one in pauses]
    taken = {(one.what, one.name) for one in found}
    could: list[tuple[str, str | None]] = [("intake", None), ("worker", None)]
    could += [("route", str(name)) for name in row.get("routes", ())]
    for what in ("repo", "installation"):
        value = row.get(what)
        if value is not None:
            could.append((what, str(value)))
    return found + [Choice(what, name, False) for what, name in could if (what, name) not in taken]


def _name(pause: Mapping[str, Any]) -> str | None:
    name = pause.get("repo") or pause.get("name")
    return None if name is None else str(name)


def take(source: Source, choice: Choice) -> Object:
    """Pause or resume. Blocks. Raises Failure."""
    act = source.resume if choice.paused else source.pause
    answer = act(choice.what, choice.name, reason=REASON, by=BY)
    if answer.get("paused") is choice.paused:
        raise NotDurable(f"{choice.told}: it was not recorded")
    return answer


# ---- targets


def deliveries_of(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The deliveries of rows of any list, each once, as hook/GUID."""
    return tuple(dict.fromkeys(f"{row['hook']}/{row['guid']}" for row in rows if row.get("guid")))


def tasks_of(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The tasks of rows of any list: a delivery's own, an attempt's, or the task itself."""
    found: list[str] = []
    for row in rows:
        if "tasks" in row:
            found += [str(task) for task in row["tasks"]]
        else:
            found.append(str(row.get("task") or row["id"]))
    return tuple(dict.fromkeys(found))
