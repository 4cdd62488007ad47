"""Every error covenq raises for something a person can cause or mend.

Each has a message (one sentence), an exit code and a hint that says what to type next. The journal's own errors have
the same shape (`journal.errors`), so the faces treat both alike (`Failure`).
"""

from __future__ import annotations

from journal.errors import JournalError


class CovenqError(Exception):
    """Base of all: exit code 1, failed."""

    exit_code = 1
    hint = "Look at `covenq status`."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class UsageError(CovenqError):
    """The words of the call are off: exit code 2."""

    exit_code = 2
    hint = "See `covenq --help`."
    hint_over_http = "See covenq-http(7), or the description at /openapi.json."
    """Said there in the place of `hint`; `covenq.net.http_client` takes it back."""


class ConfigError(UsageError):
    """The configuration can't be used."""

    hint = "Mend the file, or write a new one with `covenq init`."


class FilterError(UsageError):
    """A filter that doesn't parse. `column` is where, counted from 1."""

    hint = "Fields are listed by `covenq deliveries --help`."

    def __init__(self, message: str, *, column: int, hint: str | None = None) -> None:
        super().__init__(f"{message} (column {column})", hint=hint)
        self.column = column


class Ambiguous(UsageError):
    """A GUID that several hooks share."""

    def __init__(self, guid: str, ids: list[str]) -> None:
        super().__init__(f"{guid} is known from several hooks: {', '.join(ids)}", hint=f"Say which: {ids[0]}")
        self.ids = ids


class NotFound(CovenqError):
    """No such delivery, task or attempt: exit code 3."""

    exit_code = 3
    hint = "`covenq deliveries` and `covenq tasks` list what there is."


class Refused(CovenqError):
    """A precondition refuses it: exit code 4."""

    exit_code = 4
    hint = "Look at its state with `covenq show`."


class StaleFence(Refused):
    """A word for a task that is not, or no longer, held by the token that came with it."""

    hint = "Somebody else has the task, or it was ended: drop the work."


class DaemonUnreachable(CovenqError):
    """No daemon answers where one is needed: exit code 6."""

    exit_code = 6
    hint = "Start it with `covenq serve`."


class Damaged(CovenqError):
    """The daemon found the journal damaged: exit code 5. Without a daemon it is `journal.errors.JournalDamaged`."""

    exit_code = 5
    hint = "Run `covenq verify` for the whole list, then `covenq salvage` to see what can be kept."


class PortBusy(CovenqError):
    """The address to listen on is taken."""

    exit_code = 4
    hint = "Choose another with --bind 127.0.0.1:8788 or COVENQ_BIND."


class NotDurable(CovenqError):
    """It could not be made durable: nothing is claimed."""

    hint = "Check disk space and `covenq status`."


Failure = (CovenqError, JournalError)
"""What the faces catch: a sentence, a hint and an exit code, never a traceback."""
