"""The database that keeps the journal in words: its standbys, its clock, and what of it somebody has to do something about.

It serves one decision: whether a lost machine would lose what was answered for, or hold up what comes next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from covenq.text import byte_size, duration

if TYPE_CHECKING:
    from covenq.model.journal_status import DatabaseStatus, JournalStatus

AWAY_S = 8.0
"""Seconds without an answer that are worth a word: for as long requests are held."""
OLD_S = 30.0
"""Seconds after which it is said how old that is what was seen."""
CLOCK_MAX_S = 5.0
"""Seconds that the clocks may differ by at a start (`journal.postgres.server`)."""


def standbys_text(journal: JournalStatus) -> str:
    """The standbys by name, the most important first; or why there are none to be told."""
    found = journal.database
    if found is None:
        return ""
    if found.hidden:
        words = "not to be seen: GRANT pg_read_all_stats TO covenq's role"
    elif found.standbys is None:
        words = "not known yet"
    else:
        words = "; ".join(
            f"{one.name or 'one without a name'} {one.state}, {one.sync_state}"
            + ("" if one.behind is None else f", {byte_size(one.behind, 'TiB')} behind")
            for one in found.standbys
        )
    gone = ", ".join(f"{name} not connected" for name in found.missing)
    words = "; ".join(filter(None, (words, gone))) or "none"
    if journal.durability == "managed":
        words += "; by [journal] replicated its storage is, by whoever manages it"
    if found.seen_s is not None and found.seen_s > OLD_S:
        words += f" ({duration(found.seen_s)} ago)"
    return words


def clock_text(found: DatabaseStatus) -> str:
    """How its clock differs from this machine's, and for how long it has been away if it is."""
    words = []
    if found.away_s is not None:
        words.append(f"has not answered for {duration(found.away_s)}")
    if found.ahead_s is not None:
        words.append(_clock(found.ahead_s))
    return ", ".join(words)


def _clock(ahead_s: float) -> str:
    off = abs(ahead_s)
    differs = f"{off * 1000:.0f} ms" if off < 1 else f"{off:.1f} s"
    return f"its clock is {differs} {'behind' if ahead_s < 0 else 'ahead of'} this machine's"


def database_troubles(found: DatabaseStatus, *, ready: bool) -> Iterator[tuple[str, str, str]]:
    """What is wrong, as word, sentence and what to do. `ready`: no reason is told yet why deliveries are not accepted."""
    if found.away_s is not None and found.away_s > AWAY_S and ready:
        words = f"the database has not answered for {duration(found.away_s)}"
        yield "away", words, "Look at its server; appends are tried again by themselves."
    if found.waits is not None:
        go_on = "Start it, or, to go on without it, take it out of synchronous_standby_names and reload the server."
        yield "held up", found.waits, go_on
    elif found.missing:
        names = ", ".join(found.missing)
        is_not = f"{'is' if len(found.missing) == 1 else 'are'} not connected"
        yield "standby", f"{names} of synchronous_standby_names {is_not}; commits wait for others now", ""
    if found.ahead_s is not None and abs(found.ahead_s) > CLOCK_MAX_S:
        words = _clock(found.ahead_s).removeprefix("its ")
        yield "clock", f"the database's {words}: a start is refused then", "Have both machines set their clocks."
