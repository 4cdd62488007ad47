"""What a filter that is being typed could go on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual.suggester import Suggester

from covenq.filter.grammar import FIELDS
from covenq.model import Category, State

Values = Mapping[str, Sequence[str]]
"""Field to values it may have."""

VALUES: dict[str, Sequence[str]] = {
    "state": [str(state) for state in State],
    "category": [str(category) for category in Category],
    "kind": ["run", "forward", "pull"],
    "source": ["http", "import"],
    "since": ["15m", "1h", "1d", "7d"],
    "before": ["1h", "1d", "7d"],
}
"""What is the same everywhere; routes, events and repositories come with what is listed."""

_STARTS = ["age<", *(f"{name}:" for name in FIELDS if name != "age"), "payload."]


def complete(words: str, values: Values) -> str | None:
    """The whole line with its last word completed; None if nothing goes on from it."""
    head, _, last = words.rpartition(" ")
    kept = head + " " if head or words.startswith(" ") else ""
    sign = "-" if last.startswith("-") else "not:" if last.startswith("not:") else ""
    word = last.removeprefix(sign)
    if not word:
        return None
    field, colon, value = word.partition(":")
    if not colon:
        found = _first(word, _STARTS)
        return None if found is None else kept + sign + found
    front, comma, part = value.rpartition(",")
    known = [*values.get(field, ()), *VALUES.get(field, ())]
    found = _first(part, known) if part or not comma else None
    return None if found is None else f"{kept}{sign}{field}:{front}{comma}{found}"


def _first(start: str, words: Sequence[str]) -> str | None:
    """The shortest of the words that go on from `start`, the first of those."""
    found = [word for word in words if word.startswith(start) and word != start]
    return min(found, key=len) if found else None


class Completion(Suggester):
    """`complete`, as Textual's input wants it. `values` may change while it is used."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self.values: Values = {}

    async def get_suggestion(self, value: str) -> str | None:
        return complete(value, self.values)
