"""The history of deliveries as `covenq why` tells it: the types of its answer."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from covenq.intake.refusal_log import Refusal
from covenq.model.answers import TaskHistory
from covenq.model.rows import Delivery, Repository, Waits
from covenq.model.status import NotHeldDelivery
from covenq.routing.verdicts import Verdict


class StoryTask(TaskHistory, kw_only=True):
    """A task in a history, with what it waits for."""

    waiting: Waits | None


class StoryAnswer(Struct):
    """The answer to one question: yes or no (None where it is no yes-or-no question), and a sentence."""

    yes: bool | None
    words: str


class AcceptedAnswer(StoryAnswer):
    """With the name of the secret that verified it."""

    secret: str | None


class NowAnswer(StoryAnswer):
    """With the state as a word."""

    word: str


class StoryAnswers(Struct):
    """The answers to the six questions, in the order in which they are asked."""

    accepted: AcceptedAnswer
    ignored: StoryAnswer
    failed: StoryAnswer
    retried: StoryAnswer
    duplicated: StoryAnswer
    now: NowAnswer


class StoryEvent(Struct):
    """Something that happened: when, by which record, in a word, and in a sentence."""

    at: str
    seq: int | None
    word: str
    task: str | None
    words: str


class StoryRules(Struct):
    """Today's routes on the delivery. `same`: whether it was decided by today's configuration; None where that isn't known."""

    same: bool | None
    routes: list[Verdict]


class Step(Struct):
    """Something to do next: a sentence, and the command."""

    words: str
    command: str


Level = Literal["ok", "active", "idle", "warning", "error"]
"""It is done; it runs, or will without anybody; nothing is to be done; somebody should look; it failed, or is lost."""


class StoryVerdict(Struct):
    """Where something stands and why, in one sentence; how bad that is; and the command that helps, if any does."""

    text: str
    level: Level
    command: str | None = None


class Story(Struct):
    """A delivery's history. The events are in order of time. An older daemon gives no verdict."""

    id: str
    delivery: Delivery
    tasks: list[StoryTask]
    answers: StoryAnswers
    events: list[StoryEvent]
    rules: StoryRules
    next: list[Step]
    verdict: StoryVerdict | None = None


class Target(Struct):
    """An issue, pull request or discussion."""

    repo: str
    number: int


class Why(Struct):
    """The histories of what was asked for, newest first; `more` if there are others of that target.

    `task` is set where a task's id was asked for. `refused` are refused requests that said they were that delivery.
    `namesakes` are other repositories that have had the name of the target's. `not_held` is what GitHub's delivery logs list
    under the GUID where nothing of it is held. `verdict` is on all that was asked for.
    """

    asked: str
    kind: Literal["delivery", "target", "nothing"] = "delivery"
    task: str | None = None
    target: Target | None = None
    stories: list[Story] = field(default_factory=list)
    more: bool = False
    refused: list[Refusal] = field(default_factory=list)
    namesakes: list[Repository] = field(default_factory=list)
    not_held: list[NotHeldDelivery] = field(default_factory=list)
    verdict: StoryVerdict | None = None
