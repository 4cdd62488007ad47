"""The rows of deliveries, tasks and attempts: each field is declared once, here, for state.db, JSON and the API's schemas.

A `…Row` is a row as state.db has it: its fields are the columns, in their order, and its optional fields the columns that may be
null. `Delivery`, `Task` and `Attempt` are what is shown of it: the same fields, with what is JSON text in a column decoded, and
with what is computed when it is read. A field that is added to the part both share is a column, a field of the JSON object and
of its schema.

They are msgspec Structs, not dataclasses: a batch of rows comes out of SQLite as one JSON text, which msgspec decodes into them
four times as fast as it can be made into dictionaries, and the same declaration checks what a daemon elsewhere answers. The rows
are mutable, for the fold changes them.

A field that is new gets a default (`= None`), for a daemon of an older version doesn't send it. One that holds what was read out
of a payload is a `TextOfPayload` or `NumberOfPayload`: an erasure clears it.
"""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from msgspec import Meta, Struct

from covenq.model import Category, JsonObject, State, Target

TASK_STATES = tuple(state for state in State if state not in (State.RECEIVED, State.IGNORED))

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time", "description": "RFC 3339, UTC, microseconds."})]
Token = Annotated[str, Meta(extra_json_schema={"pattern": "^[0-9A-Za-z_-]{1,64}$"})]
"""A hook's id, a GUID: see `covenq.model.TOKEN`."""
Sha256 = Annotated[str, Meta(extra_json_schema={"pattern": "^[0-9a-f]{64}$"})]
Count = Annotated[int, Meta(extra_json_schema={"minimum": 0})]
Number = Annotated[int, Meta(extra_json_schema={"minimum": 1})]
DeliveryState = Annotated[str, Meta(extra_json_schema={"enum": [str(state) for state in State]})]
TaskState = Annotated[str, Meta(extra_json_schema={"enum": [str(state) for state in TASK_STATES]})]
CategoryOrNone = Annotated[
    str | None, Meta(extra_json_schema={"enum": [*(str(category) for category in Category), None]})
]
TargetOrNone = Annotated[str | None, Meta(extra_json_schema={"enum": [*(str(target) for target in Target), None]})]

ERASED = {"erased": True}
"""The mark of a column that holds what was read out of a payload: an erasure clears it."""
TextOfPayload = Annotated[str | None, Meta(extra=ERASED)]
NumberOfPayload = Annotated[int | None, Meta(extra=ERASED)]


class Row(Struct):
    """A row of one of the tables, or a part of one."""


T = TypeVar("T")


class Page(Struct, Generic[T]):
    """A part of a list. `next` is the cursor for `after`; None when there is no more."""

    items: list[T]
    next: str | None


# ---- deliveries


class DeliveryOrigin(Row, kw_only=True):
    """What a delivery's first record says: set once; the last two are set by an erasure."""

    seq: int
    hook: Token
    guid: Token
    received_at: Time
    event: str | None
    action: str | None
    repo: TextOfPayload
    repo_id: int | None
    owner: TextOfPayload
    sender: TextOfPayload
    installation: int | None
    number: NumberOfPayload
    head_sha: TextOfPayload
    label: TextOfPayload
    """The label that was set or removed."""
    title: TextOfPayload
    ref: TextOfPayload = None
    """The branch or tag, spelled as the payload spells it."""
    target: TargetOrNone = None
    payload_sha256: Sha256 | None
    payload_bytes: int | None
    secret: str | None
    """The name of the secret whose signature it bears."""
    source: str | None
    twin: str | None
    """The GUID of an earlier delivery with the same body."""
    payload_dropped: int | None
    """The seq of the record by which retention dropped the payload."""
    redacted: int | None
    """The seq of the record by which its content was erased."""


class DeliveryProgress(DeliveryOrigin, kw_only=True):
    """What later records of a delivery, and its tasks, change, after what its first says."""

    state: DeliveryState
    reason: str | None
    detail: str | None
    duplicates: Count
    conflicts: Count
    last_seq: int
    replays: Count


class DeliveryRow(DeliveryProgress, array_like=True, gc=False, kw_only=True):
    """A row of `webhook_deliveries`."""

    labels: TextOfPayload
    """A JSON array of texts."""
    sent_at: int
    """When GitHub first sent it: see `covenq.state.send_order`."""


class Delivery(DeliveryProgress, kw_only=True):
    """A delivery, with the ids of its tasks, oldest first."""

    labels: list[str | None]
    tasks: list[str]
    routing: str | None = None
    """What routing made of it: `task:` and the ids of its tasks, or `ignored:` and the reason. None: it isn't decided yet, or an
    older daemon doesn't say."""


class Repository(Struct, frozen=True):
    """A repository by its number, None where deliveries came without one; the newest of its names comes first."""

    repo_id: int | None
    names: list[str]
    deliveries: Count


class Dropped(Struct):
    """The record that erased a delivery's content, or dropped its payload."""

    seq: int
    at: Time | None
    kind: str | None
    by: str | None
    reason: str | None


class Origin(Struct, kw_only=True):
    """Where an imported delivery comes from, as the file or GitHub said it, and who imported it. None: it wasn't said."""

    format: str | None = None
    """covenq-slice, or github."""
    received_at: str | None = None
    seq: int | None = None
    state: str | None = None
    id: str | None = None
    """GitHub's number of the attempt."""
    delivered_at: str | None = None
    redelivery: bool | None = None
    body: str | None = None
    """Of one out of GitHub's delivery log: verified or unverified."""
    by: str | None = None
    reason: str | None = None


