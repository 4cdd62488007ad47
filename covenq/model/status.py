"""The status of a daemon, or of the files of one that doesn't run: the object of `GET /api/v1/status`."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from covenq.model.drift import Drift
from covenq.model.journal_status import JournalStatus
from covenq.model.log_ingress import FollowedLog
from covenq.model.notices import NotifyStatus
from covenq.model.pending_status import Uninstall, UnrevokedTokens
from covenq.model.rows import Count, TaskState, Time
from covenq.model.waiting import WaitingTasks
from covenq.model.worker_status import WorkerStatus


class FollowerStatus(Struct):
    """The process that folds the journal for a daemon, and how often it had to be started again."""

    pid: Count
    restarts: Count


class StateStatus(Struct):
    """The fold: the seq that it has reached, how many records are behind, and why it makes no progress, if it makes none."""

    seq: Count
    lag: int
    error: str | None
    left_s: Count | None = None
    """Seconds until it has caught up, at its present rate; null where that is near, or not known."""
    follower: FollowerStatus | None = None
    """Null without a daemon."""
    damaged: bool = False
    """Whether a reader has met damage of state.db: a restart makes it anew."""
    still_since: Time | None = None
    """When something was folded last, where it is behind and that is 10 s ago, and more."""


class Oldest(Struct):
    """When the oldest delivery and task in each state that isn't final came."""

    deliveries: dict[str, Time]
    tasks: dict[str, Time]


class Disk(Struct):
    """Bytes of the filesystem that the data directory is on."""

    free: Count
    total: Count


class Descriptors(Struct):
    """What the daemon's limit of open files allows at a time: connections of each listener, and commands."""

    limit: Count | None
    """None where there is none."""
    connections: Count
    commands: Count


class Watchdog(Struct):
    """Of a daemon that systemd started: after how many seconds without a sign of life it is ended; None if it isn't watched."""

    every_s: float | None


class UpkeepWork(Struct):
    """What upkeep does now, and how many of its segments are done."""

    what: str
    done: Count
    total: Count


class UpkeepStatus(Struct):
    """Upkeep: what it does now, and why it waits, if it does."""

    doing: UpkeepWork | None
    error: str | None


class SecretWarning(Struct, frozen=True):
    """That a webhook secret is weak, or likely not what GitHub has: then what is around it `counts` as part of it."""

    words: str
    counts: bool


class Reload(Struct):
    """The newest reading of the configuration; `number` is that of the one in effect. `warnings` has `secret_warnings` too."""

    at: Time
    ok: bool
    error: str | None
    hint: str | None
    number: int
    warnings: list[str]
    secret_warnings: list[SecretWarning] = []


class ActivePause(Struct):
    """Something that is paused. `name` of a repository is its number as text, where a delivery of it had been seen."""

    what: str
    name: str | None
    repo: str | None
    """A repository's name, unless it was erased."""
    since: Time | None
    seq: int | None
    by: str | None
    reason: str | None


class Segment(Struct):
    """A segment of the journal, with the seq of its first record."""

    name: str
    first: Count
    bytes: Count


class Verified(Struct):
    """What the newest verification of all of the journal found, up to which seq; `first` is its first finding."""

    at: Time
    ok: bool
    records: Count
    findings: Count
    seq: Count
    seconds: float
    first: str | None = None
    engine: str | None = None
    """What kept that journal, `file` or `postgres`; null in an older covenq's note."""


class Running(Struct):
    """A task that runs, at this daemon or at a remote worker."""

    task: str
    attempt: Count
    route: str | None
    repo: str | None
    number: int | None
    worker: str | None
    since: Time | None
    timeout_s: float | None
    lease_until: Time | None


class Stuck(Struct):
    """A task that an operator should look at, and why: in one word, and in one sentence."""

    task: str
    route: str | None
    repo: str | None
    state: TaskState
    since: Time | None
    why: str
    word: str | None = None
    """`timeout`, `unheld` or `lease` of one that runs, `waits` of one that is queued."""


class Overdue(Struct):
    """A loop of the daemon that has not come round for too long, and why that matters."""

    loop: str
    why: str


class LogLine(Struct, frozen=True):
    """A line of the daemon's log: a warning, or worse."""

    at: Time
    level: str
    logger: str
    message: str
    """With the fields of the event behind it. Without secrets, and bounded."""


