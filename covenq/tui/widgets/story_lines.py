"""The story of one delivery as lines of a given width, verdict first: for the screen of it, and for beside a list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from covenq.client.suggestion import suggested, with_suggestions
from covenq.model.short_ids import with_short_tasks
from covenq.operate.inspect import story_text
from covenq.tui import text
from covenq.tui.widgets.lines import Line

if TYPE_CHECKING:
    from covenq.errors import CovenqError
    from covenq.operate.inspect.history import StoryVerdict, Why
    from journal.errors import JournalError

LABEL_WIDTH = 20
"""Cells of a line's label; the words of a longer label have a line of their own."""


WORDS_MIN = 20
"""Cells of its words at least, however narrow the screen is."""


LEVELS = {
    "ok": "good",
    "active": "active",
    "idle": "",
    "warning": "warning",
    "error": "bad",
}
"""The tone of a verdict, by its level."""


def why_lines(answer: Why, width: int, *, all_rules: bool = False, more: str = "r") -> list[Line]:
    """The result of `Source.why` as lines of `width` cells. `all_rules`: not only of those that match or nearly do; `more` is
    the key that shows those.
    """
    found: list[Line] = []
    for number, one in enumerate(answer.stories):
        if number:
            found.append([("", "")])
        found += _verdict_lines(one.verdict, width)
        found += _lines_of(story_text.lines(one, all_rules=all_rules, more=more), width)
    found += _lines_of(story_text.refused_lines(answer.refused), width)
    return found or [[("nothing is known of it here", "muted")]]


def _verdict_lines(verdict: StoryVerdict | None, width: int) -> list[Line]:
    """Its sentence, and below it the command, so that no width breaks what is to be copied."""
    if verdict is None:  # of an older daemon
        return []
    found = _wrapped("", text.clean(with_short_tasks(verdict.text)), LEVELS[verdict.level], width)
    if verdict.command is not None:
        found.append([("· ", "muted"), (text.clean(suggested(with_short_tasks(verdict.command))), "bold")])
    return found


def _lines_of(told: Iterator[tuple[str, str]], width: int) -> list[Line]:
    found: list[Line] = []
    for label, words in told:
        label, words = text.clean(with_short_tasks(label)), text.clean(with_short_tasks(words))
        if not words:
            found += [[("", "")], *_wrapped("", label, "bold", width)]
        elif len(label) <= LABEL_WIDTH:
            words = with_suggestions(words) if label else words  # what has no label may be quoted
            first, *rest = _wrapped(" " * (LABEL_WIDTH + 3), words, "", width)
            found += [[(f"  {label:<{LABEL_WIDTH}} ", "muted"), *first[1:]], *rest]
        else:
            label = suggested(label) if label.startswith("covenq ") else label
            found += [*_wrapped("  ", label, "muted", width), *_wrapped("      ", words, "", width)]
    return found


def _wrapped(indent: str, words: str, style: str, width: int) -> list[Line]:
    return [[(indent, ""), (part, style)] for part in text.wrap(words, max(WORDS_MIN, width - len(indent)))]


def failure_lines(failure: CovenqError | JournalError, width: int) -> list[Line]:
    """Why there is no story."""
    words = f"✗ {text.clean(failure)}"
    return [*_wrapped("", words, "bad", width), *_wrapped("", text.clean(failure.hint), "", width)]
