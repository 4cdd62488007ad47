"""The domain model: states, record kinds, identities, times. Only values and small pure functions."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from covenq.errors import UsageError

PR_MAX = 2**53 - 1
"""The greatest number of a pull request that a command may say: any client of JSON has it exactly."""


class State(StrEnum):
    """The states of a task and, folded over its tasks, of a delivery."""

    RECEIVED = "received"
    """Durable, not yet routed."""
    IGNORED = "ignored"
    """No route matched; the reason is recorded."""
    QUEUED = "queued"
    """Waits for a worker, or for its not-before time."""
    RUNNING = "running"
    """Claimed by an attempt."""
    COMPLETED = "completed"
    FAILED = "failed"
    """Final until an operator requeues it."""
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class IgnoredReason(StrEnum):
    """Why a delivery is `ignored`; or the word that the route which came nearest has for it (`else`)."""

    PING = "ping"
    NO_ROUTES = "no_routes"
    NO_MATCH = "no_match"
    IMPORTED = "imported"
    """It was imported without tasks."""
    DISMISSED = "dismissed"
    """An operator had what was held back ignored."""
    REDACTED = "redacted"
    """It was erased before it was routed."""
    FAMILIAR_AUTHOR = "familiar_author"
    """It would call a familiar, but that or another one wrote it. So, too, of those below: the first that refuses it."""
    INSTALLATION_UNLISTED = "installation_unlisted"
    FAMILIAR_OUT_OF_SCOPE = "familiar_out_of_scope"
    REPOSITORY_DISABLED = "repository_disabled"
    LANE_CLOSED = "lane_closed"
    DRAFT = "draft"
    NOT_PERMITTED = "not_permitted"


class ReceivedReason(StrEnum):
    """Why a delivery stays `received`."""

    HELD = "held"
    """Held back until an operator says so."""
    RULE_FAILED = "rule_failed"


class SupersededReason(StrEnum):
    """Why a task is `superseded`."""

    NEWER = "newer"
    """A newer task of the same key came."""
    STALE = "stale"
    """A newer state of what it is about was seen."""
    LATE = "late"
    """GitHub had sent it before the one that supersedes it, and it came after."""


FINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.SUPERSEDED})
REQUEUEABLE = frozenset({State.FAILED, State.CANCELLED, State.SUPERSEDED})

DELIVERY_PRECEDENCE = (
    State.RUNNING,
    State.QUEUED,
    State.FAILED,
    State.CANCELLED,
    State.SUPERSEDED,
    State.COMPLETED,
)
"""A delivery's state is the first of these that any task of its newest replay of each route is in."""


class Kind(StrEnum):
    """Record kinds. The data of each is described in man/covenq-state.5."""

    RECEIVED = "delivery.received"
    REPEATED = "delivery.repeated"
    CONFLICTED = "delivery.conflicted"
    IGNORED = "delivery.ignored"
    REPLAYED = "delivery.replayed"
    REROUTED = "delivery.rerouted"
    REDACTED = "delivery.redacted"
    QUEUED = "task.queued"
    DELAYED = "task.delayed"
    CLAIMED = "task.claimed"
    PHASE = "task.phase"
    RENEWED = "task.renewed"
    RETRY = "task.retry"
    COMPLETED = "task.completed"
    FAILED = "task.failed"
    REQUEUED = "task.requeued"
    CANCELLED = "task.cancelled"
    SUPERSEDED = "task.superseded"


class Category(StrEnum):
    """Why an attempt did not complete."""

    EXIT = "exit"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    LEASE_LOST = "lease_lost"
    SPAWN = "spawn"
    HTTP = "http"
    RESULT_INVALID = "result_invalid"
    POLICY = "policy"
    INTERNAL = "internal"
    """An error of covenq itself: its log has the traceback."""
    TOKEN = "token"  # noqa: S105 - a word
    """GitHub gave no token for the work."""


class Target(StrEnum):
    """What a delivery is about: the kind of thing, of which `number`, `head_sha` and `ref` say which."""

    ISSUE = "issue"
    PULL = "pull"
    """A pull request, also where its comments come as those of an issue."""
    DISCUSSION = "discussion"
    COMMIT = "commit"
    BRANCH = "branch"
    TAG = "tag"
    RELEASE = "release"
    MILESTONE = "milestone"
    LABEL = "label"
    PACKAGE = "package"
    ALERT = "alert"
    ADVISORY = "advisory"
    PROJECT = "project"
    REPOSITORY = "repository"
    INSTALLATION = "installation"


TOKEN = re.compile(r"[0-9A-Za-z_-]{1,64}\Z")
"""A hook id, a GUID, a route's name, a task id: safe as a token of a subject and as a file name."""
WORKER_NAME = re.compile(r"[0-9A-Za-z._@:/-]{1,64}\Z")
WORKER_NAME_HINT = "1 to 64 letters, digits, or one of . _ @ : / -"


