"""The columns of the tables: how each is drawn from a row, and which of them fit a width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from covenq.tui import text
from covenq.tui.panes.window import Row

Cell = tuple[str, str]
"""Clean text and a Rich style; an empty style is the table's own."""


@dataclass(frozen=True, slots=True)
class Column:
    """At least `least` cells wide; spare width is shared by `weight`. Of those that don't fit, the highest `rank` goes first."""

    title: str
    least: int
    draw: Callable[[Row, float], Cell]
    weight: int = 0
    rank: int = 0
    right: bool = False


GAP = 1
"""Cells between two columns."""


def layout(columns: Sequence[Column], width: int) -> list[tuple[Column, int]]:
    """The columns that fit, in order, with their widths, which together with the gaps fill `width`."""
    shown = list(columns)
    while len(shown) > 1 and sum(c.least for c in shown) + GAP * (len(shown) - 1) > width:
        shown.remove(max(shown, key=lambda c: c.rank))
    spare = max(0, width - sum(c.least for c in shown) - GAP * (len(shown) - 1))
    weights = sum(c.weight for c in shown)
    widths = []
    for column in shown:
        share = spare * column.weight // weights if weights else 0
        spare, weights = spare - share, weights - column.weight
        widths.append(min(width, column.least + share))
    return list(zip(shown, widths, strict=True))


def _plain(field: str, style: str = "") -> Callable[[Row, float], Cell]:
    def draw(row: Row, now: float) -> Cell:
        value = row.get(field)
        return (text.ABSENT, "dim") if value is None or value == "" else (text.clean(value), style)

    return draw


def _state(row: Row, now: float) -> Cell:
    word = row.get("state")
    return text.state(word), text.STYLES.get(str(word), "")


def _outcome(row: Row, now: float) -> Cell:
    word = str(row.get("outcome") or "running")
    return text.state(word), text.STYLES.get(word, "")


def _took(row: Row, now: float) -> Cell:
    return text.span(row.get("started_at"), row.get("ended_at"), now), ""


def _phase(row: Row, now: float) -> Cell:
    """The newest phase: the one it is in, or ended in."""
    phases = row.get("phases") or ()
    return (text.clean(phases[-1][0]), "") if phases else (text.ABSENT, "dim")


def _age(field: str) -> Callable[[Row, float], Cell]:
    return lambda row, now: (text.age(row.get(field), now), "")


def _event(row: Row, now: float) -> Cell:
    event = text.clean(row.get("event") or text.ABSENT)
    return (f"{event}.{text.clean(row['action'])}" if row.get("action") else event), ""


def _target(row: Row, now: float) -> Cell:
    """What the delivery is about: `#12 The title`, `3f2a91c` or a dash."""
    parts = []
    if row.get("number") is not None:
        parts.append(f"#{text.clean(row['number'])}")
    elif row.get("head_sha"):
        parts.append(text.clean(row["head_sha"])[:7])
    if row.get("title"):
        parts.append(text.clean(row["title"]))
    return (" ".join(parts), "") if parts else (text.ABSENT, "dim")


def _reason(row: Row, now: float) -> Cell:
    found = row.get("category") or row.get("reason")
    return (text.clean(found), "") if found else (text.ABSENT, "dim")


def _marks(row: Row, now: float) -> Cell:
    """What an operator should notice: redeliveries, conflicts, a twin."""
    marks = []
    if row.get("duplicates"):
        marks.append(f"×{int(row['duplicates']) + 1}")
    if row.get("conflicts"):
        marks.append("conflict")
    if row.get("twin"):
        marks.append("twin")
    return " ".join(marks), "yellow"


DELIVERIES = (
    Column("State", 12, _state, rank=0),
    Column("Age", 4, _age("received_at"), rank=1, right=True),
    Column("Event", 17, _event, weight=3, rank=2),
    Column("Repo", 14, _plain("repo"), weight=4, rank=3),
    Column("About", 14, _target, weight=8, rank=4),
    Column("Sender", 12, _plain("sender"), weight=2, rank=6),
    Column("Reason", 10, _reason, weight=1, rank=5),
    Column("Notice", 8, _marks, rank=7),
    Column("Seq", 9, _plain("seq", "dim"), rank=8, right=True),
    Column("GUID", 36, _plain("guid", "dim"), rank=9),
)

TASKS = (
    Column("State", 12, _state, rank=0),
    Column("Age", 4, _age("created_at"), rank=1, right=True),
    Column("Route", 14, _plain("route"), weight=3, rank=2),
    Column("Repo", 16, _plain("repo"), weight=4, rank=3),
    Column("No.", 6, _plain("number"), rank=5, right=True),
    Column("Tries", 5, _plain("attempts"), rank=6, right=True),
    Column("Reason", 11, _reason, weight=2, rank=4),
    Column("Worker", 12, _plain("worker"), weight=1, rank=8),
    Column("Changed", 7, _age("updated_at"), rank=7, right=True),
    Column("Task", 25, _plain("id", "dim"), rank=9),
)

ATTEMPTS = (
    Column("Outcome", 12, _outcome, rank=0),
    Column("Began", 5, _age("started_at"), rank=1, right=True),
    Column("Took", 5, _took, rank=2, right=True),
    Column("Route", 14, _plain("route"), weight=3, rank=3),
    Column("Repo", 16, _plain("repo"), weight=4, rank=5),
    Column("No.", 6, _plain("number"), rank=6, right=True),
    Column("Try", 3, _plain("attempt"), rank=4, right=True),
    Column("Category", 11, _plain("category"), weight=1, rank=7),
    Column("Phase", 12, _phase, weight=2, rank=8),
    Column("Exit", 4, _plain("exit_code"), rank=9, right=True),
    Column("Worker", 12, _plain("worker"), weight=1, rank=10),
    Column("Task", 25, _plain("task", "dim"), rank=11),
)
