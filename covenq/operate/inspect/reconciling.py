"""How far GitHub's delivery logs are compared with what is held: by the records of passes, and by a daemon's newest."""

from __future__ import annotations

from collections.abc import Mapping

from covenq.config.github_api import GithubApp, GithubHook
from covenq.config.load import Config
from covenq.github.api_client import PACING, Usage
from covenq.model import at_text
from covenq.model.status import ReconcileLog, ReconcilePass, ReconcileStatus, RequestBudget
from covenq.operate.log_records import read_state
from covenq.reconcile.log_state import begun
from journal.errors import JournalError
from journal.interface import Reading


def reconcile_status(
    journal: Reading,
    config: Config,
    now: float,
    passes: Mapping[str, ReconcilePass] | None = None,
    waits: str | None = None,
    fetched: int = 0,
    budgets: Mapping[str, RequestBudget] | None = None,
) -> ReconcileStatus | None:
    """None where no log is configured. `passes` are the newest of this process, by the log's name, and so are `budgets`."""
    logs = config.github_logs.all
    if not logs:
        return None
    found = [_log(journal, one, now, (passes or {}).get(one.name)) for one in logs]
    for one in found:
        one.budget = (budgets or {}).get(one.log)
    return ReconcileStatus(config.reconcile.every_s, found, waits, fetched)


def budget_of(usage: Usage, lists: int, first: Mapping[str, int]) -> RequestBudget | None:
    """What is known of GitHub's limit; None until GitHub has told all of it. `lists` and `first` as in the budget."""
    if usage.limit is None or usage.remaining is None or usage.reset is None or not usage.requests:
        return None
    request_s = max(usage.spent_s / usage.requests, PACING.gap_s)
    return RequestBudget(
        usage.limit, usage.remaining, usage.floor, at_text(usage.reset), round(request_s, 3), max(1, lists), dict(first)
    )


def _log(journal: Reading, one: GithubApp | GithubHook, now: float, last: ReconcilePass | None) -> ReconcileLog:
    configured = one.id if isinstance(one, GithubHook) else None
    try:
        known = read_state(journal, one)
    except JournalError:
        known = None  # what is wrong with the journal is in the status, and must not keep it from being told
    if known is None:
        return ReconcileLog(one.name, configured, None, None, None, last)
    # A journal that was restored just now holds back what the next pass finds, though no record says so yet.
    state = begun(known, journal.epoch, now)
    return ReconcileLog(
        one.name,
        configured or state.hook,
        at_text(state.baseline),
        None if state.mark is None else at_text(state.mark.at),
        None if state.held_before is None else at_text(state.held_before),
        last,
    )
