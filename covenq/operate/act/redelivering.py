"""The record of what GitHub is about to be asked to send once more, by a command beside the daemon, which alone writes it."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from covenq.config.load import Config
from covenq.errors import NotFound, Refused, UsageError
from covenq.model import at_text
from covenq.operate.answers import AskedDelivery, Redeliveries
from covenq.operate.log_records import read_state, write_state
from covenq.operate.parameters import Reconcile
from covenq.reconcile.log_state import AskedFor, LogState, data_of
from covenq.reconcile.redeliver import OPEN_MAX, PER_PASS
from covenq.text import instant
from journal.interface import Journal


def record_wishes(journal: Journal, config: Config, wanted: Reconcile, clock: Callable[[], float]) -> Redeliveries:
    """Record all of them, or none where one was asked for before, or too many are waited for.

    Raises NotFound for a log that isn't configured, Refused where nothing is asked for, and UsageError.
    """
    log = next((one for one in config.github_logs.all if one.name == wanted.log), None)
    if log is None:
        raise NotFound(f"no delivery log {wanted.log[:80]!r} is configured", hint="covenq status")
    if not config.reconcile.redelivers:
        raise Refused('the daemon asks for no redelivery: [reconcile] mode isn\'t "redeliver"', hint="covenq info")
    if len(wanted.items) > PER_PASS:
        raise UsageError(f"more than {PER_PASS} deliveries at once", hint="Ask for the others once these have come.")
    state = read_state(journal, log)
    if state is None:
        raise Refused("the daemon has no record of that log yet", hint="Try again in a few seconds.")
    now = clock()
    new = [AskedFor(one.guid, one.attempt, instant(one.first_at) or now, now) for one in wanted.items]
    known = {one.guid for one in state.asked}
    fits = len(known) + len(new) <= OPEN_MAX and len({one.guid for one in new} - known) == len(new)
    if not new or not fits:
        return _answer(state, recorded=False)
    after = replace(state, asked=(*state.asked, *new))
    in_effect = write_state(journal, log, state, after)
    return _answer(in_effect, recorded=data_of(in_effect) == data_of(after))


def _answer(state: LogState, *, recorded: bool) -> Redeliveries:
    asked = [
        AskedDelivery(one.guid, one.attempt, at_text(one.first_at), at_text(one.at), one.over) for one in state.asked
    ]
    return Redeliveries(recorded, asked)
