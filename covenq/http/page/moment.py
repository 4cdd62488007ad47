"""A time as a page shows it: on the clock, UTC, and how long ago."""

from __future__ import annotations

from dataclasses import dataclass

from covenq.text import duration, instant


@dataclass(frozen=True, slots=True)
class Moment:
    """`at` is RFC 3339, `clock` to the second, `ago` in the largest unit."""

    at: str
    clock: str
    ago: str


def moment(at: str | None, now: float) -> Moment | None:
    """None for no time."""
    then = instant(at)
    if at is None or then is None:
        return None
    return Moment(at, f"{at[:10]} {at[11:19]}", duration(max(0.0, now - then)))
