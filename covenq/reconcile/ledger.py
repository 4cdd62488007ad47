"""The ledger after a whole pass, from the one before it and what the pass saw: every listed delivery is counted once.

Deliveries are counted at their first attempt, which GitHub lists as no redelivery; so another attempt of one that is counted in
an earlier hour adds none. A pass that was interrupted leaves nothing to mend: how a delivery came is told by what is held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from covenq.config.github_api import KEPT_S
from covenq.model.ledger import (
    FORGOTTEN,
    HERE,
    UNSETTLED,
    Key,
    Ledger,
    NotHeld,
    Tally,
    add,
    hour_of,
    key_of,
)
from covenq.reconcile.compare import Absent, Way
from covenq.reconcile.result import Row

MINUTE_S = 60
TRACKED_MAX = 256
"""Open deliveries that are kept one by one. With more the boundary waits."""
OTHERS_MAX = 64
"""Others that are kept so, and deliveries of the window that are named."""
_STANDS = {"missing": "open", "waiting": "fetched"}
"""States of a row that are another one here."""

Held = Mapping[str, bool]
"""GUIDs that are held by now, and whether each was fetched. What wasn't had been listed and not held before: it came again."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a whole pass saw. `came`: what is held, by the minute (since 1970) of the first attempt, and how it came.

    `held` says which of the ledger's single deliveries are. Up to `settled_until` (seconds since 1970) no attempt will be listed
    that isn't listed now; None: that isn't known.
    """

    hook: str | None
    came: Mapping[tuple[int, Way], int]
    absent: Sequence[tuple[Absent, Row]]
    held: Held
    settled_until: float | None


def begun_ledger(since: float) -> Ledger:
    """The ledger before the first pass, which walks back to that time."""
    return Ledger(_minute(since))


def advanced(before: Ledger, seen: Seen, now: float) -> Ledger:
    """The ledger after a whole pass that walked back to its boundary, and to the oldest delivery that was open, at least."""
    ledger = before.pruned()
    settled = {hour: Tally(tally) for hour, tally in ledger.settled.items()}
    known = {row.guid: _not_held(row, one.first_at) for one, row in seen.absent}
    tracked: list[NotHeld] = []
    for single in ledger.tracked:
        _stand_now(single, known.get(single.guid), seen.held, settled, tracked)
    fresh = [_not_held(row, one.sent_at) for one, row in seen.absent if _since(one.sent_at, ledger.boundary)]
    counted: list[tuple[float, Key, int]] = [
        (minute * MINUTE_S, (way, None), number)
        for (minute, way), number in seen.came.items()
        if minute * MINUTE_S >= ledger.boundary
    ]
    counted += [(one.first_at, key_of(one.state, one.reason), 1) for one in fresh]
    _keep_forgotten(ledger.window, counted, settled)
    boundary = _boundary(ledger.boundary, seen.settled_until, [*tracked, *fresh])
    window: dict[int, Tally] = {}
    for at, key, number in counted:
        if at >= boundary:
            add(window, hour_of(at), key, number)
        elif key[0] in HERE:
            add(settled, hour_of(at), key, number)
    tracked += [one for one in fresh if one.first_at < boundary and one.state not in HERE]
    kept = _kept(tracked, now)
    for one in tracked:
        if one not in kept:
            add(settled, hour_of(one.first_at), key_of(one.state, one.reason))
    singles = {one.guid for one in kept}
    others = [one for one in known.values() if one.guid not in singles and one.state not in {*HERE, "on_its_way"}]
    newest = sorted(others, key=_order)[-OTHERS_MAX:]
    return Ledger(boundary, seen.hook or ledger.hook, settled, window, tuple(sorted(kept, key=_order)), tuple(newest))


def _not_held(row: Row, first_at: float | None) -> NotHeld:
    state = _STANDS.get(row.state, row.state)
    return NotHeld(row.guid, row.event, first_at or 0.0, state, key_of(state, row.reason)[1])


def _since(at: float | None, boundary: float) -> bool:
    return at is not None and at >= boundary


def _stand_now(
    one: NotHeld, found: NotHeld | None, held: Held, settled: dict[int, Tally], tracked: list[NotHeld]
) -> None:
    """Settle a delivery that was tracked, or track it on."""
    hour = hour_of(one.first_at)
    if one.guid in held:
        add(settled, hour, ("fetched" if held[one.guid] else "redelivered", None))
    elif found is None and one.state in UNSETTLED:  # the walk went back to it, and it is listed no more
        add(settled, hour, ("unrecoverable", FORGOTTEN))
    elif found is None:
        tracked.append(one)
    elif found.state in HERE:
        add(settled, hour, ("redelivered" if found.state == "held" else found.state, None))
    else:
        tracked.append(NotHeld(one.guid, one.event, one.first_at, found.state, found.reason))


def _keep_forgotten(
    before: Mapping[int, Tally], counted: Iterable[tuple[float, Key, int]], settled: dict[int, Tally]
) -> None:
    """Settle what was counted in the window before and is listed no more, since GitHub has forgotten it meanwhile."""
    now: dict[int, Tally] = {}
    for at, key, number in counted:
        add(now, hour_of(at), key, number)
    for hour, tally in before.items():
        left = tally - now.get(hour, Counter())
        missing = tally.total() - now.get(hour, Tally()).total()
        # First what can't have changed: what is open now may be another way by the next pass.
        for key in sorted(left, key=lambda key: key[0] in UNSETTLED):
            number = min(left[key], max(0, missing))
            missing -= number
            add(settled, hour, ("unrecoverable", FORGOTTEN) if key[0] in UNSETTLED else key, number)


def _boundary(before: float, settled_until: float | None, singles: Iterable[NotHeld]) -> float:
    """The next boundary: never past more open deliveries than are tracked."""
    if settled_until is None:
        return before
    open_at = sorted(one.first_at for one in singles if one.state in UNSETTLED)
    limit = open_at[TRACKED_MAX] if len(open_at) > TRACKED_MAX else settled_until
    return max(before, _minute(min(settled_until, limit)))


def _kept(tracked: Sequence[NotHeld], now: float) -> set[NotHeld]:
    """Those that are tracked on: all that are open, and the newest others that may still come while GitHub lists them."""
    opened = {one for one in tracked if one.state in UNSETTLED}
    others = [one for one in tracked if one.state not in {*UNSETTLED, "not_wanted"} and one.first_at > now - KEPT_S]
    return opened | set(sorted(others, key=_order)[-OTHERS_MAX:])


def _order(one: NotHeld) -> tuple[float, str]:
    return one.first_at, one.guid


def _minute(at: float) -> float:
    return float(at // MINUTE_S * MINUTE_S)
