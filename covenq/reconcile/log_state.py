"""What is known of a delivery log from one pass to the next: its hook, the baseline, the mark, what is held back and asked for.

The mark is the newest attempt up to which whole walks have compared and settled everything. It moves only with a walk that
reached its end, so that one which is interrupted loses nothing: the next goes back as far.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from covenq.github.delivery_log import Attempt
from covenq.model import TOKEN, JsonObject, at_text, seconds_of
from covenq.reconcile.fetch import Hold
from covenq.reconcile.result import UNSETTLED, Row
from covenq.text import instant


class Mark(Struct, frozen=True):
    """An attempt, by its time in seconds since 1970 and its id."""

    at: float
    attempt: str


class AskedFor(Struct, frozen=True):
    """A delivery that GitHub was asked to send once more, or is about to be. Times are seconds since 1970."""

    guid: str
    attempt: str
    """The newest when it was asked for."""
    first_at: float
    """When GitHub first sent it."""
    at: float
    over: bool = False
    """It isn't waited for: GitHub didn't take the wish, or it was not made."""


class LogState(Struct, frozen=True, kw_only=True):
    """A log as its newest record has it. Times are seconds since 1970."""

    epoch: str
    """The journal's. In another one deliveries may be missing that the journal held before it was restored."""
    baseline: float
    """The first pass. What GitHub sent before is `before_us`: another receiver may have done it."""
    held_before: float | None = None
    """What GitHub sent before is held back: the journal was restored then, or its end given up."""
    hook: str | None = None
    mark: Mark | None = None
    asked: tuple[AskedFor, ...] = ()
    """Deliveries whose redelivery was asked for, until they are held, or GitHub lists them no more."""

    def since(self, overlap_s: float) -> float:
        """The time to which the next walk goes back."""
        return (self.baseline if self.mark is None else self.mark.at) - overlap_s


def begun(state: LogState | None, epoch: str, now: float) -> LogState:
    """The state that a pass begins with: a first one sets the baseline, one in another epoch has held back what came before."""
    if state is None:
        return LogState(epoch=epoch, baseline=now)
    if state.epoch != epoch:
        return replace(state, epoch=epoch, held_before=now)
    return state


def why_held(first_at: str, held_before: float | None) -> Hold | None:
    """Why a delivery that was first sent then is recorded and not routed, whatever it is; None if it may be."""
    return "restored" if held_before is not None and seconds_of(first_at) < held_before else None


def moved(mark: Mark | None, newest: Attempt | None, rows: Iterable[Row]) -> Mark | None:
    """The mark after a whole walk whose newest attempt, of those that count, is `newest`: never past a row that isn't settled."""
    found = None if newest is None else Mark(newest.at, newest.id)
    for row in rows:
        if row.state in UNSETTLED and (found is None or seconds_of(row.first_at) < found.at):
            found = Mark(seconds_of(row.first_at), row.attempt)
    return mark if found is None or (mark is not None and found.at <= mark.at) else found


# ---- as records have it


def data_of(state: LogState) -> JsonObject:
    """The state as the `data` of a record."""
    mark = state.mark
    return {
        "epoch": state.epoch,
        "hook": state.hook,
        "baseline": at_text(state.baseline),
        "held_before": None if state.held_before is None else at_text(state.held_before),
        "mark": None if mark is None else {"at": at_text(mark.at), "attempt": mark.attempt},
        "asked": [
            {
                "guid": one.guid,
                "attempt": one.attempt,
                "first_at": at_text(one.first_at),
                "at": at_text(one.at),
                "over": one.over,
            }
            for one in state.asked
        ],
    }


def state_of(data: Mapping[str, object]) -> LogState | None:
    """The state that a record has; None where it has none. A record is checked, not trusted: what is odd in it is left out."""
    epoch, hook, baseline, mark = data.get("epoch"), data.get("hook"), _time(data.get("baseline")), data.get("mark")
    if not isinstance(epoch, str) or baseline is None:
        return None
    found: Mark | None = None
    if isinstance(mark, dict):
        at, attempt = _time(mark.get("at")), mark.get("attempt")
        if at is not None and isinstance(attempt, str) and TOKEN.match(attempt):
            found = Mark(at, attempt)
    return LogState(
        epoch=epoch,
        baseline=baseline,
        held_before=_time(data.get("held_before")),
        hook=hook if isinstance(hook, str) and TOKEN.match(hook) else None,
        mark=found,
        asked=tuple(_asked(data.get("asked"))),
    )


def _asked(value: object) -> Iterator[AskedFor]:
    for one in value if isinstance(value, list) else ():
        if not isinstance(one, dict):
            continue
        guid, attempt = one.get("guid"), one.get("attempt")
        first_at, at = _time(one.get("first_at")), _time(one.get("at"))
        if first_at is None or at is None or not (isinstance(guid, str) and TOKEN.match(guid)):
            continue
        if isinstance(attempt, str) and TOKEN.match(attempt):
            yield AskedFor(guid, attempt, first_at, at, one.get("over") is True)


def _time(value: object) -> float | None:
    return instant(value) if isinstance(value, str) else None
