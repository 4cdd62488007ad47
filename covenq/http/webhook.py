"""POST /webhook: bound what is in memory, ask the gate, hand the request to the intake, answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import falcon

from covenq.http.answers import say
from covenq.http.services import Services
from covenq.intake import receive, refusal_evidence
from covenq.intake.admission import ClosedJournal

log = logging.getLogger("covenq.delivery")

HELD_MAX = 32 << 20
"""Bytes of bodies being worked on at a time: decoded, and as a line of the journal, each takes five or six times its size."""

_NAMES = {
    "CONTENT_TYPE": "Content-Type",
    "USER_AGENT": "User-Agent",
    "X_GITHUB_DELIVERY": "X-GitHub-Delivery",
    "X_GITHUB_EVENT": "X-GitHub-Event",
    "X_GITHUB_HOOK_ID": "X-GitHub-Hook-ID",
    "X_GITHUB_HOOK_INSTALLATION_TARGET_ID": "X-GitHub-Hook-Installation-Target-ID",
    "X_GITHUB_HOOK_INSTALLATION_TARGET_TYPE": "X-GitHub-Hook-Installation-Target-Type",
    "X_HUB_SIGNATURE": "X-Hub-Signature",
    "X_HUB_SIGNATURE_256": "X-Hub-Signature-256",
}
"""As GitHub spells them: WSGI loses the case, and puts HTTP_ before all but the content's."""


class Budget:
    """Bytes that may be held at a time. Who wants more waits; who alone wants more than all there is gets it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._freed = threading.Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        with self._freed:
            self._freed.wait_for(lambda: self._held == 0 or self._held + size <= self._limit)
            self._held += size
        try:
            yield
        finally:
            with self._freed:
                self._held -= size
                self._freed.notify_all()


class Webhook:
    """The one resource that the world may post to."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._budget = Budget(max(HELD_MAX, services.config.body_limit))

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        size = req.content_length or 0
        headers = _named(req.env)
        with self._budget.hold(size):
            body = req.env["wsgi.input"].read()
            start = body[: refusal_evidence.BODY_START]
            answer = self._answer(headers, body, size)
            del body  # what is counted as held is held no longer
        note_answer(self._services, answer, headers.get, path=req.path, client=req.remote_addr, start=start)
        for name, value in answer.headers.items():
            resp.set_header(name, value)
        say(resp, answer.status, answer.body)

    def _answer(self, headers: Mapping[str, str], body: bytes, size: int) -> receive.Answer:
        services = self._services
        closed = services.admission.intake(size)
        live = services.live.now
        request = receive.Request([(spelled(name), value) for name, value in headers.items()], body)
        answer = receive.receive(
            request,
            journal=services.journal if closed is None else ClosedJournal(services.journal),
            secrets=live.keys,
            config=live.config,
            lookup=services.lookup,
            clock=services.clock,
            twins=services.twins,
        )
        # A request's own faults come first in the table of answers, and what is known already is still told.
        if closed is not None and answer.status == 503:
            word = closed.word if closed.word == "intake_paused" else "intake_closed"
            return receive.refuse(503, word, closed.sentence)
        return answer


def note_answer(
    services: Services,
    answer: receive.Answer,
    header: Callable[[str], str | None],
    *,
    path: str,
    client: str,
    start: bytes = b"",
) -> None:
    """Count an answer to a delivery, and log it if it is a refusal. `header` gives one by its name without HTTP_, `start` is
    the beginning of the body."""
    if answer.refusal is None:
        services.accepted.add(answer.status, answer.body["duplicate"], header("X_GITHUB_EVENT"))
        if log.isEnabledFor(logging.DEBUG):
            ids = {name: answer.body[name] for name in ("delivery", "seq", "state", "tasks", "duplicate")}
            log.debug(
                "delivery", extra={"fields": {"status": answer.status, "hook": header("X_GITHUB_HOOK_ID"), **ids}}
            )
        return
    services.refusals.note(
        answer.refusal,
        answer.status,
        str(answer.body.get("detail", "")),
        path=path,
        client=client,
        **refusal_evidence.of(header, start),
    )


def spelled(name: str) -> str:
    """A header's name as it is written, from WSGI's spelling without HTTP_."""
    return _NAMES.get(name) or name.replace("_", "-").title()


def _named(env: Mapping[str, str]) -> dict[str, str]:
    """The request's headers in the order in which each first came, by their names without HTTP_."""
    return {
        name.removeprefix("HTTP_"): value
        for name, value in env.items()
        if name.startswith("HTTP_") or name == "CONTENT_TYPE"
    }