class SecretProblem(Struct):
    """A secret that can't be read."""

    secret: str
    problem: str


class Unrecoverable(Struct):
    """A delivery that a pass could not fetch, and never will, and why."""

    guid: str
    reason: str


class ReconcilePass(Struct):
    """The newest pass over a delivery log of GitHub's. `states` counts what it found that was not held, by how it stands.

    `error` is why it didn't reach its end, if it didn't, and `hint` what helps: then the counts are of what it came to.
    """

    ended_at: Time
    listed: Count
    held: Count
    unreadable: Count
    requests: Count
    states: dict[str, Count]
    error: str | None = None
    hint: str | None = None
    finished_at: Time | None = None
    """When one of this process reached its end last: this one, if it has no error. Null where none has."""
    unrecoverable: list[Unrecoverable] = []
    """Some of those that `states` counts as unrecoverable."""
    newest_at: Time | None = None
    """The newest attempt that GitHub listed, when a pass of this process read its list last; null where it listed none."""
    asked: Count = 0
    """Those of the open ones whose redelivery was asked for, and is waited for."""
    not_asked: str | None = None
    """Why no redelivery was asked for, or not of everything, with [reconcile] mode = "redeliver"."""


class RequestBudget(Struct):
    """GitHub's limit of requests with a log's credentials, as its newest answer had it; `kept` of it is left to others."""

    limit: Count
    remaining: Count
    kept: Count
    resets_at: Time
    request_s: float
    """What a request took, on average."""
    lists: Count
    """Requests of the newest pass before it fetched anything."""
    first: dict[str, Count] = {}
    """What of the open is fetched before all other, since routes surely match it, by its hour in the ledger."""


class ReconcileLog(Struct):
    """A delivery log of GitHub's, and how far it is compared with what is held."""

    log: str
    hook: str | None
    """The id of the hook whose log it is; null until it is learnt."""
    baseline: Time | None
    """The first pass: what GitHub sent before is taken by `covenq reconcile --since` alone."""
    mark: Time | None
    """All that GitHub had first sent by then is settled."""
    held_before: Time | None
    """What GitHub had sent by then is held back when it is fetched: the journal was restored then."""
    last: ReconcilePass | None = None
    """Null before the first pass of this process."""
    budget: RequestBudget | None = None
    """Null until GitHub has told it."""
    following: FollowedLog | None = None
    """Null where deliveries come by webhook, and without a daemon."""


class Missing(Struct):
    """Deliveries that GitHub lists, and that could not be fetched yet, by the ledger. What may be on its way is none of them."""

    deliveries: Count
    since: Time
    until: Time
    """The hours, from the first to the end of the last, in which GitHub first sent them."""
    forgotten_at: Time
    """When GitHub begins to forget them."""
    done_at: Time | None = None
    """When all that can be fetched will be, as far as GitHub's limit goes; null where nothing can, and where that isn't known."""
    waits: bool = False
    """Whether that is only after the limit has been counted anew."""
    too_late: Count = 0
    """Those that GitHub forgets before its limit lets them be fetched."""
    too_late_from: Time | None = None
    """When it begins to."""


class LedgerHour(Struct, kw_only=True):
    """An hour of a delivery log of GitHub's, by when deliveries were first sent. What is `listed` is the sum of all others."""

    log: str
    """Whose log it is; a digest of that where it is not configured any more."""
    hook: str | None
    hour: Time
    """When it began."""
    listed: Count
    held: Count
    """Came by GitHub's first attempt."""
    redelivered: Count = 0
    """Came by another attempt of GitHub's, which somebody or covenq asked for."""
    fetched: Count
    """Came back out of GitHub's log."""
    unrecoverable: Count
    refused: Count
    erased: Count
    before_us: Count
    not_wanted: Count
    on_its_way: Count
    open: Count
    """Missing, and not fetched yet."""
    reasons: dict[str, Count]
    """Of what is unrecoverable or refused."""
    forgotten_at: Time | None
    """When GitHub begins to forget what is open; null where nothing is."""
    counted_at: Time
    """When the row was last another one."""


class NotHeldDelivery(Struct):
    """A delivery that GitHub lists and the journal doesn't hold, as the newest pass that saw it has it."""

    log: str
    guid: str
    event: str
    first_at: Time
    state: str
    reason: str | None = None
    forgotten_at: Time | None = None
    """When GitHub forgets it, if it may still be fetched."""


