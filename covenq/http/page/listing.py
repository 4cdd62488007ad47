"""GET /page/deliveries and /page/tasks: what matches a filter, newest first, a page at a time.

They serve one decision: which one is it that I was asked about? So a row says when, what became of it, what it was about and
under which title, and leads to its story.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import falcon

from covenq.errors import CovenqError, FilterError, TookTooLong, UsageError
from covenq.http.answers import status_of
from covenq.http.api.params import LIMIT
from covenq.http.page import links
from covenq.http.page.access import scope_of_page, session_of
from covenq.http.page.moment import Moment, moment
from covenq.http.page.render import respond_page
from covenq.http.page.sources import PageSources, only
from covenq.model.palette import STATE_TONES, Tone
from covenq.model.rows import Delivery, Task
from covenq.model.token_scope import Scope
from covenq.operate.inspect import view
from covenq.text import counted

FIELDS_HINT = "What may be asked for is listed below the field."


@dataclass(frozen=True, slots=True)
class Row:
    """`about` is the repository and number, `words` the title, or why a task is as it is; `id` is what one searches by."""

    href: str
    when: Moment | None
    state: str
    tone: Tone | None
    what: str
    about: str
    words: str
    id: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with the filter that was typed, and what to do about it."""

    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class ListView:
    """`path` is the list's, `older` the address of the next page, None at the end; `is_first` while it begins with the newest."""

    title: str
    path: str
    filter: str
    rows: list[Row]
    older: str | None
    newest: str
    is_first: bool
    problem: Problem | None = None


Read = Callable[[str, str | None, float, Scope | None], tuple[list[Row], str | None]]
"""The rows of a scope that match a filter, after a cursor, and the next cursor."""


class Listing:
    """A list of one kind."""

    def __init__(self, title: str, path: str, read: Read, clock: Callable[[], float]) -> None:
        self._empty = ListView(title, path, "", [], None, path, True)
        self._read = read
        self._clock = clock

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        given = only(req, "filter", "after")
        filter, after = given.get("filter", ""), given.get("after") or None
        path, status = self._empty.path, 200
        shown = replace(self._empty, filter=filter, newest=links.listed(path, filter), is_first=after is None)
        try:
            rows, following = self._read(filter, after, self._clock(), scope_of_page(req))
            older = None if following is None else links.listed(path, filter, following)
            shown = replace(shown, rows=rows, older=older)
        except (UsageError, TookTooLong) as error:  # the form stays, with what was typed
            status = 503 if isinstance(error, TookTooLong) else status_of(type(error))
            shown = replace(shown, problem=problem_of(error))
        resp.context.shown = len(shown.rows)
        respond_page(resp, "list", status, session=session_of(req), view=shown)

    on_head = on_get


def problem_of(error: CovenqError) -> Problem:
    """Hints that send one to a command are of no use here."""
    hint = FIELDS_HINT if error.hint in (FilterError.hint, UsageError.hint) else error.hint
    return Problem(str(error), hint)


def deliveries(sources: PageSources) -> Listing:
    def read(filter: str, after: str | None, now: float, scope: Scope | None) -> tuple[list[Row], str | None]:
        parsed = sources.parsed(filter)
        with sources.reading(scope) as (conn, records):
            page = view.deliveries(conn, records, parsed, LIMIT, after)
        return [delivery_row(one, now) for one in page.items], page.next

    return Listing("Deliveries", links.DELIVERIES, read, sources.clock)


def tasks(sources: PageSources) -> Listing:
    def read(filter: str, after: str | None, now: float, scope: Scope | None) -> tuple[list[Row], str | None]:
        parsed = sources.parsed(filter)
        with sources.reading(scope) as (conn, records):
            page = view.tasks(conn, records, parsed, LIMIT, after, caps=sources.config.caps)
        return [task_row(one, now) for one in page.items], page.next

    return Listing("Tasks", links.TASKS, read, sources.clock)


def delivery_row(one: Delivery, now: float) -> Row:
    return Row(
        links.delivery(one.hook, one.guid),
        moment(one.received_at, now),
        one.state,
        STATE_TONES.get(one.state),
        event_text(one.event, one.action),
        about_text(one.repo, one.number),
        "erased" if one.redacted else one.title or "",
        one.guid,
    )


def task_row(one: Task, now: float) -> Row:
    waits = "" if one.waits is None else one.waits.why
    ran = counted(one.attempts, "attempt") if one.attempts else ""
    return Row(
        f"{links.LOOK_UP}?id={one.id}" if one.hook is None or one.guid is None else links.delivery(one.hook, one.guid),
        moment(one.created_at, now),
        one.state,
        STATE_TONES.get(one.state),
        one.route or "",
        about_text(one.repo, one.number),
        "; ".join(filter(None, (waits or one.reason or "", ran))),
        one.id,
    )


def event_text(event: str | None, action: str | None) -> str:
    return ".".join(filter(None, (event, action)))


def about_text(repo: str | None, number: int | None) -> str:
    return f"{repo or ''}{'' if number is None else f'#{number}'}"
