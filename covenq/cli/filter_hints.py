"""What is probably mistyped in a filter (`covenq.client.mistyped`), said on stderr: the data and the exit code stay as they are.

Without a filter nothing of one is imported: `covenq tasks` starts fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from covenq.cli.output import clean, say

if TYPE_CHECKING:
    from covenq.client.interface import Counted, Source

HINTS_MAX = 5


def say_unknown_values(opened: Source, words: Sequence[str] | None, what: Counted) -> None:
    """Say of each value in the filter that can be known, and that nothing has, which was probably meant."""
    if not words:
        return
    from covenq.client.mistyped import unknown_values

    _say(unknown_values(opened, words, what))


def say_unknown_to_routes(words: Sequence[str], routes: Sequence[str]) -> None:
    """The same before anything is held: by what is configured, and known of GitHub."""
    from covenq.client.mistyped import unknown_to_routes

    _say(unknown_to_routes(words, routes))


def _say(hints: Iterable[str]) -> None:
    for hint in islice(hints, HINTS_MAX):
        say(f"hint: {clean(hint)}")
