"""Appending until the answer is known: the one place where an append whose answer never came is repeated.

An engine on a network may answer Unknown: the entries were sent, and whether they were recorded can't be told. Every append of
the product goes through `append_known` or `submit_known`, and every erasure, which appends too, through `erase_known`: so no
caller handles Unknown by itself.

Why a repeat records nothing twice: all tries carry the same entries under one attempt id, made once. Entries with `expect`
are refused the second time, because their subject has moved on; the engine knows the attempt, and answers Appended with the
seqs of the first time instead of that Conflict. Entries without `expect` (notes) are told apart by the attempt id alone. An
engine that never loses an answer, as the file engine, ignores the id.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count

from journal.errors import (
    ErasureFailed,
    JournalError,
    JournalFull,
    JournalUnanswered,
    JournalUnavailable,
    JournalWriteFailed,
)
from journal.interface import Appending, Erasing, Progress, Submitting
from journal.records import Appended, Conflict, Entry, Rewritten, Unknown

REQUEST_S = 8.0
"""Seconds within which the append of a request has to be known: GitHub waits 10 for its answer."""

PAUSE_S = 0.05
PAUSE_MAX_S = 0.5
"""Seconds before the first repeat, doubled at each further one up to the greatest."""

_PROCESS = secrets.token_hex(8)
_NUMBERS = count(1)


def append_known(
    journal: Appending,
    entries: Sequence[Entry],
    deadline: float | None = None,
    *,
    stopped: Callable[[], bool] = lambda: False,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Appended | Conflict:
    """Append; repeat the same under one attempt id while no answer comes, until `deadline` or until `stopped()`.

    `deadline` is a time of `monotonic`; REQUEST_S seconds from now if None, and never if it is infinite.

    Raises JournalUnanswered when the time is over and it still isn't known whether the entries were recorded, and what
    `Journal.append` raises. For want of space, of a write or of a connection, it is raised only where nothing was sent before
    without an answer: what was sent may have been recorded, so giving up would say more than is known.
    """
    sent = _attempt(entries)
    return _repeat(lambda: journal.append(sent), False, _or_default(deadline, monotonic), stopped, monotonic, sleep)


def submit_known(
    journal: Submitting,
    entries: Sequence[Entry],
    done: Callable[[Appended | Conflict | JournalError], None],
    after: Callable[[], None] | None = None,
    deadline: float | None = None,
) -> None:
    """`append_known` without the wait: `done` is called once with what that would have returned or raised, then `after`.

    The first try is `Submitting.submit`'s, with what that promises of `done` and `after`. Where no answer came to it, a thread
    of this append's own repeats it: the journal's thread may not block, and a try that waits must hold up no other delivery.
    Raises what `submit` raises; `done` is then never called.
    """
    sent = _attempt(entries)
    until = _or_default(deadline, time.monotonic)

    def again() -> None:
        try:
            answer = _repeat(lambda: journal.append(sent), True, until, lambda: False, time.monotonic, time.sleep)
        except JournalError as error:
            done(error)
        else:
            done(answer)
        if after is not None:
            after()

    def first(answer: Appended | Conflict | Unknown | JournalError) -> None:
        if isinstance(answer, Unknown):
            threading.Thread(target=again, name="append-repeat", daemon=True).start()
        else:
            done(answer)

    journal.submit(sent, first, after)


def erase_known(
    journal: Erasing,
    entries: Sequence[Entry],
    progress: Progress | None = None,
    deadline: float | None = None,
    *,
    stopped: Callable[[], bool] = lambda: False,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> tuple[Appended | Conflict, Rewritten]:
    """`append_known` for `Erasing.erase`: the answer, and what was rewritten in all tries that were answered.

    With Appended, what the entries name is recorded and gone. The deadline ends only the repeating: a try that rewrites takes
    the time that it takes. Raises as `append_known`, and what `Erasing.erase` raises; ErasureFailed, where it says that
    nothing was recorded, under the same condition as want of space.
    """
    sent = _attempt(entries)
    total = Rewritten()

    def send() -> Appended | Conflict | Unknown:
        nonlocal total
        answer, rewritten = journal.erase(sent, progress)
        total += rewritten
        return answer

    try:
        answer = _repeat(send, False, _or_default(deadline, monotonic), stopped, monotonic, sleep)
    except JournalUnanswered as error:
        raise JournalUnanswered(
            "the erasure was not confirmed in time: it may have been carried out",
            hint="Give the same again when `covenq status` is well: what was erased is found, and not erased twice.",
        ) from error
    return answer, total


def _or_default(deadline: float | None, monotonic: Callable[[], float]) -> float:
    return monotonic() + REQUEST_S if deadline is None else deadline


def _attempt(entries: Sequence[Entry]) -> list[Entry]:
    """The entries under an attempt id that nobody else makes."""
    attempt = f"{_PROCESS}.{next(_NUMBERS)}"
    return [Entry(*one[:-1], attempt) for one in entries]


def _repeat(
    send: Callable[[], Appended | Conflict | Unknown],
    unanswered: bool,
    deadline: float,
    stopped: Callable[[], bool],
    monotonic: Callable[[], float],
    sleep: Callable[[float], object],
) -> Appended | Conflict:
    """`unanswered`: the same was sent before, and no answer came."""
    pause = PAUSE_S
    while True:
        if unanswered:
            left = deadline - monotonic()
            if left <= 0 or stopped():
                raise JournalUnanswered("the journal did not answer in time; the append may have been recorded")
            sleep(min(pause, left))
            pause = min(2 * pause, PAUSE_MAX_S)
        try:
            answer = send()
        except (JournalFull, JournalUnavailable, JournalWriteFailed):
            if not unanswered:
                raise
            continue
        except ErasureFailed as error:
            if error.recorded or not unanswered:
                raise
            continue
        if not isinstance(answer, Unknown):
            return answer
        unanswered = True
