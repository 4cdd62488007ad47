"""Completion of a filter while it is typed: what its last term may become, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from textual.suggester import Suggester

from covenq.filter.completion import terms, values
from covenq.filter.explain import quoted
from covenq.filter.grammar import FIELDS

Values = Mapping[str, Sequence[str]]
"""Field to values it may have, of the rows listed; what every installation has is known to `covenq.filter.completion`."""

PAYLOAD = "payload."
USUAL = ("state:", "event:", "repo:", "route:", "number:", "age<")
"""The fields that are offered first."""
_KEEPS_WORDS = '"'


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a line that is typed may become: each of `terms` behind `head`, which is what stands before its last term."""

    head: str
    terms: tuple[str, ...]

    def line(self, index: int) -> str:
        return self.head + self.terms[index]


def candidates(words: str, known: Values) -> Candidates:
    """What the last term of `words` may become. None of it is the term itself: that one is whole."""
    head, last = _split_last(words)
    sign = "-" if last.startswith("-") else "not:" if last.startswith("not:") else ""
    term = last.removeprefix(sign)
    field, colon, value = term.partition(":")
    if colon:
        found = _of_values(field, value, known)
    elif term:
        begins = [one for one in (*terms(term), PAYLOAD) if one.startswith(term)]
        found = sorted(begins, key=lambda one: (one not in USUAL, len(one)))
    else:
        found = [*USUAL, *(one for one in (*terms(""), PAYLOAD) if one not in USUAL)]
    return Candidates(head + sign, tuple(one for one in found if one != term))


def _of_values(field: str, typed: str, known: Values) -> list[str]:
    """Terms of a field, of which the last of `a,b,c` is completed; written so that they can be parsed."""
    done, comma, last = (
        typed.rpartition(",") if _KEEPS_WORDS not in typed else ("", "", typed.removeprefix(_KEEPS_WORDS))
    )
    found = values(field, last, lambda name, _: known.get(name, ()))
    given = done.split(",")
    ordered = sorted(found, key=len) if last else found
    return [f"{field}:{done}{comma}{quoted(one)}" for one in ordered if one not in given]


def _split_last(words: str) -> tuple[str, str]:
    """(what stands before the last term, the last term): a space in quotes parts nothing."""
    start, in_quotes, at = 0, False, 0
    while at < len(words):
        if words[at] == _KEEPS_WORDS:
            in_quotes = not in_quotes
        elif words[at] == "\\" and in_quotes:
            at += 1
        elif words[at].isspace() and not in_quotes:
            start = at + 1
        at += 1
    return words[:start], words[start:]


def without_last(words: str) -> str:
    """The terms before the last, which is still typed."""
    return _split_last(words)[0]


def complete(words: str, known: Values) -> str | None:
    """The whole line with its last term as it is completed first; None if nothing is typed of it, or nothing completes it."""
    found = candidates(words, known)
    if not found.terms or found.head == words:
        return None
    return found.line(0)


class Completion(Suggester):
    """`complete` as a Textual suggester, which shows the rest behind what is typed. `values` may change while it is in use."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self.values: Values = {}

    async def get_suggestion(self, value: str) -> str | None:
        found = complete(value, self.values)
        return found if found is not None and found.startswith(value) else None


def description(term: str) -> str:
    """What a field means, for a term that has no value yet; of others nothing."""
    if term == PAYLOAD:
        return "a value in the body: payload.issue.user.login:octocat"
    return FIELDS.get(term.removesuffix(":").removesuffix("<"), "")
