"""The tokens of the tasks that a worker has in hand: got from the daemon by the fence, put into files, renewed.

The daemon revokes them, whatever becomes of the worker: here they are only in the file that a command reads, below the
worker's own directory and outside the command's, and that goes when the command has ended. A thread of its own renews them,
for a daemon that waits for GitHub must hold up no lease.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from covenq.errors import CovenqError, StaleFence, WorkTokenRefused, WorkTokenUnavailable
from covenq.model import Category
from covenq.tasks.execution.attempt_token import DETAIL_MAX, without_token
from covenq.tasks.remote.client import ClaimGrant, ClaimsClient
from covenq.tasks.scheduling.outcome import Outcome
from covenq.tasks.tokens import given
from journal.errors import JournalError

log = logging.getLogger("covenq.worker")

TICK_S = 1.0
AGAIN_S = 30.0
"""Seconds after which it is asked again for a token that could not be renewed."""
_TOKEN = re.compile(r"[!-~]{1,4096}\Z")
_RENEW_MAX_S = 86_400.0


@dataclass(eq=False, slots=True)
class _Held:
    """The token of a task, by the monotonic clock."""

    grant: ClaimGrant
    path: Path
    learn: Callable[[bytes], None]
    renew_at: float


@dataclass(frozen=True, slots=True)
class Got:
    """What came of asking for one. `outcome`: that of the attempt, which gets none."""

    outcome: Outcome | None = None


class WorkerTokens:
    """Methods from any thread."""

    def __init__(self, work: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`work` is the worker's own directory."""
        self._directory = work / "github-tokens"
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        given.clear(self._directory)

    def path_for(self, grant: ClaimGrant) -> str | None:
        """The file that the task's command reads; None where its route has no token."""
        policy = grant.task.get("policy")
        if not isinstance(policy, Mapping) or not policy.get("token"):
            return None
        return str(given.path_of(self._directory, grant.id, grant.attempt))

    def get(self, client: ClaimsClient, grant: ClaimGrant, learn: Callable[[bytes], None]) -> Got:
        """Ask for the token of a task whose route has one, and write it. Raises as the client does, but for a daemon's no."""
        path = self.path_for(grant)
        if path is None:
            return Got()
        held = _Held(grant, Path(path), learn, 0.0)
        try:
            self._ask(client, held)
        except (WorkTokenRefused, WorkTokenUnavailable) as error:
            return Got(without_token(error))
        except StaleFence:
            raise
        except OSError as error:
            return Got(Outcome(Category.INTERRUPTED, detail=f"its token's file can't be written: {error.strerror}"))
        with self._lock:
            self._held[grant.id] = held
        return Got()

    def remove(self, grant: ClaimGrant) -> None:
        """The command has ended, or was not started."""
        with self._lock:
            held = self._held.pop(grant.id, None)
        if held is not None:
            given.remove(held.path)

    @contextmanager
    def renewing(self, connect: Callable[[], ClaimsClient]) -> Iterator[None]:
        """Renew them meanwhile, by a client of the thread's own."""
        ended = threading.Event()
        thread = threading.Thread(target=self._run, args=(connect, ended), name="tokens", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()

    def _run(self, connect: Callable[[], ClaimsClient], ended: threading.Event) -> None:
        client: ClaimsClient | None = None
        while not ended.wait(TICK_S):
            with self._lock:
                due = [one for one in self._held.values() if self._monotonic() >= one.renew_at]
            for one in due:
                client = client or connect()
                self.renew(client, one.grant.id)
        if client is not None:
            client.close()

    def renew(self, client: ClaimsClient, task: str) -> None:
        """Ask for another one, or later: the one that it has is good for a while."""
        with self._lock:
            held = self._held.get(task)
        if held is None:
            return
        try:
            self._ask(client, held)
        except (CovenqError, JournalError, OSError) as error:
            held.renew_at = self._monotonic() + AGAIN_S
            log.warning("the token of task %s is not renewed: %s", task, str(error)[:DETAIL_MAX])
        with self._lock:
            gone = self._held.get(task) is not held
        if gone:  # its command has ended meanwhile
            given.remove(held.path)

    def _ask(self, client: ClaimsClient, held: _Held) -> None:
        asked_at = self._monotonic()
        answer = client.report(held.grant, "token")
        token, after = answer.get("token"), answer.get("renew_after_s")
        if not isinstance(token, str) or not _TOKEN.match(token) or not isinstance(after, int | float):
            raise WorkTokenUnavailable(f"{client.where} answered with no token")
        held.learn(token.encode("ascii"))
        given.write(held.path, token)
        held.renew_at = asked_at + min(max(float(after), TICK_S), _RENEW_MAX_S)
