"""An attempt's token for its work: got before its command starts, released when that has ended; and what comes of having none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from covenq.errors import WorkTokenRefused, WorkTokenUnavailable
from covenq.model import Category
from covenq.tasks.execution.brief import Brief, brief_of
from covenq.tasks.scheduling.claim import Claim
from covenq.tasks.scheduling.outcome import Outcome, Task
from covenq.tasks.tokens.keeper import TokenKeeper
from journal.errors import JournalError, may_pass
from journal.records import Record

DETAIL_MAX = 500


def token_path(tokens: TokenKeeper | None, task: Task, claim: Claim) -> str | None:
    """The path of the file that the attempt's command reads its token from; None where its route has none."""
    if task.policy.token is None or tokens is None:
        return None
    return str(tokens.path_for(task.id, claim.attempt))


def brief_for(tokens: TokenKeeper | None, task: Task, claim: Claim, delivery: Record) -> Brief:
    """The brief of an attempt, with the path of its token's file."""
    return brief_of(task, claim.attempt, claim.fence, delivery, token_path(tokens, task, claim))


def get_token(tokens: TokenKeeper | None, task: Task, claim: Claim, learn: Callable[[bytes], None]) -> Outcome | None:
    """Get it, where the route has one; the outcome of an attempt that gets none. Raises what no journal recovers from.

    Where it can't be noted that there may be a token, none is asked for, and the task is given back.
    """
    if task.policy.token is None:
        return None
    if tokens is None:
        return Outcome(Category.TOKEN, detail="no token can be got here", final=True)
    try:
        tokens.give(task, claim, learn)
    except (WorkTokenRefused, WorkTokenUnavailable) as error:
        return without_token(error)
    except JournalError as error:
        if not may_pass(error):
            raise
        return Outcome(Category.INTERRUPTED, detail="that a token is asked for could not be recorded")
    except OSError as error:
        return Outcome(Category.TOKEN, detail=f"the token's file can't be written: {error.strerror}")
    return None


def without_token(error: WorkTokenRefused | WorkTokenUnavailable) -> Outcome:
    """The outcome of an attempt that GitHub gives no token: final, unless another try may get one."""
    detail = f"{error}. {error.hint}"[:DETAIL_MAX]
    if isinstance(error, WorkTokenRefused):
        return Outcome(Category.TOKEN, detail=detail, final=True)
    return Outcome(Category.TOKEN, detail=detail, retry_after_s=error.retry_after_s)


@contextmanager
def token_released(tokens: TokenKeeper | None, task: Task, claim: Claim) -> Iterator[None]:
    """Release it when the work has ended, however it did."""
    try:
        yield
    finally:
        if tokens is not None and task.policy.token is not None:
            tokens.release(claim.fence)
