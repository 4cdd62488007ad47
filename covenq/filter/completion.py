"""What a term of a filter may become while it is typed: a field, or a value that the field is known to have.

For shells, which complete a word, and for the dashboard's filter line alike. What the grammar doesn't know (routes, ids, what the
rows listed have) comes from the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from covenq.filter.grammar import FIELDS, FIXED, WORDS

ValuesOf = Callable[[str, str], Iterable[str]]
"""Values that the caller knows of a field, by its name and what is typed of the value. They may begin with something else."""

EVENTS = (
    "check_run", "check_suite", "create", "delete", "deployment", "discussion", "installation", "issue_comment", "issues",
    "merge_group", "ping", "pull_request", "pull_request_review", "pull_request_review_comment", "push", "release",
    "repository", "star", "status", "workflow_dispatch", "workflow_job", "workflow_run",
)  # fmt: skip
"""Those that are common, of all that there are."""
TIMES = ("10m", "1h", "1d", "7d")


def none_known(field: str, typed: str) -> Sequence[str]:
    """The caller knows no values."""
    return ()


def terms(typed: str, values_of: ValuesOf = none_known) -> list[str]:
    """What a term, without a sign, may become: `sta` a field, `state:fa` a value. In the grammar's order."""
    field, colon, value = typed.partition(":")
    if colon:
        return [f"{field}:{one}" for one in values_in_a_list(field, value, values_of)]
    return [f"{name}{'<' if name == 'age' else ':'}" for name in FIELDS if name.startswith(field)]


def values_in_a_list(field: str, typed: str, values_of: ValuesOf = none_known) -> list[str]:
    """Values of a field, of which the last one of `a,b,c` is completed."""
    done, comma, last = typed.rpartition(",")
    return [f"{done}{comma}{one}" for one in values(field, last, values_of)]


def values(field: str, typed: str, values_of: ValuesOf = none_known) -> list[str]:
    """Values of a field that begin with what is typed, those that the caller knows first."""
    known = dict.fromkeys((*values_of(field, typed), *_known(field)))
    return [one for one in known if one.startswith(typed)]


def _known(field: str) -> Iterable[str]:
    """Values that every installation has."""
    if field in WORDS:
        return sorted(WORDS[field])
    if field == "event":
        return EVENTS
    if field in ("since", "before"):
        return TIMES
    return FIXED.get(field, ())
