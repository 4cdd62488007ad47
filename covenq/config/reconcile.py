"""The section `[reconcile]`: how the daemon's own passes over GitHub's delivery logs are made."""

from __future__ import annotations

from dataclasses import dataclass

from covenq.config.toml_table import Table

EVERY_S = 300.0
FOLLOWED_EVERY_S = 60.0
"""The same where deliveries come out of the log alone: the longest wait between two looks at it."""
FOLLOWED_EVERY_MAX_S = 86_400.0
"""GitHub keeps a log for three days: what nobody looks at until then is lost."""
OVERLAP_S = 900.0
GRACE_S = 300.0
EVERY_MIN_S = 1.0
"""A pass is a request to GitHub at least."""
BACK_MAX_S = 7 * 86_400.0
"""GitHub keeps nothing for longer."""
FETCH = ("all", "routed")
"""What is fetched of what is missing: all, which is the default, or what some route may match by what GitHub's list says."""
MODES = ("fetch", "redeliver")
"""How what is missing comes back: out of GitHub's log, which is the default, or by a redelivery that GitHub is asked for."""
PATIENCE_S = 600.0
PATIENCE_MAX_S = 86_400.0
"""What doesn't come is fetched then, and GitHub must still have it."""


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Seconds between passes, None: none are made; how far each goes back behind the one before; after which an attempt counts.

    What was first sent longer than `max_age_s` ago is held when it is fetched, and not routed; None: nothing is for its age.
    With the mode "redeliver", what hasn't come `patience_s` after it was asked for is fetched.
    """

    every_s: float | None = EVERY_S
    overlap_s: float = OVERLAP_S
    grace_s: float = GRACE_S
    max_age_s: float | None = None
    fetch: str = FETCH[0]
    mode: str = MODES[0]
    patience_s: float = PATIENCE_S

    @property
    def redelivers(self) -> bool:
        return self.mode == "redeliver"


NO_RECONCILE = Reconcile()


def parse_reconcile(top: Table, *, follows_log: bool = False, overridden: bool = False) -> Reconcile:
    """The section; `follows_log`: deliveries come by the daemon's passes alone, so nothing is on its way otherwise.

    `overridden`: not the file says that, but the environment of this process, as `covenq listen` does with the configuration of a
    webhook. What fits no log that is followed is then passed over. Raises ConfigError.
    """
    table = top.table("reconcile", ("every", "overlap", "grace", "max_age", "fetch", "mode", "patience"))
    mode = table.choice("mode", MODES)
    every_s = table.duration("every", FOLLOWED_EVERY_S if follows_log else EVERY_S)
    if follows_log and overridden:
        mode = MODES[0]
        every_s = every_s if 0.0 < every_s <= FOLLOWED_EVERY_MAX_S else FOLLOWED_EVERY_S
    elif follows_log:
        _require_followable(table, every_s)
    if 0.0 < every_s < EVERY_MIN_S:
        raise table.error("every", f"must be {EVERY_MIN_S:g}s or longer; 0s makes no passes")
    patience_s = table.duration("patience", PATIENCE_S)
    if not 0.0 < patience_s <= PATIENCE_MAX_S:
        raise table.error("patience", "must be longer than 0s, and 1d at most: what doesn't come is fetched then")
    grace_s = _back(table, "grace", GRACE_S)
    return Reconcile(
        every_s or None,
        _back(table, "overlap", OVERLAP_S),
        0.0 if follows_log else grace_s,
        table.duration("max_age", 0.0) if "max_age" in table.raw else None,
        table.choice("fetch", FETCH),
        mode,
        patience_s,
    )


def _require_followable(table: Table, every_s: float) -> None:
    """Raises ConfigError where nothing, or not all, would come out of a log that is followed."""
    if table.raw.get("mode") == "redeliver":
        problem = '"redeliver" has GitHub send to an address, and with [github] ingress "log" there is none'
        raise table.error("mode", problem, hint='Leave mode out, or write ingress = "webhook".')
    if not every_s:
        raise table.error(
            "every", 'must be longer than nothing: with [github] ingress "log" nothing comes but by passes'
        )
    if every_s > FOLLOWED_EVERY_MAX_S:
        raise table.error(
            "every", 'must be 1d at most: with [github] ingress "log" what GitHub forgets meanwhile is lost'
        )


def _back(table: Table, key: str, default: float) -> float:
    found = table.duration(key, default)
    if found > BACK_MAX_S:
        raise table.error(key, f"must be {BACK_MAX_S / 86_400:g}d at most: GitHub keeps nothing for longer")
    return found
