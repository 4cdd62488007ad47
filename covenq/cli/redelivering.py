"""`covenq reconcile` with `[reconcile] mode = "redeliver"`: what GitHub sends when it is asked is waited for, the rest fetched.

The daemon records each wish before it is made (`operations.RECONCILE`), so that none is made twice, whoever makes it. Without a
daemon nobody could take a redelivery: then everything is fetched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from covenq.cli.output import clean, say
from covenq.client.interface import Source
from covenq.config.load import Config
from covenq.errors import NotFound, Refused
from covenq.model import DeliveryId, at_text, seconds_of
from covenq.model.status import ReconcileLog
from covenq.operate import operations
from covenq.operate.answers import AskedDelivery, Redeliveries
from covenq.operate.parameters import Reconcile
from covenq.operate.wished import WishedDelivery
from covenq.reconcile.compare import Comparison
from covenq.reconcile.fetch import Hold
from covenq.reconcile.holdings import StoredHoldings
from covenq.reconcile.log_state import AskedFor, LogState
from covenq.reconcile.logs import DeliveryLog
from covenq.reconcile.redeliver import (
    NO_ADDRESS,
    Asked,
    Pair,
    Rules,
    ask,
    door_problem,
    planned,
    redelivery_of,
)
from covenq.reconcile.result import Row
from covenq.text import counted, duration

LOOK_S = 0.5
"""Between two looks whether what was asked for has come."""
WOULD_ASK = "GitHub would be asked to send it again"


@dataclass(frozen=True, slots=True)
class Compared:
    """What was found in a log: the comparison, and what is not held, with its row."""

    log: DeliveryLog
    found: Comparison
    pairs: Sequence[Pair]


class Redelivering:
    """The redeliveries of one run of the command, beside a daemon. Methods raise what the source does."""

    def __init__(
        self,
        opened: Source,
        config: Config,
        known: Mapping[str, ReconcileLog],
        hold: Callable[[Row], Hold | None],
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`known` is what the daemon knows of each log, and `hold` what is held back if it is fetched."""
        self._opened = opened
        self._config = config
        self._known = known
        self._hold = hold
        self._clock = clock
        self._sleep = sleep

    def plan(self, compared: Sequence[Compared]) -> None:
        """Write into the row of each that would be asked for, or was, that it is so: nothing is asked for."""
        for one in compared:
            state, rules = self._state(one.log.name), self._rules(one.log.name)
            if state is None:
                continue
            plan, address = planned(state, one.pairs, rules), rules.redelivery.address
            problem = None if address is not None else NO_ADDRESS
            if plan.ask and address is not None:
                holdings = StoredHoldings(self._opened)
                problem = door_problem(one.log, one.found, holdings, address, state.held_before)
            if problem is not None:
                _say_why_not(one.log.name, problem)
                continue
            for _, row in (*plan.ask, *plan.later):
                row.reason = WOULD_ASK
            for entry, row in plan.wait:
                row.reason = f"redelivery asked for at {at_text(entry.at)[:19]}Z"

    def bring(self, compared: Sequence[Compared]) -> None:
        """Ask for what may be asked for, and wait for it. What came is `redelivered`, what is to be fetched is `missing`."""
        for one in compared:
            left = one.pairs
            while left:
                left = self._turn(one, left)

    def _turn(self, one: Compared, pairs: Sequence[Pair]) -> Sequence[Pair]:
        """Ask for some, and wait for them; those that have still to be asked for."""
        name, state, rules = one.log.name, self._state(one.log.name), self._rules(one.log.name)
        if state is None:
            return ()
        done = ask(one.log, one.found, StoredHoldings(self._opened), pairs, state, rules)
        entries = {entry.guid: entry for entry in done.state.asked}
        waiting = {row.guid: row for _, row in pairs if row.attempt in done.waits and row.guid in entries}
        later = [pair for pair in pairs if pair[1].attempt in done.waits and pair[1].guid not in entries]
        patience_s = rules.redelivery.patience_s
        _say_asked(name, done, len(waiting), patience_s)
        self._wait(one.found.hook, waiting, {guid: entries[guid].at + patience_s for guid in waiting})
        for _, row in later:
            row.state, row.reason = "missing", None
        return later if done.posted else ()

    def _wait(self, hook: str | None, waiting: dict[str, Row], until: Mapping[str, float]) -> None:
        """Until each has come, or was waited for long enough."""
        while waiting:
            held = StoredHoldings(self._opened).held(list(waiting))
            for guid, row in list(waiting.items()):
                came = None if hook is None else held.get(DeliveryId(hook, guid))
                if came is not None:
                    row.state, row.reason = ("redelivered" if came.by_webhook else "held"), None
                elif self._clock() >= until[guid]:
                    row.state, row.reason = "missing", None
                else:
                    continue
                del waiting[guid]
            if waiting:
                self._sleep(LOOK_S)

    # ---- what the daemon records

    def _rules(self, name: str) -> Rules:
        def record(before: LogState, after: LogState) -> LogState:
            """All or none: the daemon may know of others that were asked for."""
            earlier = {one.guid for one in before.asked}
            answer = self._recorded(name, [one for one in after.asked if one.guid not in earlier])
            return after if answer.recorded else self._as_known(name, answer.asked)

        now = self._clock()
        redelivery = redelivery_of(self._config, now, record, self._clock)
        assert redelivery is not None, "asked by the mode alone"
        return Rules(redelivery, self._hold, now)

    def _recorded(self, name: str, wished: Sequence[AskedFor]) -> Redeliveries:
        items = [WishedDelivery(one.guid, one.attempt, at_text(one.first_at)) for one in wished]
        return self._opened.act(operations.RECONCILE, Reconcile(log=name, items=items))

    def _state(self, name: str) -> LogState | None:
        """The log's state, as far as it matters here; None, and told, where the daemon asks for nothing."""
        try:
            return self._as_known(name, self._recorded(name, ()).asked)
        except (NotFound, Refused) as error:
            _say_why_not(name, str(error))
            return None

    def _as_known(self, name: str, asked: Sequence[AskedDelivery]) -> LogState:
        known = self._known.get(name)
        held_before = None if known is None or known.held_before is None else seconds_of(known.held_before)
        entries = tuple(
            AskedFor(one.guid, one.attempt, seconds_of(one.first_at), seconds_of(one.at), one.over) for one in asked
        )
        return LogState(epoch="", baseline=0.0, held_before=held_before, asked=entries)


def _say_asked(name: str, done: Asked, waiting: int, patience_s: float) -> None:
    if done.why_not is not None:
        _say_why_not(name, done.why_not)
    for reason in sorted(set(done.refused)):
        say(f"{clean(name)}: {clean(reason)}: it is fetched.")
    if waiting:
        what = counted(waiting, "delivery", "deliveries")
        say(f"{clean(name)}: GitHub was asked to send {what} again; waiting for up to {duration(patience_s)}.")


def _say_why_not(name: str, problem: str) -> None:
    say(f"{clean(name)}: redelivery is not asked for: {clean(problem)}.")
