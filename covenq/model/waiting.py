"""What queued tasks wait for: the causes, and the lines that say of each cause how many wait for it.

They serve one decision: what to do about work that doesn't move, or that nothing is to be done. `covenq status`, `covenq
doctor`, the Overview, the list of tasks and the metrics have the same causes and the same sentences from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Protocol, TypeVar

from msgspec import Meta, Struct

from covenq.model import NOT_RUNNING
from covenq.model.palette import Tone
from covenq.model.rows import Count, Time
from covenq.text import duration, instant


class Paused(Protocol):
    """Something that is paused, as `covenq.model.status.ActivePause` has it."""

    @property
    def what(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    @property
    def repo(self) -> str | None: ...


P = TypeVar("P", bound=Paused)


class Cause(StrEnum):
    """Why a queued task isn't started, in one word.

    Several may hold at once: a task counts under the first one in this order. First comes what only a person ends, then what
    keeps the task longest, then what another task's end changes, and at last a free worker.
    """

    PAUSED = "paused"
    """An operator paused all work, or its installation, route or repository: until somebody resumes it."""
    STOPPED = "stopped"
    """No daemon starts anything: until one runs."""
    RECEIVER = "receiver"
    """Its route's receiver failed again and again, and is left alone: until the receiver answers."""
    QUOTA = "quota"
    """Its installation, route or repository has begun as many attempts in 24 hours as it may: up to a day."""
    NOT_BEFORE = "not_before"
    """Not before its time: a retry's backoff, or a burst's quiet period."""
    CAP = "cap"
    """Its installation, route or repository runs as many at once as it may."""
    KEY = "key"
    """Another task with its key runs."""
    UNCLAIMED = "unclaimed"
    """It is for workers elsewhere, and none has asked for it."""
    WORKER = "worker"
    """It is ready, until a worker of the daemon is free and its turn comes."""


ORDER: Sequence[Cause] = tuple(Cause)
RANK: dict[str, int] = {cause: rank for rank, cause in enumerate(ORDER)}
CauseWord = Annotated[str, Meta(extra_json_schema={"enum": [str(cause) for cause in Cause]})]
NAMES: dict[str, str] = {
    Cause.NOT_BEFORE: "not before",
    Cause.KEY: "key busy",
    Cause.UNCLAIMED: "nobody claims",
}
"""Causes whose name for people isn't the word."""
GLYPHS: dict[str, str] = {
    Cause.PAUSED: "‖",
    Cause.STOPPED: "■",
    Cause.RECEIVER: "✗",
    Cause.QUOTA: "◔",
    Cause.NOT_BEFORE: "◷",
    Cause.CAP: "≡",
    Cause.KEY: "⊶",
    Cause.UNCLAIMED: "○",
    Cause.WORKER: "·",
}
TONES: dict[str, Tone] = {
    Cause.PAUSED: "warning",
    Cause.STOPPED: "bad",
    Cause.RECEIVER: "bad",
    Cause.QUOTA: "warning",
    Cause.UNCLAIMED: "warning",
}
"""Of what may last, and somebody can do something about."""


class WaitingTasks(Struct):
    """Queued tasks that wait for the same: each is counted in one of these, so that the counts' sum is what waits."""

    cause: CauseWord
    scope: str | None
    """What holds them: `route NAME`, `repo OWNER/NAME`, `installation ID`, `worker`; null of several that are told together."""
    count: Count
    oldest: Time | None
    """When the oldest of them was made."""
    until: Time | None
    """When the first of them may go on, where that is known: a receiver is asked again, a quota frees up, a backoff ends."""
    command: str | None
    """What ends it, where a command does."""
    why: str
    """In words, without the times."""
    since: Time | None = None
    """Since when it holds, where that is known."""
    task: str | None = None
    """The id of the oldest of them."""


def command_for(cause: str, holder: tuple[str, str], why: str) -> str | None:
    """The command that ends it, where one does. `holder` is what blocks, as an operator names it, `why` the words of it."""
    import shlex  # here, for a status that suggests nothing: it must start fast

    what, name = holder
    if cause == Cause.PAUSED:
        return shlex.join(["covenq", "resume", what, *([name] if name else [])])
    if cause == Cause.STOPPED and why == NOT_RUNNING:
        return "covenq serve"
    if cause == Cause.UNCLAIMED and name:
        return f"{shlex.join(['covenq', 'worker', '--route', name])} -- CMD"
    return None


def cause_name(cause: str) -> str:
    """The cause, for people."""
    return NAMES.get(cause, cause)


def glyph(cause: str) -> str:
    return GLYPHS.get(cause, "·")


def scope_name(scope: str | None) -> str:
    """What holds them, as short as it is clear: a route's and a repository's name stand alone."""
    word, _, name = (scope or "several").partition(" ")
    if not name:
        return word
    return f"inst. {name}" if word == "installation" else name


def untold_pauses(pauses: Iterable[P], found: Sequence[WaitingTasks]) -> list[P]:
    """The pauses that no line of what waits tells of."""
    told = {one.scope for one in found if one.cause == Cause.PAUSED}
    return [one for one in pauses if " ".join(filter(None, (one.what, one.repo or one.name))) not in told]


def waiting_text(one: WaitingTasks, now: float) -> str:
    """The sentence of a line, with how long, and until when."""
    why, since = one.why, instant(one.since)
    if since is not None and why.startswith("paused"):
        why = f"paused {duration(max(0.0, now - since))}{why.removeprefix('paused')}"
    until = instant(one.until)
    if until is None:
        return why
    if one.cause == Cause.QUOTA:
        return f"{why}; next at {str(one.until)[11:16]}Z"
    left = f"in {duration(until - now)}" if until > now else "now"
    return f"{why}; {'asked again' if one.cause == Cause.RECEIVER else 'the next'} {left}"
