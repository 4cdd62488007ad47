"""The errors of covenq that a person can cause or correct: a one-sentence message, an exit code, a hint of what to do next.

All of them are in this module. The journal's own (`journal.errors`) have the same shape, but a base of their own: the journal
imports nothing of covenq, and who catches JournalError must not catch these. The interfaces treat both alike (`Failure`). What
only one module raises and another catches, and no person ever reads, is a plain Exception where it is raised.
"""

from __future__ import annotations

from journal.errors import JournalError


class CovenqError(Exception):
    """Base class: exit code 1, failed. A subclass inherits the exit code and the hint that it doesn't set."""

    exit_code = 1
    hint = "Look at `covenq status`."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


# ---- exit code 2: the call or its input is wrong


class UsageError(CovenqError):
    """The arguments of a command or a call are wrong."""

    exit_code = 2
    hint = "See `covenq --help`."
    hint_over_http = "See covenq-http(7), or the description at /openapi.json."
    """Given over HTTP instead of `hint`; `covenq.net.http_client` translates it back."""


class BodyTooLarge(UsageError):
    """The body of a call has more bytes than are read of it."""


class ConfigError(UsageError):
    """The configuration can't be used."""

    hint = "Mend the file: covenq.toml(5). `covenq init --config OTHER` writes one to compare it with."


class FilterError(UsageError):
    """A filter that doesn't parse. `column` is where, counted from 1."""

    hint = "Fields are listed by `covenq deliveries --help`."

    def __init__(self, message: str, *, column: int, hint: str | None = None) -> None:
        super().__init__(f"{message} (column {column})", hint=hint)
        self.column = column


class Ambiguous(UsageError):
    """A GUID that several hooks share; `ids` are the deliveries it may mean, as hook/GUID."""

    def __init__(self, guid: str, ids: list[str]) -> None:
        super().__init__(f"{guid} is known from several hooks: {', '.join(ids)}", hint=f"Say which: {ids[0]}")
        self.ids = ids


class AmbiguousRepository(UsageError):
    """A name that several repositories have had; `numbers` are theirs."""

    def __init__(self, name: str, said: str, numbers: list[int]) -> None:
        super().__init__(
            f"{name} has been the name of several repositories: {said}", hint=f"Say which: --repo-id {numbers[0]}"
        )
        self.numbers = numbers


class BadRequest(CovenqError):
    """A request that can't be a delivery.

    `word` is for machines (its hint: `covenq.intake.refusal_hints`), `detail` the message, one sentence for people.
    """

    exit_code = 2
    hint = "Look at the hook's settings and its recent deliveries on GitHub."

    def __init__(self, word: str, detail: str) -> None:
        super().__init__(detail)
        self.word = word
        self.detail = detail


# ---- exit code 3: it doesn't exist


class NotFound(CovenqError):
    """No such delivery, task or attempt."""

    exit_code = 3
    hint = "`covenq deliveries` and `covenq tasks` list what there is."


# ---- exit code 4: a precondition refuses it


class Refused(CovenqError):
    """A precondition doesn't hold."""

    exit_code = 4
    hint = "Look at its state with `covenq show`."


class TokenRefused(Refused):
    """A daemon doesn't take the token, or it is none for this."""


class ScopeInsufficient(Refused):
    """What a token is for doesn't include it."""

    hint = "A token without --installation may: ask whoever runs this covenq."


class StaleFence(Refused):
    """A fencing token that is not, or no longer, the one the task is claimed under."""

    hint = "Somebody else has the task, or it was ended: drop the work."


class PortBusy(Refused):
    """Another program listens on the address."""

    hint = "Choose another with --bind 127.0.0.1:8788 or COVENQ_BIND."


class ExtraMissing(CovenqError):
    """A library that only some need isn't installed."""

    exit_code = 4
    hint = "Install the extra covenq[github]: pip install 'SOURCE[github]', as covenq was installed; `make run` does."


class WorkTokenRefused(Refused):
    """GitHub gives no token for a task's work, and would give none the next time."""

    hint = "Look at the App's permissions, at the installation and its repositories, and at the route's token: covenq.toml(5)."


class GithubRefused(Refused):
    """GitHub refuses what was asked of it, and would again. `status` is that of its answer, where there was one."""

    status: int | None = None

    hint = "Look at [github.app] and [[github.hook]] in the configuration."


class TookTooLong(CovenqError):
    """A page for browsers that would take longer to read than it may."""

    hint = "Narrow the filter: a time (since:1d), a repository, a state."


