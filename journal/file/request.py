"""A caller's append on its way through the committer, and how its answer gets back to the caller.

Two kinds of callers: `append` sleeps on a `Waiter` until the answer comes, `submit` goes on and is called back. Neither
changes when an answer is given: `Request.resolve` is called by `resolve_all` alone, and the committer calls that only after
step 5 of its argument (`journal.file.committer`) or after a failure. So no caller hears of a record that is not durable.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from journal.errors import JournalError, copy_of
from journal.format.codec import Prepared
from journal.records import Appended, Conflict

Answer = Appended | Conflict | JournalError
Done = Callable[[Answer], None]
"""Called once with one append's answer, on the committer's thread: it must neither block nor raise."""


class Request:
    """One caller's append, and the callback that takes its answer."""

    __slots__ = ("_done", "_resolved", "after", "answer", "pending", "prepared", "rotate_to")

    def __init__(
        self,
        prepared: list[Prepared],
        done: Done,
        *,
        after: Callable[[], None] | None = None,
        rotate_to: str | None = None,
    ) -> None:
        self.prepared = prepared
        self.after = after
        """Called when all of the batch have been answered; once, however many requests name it."""
        self.rotate_to = rotate_to
        """No append: the committer ends the active segment and starts the next in this epoch."""
        self.answer: Appended | Conflict | None = None
        """The answer unless the batch fails."""
        self.pending: Conflict | None = None
        """A Conflict that depends on this batch: it is answered after the sync, and fails with it."""
        self._done = done
        self._resolved = False

    def resolve(self, answer: Answer) -> None:
        """Answer the caller, once; a second answer is ignored."""
        if not self._resolved:
            self._resolved = True
            self._done(answer)


class Waiter:
    """The `done` of a caller that blocks: it sleeps on a bare lock, the cheapest hand-over between threads."""

    __slots__ = ("_answer", "_lock")

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._lock = threading.Lock()
        self._lock.acquire()

    def __call__(self, answer: Answer) -> None:
        self._answer = answer
        self._lock.release()

    def wait(self) -> Appended | Conflict:
        """Raises a JournalError of this caller's own."""
        self._lock.acquire()
        answer = self._answer
        if isinstance(answer, JournalError):
            raise copy_of(answer)
        assert answer is not None
        return answer


def ignore_answer(answer: Answer) -> None:
    """The `done` of the committer's own records: success shows in its statistics, failure in `poisoned` or `full`."""


def resolve_all(requests: list[Request], answer: Callable[[Request], Answer]) -> None:
    """Answer all of them, then call each distinct `after` once: one wake-up for all callers that wait in one place."""
    for request in requests:
        request.resolve(answer(request))
    for after in {request.after: None for request in requests if request.after is not None}:
        after()
