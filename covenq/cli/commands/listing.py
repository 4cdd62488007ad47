"""`covenq deliveries`, `covenq tasks`: what a filter matches, newest first.

For who looks which of them to act on: a row's state, what it is about and an id that can be typed stay on the narrowest terminal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from covenq.cli import output
from covenq.cli.context import local_data_dir, source
from covenq.cli.filter_hints import say_unknown_values
from covenq.cli.options import After, ConfigOption, DataOption, Json, Jsonl, Limit, TokenFileOption, UrlOption, Words
from covenq.cli.output import clean, say
from covenq.cli.table import Column, print_table
from covenq.model.short_ids import GUID_SHORT, TASK_SHORT
from covenq.model.waiting import cause_name
from covenq.paths import JOURNAL_NAME
from covenq.text import shorten_middle, shorten_target
from journal.presence import is_directory

if TYPE_CHECKING:
    from covenq.client.interface import Listing
    from covenq.model.rows import Delivery, Task

T = TypeVar("T")

PAGE = 1000
"""Items per request: memory stays flat however many are listed."""


class Pages(Generic[T]):
    """Items, fetched page by page. After the last one, `next` is the cursor to continue from, or None if there are no more."""

    def __init__(self, fetch: Listing[T], words: list[str], limit: int, after: str | None) -> None:
        self._fetch, self._words, self._limit = fetch, words, limit
        self.next = after

    def __iter__(self) -> Iterator[T]:
        left = self._limit
        while True:
            page = self._fetch(self._words, limit=min(PAGE, left) if self._limit else PAGE, after=self.next)
            self.next = page.next
            yield from page.items
            left -= len(page.items)
            if self.next is None or (self._limit and left <= 0):
                return


def deliveries(
    words: Words = None,
    limit: Limit = 50,
    after: After = None,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """List deliveries, newest first.

    \b
      covenq deliveries event:issues action:opened,labeled since:1h
      covenq deliveries state:ignored 'repo:octo/*' -sender:octocat
      covenq deliveries 72d3162e payload.issue.user.login:octocat

    Fields: id guid hook seq event action repo repo_id owner sender installation number sha ref target label state
    reason route node attempts duplicates size source secret twin age since before payload.*. A comma means either, a dash
    (or not:) negates, * globs, bare words search repo, title and ids.
    """
    with source(data, config) as opened:
        pages = Pages(opened.deliveries, words or [], limit, after)
        _print("deliveries", "delivery", DELIVERY_COLUMNS, pages, bool(words), json, local_data_dir(data, config))
        say_unknown_values(opened, words, "deliveries")


def tasks(
    words: Words = None,
    limit: Limit = 50,
    after: After = None,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """List tasks, newest first.

    \b
      covenq tasks state:failed since:1h
      covenq tasks route:fix-issue -state:completed

    Fields: as for deliveries, and route kind purpose familiar worker category.
    """
    with source(data, config) as opened:
        pages = Pages(opened.tasks, words or [], limit, after)
        _print("tasks", "task", TASK_COLUMNS, pages, bool(words), json, local_data_dir(data, config))
        say_unknown_values(opened, words, "tasks")


def _print(
    what: str,
    one: str,
    columns: Sequence[Column[T]],
    pages: Pages[T],
    filtered: bool,
    json: bool,
    data: Path | None,
) -> None:
    if json:
        output.emit_items(pages, lambda: pages.next)
        return
    shown = print_table(columns, pages)
    if not shown:
        say(_empty_message(what, one, filtered, data))
    elif pages.next is not None:
        say(f"{output.count(shown, one, what)} shown, there are more: --after {pages.next}, or --limit 0 for all.")


def _empty_message(what: str, one: str, filtered: bool, data: Path | None) -> str:
    """Why the list is empty, and what would fill it."""
    if data is not None and not is_directory(data / JOURNAL_NAME):
        return f"Nothing was ever received in {clean(data)}. `covenq serve` starts it; --data names another directory."
    if filtered:
        return f"No {one} matches."
    if what == "tasks":
        return "No tasks yet: a task is made when a route matches a delivery (`covenq deliveries`)."
    return "No deliveries yet. `covenq status` says where the webhook is; `covenq send issues` posts a sample to it."


def event_of(item: Delivery) -> str:
    return f"{item.event}.{item.action}" if item.action else str(item.event)


def target_of(item: Delivery | Task) -> str:
    return f"{item.repo or ''}#{item.number}" if item.number is not None else item.repo or ""


def notes_of(delivery: Delivery) -> str:
    """What an operator should notice: the delivery also came with another body, or its body came before under another GUID."""
    return " ".join(word for word, seen in (("conflict", delivery.conflicts), ("twin", delivery.twin)) if seen)


DELIVERY_COLUMNS: list[Column[Delivery]] = [
    Column("GUID", lambda d: d.guid, rank=1, short=GUID_SHORT),
    Column("AGE", lambda d: output.age(d.received_at, time.time()), right=True, rank=2),
    Column("UTC", lambda d: output.minute(d.received_at, time.time()), right=True, rank=6),
    Column("EVENT", event_of, shrink=16, cut=shorten_middle, rank=3),
    Column("TARGET", target_of, shrink=18, cut=shorten_target),
    Column("SENDER", lambda d: d.sender, shrink=12, rank=7),
    Column("STATE", lambda d: d.state, colour=output.state_colour),
    Column("DUP", lambda d: d.duplicates or "", right=True, rank=6),
    Column("NOTE", lambda d: notes_of(d), colour=lambda note: output.WARNING, rank=4),
    Column("HOOK", lambda d: d.hook, rank=8),
    Column("REASON", lambda d: d.reason, shrink=8, rank=5),
]


def waits_of(task: Task) -> str:
    """What a queued task waits for, and its position in its installation's queue."""
    waits = task.waits
    if not waits:
        return ""
    name = cause_name(waits.cause or waits.word)
    return f"{name} #{waits.position}" if waits.position is not None else name


TASK_COLUMNS: list[Column[Task]] = [
    Column("TASK", lambda t: t.id, rank=1, short=TASK_SHORT),
    Column("AGE", lambda t: output.age(t.created_at, time.time()), right=True, rank=2),
    Column("UTC", lambda t: output.minute(t.created_at, time.time()), right=True, rank=6),
    Column("ROUTE", lambda t: t.route, shrink=10, cut=shorten_middle, rank=3),
    Column("TARGET", target_of, shrink=18, cut=shorten_target),
    Column("STATE", lambda t: t.state, colour=output.state_colour),
    Column("ATT", lambda t: t.attempts or "", right=True, rank=6),
    Column("REASON", lambda t: t.reason, shrink=8, rank=5),
    Column("WAITS", lambda t: waits_of(t), shrink=10, rank=4),
]
