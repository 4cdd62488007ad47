"""The section `[reconcile]`: how the daemon's own passes over GitHub's delivery logs are made."""

from __future__ import annotations

from dataclasses import dataclass

from covenq.config.toml_table import Table

EVERY_S = 300.0
OVERLAP_S = 900.0
GRACE_S = 300.0
EVERY_MIN_S = 1.0
"""A pass is a request to GitHub at least."""
BACK_MAX_S = 7 * 86_400.0
"""GitHub keeps nothing for longer."""
FETCH = ("all", "routed")
"""What is fetched of what is missing: all, which is the default, or what some route may match by what GitHub's list says."""


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Seconds between passes, None: none are made; how far each goes back behind the one before; after which an attempt counts.

    What was first sent longer than `max_age_s` ago is held when it is fetched, and not routed; None: nothing is for its age.
    """

    every_s: float | None = EVERY_S
    overlap_s: float = OVERLAP_S
    grace_s: float = GRACE_S
    max_age_s: float | None = None
    fetch: str = FETCH[0]


NO_RECONCILE = Reconcile()


def parse_reconcile(top: Table) -> Reconcile:
    """Raises ConfigError."""
    table = top.table("reconcile", ("every", "overlap", "grace", "max_age", "fetch"))
    every_s = table.duration("every", EVERY_S)
    if 0.0 < every_s < EVERY_MIN_S:
        raise table.error("every", f"must be {EVERY_MIN_S:g}s or longer; 0s makes no passes")
    return Reconcile(
        every_s or None,
        _back(table, "overlap", OVERLAP_S),
        _back(table, "grace", GRACE_S),
        table.duration("max_age", 0.0) if "max_age" in table.raw else None,
        table.choice("fetch", FETCH),
    )


def _back(table: Table, key: str, default: float) -> float:
    found = table.duration(key, default)
    if found > BACK_MAX_S:
        raise table.error(key, f"must be {BACK_MAX_S / 86_400:g}d at most: GitHub keeps nothing for longer")
    return found
