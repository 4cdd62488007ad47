"""Redeliveries: what is missing is asked for once more where GitHub's next attempt comes through this door, else it is fetched.

A redelivery goes to whoever is behind the webhook's address, and is routed there as any delivery is. So GitHub is asked for one
only where that is this covenq, by what its configuration says and by what came: see `door_problem`. A copy of the data of another
covenq, with its key, its address and what it held, is found out by what that other one has taken since.

Nor is it asked for what somebody took already (an attempt that GitHub lists as accepted); for what would be held back if it were
fetched; for what a route that supersedes may match, since a redelivery doesn't say when it was first sent; nor twice. That a
delivery will be asked for is recorded before it is: whatever ends the process between the two, or after, the record is there, so
that no pass asks for it again, and it is fetched once it hasn't come for as long as that is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from covenq.config.github_api import KEPT_ENTERPRISE_S
from covenq.config.load import Config
from covenq.errors import GithubLimited, GithubRefused, OutgoingFailed
from covenq.model import DeliveryId, at_text
from covenq.net.address import same_address, shown_address
from covenq.reconcile.compare import Absent, Came, Comparison
from covenq.reconcile.expected_age import is_too_old
from covenq.reconcile.fetch import FAILURES_MAX, TROUBLE, Hold
from covenq.reconcile.log_state import AskedFor, LogState, data_of
from covenq.reconcile.logs import Target
from covenq.reconcile.result import Row
from covenq.reconcile.wanted import superseding_by

PER_PASS = 64
OPEN_MAX = 256
"""Deliveries of a log that are asked for by one pass, and that are waited for at once."""
FRESH_S = 86_400.0
"""What was first sent longer ago is fetched at once: GitHub must still have it when it was waited for in vain."""
CONFLICTS_MAX = 3
"""Times that it is planned anew because another process has recorded the state meanwhile."""
LATER = "its redelivery is asked for by a next pass"
NO_ADDRESS = "[server] public_url isn't set, by which it could be told that a redelivery comes here"
_HERE = frozenset({"fetched", "waiting", "held"})

Pair = tuple[Absent, Row]


class Log(Protocol):
    """A delivery log: see `covenq.reconcile.logs.DeliveryLog`."""

    def target(self) -> Target: ...

    def answered(self, attempt: str) -> int | None: ...

    def ask_again(self, attempt: str) -> str | None: ...


class Holding(Protocol):
    """What the journal holds: see `covenq.reconcile.compare_pass.Holdings`."""

    def held(self, guids: Sequence[str]) -> Mapping[DeliveryId, Came]: ...


@dataclass(frozen=True, slots=True)
class Redelivery:
    """How redeliveries are asked for. `address` is where deliveries reach this covenq, None where that isn't configured.

    `record` makes a state durable in the place of the one before, and gives the one that is in effect then: another process's, if
    it has recorded one meanwhile.
    """

    address: str | None
    patience_s: float
    may_supersede: Callable[[Absent], bool]
    may_be_too_old: Callable[[Absent], bool]
    record: Callable[[LogState, LogState], LogState]
    clock: Callable[[], float]


def redelivery_of(
    config: Config, now: float, record: Callable[[LogState, LogState], LogState], clock: Callable[[], float]
) -> Redelivery | None:
    """As it is configured; None where nothing is asked for. `record` as `Redelivery` has it."""
    if not config.reconcile.redelivers:
        return None
    address = None if config.public_url is None else f"{config.public_url}{config.webhook_path}"

    def may_be_too_old(one: Absent) -> bool:
        return is_too_old(one, now - one.first_at, config.routes, config.reconcile.max_age_s, now=now) is not False

    superseding = superseding_by(config.routes, now)
    return Redelivery(address, config.reconcile.patience_s, superseding, may_be_too_old, record, clock)


@dataclass(frozen=True, slots=True)
class Rules:
    """By what it is planned: also what is held back if it is fetched, and when that is, in seconds since 1970."""

    redelivery: Redelivery
    hold: Callable[[Row], Hold | None]
    now: float


@dataclass(slots=True)
class Plan:
    """What becomes of what is missing: it was asked for and is waited for, is asked for now or by a later pass, or is fetched."""

    wait: list[tuple[AskedFor, Row]] = field(default_factory=list)
    ask: list[Pair] = field(default_factory=list)
    later: list[Pair] = field(default_factory=list)
    fetch: list[Row] = field(default_factory=list)


@dataclass(slots=True)
class Asked:
    """What was asked for. Rows that wait for it are `open`; those that are to be fetched are `missing`."""

    recorded: LogState
    """The state that is in effect by the records."""
    state: LogState
    """The state as it is now."""
    waits: set[str] = field(default_factory=set)
    """Attempts of rows that are not fetched by this pass."""
    why_not: str | None = None
    """Why nothing was asked for, or not everything."""
    refused: list[str] = field(default_factory=list)
    """Why GitHub makes no redelivery of some."""
    next_at: float | None = None
    """When a next pass has something to do here, in seconds since 1970."""
    posted: int = 0
    """Redeliveries that were asked for now."""
    waiting: int = 0
    """Rows whose redelivery was asked for, and is waited for."""


def planned(state: LogState, pairs: Iterable[Pair], rules: Rules) -> Plan:
    """What becomes of each of `pairs` that is missing."""
    known = {one.guid: one for one in state.asked}
    room = max(0, min(PER_PASS, OPEN_MAX - len(known)))
    plan = Plan()
    for one, row in pairs:
        before = known.get(one.guid)
        # What was asked for isn't on its way for having been tried again.
        if row.state != "missing" and not (row.state == "on_its_way" and before is not None):
            continue
        if before is not None and _waits(before, row, rules):
            plan.wait.append((before, row))
        elif before is not None or not _may_be_asked_for(one, row, rules):
            plan.fetch.append(row)
        elif len(plan.ask) < room:
            plan.ask.append((one, row))
        else:
            plan.later.append((one, row))
    return plan


def ask(
    log: Log,
    found: Comparison,
    holdings: Holding,
    pairs: Sequence[Pair],
    state: LogState,
    rules: Rules,
) -> Asked:
    """Ask for what may be, and say of each row whether it waits. Raises what `Redelivery.record` and `holdings` do."""
    redelivery, now = rules.redelivery, rules.now
    done = Asked(state, still_open(state, found, holdings, pairs, now))
    plan = planned(done.state, pairs, rules)
    if redelivery.address is None:
        done.why_not = NO_ADDRESS
    elif plan.ask:
        done.why_not = door_problem(log, found, holdings, redelivery.address, state.held_before)
    conflicts = 0
    while plan.ask and done.why_not is None:
        begun_at = redelivery.clock()
        new = [AskedFor(one.guid, row.attempt, one.first_at, begun_at) for one, row in plan.ask]
        wanted = replace(done.state, asked=(*done.state.asked, *new))
        done.recorded = redelivery.record(done.recorded, wanted)
        done.state = done.recorded
        if data_of(done.recorded) == data_of(wanted):
            _post(log, new, plan, done, redelivery.clock)
            break
        # Another process has recorded one meanwhile: what it asks for isn't asked for again.
        plan, conflicts = planned(done.state, pairs, rules), conflicts + 1
        if conflicts == CONFLICTS_MAX:
            done.why_not = "another process asks GitHub at the same time"
    more = bool(plan.later) and done.why_not is None and done.recorded is not state
    if done.why_not is not None:
        plan.fetch += [row for _, row in (*plan.ask, *plan.later)]
        plan.later = []
    _tell_rows(plan, done)
    ends = [entry.at + redelivery.patience_s for entry, _ in plan.wait]
    done.next_at = now if more else min(ends, default=None)
    return done


def _post(log: Log, new: Sequence[AskedFor], plan: Plan, done: Asked, clock: Callable[[], float]) -> None:
    """Ask for each of `plan.ask`, in the order in which GitHub first sent them. `new` are their entries, which are recorded."""
    made: dict[str, AskedFor] = {}
    failures = 0
    for entry, (_, row) in zip(new, plan.ask, strict=True):
        over = done.why_not is not None
        if not over:
            try:
                problem = log.ask_again(row.attempt)
            except (GithubLimited, GithubRefused) as error:
                over, done.why_not = True, str(error)
            except OutgoingFailed as error:  # where it was sent, it may have been taken
                over, failures = not error.sent, failures + 1
                if failures == FAILURES_MAX or over:
                    done.why_not = str(error)
            else:
                over = problem is not None
                done.refused += [problem] if problem is not None else []
        made[entry.guid] = replace(entry, at=clock(), over=over)
        if over:
            plan.fetch.append(row)
        else:
            done.posted += 1
            plan.wait.append((made[entry.guid], row))
    plan.ask = []
    done.state = replace(done.state, asked=tuple(made.get(one.guid, one) for one in done.state.asked))


def _tell_rows(plan: Plan, done: Asked) -> None:
    """Write into each row how it stands."""
    for row in plan.fetch:
        row.state = "missing"
    for entry, row in plan.wait:
        row.state, row.reason = "open", f"redelivery asked for at {at_text(entry.at)[:19]}Z"
    for _, row in plan.later:
        row.state, row.reason = "open", LATER
    done.waiting = len(plan.wait)
    done.waits = {row.attempt for _, row in (*plan.wait, *plan.later)}


def still_open(state: LogState, found: Comparison, holdings: Holding, pairs: Sequence[Pair], now: float) -> LogState:
    """The state without what is held, or listed no more, as far as the walk went back."""
    if not state.asked:
        return state
    absent = {one.guid for one, _ in pairs}
    held = holdings.held([one.guid for one in state.asked])
    here = {one.guid for one in held if one.hook == found.hook}
    kept = tuple(
        one
        for one in state.asked
        if one.guid not in here and (one.guid in absent or now - KEPT_ENTERPRISE_S < one.first_at < found.since)
    )
    return replace(state, asked=kept)


def settled(state: LogState, rows: Iterable[Row]) -> LogState:
    """The state without what has come, or was fetched, since."""
    here = {row.guid for row in rows if row.state in _HERE}
    return replace(state, asked=tuple(one for one in state.asked if one.guid not in here)) if here else state


# ---- what may be asked for


def door_problem(log: Log, found: Comparison, holdings: Holding, address: str, held_before: float | None) -> str | None:
    """Why a redelivery may come to another than this covenq; None where it comes here. GitHub is asked twice, if at all.

    What GitHub lists as accepted last must have come here by webhook, and so must what it lists as accepted without being asked
    to send it: whoever else takes deliveries, or was this journal's before it was restored, has one that is newer. The address
    must be ours. And where GitHub shows that a covenq had answered, it must have been with this journal's record: what another
    one forwards comes here, too.
    """
    newest = {one.guid: one for one in (found.accepted, found.accepted_first) if one is not None}
    if found.hook is None or found.accepted_first is None:
        return "GitHub lists none as accepted by which it could be told who takes what is sent"
    held = holdings.held(list(newest))
    for guid in newest:
        came = held.get(DeliveryId(found.hook, guid))
        if came is None:
            return f"GitHub lists {guid} as accepted, and it is not held here: something else takes what is sent"
        if not came.by_webhook:
            return f"{guid}, which GitHub lists as accepted last, didn't come by webhook: something else may take what is sent"
    ours = held[DeliveryId(found.hook, found.accepted_first.guid)]
    if held_before is not None and ours.at < held_before:
        return "nothing has come by webhook since this journal was restored"
    try:
        target = log.target()
        answered = log.answered(found.accepted_first.id)
    except TROUBLE as error:
        return f"where the webhook delivers to isn't known: {error}"
    if target.url is None or not same_address(target.url, address):
        theirs = "nowhere" if target.url is None else f"to {shown_address(target.url)}"
        return f"the webhook delivers {theirs}, and [server] public_url with the webhook's path is {address}"
    if not target.active:
        return "the webhook is not active"
    if answered is not None and answered != ours.seq:
        return f"another covenq answered to {found.accepted_first.guid}, by what GitHub kept of it"
    return None


def _may_be_asked_for(one: Absent, row: Row, rules: Rules) -> bool:
    return (
        rules.redelivery.address is not None
        and one.sent_at is not None  # all its attempts are known
        and not one.accepted
        and one.first_at > rules.now - FRESH_S
        and rules.hold(row) is None
        and not rules.redelivery.may_supersede(one)
        and not rules.redelivery.may_be_too_old(one)
    )


def _waits(entry: AskedFor, row: Row, rules: Rules) -> bool:
    """Whether what was asked for may still come: not where GitHub has tried again since, and failed."""
    tried_again = row.attempt != entry.attempt and not 200 <= row.status_code < 300
    return not entry.over and not tried_again and rules.now < entry.at + rules.redelivery.patience_s
