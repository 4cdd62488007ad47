"""The answers of operations, as the API has them and the commands print them with --json. Times are RFC 3339 UTC."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from covenq.model.rows import Count, Repository, Time
from covenq.model.waiting import WaitingTasks

ALREADY_HERE = "it is here already"
"""The reason why a delivery isn't imported that has been recorded before."""
OTHER_BODY = "it is here already with another body, and the first one stands"
"""The same, where what a secret signed is not what is held without a signature."""


class Skipped(Struct, frozen=True):
    """One thing that is not done, and why."""

    id: str
    reason: str


class Done(Struct, frozen=True):
    """One thing that is done, durably: the tasks it made, or moved, and the seq of its first record."""

    id: str
    tasks: list[str]
    seq: int


class PlannedGroup(Struct, frozen=True):
    """What a plan would be done to, of one route (or, where it isn't about routes, repository) and one reason.

    `state` and `reason` are what they are in now. None in all of them: what is in no other group, for those are bounded.
    """

    route: str | None
    repo: str | None
    state: str | None
    reason: str | None
    count: Count
    oldest: Time | None
    """When the oldest of them came."""


class SkippedGroup(Struct, frozen=True):
    """How many are not done for the same reason; without what differs from one to the next, such as a record's number."""

    reason: str
    count: Count


class PlanSummary(Struct, frozen=True, kw_only=True):
    """What a plan comes to, in numbers: it can be judged however many it is about. Made by `covenq.operate.act.plan_summary`."""

    eligible: Count
    tasks: Count
    """How many tasks would be made, moved or, where content is erased, cancelled."""
    oldest: Time | None
    groups: list[PlannedGroup]
    """The largest first."""
    skipped: list[SkippedGroup]
    excluded: list[SkippedGroup]
    """Parts that are left out of what is eligible."""
    waits: list[WaitingTasks]
    """What is known to keep tasks from starting at once, as the status tells it of those that wait already."""


class PlanAnswer(Struct):
    """A plan, and what was done of it: nothing yet in the answer to a dry run. An id that is both is done in part."""

    eligible: list[str]
    skipped: list[Skipped]
    done: list[Done]
    summary: PlanSummary | None = None
    """Of a dry run. An older daemon doesn't say."""
    next: str | None = None
    """Of a dry run with a `limit`: the cursor for `after`; None when there is no more."""


class HeldBack(Struct, frozen=True):
    """A delivery that was recorded and is not routed until it is rerouted, and why, in a sentence."""

    id: str
    reason: str


class Imported(PlanAnswer, kw_only=True):
    """Deliveries that were recorded from elsewhere; of those out of GitHub's log, which are the bytes that were signed."""

    verified: list[str] = []
    """Rebuilt from their JSON, and their signature fits them: recorded with the secret that made it. Older daemons don't say."""
    unverified: list[str] = []
    """The JSON, for no way to write it has the signature that it came with: recorded without a secret."""
    secrets_unread: list[str] = []
    """Why secrets were not tried: what prevents reading each."""
    signed_later: list[str] = []
    """Of those skipped that were held without their signature: the bytes that were signed are known now, and that is noted."""
    held_back: list[HeldBack] = []
    """Of those done, the ones that are not routed until they are rerouted."""


class Mentions(Struct, frozen=True):
    """Deliveries of others that name a repository, and stay: how many, and the first of them."""

    deliveries: Count
    examples: list[str]
    complete: bool = True
    """False: there may be more, since not all payloads could be looked through in time."""


class AbsentNode(Struct, frozen=True):
    """A node that shares the journal and isn't there: it has what was erased until it is back."""

    name: str
    address: str | None
    seen: Time
    state: Literal["away", "stopped"]


class Redaction(PlanAnswer, kw_only=True):
    """What was erased, and where content may be left."""

    segments: Count
    """Segments that were rewritten."""
    freed: int
    """Bytes by which the journal is shorter."""
    attempts: Count
    """Tasks whose attempts' files were removed."""
    left: list[str]
    """Paths that could not be removed."""
    copies: list[str]
    """Directories that may hold copies and that only the operator can reach."""
    copies_unread: list[str] = []
    """Why there may be more of those: what of their list can't be read. An older daemon doesn't say."""
    repositories: list[Repository] = []
    """The repository that was named, with all its names, and what came under the name without a number."""
    elsewhere: Mentions | None = None
    """What else names it."""
    nodes: list[AbsentNode] = []
    """Nodes that carry it out on their own files only when they are back. An older daemon doesn't say."""


class Policy(Struct, frozen=True):
    """A retention policy: for how many seconds content is kept; None is for ever."""

    payloads_s: float | None
    attempts_s: float | None


class Compaction(Struct, frozen=True, kw_only=True):
    """What retention dropped or, with `dry_run`, would drop; fields of the same name as in Redaction."""

    policy: Policy
    segments: Count
    freed: int
    attempts: Count
    left: list[str]
    deliveries: Count
    """Payloads that went, of `payload_bytes` in all."""
    payload_bytes: Count
    dry_run: bool


class AskedDelivery(Struct, frozen=True):
    """A delivery whose redelivery was asked for; `over`: it isn't waited for."""

    guid: str
    attempt: str
    first_at: Time
    at: Time
    over: bool


class Redeliveries(Struct, frozen=True):
    """Whether what was given is recorded, as a whole, and all that is asked for by now."""

    recorded: bool
    asked: list[AskedDelivery]


class UnboundName(Struct, frozen=True):
    """A repository of a secret's scope that is, or was, bound to a number since then; None: the name was erased."""

    secret: str
    repository: str | None
    repo_id: int
    since: Time


class Unbound(Struct, frozen=True):
    """What was unbound; with `dry_run`, what would be."""

    bindings: list[UnboundName]
    dry_run: bool


class Kept(Struct, frozen=True):
    """The erasure of an uninstalled installation that was stopped; with `dry_run`, that would be."""

    installation: int
    since: Time
    """When its deletion was noticed."""
    due_at: Time
    """When it would have been erased at the earliest."""
    dry_run: bool


class Paused(Struct, frozen=True, kw_only=True):
    """A pause that began, or that ended (then `paused` is False); `changed` is False where it was so already.

    `seq` and `since` are None if nothing was paused, and so nothing ended. With `dry_run` it is what would be.
    """

    seq: int | None = None
    what: str
    name: str | None
    repo: str | None = None
    since: Time | None = None
    by: str | None = None
    reason: str | None = None
    paused: bool
    changed: bool
    dry_run: bool = False
    summary: PlanSummary | None = None
    """The tasks that it holds, or lets go on; those that run are left alone. None of the intake, and of an older daemon."""


class HandedOver(Struct, frozen=True):
    """The node that leads now, and for how long deliveries waited for it."""

    node: str
    address: str | None
    """Where it takes deliveries; None where nothing is posted to it."""
    waited_ms: Count
