"""The records of delivery logs: what a pass leaves for the next one, appended when it changes.

The newest record of a log's subject has all of it, so that nothing has to be folded, and no pass needs another record. The
subject holds a digest in the place of the log's identity, whose characters it could not have.
"""

from __future__ import annotations

from covenq.config.github_api import GithubApp, GithubHook, digest_of
from covenq.model import ledger as ledger_records
from covenq.model.ledger import Ledger, ledger_of
from covenq.reconcile.log_state import LogState, data_of, state_of
from journal.append import append_known
from journal.interface import Journal, Reading
from journal.records import Entry

RECONCILED = "ops.reconciled"


def subject_of(log: GithubApp | GithubHook) -> str:
    """The subject of a log's records."""
    return f"ops.reconcile_{digest_of(log)}"


def read_state(journal: Reading, log: GithubApp | GithubHook) -> LogState | None:
    """The state that a log's newest record has; None before the first pass. Raises JournalError."""
    record = journal.last(subject_of(log))
    return None if record is None else state_of(record.data)


def write_state(journal: Journal, log: GithubApp | GithubHook, before: LogState | None, state: LogState) -> LogState:
    """Record it, if it is another than before; the state in effect, which is another's if it was recorded meanwhile.

    Raises JournalError.
    """
    if state == before:
        return state
    newest = journal.last(subject_of(log))
    if newest is not None and state_of(newest.data) != before:
        return state_of(newest.data) or state
    entry = Entry(subject_of(log), RECONCILED, data_of(state), expect=0 if newest is None else newest.seq)
    append_known(journal, [entry])  # a conflict is with one that was recorded meanwhile, and that is in effect
    return read_state(journal, log) or state


def read_ledger(journal: Reading, log: GithubApp | GithubHook) -> Ledger | None:
    """The ledger that a log's newest record of it has; None before the first pass. Raises JournalError."""
    record = journal.last(_ledger_subject(log))
    return None if record is None else ledger_of(record.data)


def write_ledger(journal: Journal, log: GithubApp | GithubHook, before: Ledger | None, ledger: Ledger) -> None:
    """Record it, if it is another than before. Write it before the state: a pass goes back as far as both.

    Where another process recorded one meanwhile, that stays. Raises JournalError.
    """
    if before is not None and ledger == before.pruned():
        return
    newest = journal.last(_ledger_subject(log))
    if newest is not None and ledger_of(newest.data) != before:
        return
    data = ledger_records.data_of(ledger)
    append_known(
        journal,
        [Entry(_ledger_subject(log), ledger_records.KIND, data, expect=0 if newest is None else newest.seq)],
    )


def _ledger_subject(log: GithubApp | GithubHook) -> str:
    return ledger_records.PREFIX + digest_of(log)
