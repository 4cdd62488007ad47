"""The Journal page, and the page shown while the source can't be opened. Their lines are pure functions of what is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from covenq.errors import CovenqError
from covenq.text import counted
from covenq.tui import text
from covenq.tui.panes.durability import fsync
from covenq.tui.widgets.lines import Line, Lines, labelled

if TYPE_CHECKING:
    from covenq.model.journal_status import JournalStatus
    from covenq.model.status import Segment, Status, Verified

_BAR = 14
"""Cells of the longest bar."""


class JournalPage(Lines):
    """The widget of the Journal page, with keys of its own."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "app.verify", "Verify", tooltip="prove every record of the journal"),
        Binding("K", "app.compact", "Compact", tooltip="drop what [retention] keeps no longer"),
        Binding("B", "app.backup", "Back up", tooltip="copy the journal, and prove the copy"),
    ]


def journal(
    status: Status, now: float, *, here: bool = True, writable: bool = True, read_only: bool = False
) -> list[Line]:
    """Head, health, syncs and batches, the last verification, how far the state has folded, the segments.

    `here`: the journal's files are on this machine, and can be verified and copied from here. `writable`: a daemon may be
    asked to compact it. `read_only`: nothing is written, not even a copy.
    """
    log, state = status.journal, status.state
    head = log.head
    lines: list[Line] = [[("Journal", "bold")]]
    if log.poisoned:
        health, style = "✗ poisoned: a sync failed, nothing more is written until it is started again", "bad"
    elif log.full:
        health, style = "✗ full: intake is closed until there is space", "bad"
    else:
        health, style = "✓ accepts writes" if status.ready else "– not open for writing here", "good"
    lines.append(labelled("health", health, style))
    lines.append(labelled("head seq", f"{text.number(head.seq)}, synced: all up to it is on disk"))
    lines.append(labelled("head sum", head.sum))
    behind = f"{text.number(state.lag)} behind" if state.lag else "all of it"
    lines.append(labelled("folded to", f"{text.number(state.seq)}, {behind}"))
    if state.error:
        lines.append(labelled("error", state.error, "bad"))
    lines.append(labelled("fsync", fsync(log)))
    batches = log.recent_batches
    if batches:
        sizes = f"half have {text.number(batches.median)} or less, the largest {text.number(batches.largest)}"
        lines.append(labelled("batches", f"{sizes}, of the last {text.number(batches.count)} syncs"))
    lines.append(_verified(status.verified, now))
    lines.append(labelled("id", log.id))
    lines.append(labelled("epoch", log.epoch))
    lines += [[], *_segments(status.segments, log, head.seq)]
    return [*lines, [], [(_keys(here, writable, read_only), "muted")]]


def _keys(here: bool, writable: bool, read_only: bool) -> str:
    """What the page's keys do, of those that do something."""
    keys = [
        *(["v verifies every record"] if here else []),
        *(["K compacts"] if writable else []),
        *(["B backs up"] if here and not read_only else []),
    ]
    words = [f"{', '.join(keys)}."] if keys else []
    if not here:
        words.append("On the daemon's machine: covenq verify, covenq backup.")
    return " ".join(words)


def _verified(last: Verified | None, now: float) -> Line:
    if last is None:
        return labelled("verified", "not yet, or nowhere that is known of")
    took = text.duration(last.seconds)
    if last.ok:
        result = f"✓ {text.ago(last.at, now)}: {counted(last.records, 'record')}, to seq {text.number(last.seq)}"
        return labelled("verified", f"{result}, in {took}", "good")
    return labelled("verified", f"✗ {text.ago(last.at, now)}: {text.number(last.findings)} findings", "bad")


def _segments(newest: Sequence[Segment], log: JournalStatus, head: int) -> list[Line]:
    count = log.segments
    lines: list[Line] = [[("Segments", "bold"), (f"  {text.number(count)}, {text.size(log.bytes)}", "")]]
    most = max((one.bytes for one in newest), default=0)
    after = head + 1
    for one in newest:
        first, size = one.first, one.bytes
        upto = max(first, after - 1)
        bar = "█" * max(1, size * _BAR // most) if size else ""
        span = f"seq {text.number(first)} – {text.number(upto)}"
        lines.append(
            [(f"  {text.clean(one.name)}  ", ""), (f"{text.size(size):>10}  {bar:<{_BAR}}  ", ""), (span, "muted")]
        )
        after = first
    if count > len(newest):
        lines.append([(f"  and {text.number(count - len(newest))} older ones", "muted")])
    return lines


def undrawn(error: CovenqError) -> list[Line]:
    """A page that can't be drawn: why not, and that it is tried again."""
    return [[(f"✗ {text.clean(error)}", "bad")], [], [(text.clean(error.hint), "")]]


def broken(error: BaseException, *, here: bool = True) -> list[Line]:
    """The source can't be opened: the error, each damage that verify would find, what to type next.

    `here`: the journal's files are on this machine.
    """
    lines: list[Line] = [[(f"✗ {text.clean(error)}", "bad")], [("", "")]]
    damage = getattr(error, "damage", ())
    for one in damage:
        lines.append([(f"  ✗ {text.clean(one)}", "bad")])
    if damage:
        lines.append([("", "")])
    lines.append([(text.clean(getattr(error, "hint", "")), "")])
    verify = "v verifies the journal. " if here else ""
    lines += [[("", "")], [(f"It is tried again every two seconds. {verify}q quits.", "muted")]]
    return lines
