"""The fast path of POST /webhook (`deferred`): the plain delivery is submitted to the journal as it arrives.

Its memory is bounded: as many bodies as the listener has connections, each up to PLAIN_MAX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from covenq.http.server.deferred import OnReady
from covenq.http.services import Services
from covenq.http.webhook import canonical_name, record_answer
from covenq.intake import receive

_RELEVANT = ("X_GITHUB_", "X_HUB_", "CONTENT_TYPE", "USER_AGENT")
"""Prefixes of the headers that the intake reads or keeps; it ignores the others."""


class WebhookFastPath:
    """See `covenq.http.server.deferred.FastPath`. `covenq.http.webhook.Webhook` answers what it doesn't take on."""

    path = "/webhook"

    def __init__(self, services: Services) -> None:
        self._services = services

    def begin(
        self, headers: Mapping[str, str], body: bytes, client: str, on_ready: OnReady, after_batch: Callable[[], None]
    ) -> bool:
        services = self._services
        if services.admission.intake(len(body)) is not None:
            return False
        live = services.live.now
        return receive.submit(
            receive.Request(
                [(canonical_name(name), headers[name]) for name in headers if name.startswith(_RELEVANT)], body
            ),
            journal=services.journal,
            secrets=live.keys,
            config=live.config,
            lookup=services.lookup,
            done=lambda submitted: on_ready(_PendingDelivery(services, submitted, headers, client)),
            after=after_batch,
            clock=services.clock,
        )

    def flush(self) -> None:
        self._services.journal.start_batch()


class _PendingDelivery:
    """A submitted delivery whose result is known. It is counted when it is answered."""

    __slots__ = ("_client", "_headers", "_services", "_submitted")

    def __init__(
        self, services: Services, submitted: receive.Submitted, headers: Mapping[str, str], client: str
    ) -> None:
        self._services = services
        self._submitted = submitted
        self._headers = headers
        self._client = client

    @property
    def immediate(self) -> bool:
        return self._submitted.plain

    def answer(self) -> receive.Answer:
        answer = self._submitted.answer()
        record_answer(self._services, answer, self._headers.get, path=WebhookFastPath.path, client=self._client)
        return answer
