"""The columns of the tables: how each is drawn from a row, and which of them fit a width.

For who looks which row to open: what it is about is read, and an id is only copied, from the row that is opened. So the ids come
where the repository's name has room already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from covenq.model.palette import STATE_TONES
from covenq.model.waiting import cause_name
from covenq.tui import text
from covenq.tui.rows import R

if TYPE_CHECKING:
    from covenq.model.rows import Delivery, LatestAttempt, Task

Cell = tuple[str, str]
"""Clean text, and a tone or a Rich style without colours; an empty one is the table's own."""


@dataclass(frozen=True, slots=True)
class Column(Generic[R]):
    """At least `least` cells wide; spare width is shared by `weight`. Of those that don't fit, the highest `rank` goes first.

    Columns of rank `before` or higher are shown where this one is `enough` cells wide with them, too.
    """

    title: str
    least: int
    draw: Callable[[R, float], Cell]
    weight: int = 0
    rank: int = 0
    right: bool = False
    enough: int = 0
    before: int = 0


GAP = 1
"""Cells between two columns."""


def layout(columns: Sequence[Column[R]], width: int) -> list[tuple[Column[R], int]]:
    """The columns that fit, in order, with their widths, which together with the gaps fill `width`."""
    shown = list(columns)
    while len(shown) > 1 and sum(_bases(shown)) + GAP * (len(shown) - 1) > width:
        shown.remove(max(shown, key=lambda c: c.rank))
    bases = _bases(shown)
    spare = max(0, width - sum(bases) - GAP * (len(shown) - 1))
    weights = sum(c.weight for c in shown)
    widths = []
    for column, base in zip(shown, bases, strict=True):
        share = spare * column.weight // weights if weights else 0
        spare, weights = spare - share, weights - column.weight
        widths.append(min(width, base + share))
    return list(zip(shown, widths, strict=True))


def _bases(shown: Sequence[Column[R]]) -> list[int]:
    """How wide each is before spare width is shared."""
    highest = max(c.rank for c in shown)
    return [max(c.least, c.enough) if c.enough and highest >= c.before else c.least for c in shown]


def _plain(value_of: Callable[[R], str | int | None], style: str = "") -> Callable[[R, float], Cell]:
    def draw(row: R, now: float) -> Cell:
        value = value_of(row)
        return (text.ABSENT, "muted") if value is None or value == "" else (text.clean(value), style)

    return draw


def _short(id_of: Callable[[R], str]) -> Callable[[R, float], Cell]:
    return lambda row, now: (text.short_id(id_of(row)), "muted")


def _remark(value_of: Callable[[R], str | None]) -> Callable[[R, float], Cell]:
    """What stands out where there is any: nothing is drawn where there is none."""
    return lambda row, now: (text.clean(value_of(row) or ""), "")


def _state(row: Delivery | Task, now: float) -> Cell:
    return text.state(row.state), STATE_TONES.get(row.state, "")


def _outcome(row: LatestAttempt, now: float) -> Cell:
    word = row.outcome or "running"
    return text.state(word), STATE_TONES.get(word, "")


def _took(row: LatestAttempt, now: float) -> Cell:
    return text.span(row.started_at, row.ended_at, now), ""


def _phase(row: LatestAttempt, now: float) -> Cell:
    """The newest phase: the one it is in, or ended in."""
    return (text.clean(row.phases[-1][0]), "") if row.phases else (text.ABSENT, "muted")


def _waits(row: Task, now: float) -> Cell:
    """What a queued task waits for, and its place in its installation's queue: `quota`, `worker #3`."""
    waits = row.waits
    if waits is None:
        return "", ""
    place = "" if waits.position is None else f" #{waits.position}"
    return f"{text.clean(cause_name(waits.cause or waits.word))}{place}", ""


def _age(time_of: Callable[[R], str | None]) -> Callable[[R, float], Cell]:
    return lambda row, now: (text.age(time_of(row), now), "")