class SignedLater(Struct):
    """Of a delivery that is held without its signature: when the bytes that were signed came, and which secret signed them."""

    seq: int
    at: Time
    secret: str
    payload_sha256: str
    payload_bytes: int


def is_unsigned(secret: str | None, source: str | None) -> bool:
    """Whether a delivery is held without the signature that it came with, by the fields of its record or row."""
    return secret is None and source == "import"


class OneDelivery(Delivery, kw_only=True):
    """A delivery with the headers it came with, with what removed its content, if that is gone, and its origin, if imported."""

    headers: list[list[str]] | None
    dropped_by: Dropped | None
    origin: Origin | None = None
    """An older daemon doesn't say; nor that signed bytes came later."""
    signed_later: SignedLater | None = None


# ---- tasks


class TaskOrigin(Row, kw_only=True):
    """What a task's first record says: set once."""

    id: str
    hook: Token | None
    guid: Token | None
    route: str | None
    kind: str | None
    """How it is run: run, forward or pull."""
    purpose: str | None = None
    """What it is for, in a word of its route: fix_issue, … Older records say neither this nor the next."""
    familiar: str | None = None
    """The id of the agent that its route runs it as."""
    replay: Count
    event: str | None
    action: str | None
    repo: TextOfPayload
    repo_id: int | None
    installation: int | None
    number: NumberOfPayload
    head_sha: TextOfPayload
    ref: TextOfPayload = None
    target: TargetOrNone = None
    key: TextOfPayload
    priority: Count
    config: str | None
    created_seq: int
    created_at: Time


class TaskProgress(TaskOrigin, kw_only=True):
    """What later records of a task change, after what its first says."""

    delivery_seq: int | None
    """None while the delivery isn't known: a salvage may have lost its record."""
    state: TaskState
    reason: str | None
    category: str | None
    detail: str | None
    attempts: Count
    updated_at: Time
    not_before: Time | None
    lease_until: Time | None
    worker: str | None
    node: str | None = None
    """The name of the node that its worker runs on, or claimed it over. An older record doesn't say."""
    last_seq: int
    claim_seq: int | None
    interruptions: Count
    retries: Count
    superseded_by: str | None = None
    """The id of the task that took its place."""
    result_status: str | None = None
    """What its command said of its work, by its contract: success, partial, needs_input or failure."""
    branch: TextOfPayload = None
    """The branch that its command said it wrote to."""
    pr_number: int | None = None
    """The pull request that its command said it made."""


class TaskRow(TaskProgress, array_like=True, gc=False, kw_only=True):
    """A row of `tasks`, with what scheduling needs."""

    policy: str | None
    """The JSON object of the route's policy, frozen when the task was made."""
    tenant: str
    pull: int
    supersede: str | None
    source_at: TextOfPayload
    abouts: TextOfPayload
    """A JSON array of the records of its ends that say, where an erasure reaches it, what its commands said of their work."""
    since: str | None
    queued_seq: int | None
    sent_at: int
    """Its delivery's; of a replay, when that was asked for."""


class Waits(Struct):
    """What a queued task waits for: a word, a sentence, its place in the queue where it has one, and its cause in the status."""

    word: str
    why: str
    position: Number | None = None
    cause: str | None = None
    """One of `covenq.model.waiting.Cause`; an older daemon doesn't say."""


class Task(TaskProgress, kw_only=True):
    """A task, with its policy as frozen when it was made. `waits` is None where it isn't queued, or wasn't looked up."""

    policy: JsonObject | None
    waits: Waits | None = None


# ---- attempts


class AttemptKey(Row, kw_only=True):
    """Which attempt it is."""

    task: str
    attempt: Number


class AttemptStart(AttemptKey, kw_only=True):
    """What the record of its claim says, after its key. A journal may claim an older attempt again: then it begins anew."""

    fence: str
    claim_seq: int
    worker: str | None
    node: str | None = None
    """The name of the node that gave the claim. An older record doesn't say."""
    started_at: Time


class AttemptEnd(AttemptStart, kw_only=True):
    """What the record of its end says, after that of its claim; all None while it runs."""

    ended_at: Time | None
    outcome: str | None
    category: CategoryOrNone
    exit_code: int | None
    signal: int | None
    detail: str | None
    result: str | None
    http_status: int | None
    result_seq: Number | None = None
    """The record that has the result, too: where several nodes share the journal, and it is small."""


class AttemptRow(AttemptEnd, array_like=True, gc=False, kw_only=True):
    """A row of `task_attempts`."""

    phases: str
    """A JSON array of [phase, time]."""
    usage: str | None
    """A JSON object."""


class Attempt(AttemptEnd, kw_only=True):
    """An attempt. `stdout` and `stderr` are paths below the data directory, None until its directory is made."""

    phases: list[tuple[str | None, Time]]
    usage: JsonObject | None
    stdout: str | None
    stderr: str | None


class LatestAttempt(Attempt, kw_only=True):
    """An attempt in a list of all tasks' attempts, with what its task is about."""

    route: str | None
    event: str | None
    action: str | None
    repo: str | None
    number: int | None
    hook: str | None
    guid: str | None