class ReconcileStatus(Struct):
    """The daemon's own passes over GitHub's delivery logs, every so many seconds; null: it makes none."""

    every_s: float | None
    logs: list[ReconcileLog]
    waits: str | None = None
    """Why no pass is made now."""
    fetched: Count = 0
    """Deliveries that its passes fetched since its start."""
    waiting: Count = 0
    """Deliveries that were fetched and are held back, until they are rerouted."""
    missing: Missing | None = None
    """Null where nothing is."""
    drift: Drift | None = None
    """Null until the daemon has asked, and where it makes no passes."""
    follows: bool = False
    """Whether deliveries come out of these logs alone, and nothing is posted here."""


class NodeStatus(Struct):
    """Which node a data directory is, by its id and by its name."""

    id: str
    name: str
    address: str | None = None
    """Where other nodes reach its webhook; null without a daemon, and where nothing is posted to it."""


class KnownNode(Struct):
    """A node that has the journal open, or had it not long ago; the times are the database's."""

    id: str
    name: str
    address: str | None
    state: Literal["leads", "standby", "away", "stopped"]
    here: bool
    """Whether it is the one that says this."""
    since: Time
    """When it opened the journal."""
    seen: Time
    version: str | None = None
    behind: int | None = None
    """Records that it has not folded."""
    other_config: bool | None = None
    """Whether its configuration is another one than this node's."""
    other_secrets: bool | None = None
    """Whether its webhook secrets are, by name or content; null where either says nothing of them."""
    clock_ahead_s: float | None = None
    """Seconds that the database's clock is ahead of its own."""
    api: str | None = None
    """Where other nodes ask its API; null where they can't."""
    owes: Count = 0
    """Deliveries that were erased, and whose content it may still have."""


class Status(Struct, kw_only=True):
    """A daemon's status. Without one, what only a running process knows is None or empty, and `ready` is false."""

    ready: bool
    reasons: list[str]
    """Why nothing is received; empty if the daemon is ready. Without a daemon, the first says so."""
    standby: bool = False
    """Whether another node leads, or is to: this one passes deliveries on, and takes over when that is gone."""
    version: str
    node: NodeStatus | None = None
    """Null before the first start, and of an older daemon."""
    nodes: list[KnownNode] = []
    """All that share the journal; empty where none can."""
    pid: int | None = None
    started_at: Time | None = None
    data: str
    """The data directory."""
    config: str | None = None
    """The configuration's file; None if there is none."""
    webhook_url: str | None = None
    api_url: str | None = None
    journal: JournalStatus
    state: StateStatus
    deliveries: dict[str, Count]
    """State to how many, without those of which there are none."""
    tasks: dict[str, Count]
    oldest: Oldest
    disk: Disk | None
    """None where it can't be known."""
    worker: WorkerStatus | None = None
    descriptors: Descriptors | None = None
    watchdog: Watchdog | None = None
    """None if systemd didn't start the daemon."""
    upkeep: UpkeepStatus | None = None
    uninstalls: list[Uninstall] = []
    """Of those that are not settled the 50 that are erased first."""
    routes: list[str]
    reload: Reload | None = None
    refused: dict[str, Count] = field(default_factory=dict)
    """Why requests were refused since the start, and how many."""
    refused_unkept: dict[str, Count] = field(default_factory=dict)
    """Of them, those that the log of refusals has not, since it could not be written: on a full disk."""
    pauses: list[ActivePause]
    segments: list[Segment]
    """The newest."""
    verified: Verified | None
    damaged: bool = False
    """Whether damage of the journal was met, in reading it now or by the fold: `reasons` has it."""
    running: list[Running]
    waiting: list[WaitingTasks] = field(default_factory=list)
    """What queued tasks wait for: each is counted in one of these."""
    stuck: list[Stuck] = field(default_factory=list)
    overdue: list[Overdue] = field(default_factory=list)
    secrets: list[SecretProblem] = field(default_factory=list)
    log: list[LogLine] = field(default_factory=list)
    """The newest warnings and errors that the daemon has logged since its start, oldest first: some."""
    reconcile: ReconcileStatus | None = None
    """Null where the configuration names no delivery log."""
    notify: NotifyStatus | None = None
    """Null where nobody is told of anything ([notify]), and without a daemon."""
    tokens: UnrevokedTokens | None = None
    """Null where there are none."""
