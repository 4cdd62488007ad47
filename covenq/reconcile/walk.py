"""The walk through a delivery log: from the newest page back to a time.

The walk ends only where it has reached that time, however many attempts there are: a bound on pages would lose what came under
load. New attempts come in at the front and move nothing behind a cursor.

Pages are in order of time, but for attempts that are listed late. So the walk goes on until the last attempt of a page is older
than a time that lies before what is asked for by more than those are late: `[reconcile] overlap`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from covenq.errors import GithubAnswerUnreadable
from covenq.github.delivery_log import LogPage

RESTARTS_MAX = 3
"""Times that a walk starts over because a cursor is refused."""


class CursorRefused(Exception):
    """GitHub takes a page's cursor no more; caught by `pages_since`."""


def pages_since(
    read: Callable[[str | None], LogPage], since: float, restarted: Callable[[], None]
) -> Iterator[LogPage]:
    """The pages of the log, newest first, until the last attempt of one is older than `since` (seconds since 1970).

    `read` gives the page at a cursor, None for the newest, and raises CursorRefused. The walk then begins again with the newest
    page, after `restarted` was called: what was made of the pages so far has to be dropped. Raises what `read` does, and
    GithubAnswerUnreadable for pages that go in a circle, or whose cursors are refused again and again.
    """
    for _ in range(RESTARTS_MAX + 1):
        try:
            yield from _pages(read, since)
        except CursorRefused:
            restarted()
        else:
            return
    raise GithubAnswerUnreadable(
        f"GitHub refused the cursors of its own pages, {RESTARTS_MAX + 1} times", hint="Try again in a few minutes."
    )


def _pages(read: Callable[[str | None], LogPage], since: float) -> Iterator[LogPage]:
    cursor: str | None = None
    # A circle is found by one cursor that is kept, at page 1, 2, 4 …: it takes no memory, and twice the circle's length.
    marker, pages, kept_at = "", 0, 1
    while True:
        page = read(cursor)
        yield page
        if page.next is None or (page.attempts and page.attempts[-1].at < since):
            return
        if page.next == marker:
            raise GithubAnswerUnreadable("the pages of GitHub's delivery log go in a circle")
        cursor = page.next
        pages += 1
        if pages == kept_at:
            marker, kept_at = cursor, kept_at * 2
