"""POST /webhook, the short way (`deferred`): the plain delivery is submitted to the journal as it arrives.

What it holds has a bound: as many bodies as the listener has connections, each up to PLAIN_MAX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from covenq.http.server.deferred import Told
from covenq.http.services import Services
from covenq.http.webhook import note_answer, spelled
from covenq.intake import receive

_TELLING = ("X_GITHUB_", "X_HUB_", "CONTENT_TYPE", "USER_AGENT")
"""How the headers begin that the intake reads or keeps; it would pass over the others."""


class PlainWebhook:
    """See `covenq.http.server.deferred.ShortWay`. What it doesn't take, `covenq.http.webhook.Webhook` answers."""

    path = "/webhook"

    def __init__(self, services: Services) -> None:
        self._services = services

    def begin(
        self, headers: Mapping[str, str], body: bytes, client: str, told: Told, after: Callable[[], None]
    ) -> bool:
        services = self._services
        if services.admission.intake(len(body)) is not None:
            return False
        live = services.live.now
        return receive.submit(
            receive.Request([(spelled(name), headers[name]) for name in headers if name.startswith(_TELLING)], body),
            journal=services.journal,
            secrets=live.keys,
            config=live.config,
            lookup=services.lookup,
            done=lambda submitted: told(_Taken(services, submitted, headers, client)),
            after=after,
            clock=services.clock,
        )

    def go(self) -> None:
        self._services.journal.start_batch()


class _Taken:
    """A delivery that was told what the journal makes of it, and counts as what it is answered."""

    __slots__ = ("_client", "_headers", "_services", "_submitted")

    def __init__(
        self, services: Services, submitted: receive.Submitted, headers: Mapping[str, str], client: str
    ) -> None:
        self._services = services
        self._submitted = submitted
        self._headers = headers
        self._client = client

    @property
    def plain(self) -> bool:
        return self._submitted.plain

    def answer(self) -> receive.Answer:
        answer = self._submitted.answer()
        note_answer(self._services, answer, self._headers.get, path=PlainWebhook.path, client=self._client)
        return answer
