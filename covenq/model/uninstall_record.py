"""The records of the erasure of an uninstalled installation: their kinds, and the subject that each installation has.

An installation has a subject of its own, so that each step is appended against its newest record: of an operator who keeps the
content and a daemon that begins to erase it at the same moment, one is first, and the other is told.

    uninstall.noticed  its deletion was delivered: the grace begins. `deletion` is that delivery's seq, `app` the App's number
    uninstall.kept     an operator stopped it; or, with `policy`, the configuration keeps what is uninstalled by now
    uninstall.begun    it is erased, whatever comes: deliveries up to the record `boundary`, and none after that
    uninstall.done     nothing of it is left: `deliveries` and `tasks` say of how many
"""

from __future__ import annotations

from enum import StrEnum

_PREFIX = "ops.uninstall_"


class UninstallKind(StrEnum):
    """The kinds, each of which moves the installation on."""

    NOTICED = "uninstall.noticed"
    KEPT = "uninstall.kept"
    BEGUN = "uninstall.begun"
    DONE = "uninstall.done"


class UninstallState(StrEnum):
    """How far the erasure of an installation is."""

    WAITING = "waiting"
    """For the end of the grace, and then for what says that it is still gone."""
    KEPT = "kept"
    """By an operator, or since it is there again."""
    OFF = "off"
    """The configuration kept it: it is noticed again where that erases."""
    ERASING = "erasing"
    ERASED = "erased"


def subject_of(installation: int) -> str:
    return f"{_PREFIX}{installation}"


def is_uninstall_subject(subject: str) -> bool:
    """Whether it is one that `subject_of` makes."""
    return subject.startswith(_PREFIX)