class TooMany(CovenqError):
    """More of such pages than are read at a time."""

    hint = "Try again in a moment."


class StateLocked(CovenqError):
    """Another process folds state.db, for longer than was waited for it."""

    exit_code = 4
    hint = "Try again when that process has ended."


# ---- exit code 5: integrity


class Damaged(CovenqError):
    """The daemon found the journal damaged. Without a daemon it is `journal.errors.JournalDamaged`."""

    exit_code = 5
    hint = "Run `covenq verify` for the whole list, then `covenq salvage` to see what can be kept."


# ---- exit code 6: no daemon


class DaemonUnreachable(CovenqError):
    """No daemon answers where one is needed."""

    exit_code = 6
    hint = "Start it with `covenq serve`."


class OnAnotherNode(CovenqError):
    """What lies on another node of those that share the journal, and can't be had from there now."""

    exit_code = 6
    hint = "`covenq nodes` shows them."


class NodeTokenMissing(OnAnotherNode):
    """What another node's API has, and gives for a token alone."""


# ---- exit code 1: it failed


class NotDurable(CovenqError):
    """It could not be made durable: nothing is claimed."""

    hint = "Check disk space and `covenq status`."


class StateBehind(CovenqError):
    """The state is behind the journal, for longer than a reader waits."""

    hint = "Nothing is lost: the journal is complete. `covenq doctor` looks for the cause."


class StateUnreadable(CovenqError):
    """state.db is damaged, or can't be read. It is a cache of the journal."""

    hint = "Nothing is lost: the journal is complete. Restart covenq, and a damaged state.db is made anew."


class StateTaken(CovenqError):
    """Another process folded state.db meanwhile, though this one holds the lock: this one writes nothing more to it."""

    hint = "Nothing is lost. See that one covenq alone works on the data directory, and start it again."


class SnapshotUnusable(CovenqError):
    """Another node's state.db can't be had, or nothing can be folded into it."""

    hint = "Nothing is lost: the journal is folded from the start."


class StopAsked(CovenqError):
    """The daemon was asked to stop before it had started."""

    exit_code = 0
    hint = "Start it again: what is durable stays so."


class StateNotAsLeft(CovenqError):
    """What is found of state.db isn't what this daemon's readers have seen of it."""

    hint = "Nothing is lost: restart the daemon, it builds state.db anew."


class DiskFull(CovenqError):
    """The disk has no room for what isn't the journal itself."""

    hint = "Free space on the data directory's disk, and try again."


class ErasurePending(CovenqError):
    """The erasure is recorded, and can't be carried out now."""

    hint = "Free space on the data directory's disk; the daemon goes on by itself, and so does `covenq compact`."


class MaintenanceInterrupted(CovenqError):
    """The daemon stopped in the middle of an erasure or of retention."""

    hint = "What was recorded is finished at the next start."


class BackupListUnreadable(CovenqError):
    """The list of backups isn't what covenq wrote; writing it again would forget the backups it names."""

    hint = "Correct it by hand, or put it aside: what it named is then for you to remember."


class OutgoingFailed(CovenqError):
    """A request to another host got no whole answer. `retry`: it may, if it is made once more.

    `sent`: the other host may have got it. False where no connection came about.
    """

    hint = "Try again when it can be reached."

    def __init__(self, message: str, *, hint: str | None = None, retry: bool = True, sent: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.retry = retry
        self.sent = sent


class GithubLimited(CovenqError):
    """What GitHub, or covenq itself, leaves of requests for now is used up."""

    hint = "Run it again later: what is in the journal by then is not asked for again."

    def __init__(self, message: str, *, hint: str | None = None, until: float | None = None) -> None:
        """`until` is when it may be asked again, in seconds since 1970, where that is known."""
        super().__init__(message, hint=hint)
        self.until = until


class WorkTokenUnavailable(CovenqError):
    """No token for a task's work could be had now. `retry_after_s` is after how long it may be asked again, as GitHub said."""

    hint = "It is tried again as the route's retry says."

    def __init__(self, message: str, *, hint: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class GithubAnswerUnreadable(CovenqError):
    """GitHub's answer isn't what its documentation says."""

    hint = "Is api_url that of GitHub's API, and nothing between that answers for it?"


class Unexpected(CovenqError):
    """What nobody expected: a fault of covenq's own. Where a page is drawn anyway it is a sentence, elsewhere a traceback."""

    hint = "This is a fault in covenq; what else is shown goes on. The command line can do the same."


Failure = (CovenqError, JournalError)
"""What the interfaces catch: a sentence, a hint and an exit code, never a traceback."""
