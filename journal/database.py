"""What the database that keeps a journal says of itself: its standbys, its clock, and whether it answers.

A module of its own, since every command imports `journal.health`, and a journal in files has no database.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standby:
    """A server that gets what the database writes, in the database's own words."""

    name: str
    state: str
    """`streaming` once it has caught up."""
    sync_state: str
    """`sync` and `quorum` of those that commits wait for now, `potential` of one that would take another's place, `async`."""
    behind: int | None
    """Bytes that it doesn't have on its disk yet; None where it has not said."""


@dataclass(frozen=True, slots=True)
class Database:
    """What the database said of itself when it was last asked, in the background."""

    standbys: tuple[Standby, ...] | None = None
    """None where this role may not see them, or nothing was answered yet."""
    named: tuple[str, ...] = ()
    """The names in `synchronous_standby_names`; `*` is any."""
    needed: int = 0
    """Standbys that each commit waits for."""
    ahead_s: float | None = None
    """Seconds that its clock is ahead of this machine's."""
    seen_s: float | None = None
    """Seconds since it said so; None: it has not yet."""
    away_s: float | None = None
    """Seconds since it last answered; None while it does."""

    @property
    def hidden(self) -> bool:
        """Whether it answered, and doesn't let this role see the standbys."""
        return self.standbys is None and self.seen_s is not None

    @property
    def waits(self) -> str | None:
        """Why commits wait for a standby now, as far as this is known; None where they don't."""
        if self.standbys is None or self.away_s is not None:
            return None
        here = sum(one.sync_state in ("sync", "quorum") for one in self.standbys)
        if here >= self.needed:
            return None
        missing = self.missing
        names = ", ".join(missing) + (" is" if len(missing) == 1 else " are")
        why = f"{names} not connected" if missing else f"{here} of the {self.needed} that they wait for are there"
        return f"commits wait for a synchronous standby: {why}"

    @property
    def missing(self) -> tuple[str, ...]:
        """The standbys that are named and not connected, as far as this is known."""
        if self.standbys is None or self.away_s is not None:
            return ()
        here = {one.name.casefold() for one in self.standbys}
        return tuple(name for name in self.named if name != "*" and name.casefold() not in here)
