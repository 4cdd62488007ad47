"""What a status tells that somebody has to do something about: the same for whoever shows it, what can't be had back first.

A new kind of trouble is a line here, and every face has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from covenq.model.pending_status import UnrevokedTokens
from covenq.model.status import Status
from covenq.model.waiting import untold_pauses
from covenq.text import counted, duration, instant

MENDED_LATER = frozenset(
    {"missing", "stuck", "refused", "drift", "paused", "untold", "failing", "standby", "clock", "node"}
)
"""Words of what is wrong, and stops nothing else."""
NOTES = frozenset({"warning", "upkeep", "uninstalled", "token"})


class Trouble(NamedTuple):
    """One thing that is wrong. `text` may hold words of anybody's."""

    word: str
    text: str
    next: str = ""
    """What to do about it, with commands in backticks; empty where the text says it."""

    @property
    def tone(self) -> Literal["bad", "warning", "note"]:
        """Whether it stops something, is mended later, or is only to be known."""
        if self.word in NOTES:
            return "note"
        return "warning" if self.word in MENDED_LATER else "bad"


def troubles(found: Status, now: float) -> Iterator[Trouble]:
    """Those of the status; `now` is seconds since 1970."""
    seen = found.verified
    if seen and not seen.ok:
        more = f", and {seen.findings - 1:,} more" if seen.findings > 1 else ""
        keep = "" if found.journal.engine == "postgres" else "; `covenq salvage` shows what can be kept"
        yield Trouble(
            "damaged", f"found {_ago(seen.at, now)} ago: {seen.first}{more}", f"`covenq verify` lists it all{keep}."
        )
    if found.state.damaged:
        words = "state.db, which a reader came upon: some of what is asked for can't be answered."
        yield Trouble("damaged", words, "Restart covenq, and it is made anew: nothing is lost.")
    if found.journal.database is not None:
        from covenq.model.database_text import database_troubles

        yield from (
            Trouble(*told) for told in database_troubles(found.journal.database, ready=found.ready or found.standby)
        )
    if len(found.nodes) > 1:
        from covenq.model.nodes_text import node_troubles

        yield from (Trouble(*told) for told in node_troubles(found.nodes, now))
    if found.worker is not None and found.worker.error:
        yield Trouble("stopped", f"nothing more is run: {found.worker.error}")
    for loop in found.overdue:
        yield Trouble("overdue", loop.why)
    if found.reconcile is not None and found.reconcile.missing is not None:
        from covenq.model.ledger import missing_text  # imported, here and below, by whoever has something to show of it

        yield Trouble("missing", missing_text(found.reconcile.missing, now))
    for task in found.stuck:
        yield Trouble("stuck", f"{task.task} of {task.route}: {task.why}")
    for secret in found.secrets:
        yield Trouble("unreadable", f"{secret.secret}: {secret.problem}")
    yield from _of_the_configuration(found, now)
    for pause in untold_pauses(found.pauses, found.waiting):
        from covenq.model.pause_text import pause_details, pause_subject

        subject = pause_subject(pause.what, pause.repo or pause.name)
        yield Trouble("paused", f"{subject}, {pause_details(pause.since, pause.by, pause.reason, now)}")
    if found.notify is not None:
        from covenq.model.notices import trouble

        for words in trouble(found.notify, now):
            yield Trouble("untold", words)
    if found.upkeep is not None and found.upkeep.error:
        yield Trouble("upkeep", f"waits: {found.upkeep.error}")
    if found.uninstalls:
        from covenq.model.uninstall_text import uninstall_lines

        yield from (Trouble("uninstalled", *told) for told in uninstall_lines(found.uninstalls, now))
    if found.tokens is not None:
        yield Trouble("token", unrevoked_text(found.tokens))


def unrevoked_text(tokens: UnrevokedTokens) -> str:
    """What may still be used of GitHub's, and until when, in a sentence."""
    shown = ", ".join(tokens.tasks)
    more = " and more" if tokens.attempts > len(tokens.tasks) else ""
    attempts = counted(tokens.attempts, "attempt")
    return (
        f"GitHub's token of {attempts} that ended is not confirmed revoked (task {shown}{more}): "
        f"it expires by itself at {tokens.until[:19]}Z at the latest"
    )


def _of_the_configuration(found: Status, now: float) -> Iterator[Trouble]:
    """What is wrong with the file, and with what GitHub has in its place."""
    reload = found.reload
    if reload is not None and not reload.ok:
        on_disk = f"the configuration as it is on disk ({_ago(reload.at, now)} ago): {reload.error}"
        yield Trouble("refused", on_disk)
    for warning in () if reload is None else reload.warnings:
        yield Trouble("warning", warning)
    drift = None if found.reconcile is None else found.reconcile.drift
    if drift is not None and drift.warnings:
        from covenq.model.drift import drift_rows

        for row in drift_rows(drift.warnings):
            yield Trouble("drift", row)


def _ago(at: str | None, now: float) -> str:
    then = instant(at)
    return at or "" if then is None else duration(max(0.0, now - then))
