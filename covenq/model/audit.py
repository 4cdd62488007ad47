"""The audit as it is answered: who did what to what, when, and how it ended; its words, all of which are here."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from covenq.model.rows import Count, Time

Doer = Literal["sender", "operator", "token", "system"]
"""Who sends deliveries; who acts by a command or the dashboard; who uses the API by a token; covenq itself, and its workers."""
What = Literal[
    # deliveries
    "accepted", "ignored", "repeated", "conflicted", "replayed", "rerouted", "redacted",
    # tasks
    "queued", "claimed", "retried", "completed", "failed", "requeued", "cancelled", "superseded", "late",
    # what else operators and the system do
    "paused", "resumed", "bound", "unbound", "reconciled", "reopened", "dropped",
    "uninstalled", "kept", "erasing", "erased",
    # the journal's own
    "opened", "cut", "mended", "salvaged", "head_accepted", "sealed",
    # requests that leave no record
    "refused", "read", "requested",
]  # fmt: skip
Outcome = Literal["done", "failed", "refused"]
Thing = Literal[
    "delivery", "task", "route", "repo", "installation", "intake", "worker", "secret", "log", "journal", "request"
]


class Who(Struct):
    """Who it was. `name` is a sender's hook (of a refused request its address, where it named none), an operator's or a token's
    name, or a worker's; `claimed` the name that a token's bearer gave."""

    kind: Doer
    name: str | None = None
    claimed: str | None = None


class On(Struct):
    """What it was done to: `id` is hook/GUID, a task's id, a route's or a secret's name, a number, or a method and path."""

    kind: Thing
    id: str | None = None


class AuditLine(Struct, kw_only=True):
    """One thing that was done. `seq` is its record; what left none, a refused request or a read, has none.

    The rest says more of what it was done to, as far as it is known, and as it is known now: a name that was erased is null.
    `count` is how many of one kind a line stands for; `verified` is false where nothing proves who it was.
    """

    at: Time
    seq: int | None
    who: Who
    what: What
    on: On
    outcome: Outcome
    reason: str | None
    detail: str | None = None
    hook: str | None = None
    guid: str | None = None
    task: str | None = None
    route: str | None = None
    event: str | None = None
    action: str | None = None
    repo: str | None = None
    repo_id: int | None = None
    number: int | None = None
    installation: int | None = None
    attempt: int | None = None
    status: int | None = None
    count: Count | None = None
    verified: bool | None = None


class Audit(Struct):
    """Lines, oldest first. `next` is the `after` to go on with, now (`more`) or later.

    Not `whole`: the newest were asked for, so many match only further back than was looked.
    """

    items: list[AuditLine]
    next: str
    more: bool
    whole: bool
