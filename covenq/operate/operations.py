"""The table of operations: what operators do, said once for the client, the API, the command line and the dashboard.

To add one: its parameters in `parameters.py`, and here a function, a constant and its place in OPERATIONS, with what a token that
has a scope may do of it (`scoped`; `covenq.operate.scoped_context` is what it works on then). It is then what
`Source.act` takes, of a daemon or of the files, and POST /api/v1/<name>. An answer of a new kind is a class in `answers.py`, and
has a name in `covenq/http/openapi/schemas.py` (ANSWERS). Tests ask for the rest: a command, the path in covenq-http(7), and the
document again (`python -m covenq.http.openapi.document > man/openapi.json`). A new kind of record is also in `covenq.model.Kind`,
covenq-state(5), `state/fold_history.py` and `operate/inspect/story.py`; one on a task's subject ends what runs (CONTRIBUTING).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from msgspec import Struct

from covenq.errors import CovenqError, NotFound, Refused, UsageError
from covenq.model.notices import TIMEOUT_MAX_S, NotifyTest
from covenq.operate.answers import (
    Compaction,
    HandedOver,
    Imported,
    Kept,
    Paused,
    PlanAnswer,
    Redaction,
    Redeliveries,
    Unbound,
)
from covenq.operate.parameters import (
    Compact,
    HandOver,
    Import,
    Keep,
    Notify,
    Parameters,
    Pause,
    Reconcile,
    Redact,
    Replay,
    Reroute,
    Selection,
    Unbind,
)

# A command that acts through a daemon imports this table and none of what carries an operation out: the functions below
# import that when they are called.
if TYPE_CHECKING:
    import sqlite3
    from contextlib import AbstractContextManager

    from covenq.config.limits import Caps
    from covenq.config.load import Config
    from covenq.filter.grammar import Filter
    from covenq.operate.act.importing import SigningSecrets
    from covenq.operate.act.plan import Plan
    from covenq.operate.maintain.upkeep_work import UpkeepContext
    from covenq.operate.notify.send import Sender
    from journal.interface import Journal, Progress

Rows = Callable[[], "sqlite3.Connection"]
"""Gives a connection to rows into which everything durable at the call is folded."""


class Context(Protocol):
    """What operations work on: a daemon's journal and state, or the files of a data directory.

    Each method is a context manager for one operation, and raises what keeps the journal from being written. Where `dry_run` is
    given, nothing will be written.
    """

    @property
    def config(self) -> Config:
        """The configuration in effect."""

    @property
    def caps(self) -> Caps:
        """The limits on tasks now: those configured, and what is known of receivers that fail."""

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds since 1970."""

    def sender(self) -> Sender:
        """What brings a notice to those who are told, by the configuration in effect. Raises Refused where nobody is."""

    def hand_over(self, by: str | None) -> HandedOver:
        """Let another node lead, and wait until it does. Raises Refused where this one doesn't lead, or none stands by."""

    def writing(self) -> AbstractContextManager[tuple[Journal, sqlite3.Connection]]:
        """The journal, and the rows, folded up to now. No other operation on stored deliveries goes on meanwhile."""

    def pausing(self) -> AbstractContextManager[tuple[Journal, Rows]]:
        """The journal and its rows. At the end of the `with` a change is in effect for the intake."""

    def unbinding(self, *, dry_run: bool) -> AbstractContextManager[tuple[Journal, Rows]]:
        """The journal and its rows. At the end of the `with` the intake decides by what is bound then."""

    def importing(self, *, dry_run: bool) -> AbstractContextManager[tuple[Journal, SigningSecrets, Rows]]:
        """The journal, made if there is none, the secrets, and the rows.

        No other operation on stored deliveries goes on meanwhile.
        """

    def redacting(self, *, dry_run: bool) -> AbstractContextManager[tuple[UpkeepContext, Progress | None]]:
        """Files to erase from, once another erasure or compaction has ended."""

    def compacting(self, *, dry_run: bool) -> AbstractContextManager[tuple[UpkeepContext, Progress | None]]:
        """Files to compact. Raises Refused during another erasure or compaction."""


Scoping = Literal["open", "filter", "one", "never"]
"""What a token with a scope sees of an operation: the same as all; of many, those in scope; one, if it is in scope; nothing."""

