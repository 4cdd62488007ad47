"""The ledger of a delivery log of GitHub's: its records, and the rows that they have of each hour.

A pass counts all deliveries since a boundary anew, and settles what is before the next one, so that its newest record has all
that the next pass needs. Single deliveries that are not held are kept for as long as they may still come, so that an hour is
right after it is settled, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct, field

from covenq.model import TOKEN, JsonObject, at_text, seconds_of
from covenq.model.status import Missing
from covenq.text import counted, duration, instant

KIND = "ops.ledger"
PREFIX = "ops.ledger_"
"""Of the subject that a log's records have; a digest of the log's identity follows."""

HOUR_S = 3600.0
DAY_S = 86_400.0

STATES = (
    "held", "redelivered", "fetched", "unrecoverable", "refused", "erased", "before_us", "not_wanted", "on_its_way", "open"
)  # fmt: skip
"""How a listed delivery stands; each stands in one way, so that those of an hour add up to what is listed."""
HERE = frozenset({"held", "redelivered", "fetched"})
"""Those of what is in the journal."""
UNSETTLED = frozenset({"on_its_way", "open"})
FORGOTTEN = "GitHub forgot it before it could be fetched"
OTHER_REASONS = "for other reasons"
BY_HAND = "Redeliver it by its GUID in the webhook's or the App's settings on GitHub, or do by hand what it asked for."
"""What to do about a delivery that can't be fetched."""
REASONS_MAX = 8
"""Reasons of an hour that are counted apart."""
REASON_CHARS_MAX = 160
COUNT_MAX = 2**53

Key = tuple[str, str | None]
"""A state, and the reason of what is unrecoverable or refused."""
Tally = Counter[Key]


class NotHeld(Struct, frozen=True):
    """A delivery that GitHub lists, or did, and the journal doesn't hold. `first_at`: its first attempt, seconds since 1970."""

    guid: str
    event: str
    first_at: float
    state: str
    reason: str | None = None


class Ledger(Struct, frozen=True):
    """What a log's newest record has. Of hours that are settled wholly it has none but those that were settled last."""

    boundary: float
    """What was first sent before, in seconds since 1970, is settled, but for what is in `tracked`."""
    hook: str | None = None
    settled: dict[int, Tally] = field(default_factory=dict)
    """By the hour (since 1970), what was first sent before the boundary."""
    window: dict[int, Tally] = field(default_factory=dict)
    """By the hour, what was first sent since."""
    tracked: tuple[NotHeld, ...] = ()
    """Deliveries from before the boundary that may still come, counted by how they stand beside what is settled."""
    absent: tuple[NotHeld, ...] = ()
    """The newest of those in the window that are not held; they are counted there."""

    def rows(self) -> dict[int, Tally]:
        """What stands how, by the hour."""
        found: dict[int, Tally] = {}
        for part in (self.settled, self.window):
            for hour, tally in part.items():
                for key, number in tally.items():
                    add(found, hour, key, number)
        for one in self.tracked:
            add(found, hour_of(one.first_at), key_of(one.state, one.reason))
        return found

    def pruned(self) -> Ledger:
        """Without the hours of which nothing can change any more."""
        last = hour_of(self.boundary)
        live = {hour_of(one.first_at) for one in self.tracked}
        settled = {hour: tally for hour, tally in self.settled.items() if hour >= last or hour in live}
        return Ledger(self.boundary, self.hook, settled, self.window, self.tracked, self.absent)


