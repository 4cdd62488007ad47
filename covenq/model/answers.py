"""What the API, the commands and the dashboard are answered, beside the rows themselves (`covenq.model.rows`).

Each is a type whose fields are those of the JSON object, and from which its schema comes.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from covenq.model import JsonObject
from covenq.model.route_times import RouteMinutes, RouteTimes
from covenq.model.rows import Attempt, Count, Number, OneDelivery, Task, Time, Token


class TailItem(Struct):
    """A record as people follow it: the delivery or task that it is about (None if it has none), and its present state."""

    seq: int
    at: Time
    kind: str
    hook: str | None = None
    guid: str | None = None
    task: str | None = None
    event: str | None = None
    action: str | None = None
    repo: str | None = None
    number: int | None = None
    sender: str | None = None
    route: str | None = None
    state: str | None = None
    data: JsonObject = field(default_factory=dict)
    """Fields of the record's data, as a command or an operator wrote them."""


class Event(Struct):
    """A record in the event stream."""

    seq: int
    at: Time
    subject: str
    kind: str


class Tail(Struct):
    """Items, oldest first; `next` is the `after` to go on with, which is `head` at the end."""

    items: list[TailItem]
    next: int
    head: Count
    epoch: str


# ---- with what belongs to them


class LastOutput(Struct):
    """The last lines of what an attempt wrote to `stream`: text of a command or a receiver, as it is."""

    attempt: Number
    stream: Literal["stdout", "stderr"]
    lines: list[str]
    elsewhere: str | None = None
    """Why there are none, where they lie on another node."""


class TaskHistory(Task, kw_only=True):
    """A task with its attempts. `last_output` is of the newest that ended, unless it completed, or wrote nothing."""

    attempt_objects: list[Attempt]
    last_output: LastOutput | None = None


class DeliveryHistory(OneDelivery):
    """A delivery with its tasks and their attempts."""

    task_objects: list[TaskHistory]


# ---- counts


class NameStats(Struct):
    """Deliveries of one event or repository: how many, and how many of them failed and were ignored."""

    name: str | None
    deliveries: Count
    failed: Count
    ignored: Count


class RouteStats(Struct):
    """Tasks of one route: how many, their attempts, how many are in each state, and what became of the attempts.

    `times` is of the attempts that were read, null where there was none; an older daemon doesn't say.
    """

    name: str | None
    tasks: Count
    attempts: Count
    states: dict[str, Count]
    times: RouteTimes | None = None


class More(Struct):
    """How many others there are that aren't listed."""

    events: Count
    repos: Count
    routes: Count


class Interval(Struct):
    """Deliveries in a part of the span, which begins `at`."""

    at: Time
    deliveries: Count
    failed: Count


class Stats(Struct):
    """Statistics of deliveries that came from `since` until before `until`; the most frequent first.

    `sampled`: `times` of routes are of some of the attempts, spread over the span, because there were more than are read.
    """

    since: Time
    until: Time
    deliveries: Count
    duplicates: Count
    bytes: Count
    states: dict[str, Count]
    events: list[NameStats]
    repos: list[NameStats]
    routes: list[RouteStats]
    more: More
    time: list[Interval]
    sampled: bool = False


class Throughput(Struct):
    """Deliveries accepted and refused, and attempts that completed and failed, in each of the last minutes, oldest first.

    `at` is when the first minute begins. `routes` are those with the most to say, `more_routes` how many others there are.
    `sampled`: a route's tasks are estimated, or its attempts are some of them, because there were more than are read.
    """

    at: Time
    minutes: Count
    accepted: list[Count]
    refused: list[Count]
    completed: list[Count]
    failed: list[Count]
    routes: list[RouteMinutes] = []
    more_routes: Count = 0
    sampled: bool = False


# ---- secrets


SourceKind = Literal["file", "env", "credential", "value"]
VerdictWord = Literal["in_use", "wait", "retire", "unused", "only", "unreadable", "gone"]


class SecretScope(Struct):
    """What a secret is for; empty is everything."""

    hooks: list[str]
    installations: list[int]
    repositories: list[str]


class ScopeBinding(Struct):
    """A repository of a secret's scope, bound to its number by the first delivery that the name let in.

    `repository` is the name as the scope has it, None where it was erased and the scope hasn't it any more; `present` the name
    in the repository's newest delivery. Not `in_effect`: the scope doesn't name it now.
    """

    repository: str | None
    repo_id: int
    since: Time
    present: str | None
    in_effect: bool


class SecretVerdict(Struct):
    """Whether a secret may be retired, in a word and in a sentence; `waiting_for` are hooks that may still sign with it."""

    verdict: VerdictWord
    retire: bool
    reason: str
    waiting_for: list[str]


class Secret(SecretVerdict):
    """A webhook secret, never its value: where it is, and how it is used. `source` None: it is not configured any more."""

    name: Token
    source: SourceKind | None
    place: str | None
    scope: SecretScope | None
    readable: bool
    problem: str | None
    first_used_at: Time | None = None
    last_used_at: Time | None = None
    last_delivery: str | None = None
    recent: Count = 0
    hooks: Count = 0
    bindings: list[ScopeBinding] = []
    """Those in effect first. An older daemon doesn't say."""


# ---- claims of pull workers


class Grant(Struct):
    """A task that a worker was given, as it is after the claim; `fence` is the claim's fencing token."""

    task: Task
    attempt: Number
    fence: str
    lease_until: Time
    payload_url: str


class Grants(Grant):
    """And those that were claimed with it."""

    more: list[Grant]
