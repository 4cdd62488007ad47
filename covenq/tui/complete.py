"""Completion of a filter while it is typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual.suggester import Suggester

from covenq.filter.grammar import FIELDS, FIXED
from covenq.model import Category, State

Values = Mapping[str, Sequence[str]]
"""Field to values it may have."""

VALUES: dict[str, Sequence[str]] = {
    "state": [str(state) for state in State],
    "category": [str(category) for category in Category],
    **FIXED,
    "since": ["15m", "1h", "1d", "7d"],
    "before": ["1h", "1d", "7d"],
}
"""Values that every installation has; routes, events and repositories come from the rows listed."""

_STARTS = ["age<", *(f"{name}:" for name in FIELDS if name != "age"), "payload."]


def complete(words: str, values: Values) -> str | None:
    """The whole line with its last word completed; None if nothing completes it."""
    head, _, last = words.rpartition(" ")
    before = head + " " if head or words.startswith(" ") else ""
    sign = "-" if last.startswith("-") else "not:" if last.startswith("not:") else ""
    word = last.removeprefix(sign)
    if not word:
        return None
    field, colon, value = word.partition(":")
    if not colon:
        found = _shortest(word, _STARTS)
        return None if found is None else before + sign + found
    front, comma, part = value.rpartition(",")
    known = [*values.get(field, ()), *VALUES.get(field, ())]
    found = _shortest(part, known) if part or not comma else None
    return None if found is None else f"{before}{sign}{field}:{front}{comma}{found}"


def _shortest(start: str, words: Sequence[str]) -> str | None:
    """The shortest of the words that begin with `start` and are longer, the first of several."""
    found = [word for word in words if word.startswith(start) and word != start]
    return min(found, key=len) if found else None


class Completion(Suggester):
    """`complete` as a Textual suggester. `values` may change while it is in use."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self.values: Values = {}

    async def get_suggestion(self, value: str) -> str | None:
        return complete(value, self.values)
