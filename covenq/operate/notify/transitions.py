"""Transitions: which conditions have begun and ended since operators were told last. A state machine of values.

A condition is told of when it has held for the debounce, and its end when it has been gone for that long: once each, in turn. One
that comes back soon after its end has to be gone for longer the next time, twice as long each time, up to an hour. So what comes
and goes is told of as something that holds, a few times and then once, and never as a stream: of one condition fewer than ten in
an hour (`tests/operate/test_transitions.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgspec import Struct
from msgspec.structs import replace

from covenq.model.notices import BEGAN, ENDED
from covenq.operate.notify.conditions import Condition, Key

AGAIN_S = 7200.0
"""Seconds after its end in which a condition that begins again counts as one that comes and goes."""
GONE_FIRST_S = 60.0
GONE_MAX_S = 3600.0
"""Seconds that such a condition has to be gone before its end is told."""
AT_ONCE = frozenset({"damage"})
"""Kinds whose beginning is told without debounce: they don't pass by themselves, and the process may end soon."""
TRACKS_MAX = 200
"""Conditions that are followed at a time. What is beyond is counted, and told of when there is room."""


class Track(Struct, frozen=True, kw_only=True):
    """One condition, as it was seen last. Times in seconds since 1970."""

    kind: str
    scope: str
    text: str
    command: str | None
    told: bool = False
    """Whether its beginning was told, and its end was not yet."""
    began_at: float | None = None
    """When it began, by the first look that saw it; of one that was told."""
    turning_at: float | None = None
    """Since when it is seen to be other than was told."""
    ended_at: float | None = None
    """When its end was told last."""
    returns: int = 0
    """How often it has come back soon after its end."""

    @property
    def key(self) -> Key:
        return self.kind, self.scope

    @property
    def condition(self) -> Condition:
        return Condition(self.kind, self.scope, self.text, self.command)


@dataclass(frozen=True, slots=True)
class Change:
    """A transition that is to be told: what began, or ended, and when it had begun."""

    state: str
    condition: Condition
    began_at: float


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from one look."""

    tracks: dict[Key, Track]
    changes: tuple[Change, ...]
    untracked: int = 0
    """Conditions that hold and for which there is no room."""


def step(tracks: Mapping[Key, Track], seen: Iterable[Condition], now: float, debounce_s: float) -> Step:
    """The tracks after a look at `now` that saw these conditions, and what is to be told."""
    held = {one.key: one for one in seen}
    found: dict[Key, Track] = {}
    changes: list[Change] = []
    for key, track in tracks.items():
        after, change = _moved(_in_time(track, now), held.pop(key, None), now, debounce_s)
        changes += [change] if change is not None else []
        if after.told or after.turning_at is not None or _is_recent(after, now):
            found[key] = after
    room = max(0, TRACKS_MAX - len(found))
    for one in list(held.values())[:room]:
        new = Track(kind=one.kind, scope=one.scope, text=one.text, command=one.command)
        after, change = _moved(new, one, now, debounce_s)
        changes += [change] if change is not None else []
        found[one.key] = after
    return Step(found, tuple(changes), max(0, len(held) - room))


def told(tracks: Mapping[Key, Track]) -> dict[Key, Condition]:
    """The conditions whose beginning was told, and whose end was not yet."""
    return {key: track.condition for key, track in tracks.items() if track.told}


def gone_s(track: Track, debounce_s: float) -> float:
    """For how long it has to be gone until its end is told."""
    if not track.returns:
        return debounce_s
    return max(debounce_s, min(GONE_MAX_S, GONE_FIRST_S * 2.0 ** min(track.returns - 1, 16)))


def _moved(track: Track, seen: Condition | None, now: float, debounce_s: float) -> tuple[Track, Change | None]:
    if seen is not None:
        track = replace(track, text=seen.text, command=seen.command)
    if (seen is not None) == track.told:
        return replace(track, turning_at=None), None
    turning_at = now if track.turning_at is None else track.turning_at
    waits_s = gone_s(track, debounce_s) if track.told else 0.0 if track.kind in AT_ONCE else debounce_s
    if now - turning_at < waits_s:
        return replace(track, turning_at=turning_at), None
    if track.told:
        began_at = turning_at if track.began_at is None else track.began_at
        after = replace(track, told=False, turning_at=None, began_at=None, ended_at=now)
        return after, Change(ENDED, track.condition, began_at)
    returns = track.returns + 1 if _is_recent(track, now) else 0
    after = replace(track, told=True, turning_at=None, began_at=turning_at, returns=returns)
    return after, Change(BEGAN, after.condition, turning_at)


def _is_recent(track: Track, now: float) -> bool:
    return track.ended_at is not None and now - track.ended_at < AGAIN_S


def _in_time(track: Track, now: float) -> Track:
    """A clock that was set back leaves no times of the future, which would hold everything up."""
    times = (track.turning_at, track.ended_at, track.began_at)
    if all(one is None or one <= now for one in times):
        return track
    turning_at, ended_at, began_at = (None if one is None else min(one, now) for one in times)
    return replace(track, turning_at=turning_at, ended_at=ended_at, began_at=began_at)
