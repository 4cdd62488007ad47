"""One pass over a log: compared back to its mark, what is missing fetched, and the state with which the next pass begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from covenq.errors import CovenqError
from covenq.filter.grammar import parse
from covenq.model import at_text, seconds_of
from covenq.model.ledger import Ledger, hour_of, hour_text
from covenq.reconcile.compare import Absent, Policy
from covenq.reconcile.compare_pass import Holdings, Scope, compare_log
from covenq.reconcile.fetch import TROUBLE, Hold, IsErased, Recorder, fetch
from covenq.reconcile.fetch_order import in_fetch_order
from covenq.reconcile.ledger import Seen, advanced, begun_ledger
from covenq.reconcile.log_state import LogState, moved, why_held
from covenq.reconcile.logs import DeliveryLog
from covenq.reconcile.redeliver import Asked, Redelivery, Rules, ask, settled, still_open
from covenq.reconcile.result import LogSummary, Row, row_of
from covenq.reconcile.wanted import Listed

_SETTLED_FAILURES = frozenset({"unrecoverable", "refused"})


class Knowing(Holdings, Protocol):
    """What the journal holds, and what was erased."""

    def is_erased(self, repo_id: int | None, installation: int | None, at: float) -> bool:
        """Whether the repository, or the installation, of a delivery that was sent at that time has been erased here."""


@dataclass(frozen=True, slots=True)
class PassSettings:
    """Seconds: how far a walk goes back behind the mark, and what may be on its way.

    `is_wanted`: whether a missing delivery is fetched. `redelivery`: how it is asked for before; None: it isn't. `is_first`:
    whether it is fetched before others, as `fetch_order` says.
    """

    overlap_s: float
    grace_s: float
    is_wanted: Callable[[Absent], bool]
    redelivery: Redelivery | None = None
    is_first: Callable[[Listed], bool] = lambda one: False


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the pass before left, beside the state: `failed` as its result has it, and its ledger, None before the first."""

    failed: Mapping[str, Row] = field(default_factory=dict)
    ledger: Ledger | None = None


@dataclass(frozen=True, slots=True)
class PassResult:
    """What a pass found and did. `troubles` are why it didn't reach its end: of a walk that didn't there are no rows.

    `failed` has, by the attempt, rows that could not be fetched, for the next pass: it asks for none again that can't be, or was
    refused, and for what GitHub failed to give after all others, so that it keeps nothing from being fetched.

    `asked` says which redeliveries were asked for; its `recorded` is the state of the records, in whose place `state` comes.
    """

    state: LogState
    summary: LogSummary
    rows: list[Row]
    troubles: list[CovenqError]
    ledger: Ledger
    asked: Asked
    failed: Mapping[str, Row] = field(default_factory=dict)
    lists: int = 0
    """Requests until it had compared; 0 where it came to no end of that."""
    first_open: Mapping[str, int] = field(default_factory=dict)
    """What is still to be fetched before all other, by the hour it was first sent in, as the ledger writes it."""


NOTHING_EARLIER = Earlier()


def given_up(failed: Mapping[str, Row]) -> dict[str, Row]:
    """Those of the rows that could not be fetched which no pass asks for again."""
    return {attempt: row for attempt, row in failed.items() if row.state in _SETTLED_FAILURES}


def erased_by(holdings: Knowing) -> IsErased:
    """What these holdings tell of rows."""
    return lambda row: holdings.is_erased(row.repo_id, row.installation, seconds_of(row.first_at))


def make_pass(
    log: DeliveryLog,
    state: LogState,
    holdings_now: Callable[[], Knowing],
    recorder: Recorder,
    settings: PassSettings,
    now: float,
    restarted: Callable[[], None],
    earlier: Earlier = NOTHING_EARLIER,
) -> PassResult:
    """Compare, ask for redeliveries where that is wanted, and fetch; `holdings_now` gives what is held at the call.

    Raises what holdings and `recorder` do; what was recorded until then is held at the next pass.
    """

    holdings = holdings_now()

    def is_erased(one: Absent) -> bool:
        return holdings.is_erased(one.repo_id, one.installation, one.first_at)

    since = state.since(settings.overlap_s)
    ledger = earlier.ledger or begun_ledger(since)
    scope = Scope(min(since, ledger.boundary), parse(""), now, 0.0, settings.grace_s)
    try:
        found = compare_log(log, log.hook or state.hook, holdings, scope, restarted)
    except TROUBLE as error:
        summary = LogSummary(log.name, requests=log.requests, error=str(error))
        return PassResult(state, summary, [], [error], ledger, Asked(state, state), earlier.failed)
    lists = log.requests
    policy = Policy(now, state.baseline, is_erased, settings.grace_s, settings.is_wanted)
    absent = [(one, row_of(log.name, one, standing)) for one, standing in found.sorted_out(policy)]
    rows = [row for _, row in absent]
    for row in rows:
        before = earlier.failed.get(row.attempt)
        if row.state == "missing" and before is not None and before.state in _SETTLED_FAILURES:
            row.state, row.reason = before.state, before.reason

    def hold(row: Row) -> Hold | None:
        return why_held(row.first_at, state.held_before)

    asked = Asked(state, still_open(state, found, holdings, absent, now))
    if settings.redelivery is not None:
        asked = ask(log, found, holdings, absent, state, Rules(settings.redelivery, hold, now))
    missing = [row for row in rows if row.state == "missing"]
    again = [row for row in missing if row.attempt in earlier.failed]
    first, others = in_fetch_order([row for row in missing if row.attempt not in earlier.failed], settings.is_first)
    troubles = fetch(
        [*first, *others, *again], {log.name: log.detail}, recorder, hold, lambda: erased_by(holdings_now())
    )
    # What is recorded says by itself which hook it came from: where another was taken for it, nothing counted as held.
    hook = next((row.hook for row in rows if row.state in ("fetched", "waiting", "held") and row.hook), found.hook)
    newest_at = None if found.newest_at is None else at_text(found.newest_at)
    summary = LogSummary(log.name, hook, found.listed, found.held, found.unreadable, log.requests, newest_at=newest_at)
    held = holdings.held([one.guid for one in ledger.tracked])
    seen = Seen(
        hook,
        found.came,
        absent,
        {one.guid: came.fetched for one, came in held.items() if one.hook == hook},
        None if found.newest is None else found.newest.at - settings.overlap_s,
    )
    after = settled(asked.state, rows)
    return PassResult(
        replace(after, hook=hook or after.hook, mark=moved(after.mark, found.newest, rows)),
        summary,
        rows,
        troubles,
        advanced(ledger, seen, now),
        asked,
        {
            row.attempt: row
            for row in rows
            if row.attempt not in asked.waits
            and (row.state in _SETTLED_FAILURES or (row.state == "open" and row.reason))
        },
        lists,
        Counter(hour_text(hour_of(seconds_of(row.first_at))) for row in first if row.state == "open"),
    )