def _event(row: Delivery, now: float) -> Cell:
    event = text.clean(row.event or text.ABSENT)
    return (f"{event}.{text.clean(row.action)}" if row.action else event), ""


def _target(row: Delivery, now: float) -> Cell:
    """What the delivery is about: `#12 The title`, `3f2a91c` or a dash."""
    parts = []
    if row.number is not None:
        parts.append(f"#{text.clean(row.number)}")
    elif row.head_sha:
        parts.append(text.clean(row.head_sha)[:7])
    if row.title:
        parts.append(text.clean(row.title))
    return (" ".join(parts), "") if parts else (text.ABSENT, "muted")


def _marks(row: Delivery, now: float) -> Cell:
    """What an operator should notice: redeliveries, conflicts, a twin."""
    marks = []
    if row.duplicates:
        marks.append(f"×{row.duplicates + 1}")
    if row.conflicts:
        marks.append("conflict")
    if row.twin:
        marks.append("twin")
    return " ".join(marks), "warning"


DELIVERIES: Sequence[Column[Delivery]] = (
    Column("State", 12, _state, rank=0),
    Column("Age", 4, _age(lambda row: row.received_at), rank=1, right=True),
    Column("Event", 17, _event, weight=3, rank=2),
    Column("Repo", 14, _plain(lambda row: row.repo), weight=5, rank=3, enough=36, before=8),
    Column("About", 14, _target, weight=8, rank=4),
    Column("Sender", 12, _plain(lambda row: row.sender), weight=2, rank=6),
    Column("Reason", 10, _remark(lambda row: row.reason), weight=1, rank=5),
    Column("Notice", 8, _marks, rank=7),
    Column("Seq", 9, _plain(lambda row: row.seq, "muted"), rank=9, right=True),
    Column("GUID", 8, _short(lambda row: row.guid), rank=8),
)

TASKS: Sequence[Column[Task]] = (
    Column("State", 12, _state, rank=0),
    Column("Age", 4, _age(lambda row: row.created_at), rank=1, right=True),
    Column("Route", 14, _plain(lambda row: row.route), weight=3, rank=2),
    Column("Repo", 16, _plain(lambda row: row.repo), weight=5, rank=3, enough=36, before=9),
    Column("No.", 6, _plain(lambda row: row.number), rank=5, right=True),
    Column("Tries", 5, _plain(lambda row: row.attempts), rank=6, right=True),
    Column("Reason", 11, _remark(lambda row: row.category or row.reason), weight=2, rank=4),
    Column("Waits", 13, _waits, weight=1, rank=4),
    Column("Worker", 12, _plain(lambda row: row.worker), weight=1, rank=8),
    Column("Changed", 7, _age(lambda row: row.updated_at), rank=7, right=True),
    Column("Task", 9, _short(lambda row: row.id), rank=9),
)

ATTEMPTS: Sequence[Column[LatestAttempt]] = (
    Column("Outcome", 12, _outcome, rank=0),
    Column("Began", 5, _age(lambda row: row.started_at), rank=1, right=True),
    Column("Took", 5, _took, rank=2, right=True),
    Column("Route", 14, _plain(lambda row: row.route), weight=3, rank=3),
    Column("Repo", 16, _plain(lambda row: row.repo), weight=5, rank=5, enough=36, before=11),
    Column("No.", 6, _plain(lambda row: row.number), rank=6, right=True),
    Column("Try", 3, _plain(lambda row: row.attempt), rank=4, right=True),
    Column("Category", 11, _remark(lambda row: row.category), weight=1, rank=7),
    Column("Phase", 12, _phase, weight=2, rank=8),
    Column("Exit", 4, _plain(lambda row: row.exit_code), rank=9, right=True),
    Column("Worker", 12, _plain(lambda row: row.worker), weight=1, rank=10),
    Column("Task", 9, _short(lambda row: row.task), rank=11),
    Column("Node", 12, _plain(lambda row: row.node), weight=1, rank=12),
)
