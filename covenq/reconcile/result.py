"""What a pass found: a row for each delivery that GitHub lists and the journal doesn't hold, and what was seen of each log."""

from __future__ import annotations

from msgspec import Struct

from covenq.model import at_text
from covenq.reconcile.compare import Absent

UNSETTLED = frozenset({"missing", "open", "on_its_way"})
"""States of a row that the next pass has to look at again."""
_WORDS = {"held": "in the journal", "waiting": "held back"}


def state_words(state: str) -> str:
    """A row's state as people read it. What is held back is in the journal, too: only one of the two may be called held."""
    return _WORDS.get(state) or state.replace("_", " ")


class Row(Struct):
    """A delivery that GitHub lists and the journal doesn't hold, or didn't.

    `state` is `missing`, `before_us`, `on_its_way`, `erased` or `not_wanted` when it was compared, `redelivered` once it has come
    after GitHub was asked for it, and once it is fetched `fetched`, `waiting` (recorded and held back: it was fetched, and is not
    routed), `held` (already), `unrecoverable`, `refused` or `open`.

    `verified`, of one that was fetched: whether the bytes that were signed were rebuilt, and a webhook secret signed them.
    """

    log: str
    hook: str | None
    guid: str
    event: str
    action: str | None
    installation: int | None
    repo_id: int | None
    first_at: str
    attempts: int
    attempt: str
    status_code: int
    state: str
    reason: str | None = None
    tasks: list[str] = []
    verified: bool | None = None


class LogSummary(Struct):
    """What was seen of a log. `error` is why it was not seen to the end, `newest_at` the newest attempt in it."""

    log: str
    hook: str | None = None
    listed: int = 0
    held: int = 0
    unreadable: int = 0
    requests: int = 0
    error: str | None = None
    newest_at: str | None = None


def row_of(log: str, one: Absent, state: str) -> Row:
    """The row of a delivery of that log."""
    return Row(
        log, one.hook, one.guid, one.event, one.action, one.installation, one.repo_id, at_text(one.first_at),
        one.attempts, one.attempt, one.status_code, state,
    )  # fmt: skip