class DeliveryId(NamedTuple):
    """(hook, GUID): the identity of a delivery. The GUID alone identifies an event, which several hooks may deliver."""

    hook: str
    guid: str

    @property
    def subject(self) -> str:
        return f"delivery.{self.hook}.{self.guid}"

    def __str__(self) -> str:
        return f"{self.hook}/{self.guid}"


def task_subject(task_id: str) -> str:
    return f"task.{task_id}"


def task_id(delivery: DeliveryId, route: str, replay: int) -> str:
    """The task's id, derived: the same delivery, route and replay number always make the same task.

    So routing twice yields the same id, and the second append is refused: exactly once without a transaction.
    96 bits of SHA-256, as 24 hex digits behind a `t`.
    """
    text = f"{delivery.hook}\n{delivery.guid}\n{route}\n{replay}"
    return "t" + hashlib.sha256(text.encode()).hexdigest()[:24]


def fence(epoch: str, claim_seq: int) -> str:
    """The fencing token of a claim: opaque to clients, the same through phases and renewals."""
    return f"{epoch}.{claim_seq}"


def parse_id(text: str) -> tuple[str | None, str]:
    """`GUID` or `hook/GUID` as (hook or None, GUID). Raises UsageError."""
    hook, slash, guid = text.rpartition("/")
    if not TOKEN.match(guid) or (slash and not TOKEN.match(hook)):
        raise UsageError(
            f"{text[:80]!r} is no delivery id", hint="An id is GUID or hook/GUID, as `covenq deliveries` prints."
        )
    return (hook if slash else None), guid


_REPO = re.compile(r"[^/\s]{1,100}/[^/\s]{1,150}\Z")


def parse_repo(text: str) -> str:
    """`OWNER/NAME`, unchanged. Raises UsageError, also for a pattern: no repository's name has a star."""
    if "*" in text:
        raise UsageError(f"{text[:80]!r} is a pattern, and the name of no repository", hint="Write one as OWNER/NAME.")
    if not _REPO.match(text):
        raise UsageError(f"{text[:80]!r} is no repository", hint="Write it as OWNER/NAME.")
    return text


def now_text(now: datetime | None = None) -> str:
    """RFC 3339 UTC with microseconds: `2026-11-23T02:34:56.123456Z`. Sorts as text, for every year has four digits.

    `now` is in UTC. (`strftime` would give the year 931 three digits.)
    """
    return (now or datetime.now(UTC)).isoformat(timespec="microseconds")[:26] + "Z"


_FIRST_S = -62_135_596_800.0
_LAST_S = 253_402_300_799.0
"""The first and the last whole second of the years 1 to 9999."""


def at_text(epoch_seconds: float) -> str:
    """Seconds since 1970 as `now_text` has it. What is before the year 1 or after 9999 is written as the end that is nearer."""
    if not _FIRST_S <= epoch_seconds <= _LAST_S:
        epoch_seconds = _FIRST_S if epoch_seconds < _FIRST_S else _LAST_S
    second = int(epoch_seconds // 1)
    micros = round((epoch_seconds - second) * 1e6)
    if micros == 1_000_000:
        second, micros = second + 1, 0
    return f"{_second_text(second)}{micros:06d}Z"


@lru_cache(64)
def _second_text(second: int) -> str:
    """A whole second up to its point. Kept: what happens in one second is written many times."""
    return datetime.fromtimestamp(second, UTC).isoformat()[:19] + "."


def seconds_of(text: str) -> float:
    """The inverse of `at_text`: seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def seconds_or(text: str, otherwise: float) -> float:
    """`seconds_of`, and `otherwise` of what is no time: one odd row must not end a question about all."""
    try:
        return seconds_of(text)
    except ValueError:
        return otherwise


DURATION_MAX_S = 36_500 * 86_400.0
"""The longest duration, a hundred years: with it added to the clock, or taken off, there is a time that can be written.

Nobody waits for the end of a longer one, so "999999d" says "for ever", and is none the worse for ending sooner.
"""

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)\Z")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """`<n>(ms|s|m|h|d)` in seconds; a longer one than DURATION_MAX_S is taken for that. Raises UsageError."""
    found = _DURATION.match(text)
    if not found:
        raise UsageError(f"{text[:40]!r} is no duration", hint="Write a number and ms, s, m, h or d: 500ms, 10m, 2d.")
    return bounded_duration(int(found[1]) * _UNITS[found[2]])


def bounded_duration(seconds: float) -> float:
    """A number of seconds from outside, between none and DURATION_MAX_S."""
    return min(max(0.0, seconds), DURATION_MAX_S)  # in this order, so that NaN is none


Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
"""A JSON value that is looked through, or made."""

JsonObject = dict[str, Any]
"""A payload, or another object of foreign JSON."""

NOT_RUNNING = "no daemon is running"
"""The reason in a status that was read from the files, without a daemon."""
INTAKE_PAUSED = "An operator paused the intake."
"""The reason in a daemon's status. Who did, when and why is in its pauses."""
