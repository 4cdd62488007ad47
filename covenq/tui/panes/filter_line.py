"""The line that a filter is typed in: below it what the last term may become, what is wrong, and how much it would list.

It serves the decision whether this is the filter that was meant, before anything is listed by it. What is below never covers what
is typed, and has a bound. The count is made in the background when typing pauses, and given up when it goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from covenq.client.interface import Counted, Source
from covenq.client.mistyped import unknown_values
from covenq.errors import Failure, FilterError, UsageError
from covenq.filter import grammar
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.complete import Candidates, Completion, candidates, description, without_last
from covenq.tui.panes.filter_input import FilterInput
from covenq.tui.widgets.lines import Line, Lines

PAUSE_S = 0.2
"""Seconds without a key after which it is looked up what is typed."""
COUNTED_MAX = 10_000
"""Rows that are counted; of more it is said that there are more."""
LISTED_MAX = 8
"""Terms listed at a time: as many as there are states."""
HINTS_MAX = 2
TERM_MIN = 14
"""Cells of a term that is listed with what it means."""
BESIDE = 5
"""Cells of a line of the list beside the term and what it means: the mark, the space between them, one at the end."""
CUT = " …"
COUNT_WIDTH = 26
"""Cells of `10,000+ of 1,000,000 match`."""
KEYS = "Enter applies  Tab completes  ↑↓ chooses  Esc leaves"


@dataclass(frozen=True, slots=True)
class Found:
    """What a filter would list: how many (COUNTED_MAX + 1 is more than that), None where that can't be counted; and hints."""

    count: int | None
    hints: tuple[str, ...] = ()


Look = Callable[[str, str], Found]
"""Looks a filter up, and of its terms before the last, or of all, what is mistyped. Blocks. Raises Failure."""


def look_up(source: Source, counted: Counted, words: str, finished: str) -> Found:
    """What `words` would list, and hints of what is mistyped in `finished`."""
    try:
        count: int | None = source.count(counted, words, limit=COUNTED_MAX + 1)
    except UsageError:
        count = None  # of a payload: it would have to be read
    hints = unknown_values(source, finished, "deliveries" if counted == "deliveries" else "tasks")
    return Found(count, tuple(islice(hints, HINTS_MAX)))


def _at_words(words: str, width: int) -> str:
    """Words in so many cells, cut between two of them if there are more."""
    first, *rest = text.wrap(words, max(1, width - len(CUT)))
    return (first.rstrip(",") + CUT) if rest and text.cells(words) > width else words


class _Unfocused(Lines, can_focus=False):
    """Lines that take no focus, as many as there are."""

    def show(self, lines: Sequence[Line]) -> None:
        super().show(lines)
        self.styles.height = len(lines)
        self.display = bool(lines)


