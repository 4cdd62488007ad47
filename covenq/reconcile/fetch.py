"""Fetching: the details of missing deliveries out of GitHub's log, recorded in batches in the order in which they are asked for.

What records them is passed in (`Recorder`). A detail that GitHub can't give costs that delivery alone; several in a row, or a
limit that is met, end the fetching out of that log: what is left stays open, and the next pass fetches it. What is erased while
it is fetched is not recorded: that is looked at once more for each batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from covenq.errors import (
    CovenqError,
    GithubAnswerUnreadable,
    GithubLimited,
    GithubRefused,
    OutgoingFailed,
)
from covenq.reconcile.result import Row

BATCH = 64
BATCH_BYTES = 2 << 20
"""Deliveries that are recorded at once, and bytes of them."""
FAILURES_MAX = 3
"""Details in a row of one log that GitHub fails to give, after which no more are asked for."""
TROUBLE = (GithubLimited, GithubRefused, GithubAnswerUnreadable, OutgoingFailed)
"""What may keep a log from being read, and is no reason to leave the next one unread."""

Hold = Literal["restored"]
"""Why a delivery is recorded and not routed: it was sent before the journal was restored. What is too old, its recorder knows."""


@dataclass(frozen=True, slots=True)
class Detail:
    """GitHub's JSON of a delivery, as its log has it. `first_at` is when GitHub first sent it, whichever attempt this is."""

    guid: str
    text: bytes
    first_at: str
    hold: Hold | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a detail: `fetched`, `waiting` (held back), `held` (already), `refused`, `unrecoverable` or `open`."""

    state: str
    reason: str | None = None
    hook: str | None = None
    tasks: Sequence[str] = ()
    verified: bool | None = None


IsErased = Callable[[Row], bool]
"""Whether what a delivery belongs to has been erased here."""


class Recorder(Protocol):
    """What records deliveries, and routes those that are not held back."""

    def record(self, details: Sequence[Detail]) -> Sequence[Outcome]:
        """The outcome of each. No GUID is among them twice."""


def fetch(
    rows: Sequence[Row],
    detail_of: Mapping[str, Callable[[str], bytes | None]],
    recorder: Recorder,
    hold: Callable[[Row], Hold | None],
    erased_now: Callable[[], IsErased],
    progress: Callable[[int], None] = lambda done: None,
) -> list[CovenqError]:
    """Fetch each of the rows, in their order, and write into each what became of it; why some stay open.

    `detail_of` gives the detail of an attempt, by the log's name; `erased_now` what tells what is erased at the call. Raises what
    that and `recorder` do.
    """
    for row in rows:
        row.state = "open"
    batch = _Batch(recorder, erased_now)
    troubles: list[CovenqError] = []
    failed = Counter[str]()
    for number, row in enumerate(rows, 1):
        if failed[row.log] >= FAILURES_MAX:
            continue
        try:
            text = detail_of[row.log](row.attempt)
        except TROUBLE as error:
            troubles.append(error)
            row.reason = str(error)
            failed[row.log] += FAILURES_MAX if isinstance(error, GithubLimited | GithubRefused) else 1
            continue
        failed[row.log] = 0
        if text is None:
            row.state, row.reason = "unrecoverable", "GitHub has it no more"
        else:
            batch.add(row, Detail(row.guid, text, row.first_at, hold(row)))
        progress(number)
    batch.flush()
    return troubles


class _Batch:
    """Details that wait to be recorded together."""

    def __init__(self, recorder: Recorder, erased_now: Callable[[], IsErased]) -> None:
        self._recorder = recorder
        self._erased_now = erased_now
        self._waiting: list[tuple[Row, Detail]] = []
        self._size = 0

    def add(self, row: Row, detail: Detail) -> None:
        if any(other.guid == row.guid for other, _ in self._waiting):  # the same event, by another hook
            self.flush()
        self._waiting.append((row, detail))
        self._size += len(detail.text)
        if len(self._waiting) == BATCH or self._size >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._waiting:
            return
        is_erased = self._erased_now()
        waiting: list[tuple[Row, Detail]] = []
        for row, detail in self._waiting:
            if is_erased(row):
                row.state = "erased"
            else:
                waiting.append((row, detail))
        self._waiting, self._size = [], 0
        if not waiting:
            return
        outcomes = self._recorder.record([detail for _, detail in waiting])
        for (row, _), outcome in zip(waiting, outcomes, strict=True):
            row.state, row.reason, row.verified = outcome.state, outcome.reason, outcome.verified
            row.tasks = list(outcome.tasks)
            if outcome.hook is not None:
                row.hook = outcome.hook
