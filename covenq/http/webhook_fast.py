"""The fast path of POST /webhook (`deferred`): the plain delivery is submitted to the journal as it arrives.

Its memory is bounded: as many bodies as the listener has connections, each up to PLAIN_MAX.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache

from covenq.config.webhook_path import spellings
from covenq.http.passing import Passing
from covenq.http.server.deferred import OnReady
from covenq.http.webhook import AnswerRecorder, WebhookIntake, canonical_name
from covenq.intake import receive
from covenq.intake.answer import Answer

_RELEVANT = ("X_GITHUB_", "X_HUB_", "CONTENT_TYPE", "CONTENT_ENCODING", "USER_AGENT")
"""Prefixes of the headers that the intake reads or keeps; it ignores the others."""


@lru_cache(256)
def _kept(name: str) -> str | None:
    """A header's name as GitHub spells it; None if it is not relevant. The same dozen come with every delivery."""
    return canonical_name(name) if name.startswith(_RELEVANT) else None


class WebhookFastPath:
    """See `covenq.http.server.deferred.FastPath`. `covenq.http.webhook.Webhook` answers what it doesn't take on."""

    def __init__(
        self, intake: WebhookIntake, recorder: AnswerRecorder, path: str, passing: Passing | None = None
    ) -> None:
        """`passing` as `Webhook` takes it, which passes on what was refused here because this node leads no more."""
        self._passing = passing
        self.paths: Collection[str] = frozenset(spellings(path))
        self._path = path
        self._intake = intake
        self._recorder = recorder

    def begin(
        self, headers: Mapping[str, str], body: bytes, client: str, on_ready: OnReady, after_batch: Callable[[], None]
    ) -> bool:
        intake, recorder, path, passing = self._intake, self._recorder, self._path, self._passing
        if intake.admission.intake(len(body)) is not None:
            return False
        live = intake.live.now
        return receive.submit(
            receive.Request([(kept, value) for name, value in headers.items() if (kept := _kept(name))], body),
            journal=intake.journal,
            live=live,
            bindings=intake.bindings,
            lookup=intake.lookup,
            done=lambda submitted: on_ready(_PendingDelivery(recorder, submitted, headers, path, client, passing)),
            after=after_batch,
            clock=intake.clock,
        )

    def flush(self) -> None:
        self._intake.journal.start_batch()


class _PendingDelivery:
    """A submitted delivery whose result is known. It is counted when it is answered."""

    __slots__ = ("_client", "_headers", "_passing", "_path", "_recorder", "_submitted")

    def __init__(
        self,
        recorder: AnswerRecorder,
        submitted: receive.Submitted,
        headers: Mapping[str, str],
        path: str,
        client: str,
        passing: Passing | None,
    ) -> None:
        self._recorder = recorder
        self._submitted = submitted
        self._headers = headers
        self._path = path
        self._client = client
        self._passing = passing

    @property
    def immediate(self) -> bool:
        return self._submitted.plain

    def answer(self) -> Answer | None:
        answer = self._submitted.answer()
        if answer.status == 503 and self._passing is not None and not self._passing.accepts():
            return None
        self._recorder.record(answer, self._headers.get, path=self._path, client=self._client)
        return answer