class FilterLine(Vertical):
    """Hidden until it is opened. It parses what is submitted."""

    class Submitted(Message):
        """Enter was pressed, on words that parse."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words

    def __init__(self, noun: str, look: Callable[[], Look | None]) -> None:
        """`noun` is what is listed; `look` gives what looks a filter up, None where there is no source."""
        super().__init__(classes="filter-line")
        self._noun = noun
        self._look = look
        self._completion = Completion()
        self._thread = BackgroundThread("typed")
        self._candidates = Candidates("", ())
        self._chosen: int | None = None
        self._typed = ""
        """What was typed, without the choice that stands in the line."""
        self._total: int | None = None

    def compose(self) -> ComposeResult:
        placeholder = "event:issues state:failed age<1h"
        yield FilterInput(id="filter", placeholder=placeholder, compact=True, suggester=self._completion)
        yield Static(id="filter-error")
        yield _Unfocused(id="filter-list")
        yield _Unfocused([[("", "")]], id="filter-keys")

    def on_mount(self) -> None:
        self.display = False
        self._error.display = False

    @property
    def line(self) -> FilterInput:
        return self.query_one(FilterInput)

    @property
    def _error(self) -> Static:
        return self.query_one("#filter-error", Static)

    def open(self, words: str, known: Mapping[str, Sequence[str]], total: int | None) -> None:
        """Show it with a filter in it, completed from the values that are `known`. `total`: how many there are without one."""
        self._completion.values = known
        self._total = total
        self.display = True
        if self.line.value != words:
            self.line.value = words  # and what it may become is shown when that is told
        else:
            self._show_typed(words)
        self.screen.set_focus(self.line)  # now: `focus` leaves it until the keys that have come are handed on

    def close(self) -> None:
        """Hide it; what is looked up for it is given up."""
        self.workers.cancel_group(self, "typed")
        self.display = False
        self._error.display = False

    def restart_thread(self) -> None:
        """Look up on another thread: this one's source is gone, and may keep it busy."""
        self._thread.end()
        self._thread = BackgroundThread("typed")

    # What is typed

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        chosen = self._chosen
        if chosen is not None and event.value == self._candidates.line(chosen):
            self._look_up(event.value)
        elif self.display:
            self._show_typed(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        words = event.value.strip()
        try:
            grammar.parse(words)
        except FilterError as error:
            self._show_error(error)
            return
        self.post_message(self.Submitted(words))

    def on_filter_input_completed(self) -> None:
        """Tab: what is chosen, or else the first, is typed."""
        if self._chosen is not None:
            self._show_typed(self.line.value)
        elif self._candidates.terms:
            self._put(self._candidates.line(0))

    def on_filter_input_moved(self, message: FilterInput.Moved) -> None:
        """Down and up: the next and the one before stand in the line; above the first what was typed."""
        if not self._candidates.terms:
            return
        at = (-1 if self._chosen is None else self._chosen) + message.step
        at = min(at, len(self._candidates.terms) - 1)
        self._chosen = at if at >= 0 else None
        self._put(self._typed if self._chosen is None else self._candidates.line(at))
        self._show_list()

    def _put(self, words: str) -> None:
        self.line.value = words
        self.line.cursor_position = len(words)

    def _show_typed(self, words: str) -> None:
        self._typed, self._chosen = words, None
        self._candidates = candidates(words, self._completion.values)
        self._error.display = False
        self._show_list()
        self._look_up(words)

    # What is shown below it

    def on_resize(self) -> None:
        self._show_list()

    def _show_list(self) -> None:
        terms, chosen = self._candidates.terms, self._chosen
        first = max(0, min((chosen or 0) - LISTED_MAX // 2, len(terms) - LISTED_MAX))
        listed = terms[first : first + LISTED_MAX]
        width = max((TERM_MIN, *map(text.cells, map(text.clean, listed))))
        lines: list[Line] = []
        for number, term in enumerate(listed, first):
            mark, tone = ("▸ ", "bold") if number == chosen else ("  ", "")
            words = text.clean(term)
            told = _at_words(description(term), self.size.width - width - BESIDE)
            lines.append([(mark, tone), (words.ljust(width), tone), (f"  {told}", "muted")])
        if len(terms) > first + len(listed):
            lines.append([(f"  … {len(terms) - first - len(listed)} more", "muted")])
        self.query_one("#filter-list", _Unfocused).show(lines)

    def _show_count(self, words: str) -> None:
        told = words.ljust(COUNT_WIDTH)
        self.query_one("#filter-keys", _Unfocused).show([[(f"{told}  ", "bold"), (KEYS, "muted")]])

    def _show_error(self, error: FilterError) -> None:
        pointer = " " * max(0, error.column - 1) + "^"
        self._show_words(f"{pointer}\n{text.clean(error)}\n{text.clean(error.hint)}", wrong=True)

    def _show_words(self, words: str, *, wrong: bool) -> None:
        self._error.update(Content(words))
        self._error.set_class(not wrong, "-hint")
        self._error.display = bool(words)

    # What it would list

    @work(exclusive=True, group="typed")
    async def _look_up(self, words: str) -> None:
        """Tell what is wrong with the words, or how many match, once typing has paused."""
        total = "" if self._total is None else text.number(self._total)
        if not words.strip():
            self._show_count(f"{total} {self._noun}".strip())
            return
        self._show_count("…")
        await asyncio.sleep(PAUSE_S)
        unfinished = self._chosen is None and bool(self._candidates.terms)
        try:
            grammar.parse(words)
        except FilterError as error:
            self._show_count("")
            if not unfinished:
                self._show_error(error)
            return
        look = self._look()
        if look is None:
            self._show_count("")
            return
        finished = without_last(words) if unfinished else words
        try:
            found = await self._thread.call(lambda: look(words, finished))
        except Failure:
            self._show_count("not counted")  # what is wrong is said where it is listed
            return
        of = f" of {total}" if total else ""
        match found.count:
            case None:
                self._show_count("not counted: payloads")
            case 0:
                self._show_count("nothing matches")
            case count if count > COUNTED_MAX:
                self._show_count(f"{text.number(COUNTED_MAX)}+{of} match")
            case count:
                self._show_count(f"{text.number(count)}{of} match")
        self._show_words("\n".join(map(text.clean, found.hints)), wrong=False)