def hour_of(at: float) -> int:
    """The hour, since 1970, of a time in seconds."""
    return int(at // HOUR_S)


def hour_text(hour: int) -> str:
    """When it began."""
    return f"{at_text(hour * HOUR_S)[:19]}Z"


def key_of(state: str, reason: str | None) -> Key:
    """What a delivery that stands so is counted under."""
    return (state, (reason or "")[:REASON_CHARS_MAX]) if state in ("unrecoverable", "refused") else (state, None)


def add(tallies: dict[int, Tally], hour: int, key: Key, number: int = 1) -> None:
    """Count it in that hour; with too many reasons there, under another."""
    if number <= 0:
        return
    tally = tallies.setdefault(hour, Counter())
    state, reason = key
    if reason is not None and key not in tally and sum(one[1] is not None for one in tally) >= REASONS_MAX:
        key = (state, OTHER_REASONS)
    tally[key] += number


def missing_text(found: Missing, now: float) -> str:
    """It as one line: what is missing, for how long it can still be had, and what to type."""
    what = counted(found.deliveries, "delivery", "deliveries")
    verb = "is" if found.deliveries == 1 else "are"
    since, until = found.since, found.until
    span = f"{since[:10]} {since[11:16]}-{until[11:16]}Z"
    if seconds_of(until) - seconds_of(since) > HOUR_S:
        span = f"{since[:10]} {since[11:16]}Z to {until[:10]} {until[11:16]}Z"
    left = seconds_of(found.forgotten_at) - now
    pronoun = "it" if found.deliveries == 1 else "them"
    ends = f"GitHub forgets {pronoun} in {duration(left)}" if left > 0 else f"GitHub begins to forget {pronoun}"
    return f"{what} of {span} {verb} missing; {ends}{_forecast_text(found, now)}: covenq reconcile"


def _forecast_text(found: Missing, now: float) -> str:
    """What GitHub's limit makes of it, where it does."""
    words = ""
    if found.waits and found.done_at is not None:
        rest = "the rest is " if found.too_late else ""
        words = f"; at GitHub's limit {rest}done at about {_clock_text(found.done_at, now)}"
    if found.too_late and found.too_late_from is not None:
        which = "they" if found.too_late == found.deliveries else f"{found.too_late:,} of them"
        words = f"; {which} can't be fetched in time, GitHub forgets them from {_clock_text(found.too_late_from, now)}{words}"
    return words


def _clock_text(at: str, now: float) -> str:
    """A time of today (UTC) without its day."""
    return f"{at[11:16]}Z" if at[:10] == at_text(now)[:10] else f"{at[:10]} {at[11:16]}Z"


# ---- as records have it


def data_of(ledger: Ledger) -> JsonObject:
    """The ledger as the `data` of a record."""
    return {
        "boundary": at_text(ledger.boundary),
        "hook": ledger.hook,
        "settled": _tallies(ledger.settled),
        "window": _tallies(ledger.window),
        "tracked": [_single(one) for one in ledger.tracked],
        "absent": [_single(one) for one in ledger.absent],
    }


def ledger_of(data: Mapping[str, object]) -> Ledger | None:
    """The ledger that a record has; None where it has none. A record is checked, not trusted: what is odd in it is left out."""
    boundary, hook = _time(data.get("boundary")), data.get("hook")
    if boundary is None:
        return None
    return Ledger(
        boundary,
        hook if isinstance(hook, str) and TOKEN.match(hook) else None,
        dict(_read_tallies(data.get("settled"))),
        dict(_read_tallies(data.get("window"))),
        tuple(_read_singles(data.get("tracked"))),
        tuple(_read_singles(data.get("absent"))),
    )


def _tallies(tallies: Mapping[int, Tally]) -> list[JsonObject]:
    return [
        {
            "hour": hour_text(hour),
            "counts": [[state, reason, number] for (state, reason), number in sorted_tally(tally)],
        }
        for hour, tally in sorted(tallies.items())
        if tally
    ]


def sorted_tally(tally: Tally) -> list[tuple[Key, int]]:
    """The counts in an order that depends on nothing else."""
    return sorted(tally.items(), key=lambda one: (STATES.index(one[0][0]), one[0][1] or ""))


def _single(one: NotHeld) -> JsonObject:
    return {
        "guid": one.guid,
        "event": one.event,
        "first_at": at_text(one.first_at),
        "state": one.state,
        "reason": one.reason,
    }


def _read_tallies(value: object) -> Iterator[tuple[int, Tally]]:
    for one in _dicts(value):
        began, counts = _time(one.get("hour")), one.get("counts")
        if began is None or not isinstance(counts, list):
            continue
        tally: Tally = Counter()
        for count in counts:
            match count:
                case [str(state), None | str() as reason, int(number)] if state in STATES and 0 < number < COUNT_MAX:
                    tally[state, reason] += number
        yield hour_of(began), tally


def _read_singles(value: object) -> Iterator[NotHeld]:
    for one in _dicts(value):
        guid, event, first_at = one.get("guid"), one.get("event"), _time(one.get("first_at"))
        state, reason = one.get("state"), one.get("reason")
        if (
            isinstance(guid, str)
            and TOKEN.match(guid)
            and isinstance(event, str)
            and first_at is not None
            and isinstance(state, str)
            and state in STATES
        ):
            yield NotHeld(guid, event, first_at, state, reason if isinstance(reason, str) else None)


def _dicts(value: object) -> Iterable[dict[str, object]]:
    return (one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()


def _time(value: object) -> float | None:
    return instant(value) if isinstance(value, str) else None
