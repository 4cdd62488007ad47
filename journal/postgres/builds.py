"""Which covenq may share a journal with which: in a rolling upgrade nodes of neighbouring builds run side by side.

A build has a number, which rises when it writes what an older one would not understand: another kind of record, another meaning,
another call of `covenq.append`. The head row has two: `ceiling`, the newest build that has led, and `floor`, the oldest one that
understands what has been written since. A node of a build below the floor is refused, also one that runs already; so is one
that can't go on from what the ceiling's has written. The two rise with the first lead of a newer build, under the lock of the
head, and never fall. So nodes are upgraded one after another, those that stand by first, in steps that no build leaves out;
until a newer one has led, all of them can be put back.
"""

from __future__ import annotations

from dataclasses import dataclass

from journal.errors import FormatUnknown
from journal.postgres.deadlines import Conn


@dataclass(frozen=True, slots=True)
class Build:
    """What a covenq is to the others that share its journal."""

    number: int
    goes_on_from: int
    """The oldest build whose journal it can take over."""
    read_by: int
    """The oldest build that understands what it writes."""


THIS = Build(number=1, goes_on_from=1, read_by=1)

_SPAN = "SELECT floor, ceiling FROM covenq.head"
_LEADS = "UPDATE covenq.head SET floor = greatest(floor, %s), ceiling = greatest(ceiling, %s)"


def check(conn: Conn) -> None:
    """Raises FormatUnknown where this build may not share the journal."""
    row = conn.execute(_SPAN).fetchone()
    if row is not None:
        check_span(*row)


def check_span(floor: int, ceiling: int) -> None:
    """The same of what the head row said."""
    if floor > THIS.number:
        newer = f"a newer covenq leads, whose journal is understood from build {floor} on"
        raise FormatUnknown(f"{newer}; this one is build {THIS.number}", hint="Upgrade covenq on this node.")
    if ceiling < THIS.goes_on_from:
        older = f"the journal was written by build {ceiling} of covenq"
        raise FormatUnknown(
            f"{older}; this one, build {THIS.number}, goes on from build {THIS.goes_on_from}",
            hint="Upgrade in steps: have each release between the two lead once.",
        )


def note_lead(conn: Conn) -> None:
    """Note that this build leads from now on. In the transaction that takes the head; raises as `check`."""
    check(conn)
    conn.execute(_LEADS, (THIS.read_by, THIS.number))
