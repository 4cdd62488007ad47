"""What is probably mistyped in a filter, said on stderr: that nothing matches `event:isues` is no sign that all is well.

It serves one decision: whether an empty list, or a count of none, may be believed. The data and the exit code stay as they are,
for a value that nobody knows may be right: GitHub has new events, and routes that are gone had tasks. So a value is only told of
where nothing that is held has it. Without a filter nothing of one is imported: `covenq tasks` starts fast.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from covenq.cli.output import clean, say

if TYPE_CHECKING:
    from covenq.client.interface import Counted, Source

OPEN_FIELDS = frozenset({"event", "route", "reason"})
"""Those that may have values which nobody knows beforehand, beside those of `grammar.FIXED`."""
HINTS_MAX = 5
LISTED_MAX = 8
"""Values that are listed where none is near."""


def say_unknown_values(opened: Source, words: Sequence[str] | None, what: Counted) -> None:
    """Say of each value in the filter that can be known, and that nothing has, which was probably meant."""
    if not words:
        return
    from covenq.filter.explain import quoted

    listing = opened.deliveries if what == "deliveries" else opened.tasks
    _say(
        words,
        lambda field, value: bool(listing([f"{field}:{quoted(value)}"], limit=1).items),
        lambda: opened.status().routes,
    )


def say_unknown_to_routes(words: Sequence[str], routes: Sequence[str]) -> None:
    """The same before anything is held: by what is configured, and known of GitHub."""
    _say(words, lambda field, value: False, lambda: routes)


def _say(words: Sequence[str], holds: Callable[[str, str], bool], routes: Callable[[], Collection[str]]) -> None:
    from covenq.filter.grammar import FIXED, parse
    from covenq.filter.literals import literals

    wanted = dict.fromkeys(one for one in literals(parse(words)) if one[0] in OPEN_FIELDS or one[0] in FIXED)
    known: dict[str, Collection[str]] = {}
    said = 0
    for field, value in wanted:
        if field not in known:
            known[field] = FIXED[field] if field in FIXED else routes() if field == "route" else _known(field)
        if value in known[field] or (field in OPEN_FIELDS and holds(field, value)):
            continue
        say(f"hint: {unknown_words(field, value, known[field])}")
        said += 1
        if said == HINTS_MAX:
            return


def unknown_words(field: str, value: str, known: Collection[str]) -> str:
    """`no event is called `isues`; did you mean issues?`, or what there is."""
    from difflib import get_close_matches

    told = f"no {field} is called `{clean(value[:80])}`"
    near = get_close_matches(value.lower(), known, n=1)
    if near:
        return f"{told}; did you mean {clean(near[0])}?"
    if field in ("event", "reason"):  # of which there are too many to be listed
        return f"{told}: nothing here has it, and it is none that is known."
    listed = ", ".join(map(clean, sorted(known)[:LISTED_MAX])) or "none"
    return f"{told}: there {'is' if len(known) < 2 else 'are'} {listed}{', …' if len(known) > LISTED_MAX else ''}."


def _known(field: str) -> Collection[str]:
    if field == "event":
        from covenq.github.events import EVENTS

        return EVENTS
    from covenq.model import Category, IgnoredReason, ReceivedReason, SupersededReason

    # Beside them there are those that are written into routes, and that operators gave.
    return {str(one) for kind in (Category, IgnoredReason, ReceivedReason, SupersededReason) for one in kind}
