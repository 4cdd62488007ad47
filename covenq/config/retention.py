"""The section `[retention]`: for how long content is kept, and whether that of an uninstalled installation is.

By default everything is kept for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

from covenq.config.toml_table import Table

KEEP = "keep"
ERASE = "erase"
ON_UNINSTALL = (KEEP, ERASE)
UNINSTALL_GRACE_S = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long payloads of finished deliveries and files of final tasks are kept, in seconds; None is forever.

    `on_uninstall` is what becomes of an installation's content when it is uninstalled, KEEP or ERASE: after `uninstall_grace_s`.
    """

    payloads_s: float | None = None
    attempts_s: float | None = None
    on_uninstall: str = KEEP
    uninstall_grace_s: float = UNINSTALL_GRACE_S


NO_RETENTION = Retention()


def parse_retention(top: Table) -> Retention:
    """Raises ConfigError."""
    table = top.table("retention", ("payloads", "attempts", "on_uninstall", "uninstall_grace"))
    return Retention(
        _seconds(table, "payloads"),
        _seconds(table, "attempts"),
        table.choice("on_uninstall", ON_UNINSTALL),
        table.duration("uninstall_grace", UNINSTALL_GRACE_S),
    )


def _seconds(table: Table, key: str) -> float | None:
    return table.duration(key, 0.0) if key in table.raw else None