P = TypeVar("P", bound=Parameters)
A = TypeVar("A", bound=Struct, covariant=True)
S = TypeVar("S", bound=Selection)

NOTIFY_S = 2 * TIMEOUT_MAX_S + 10.0
"""Timeout of a test notice: a try at a command, and one at an address."""
HANDOVER_S = 150.0
"""Timeout of a handover: running commands end first, and then what else works on the journal."""
UPKEEP_S = 24 * 3600.0
"""Timeout of operations that rewrite segments."""
BODY_MAX = 4 << 20
"""Bytes of a request's body."""
IMPORT_MAX = 48 << 20
"""Bytes of a request to import: the largest payload there may be, as base64, and what goes with it."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[P, A]):
    """One operation. Besides `raises` it raises NotDurable, and classes of `journal.errors`."""

    name: str
    """POST /api/v1/<name>, by a token that may operate."""
    summary: str
    """For the API's document."""
    parameters: type[P]
    answer: type[A]
    function: Callable[[Context, P], A]
    raises: tuple[type[CovenqError], ...] = (UsageError, NotFound, Refused)
    """What its parameters, or what is there now, make it refuse."""
    timeout_s: float | None = None
    """Seconds to wait for a daemon's answer, where that may take longer than others."""
    body_max: int = BODY_MAX
    """Bytes of a request's body at most."""
    scoped: Scoping | None = None
    """Whether a token with a scope may have it done, of what is in scope. None and `never`: it may not."""


def _plan_and_apply(
    context: Context,
    parameters: S,
    plan: Callable[[Journal, sqlite3.Connection, Config, S, Filter | None], Plan],
) -> PlanAnswer:
    from covenq.operate.act.plan import apply

    filter = parameters.parsed_filter()  # before anything is opened, or waited for
    with context.writing() as (journal, conn):
        planned = plan(journal, conn, replace(context.config, caps=context.caps), parameters, filter)
        return planned.answer() if parameters.dry_run else apply(planned, journal)


def _replay(context: Context, parameters: Replay) -> PlanAnswer:
    from covenq.operate.act.actions import plan_replay

    return _plan_and_apply(context, parameters, plan_replay)


def _reroute(context: Context, parameters: Reroute) -> PlanAnswer:
    from covenq.operate.act.actions import plan_reroute

    return _plan_and_apply(context, parameters, plan_reroute)


def _requeue(context: Context, parameters: Selection) -> PlanAnswer:
    from covenq.operate.act.actions import plan_requeue

    return _plan_and_apply(context, parameters, plan_requeue)


def _cancel(context: Context, parameters: Selection) -> PlanAnswer:
    from covenq.operate.act.actions import plan_cancel

    return _plan_and_apply(context, parameters, plan_cancel)


def _import(context: Context, parameters: Import) -> Imported:
    from covenq.operate.act.importing import import_deliveries

    with context.importing(dry_run=parameters.dry_run) as (journal, secrets, rows):
        return import_deliveries(journal, context.config, secrets, rows, parameters, context.clock)


def _reconcile(context: Context, parameters: Reconcile) -> Redeliveries:
    from covenq.operate.act.redelivering import record_wishes

    with context.writing() as (journal, _):
        return record_wishes(journal, context.config, parameters, context.clock)


def _redact(context: Context, parameters: Redact) -> Redaction:
    from covenq.operate.maintain import upkeep_work

    filter = parameters.parsed_filter()
    with context.redacting(dry_run=parameters.dry_run) as (files, progress):
        return upkeep_work.redact(files, progress, parameters, filter)


def _compact(context: Context, parameters: Compact) -> Compaction:
    from covenq.operate.maintain import upkeep_work

    with context.compacting(dry_run=parameters.dry_run) as (files, progress):
        return upkeep_work.compact(files, progress, parameters)


def _keep(context: Context, parameters: Keep) -> Kept:
    from covenq.operate.maintain.keep import keep

    with context.pausing() as (journal, rows):
        return keep(journal, rows, context.config.retention, parameters)


def _pause(context: Context, parameters: Pause) -> Paused:
    from covenq.operate.act.pause_summary import with_summary
    from covenq.operate.act.pauses import pause

    with context.pausing() as (journal, rows):
        done = pause(journal, rows, parameters, routes=[route.name for route in context.config.routes])
        return with_summary(done, rows, context.caps, context.clock())


