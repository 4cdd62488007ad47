"""A worker's way to the node that leads, among several that share a journal.

Only that one hands out tasks and records how they end. So each request goes to the node that answered last, and where that gives
no answer, or stands by, to the others in turn. Which one it is, is known to all of a worker's threads.

A request may so be made twice. Every one but a claim is idempotent, at whatever node: the journal knows what was recorded. A
claim of which the answer was lost costs the wait until its lease runs out.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from covenq.errors import CovenqError, DaemonUnreachable, TokenRefused
from covenq.net.address import Remote
from covenq.net.http_client import TIMEOUT_S
from covenq.tasks.remote.client import ClaimsClient
from covenq.text import one_line
from journal.errors import JournalClosed, JournalError, JournalPoisoned, JournalUnavailable

WAIT_PART = 6
"""Of its lease, the part that a worker waits for the answer of one node before it asks another."""
WAIT_S = (1.0, 10.0)
"""The shortest and the longest of these waits, in seconds."""
PROBLEM_MAX = 200
"""Characters of why a node was passed over."""

_ELSEWHERE = (DaemonUnreachable, JournalUnavailable, JournalPoisoned, JournalClosed, TokenRefused)
"""Errors of a node after which another may do what was asked."""

log = logging.getLogger("covenq.worker")


def wait_of(lease_s: float) -> float:
    """How long each node is waited for: a node that hangs must leave time for the next, before the lease is over."""
    return min(max(lease_s / WAIT_PART, WAIT_S[0]), WAIT_S[1])


class LeadingNode:
    """Which of the nodes is asked first. From any thread."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = tuple(addresses)
        self._lock = threading.Lock()
        self._index = 0
        self._last: int | None = None
        """The one that answered last."""

    @property
    def index(self) -> int:
        return self._index

    def answered(self, index: int) -> None:
        with self._lock:
            before, self._last, self._index = self._last, index, index
        if before is not None and before != index:
            log.warning("%s is asked from now on: it leads", self._addresses[index])

    def silent(self, index: int) -> None:
        """It gave no answer: the next one is asked first from now on."""
        with self._lock:
            if self._index == index:
                self._index = (index + 1) % len(self._addresses)


def connecting(targets: Sequence[Path | Remote], lease_s: float) -> Callable[[], ClaimsClient]:
    """What makes the client of each thread of a worker."""
    remotes = [one for one in targets if isinstance(one, Remote)]
    if len(remotes) < 2:
        return lambda: ClaimsClient(targets[0])
    leading = LeadingNode([one.url for one in remotes])
    return lambda: NodesClient(remotes, leading, timeout=wait_of(lease_s))


class NodesClient(ClaimsClient):
    """A client of whichever of several nodes leads. For one thread. Raises as ClaimsClient; if none leads DaemonUnreachable."""

    def __init__(
        self,
        targets: Sequence[Remote],
        leading: LeadingNode,
        *,
        timeout: float = TIMEOUT_S,
        env: Mapping[str, str] = os.environ,
    ) -> None:
        """`leading` is shared by the clients of one worker. `timeout` and `env` as Client takes them."""
        super().__init__(targets[0], timeout=timeout, env=env)
        self._leading = leading
        self._clients = [ClaimsClient(one, timeout=timeout, env=env) for one in targets]

    def close(self) -> None:
        for one in self._clients:
            one.close()

    def _ask(self, method: str, target: str, body: bytes | None = None, timeout: float | None = None) -> bytes:
        first, errors = self._leading.index, dict[str, CovenqError | JournalError]()
        for turn in range(len(self._clients)):
            index = (first + turn) % len(self._clients)
            client = self._clients[index]
            try:
                answer = client.ask(method, target, body, timeout)
            except _ELSEWHERE as error:
                errors[client.where] = error
                if isinstance(error, DaemonUnreachable):
                    self._leading.silent(index)
                continue
            if method == "POST":  # what only reads is answered by every node
                self._leading.answered(index)
            self.answer_type, self.not_pulled = client.answer_type, client.not_pulled
            return answer
        raise _none_leads(errors)


def _none_leads(errors: Mapping[str, CovenqError | JournalError]) -> CovenqError:
    """One error for all: that of a token only where no node takes it, since those that wait for it to be mended wait for all."""
    refused = [error for error in errors.values() if isinstance(error, TokenRefused)]
    if len(refused) == len(errors):
        return refused[0]
    told = "; ".join(
        one_line(str(error) if isinstance(error, DaemonUnreachable) else f"{where}: {error}", PROBLEM_MAX)
        for where, error in errors.items()
    )
    return DaemonUnreachable(f"no node that leads answers: {told}")
