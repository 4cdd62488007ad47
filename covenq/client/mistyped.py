"""What is probably mistyped in a filter: that nothing matches `event:isues` is no sign that all is well.

It serves one decision: whether an empty list, or a count of none, may be believed. It is a hint and no error, for a value that
nobody knows may be right: GitHub has new events, and routes that are gone had tasks. So a value is only told of where nothing
that is held has it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from covenq.errors import ScopeInsufficient
from covenq.filter.explain import quoted
from covenq.filter.grammar import FIXED, parse
from covenq.filter.literals import literals

if TYPE_CHECKING:
    from covenq.client.interface import Counted, Source

OPEN_FIELDS = frozenset({"event", "route", "reason"})
"""Those that may have values which nobody knows beforehand, beside those of `grammar.FIXED`."""
LISTED_MAX = 8
"""Values that are listed where none is near."""
VALUE_MAX = 80
"""Characters that are told of a value."""


def unknown_values(source: Source, words: str | Sequence[str], what: Counted) -> Iterator[str]:
    """A sentence for each value in the filter that could be known, and that nothing has, with what was probably meant.

    Blocks, as it asks the source for what the grammar doesn't know. Raises FilterError.
    """
    listing = source.deliveries if what == "deliveries" else source.tasks
    return _unknown(
        words,
        lambda field, value: bool(listing([f"{field}:{quoted(value)}"], limit=1).items),
        lambda: _routes(source),
    )


def _routes(source: Source) -> Collection[str]:
    """The names of today's; none where a token may not know them."""
    try:
        return source.status().routes
    except ScopeInsufficient:
        return ()


def unknown_to_routes(words: Sequence[str], routes: Sequence[str]) -> Iterator[str]:
    """The same before anything is held: by what is configured, and known of GitHub."""
    return _unknown(words, lambda field, value: False, lambda: routes)


def _unknown(
    words: str | Sequence[str], holds: Callable[[str, str], bool], routes: Callable[[], Collection[str]]
) -> Iterator[str]:
    wanted = dict.fromkeys(one for one in literals(parse(words)) if one[0] in OPEN_FIELDS or one[0] in FIXED)
    known: dict[str, Collection[str]] = {}
    for field, value in wanted:
        if field not in known:
            known[field] = FIXED[field] if field in FIXED else routes() if field == "route" else _known(field)
        if value in known[field] or (field in OPEN_FIELDS and holds(field, value)):
            continue
        yield unknown_words(field, value, known[field])


def unknown_words(field: str, value: str, known: Collection[str]) -> str:
    """`no event is called `isues`; did you mean issues?`, or what there is. Not cleaned: it has what was typed."""
    told = f"no {field} is called `{value[:VALUE_MAX]}`"
    near = get_close_matches(value.lower(), known, n=1)
    if near:
        return f"{told}; did you mean {near[0]}?"
    if field in ("event", "reason"):  # of which there are too many to be listed
        return f"{told}: nothing here has it, and it is none that is known."
    listed = ", ".join(sorted(known)[:LISTED_MAX]) or "none"
    return f"{told}: there {'is' if len(known) < 2 else 'are'} {listed}{', …' if len(known) > LISTED_MAX else ''}."


def _known(field: str) -> Collection[str]:
    if field == "event":
        from covenq.github.events import EVENTS

        return EVENTS
    from covenq.model import Category, IgnoredReason, ReceivedReason, SupersededReason

    # Beside them there are those that are written into routes, and that operators gave.
    return {str(one) for kind in (Category, IgnoredReason, ReceivedReason, SupersededReason) for one in kind}