def _resume(context: Context, parameters: Pause) -> Paused:
    from covenq.operate.act.pause_summary import with_summary
    from covenq.operate.act.pauses import resume

    with context.pausing() as (journal, rows):
        done = resume(journal, rows, parameters)
        return with_summary(done, rows, context.caps, context.clock())


def _notify(context: Context, parameters: Notify) -> NotifyTest:
    from covenq.operate.notify.wording import notice_of_test

    sender = context.sender()
    notice = notice_of_test(context.clock())
    return NotifyTest(notice=notice, targets=sender.test(notice))


def _hand_over(context: Context, parameters: HandOver) -> HandedOver:
    return context.hand_over(parameters.by)


def _unbind(context: Context, parameters: Unbind) -> Unbound:
    from covenq.operate.act.scopes import unbind

    with context.unbinding(dry_run=parameters.dry_run) as (journal, rows):
        return unbind(journal, rows, parameters)


REPLAY = Operation(
    "replay", "New tasks of stored deliveries, by today's routes.", Replay, PlanAnswer, _replay, scoped="filter"
)
REROUTE = Operation("reroute", "Route deliveries that have no task.", Reroute, PlanAnswer, _reroute, scoped="filter")
REQUEUE = Operation(
    "requeue", "Failed, cancelled and superseded tasks once more.", Selection, PlanAnswer, _requeue, scoped="filter"
)
"""Its ids, and those of CANCEL, are tasks'."""
CANCEL = Operation("cancel", "End tasks that wait or run.", Selection, PlanAnswer, _cancel, scoped="filter")
IMPORT = Operation(
    "import",
    "Record deliveries from elsewhere: with the secret that signed them only where GitHub's signature shows it.",
    Import,
    Imported,
    _import,
    scoped="never",
    raises=(UsageError,),
    body_max=IMPORT_MAX,
)
RECONCILE = Operation(
    "reconcile",
    "Record that GitHub is about to be asked for redeliveries, so that none is asked for twice.",
    Reconcile,
    Redeliveries,
    _reconcile,
    scoped="never",
)
REDACT = Operation(
    "redact",
    "Erase the content of deliveries, by ids or filter, of a repository or of an installation.",
    Redact,
    Redaction,
    _redact,
    scoped="never",
    timeout_s=UPKEEP_S,
)
COMPACT = Operation(
    "compact",
    "Drop what the configured retention no longer keeps.",
    Compact,
    Compaction,
    _compact,
    scoped="never",
    raises=(UsageError, Refused),
    timeout_s=UPKEEP_S,
)
KEEP = Operation(
    "keep", "Keep the content of an uninstalled installation: stop its erasure.", Keep, Kept, _keep, scoped="never"
)
PAUSE = Operation(
    "pause",
    "Pause the intake, the worker, a route, a repository or an installation.",
    Pause,
    Paused,
    _pause,
    scoped="one",
    raises=(UsageError, NotFound),
)
RESUME = Operation("resume", "End a pause.", Pause, Paused, _resume, raises=(UsageError, NotFound), scoped="one")
UNBIND = Operation(
    "unbind",
    "Release repositories of a secret's scope from their numbers; the next delivery binds each anew.",
    Unbind,
    Unbound,
    _unbind,
    scoped="never",
    raises=(UsageError, NotFound),
)

NOTIFY = Operation(
    "notify",
    "Send a test notice to those whom [notify] names, once, and say what became of it.",
    Notify,
    NotifyTest,
    _notify,
    scoped="never",
    raises=(Refused,),
    timeout_s=NOTIFY_S,
)

HANDOVER = Operation(
    "handover",
    "Let another node lead: this one, which leads, ends what it runs, and then stands by.",
    HandOver,
    HandedOver,
    _hand_over,
    scoped="never",
    raises=(Refused,),
    timeout_s=HANDOVER_S,
)

AnyOperation = Operation[Any, Struct]  # each has parameters of its own type
OPERATIONS: tuple[AnyOperation, ...] = (
    REPLAY, IMPORT, RECONCILE, REROUTE, CANCEL, REQUEUE, REDACT, COMPACT, KEEP, PAUSE, RESUME, UNBIND, NOTIFY, HANDOVER,
)  # fmt: skip
"""All of them."""
