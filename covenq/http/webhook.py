"""POST /webhook: bound what is in memory, ask the gate, hand the request to the intake, answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import falcon

from covenq import intake
from covenq.gate import ClosedJournal
from covenq.http.answers import say
from covenq.http.parts import Parts

HELD_MAX = 32 << 20
"""Bytes of bodies being worked on at a time: decoded, and as a line of the journal, each takes five or six times its size."""

_NAMES = {
    "CONTENT_TYPE": "Content-Type",
    "HTTP_USER_AGENT": "User-Agent",
    "HTTP_X_GITHUB_DELIVERY": "X-GitHub-Delivery",
    "HTTP_X_GITHUB_EVENT": "X-GitHub-Event",
    "HTTP_X_GITHUB_HOOK_ID": "X-GitHub-Hook-ID",
    "HTTP_X_GITHUB_HOOK_INSTALLATION_TARGET_ID": "X-GitHub-Hook-Installation-Target-ID",
    "HTTP_X_GITHUB_HOOK_INSTALLATION_TARGET_TYPE": "X-GitHub-Hook-Installation-Target-Type",
    "HTTP_X_HUB_SIGNATURE": "X-Hub-Signature",
    "HTTP_X_HUB_SIGNATURE_256": "X-Hub-Signature-256",
}
"""As GitHub spells them: WSGI loses the case."""


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

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._budget = Budget(max(HELD_MAX, parts.config.body_limit))

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        size = req.content_length or 0
        with self._budget.hold(size):
            answer = self._answer(req, size)
        if answer.refusal is not None:
            self._note(req, answer)
        else:
            event = req.env.get("HTTP_X_GITHUB_EVENT")
            self._parts.tally.add(answer.status, answer.body["duplicate"], event)
        for name, value in answer.headers.items():
            resp.set_header(name, value)
        say(resp, answer.status, answer.body)

    def _answer(self, req: falcon.Request, size: int) -> intake.Answer:
        parts = self._parts
        closed = parts.gate.intake(size)
        live = parts.live.now
        request = intake.Request(_headers(req.env), req.env["wsgi.input"].read())
        answer = intake.receive(
            request,
            journal=parts.journal if closed is None else ClosedJournal(parts.journal),
            secrets=live.keys,
            config=live.config,
            lookup=parts.lookup,
            clock=parts.clock,
            twins=parts.twins,
        )
        # A request's own faults come first in the table of answers, and what is known already is still told.
        if closed is not None and answer.status == 503:
            word = closed.word if closed.word == "intake_paused" else "intake_closed"
            return intake.refuse(503, word, closed.sentence)
        return answer

    def _note(self, req: falcon.Request, answer: intake.Answer) -> None:
        env = req.env
        self._parts.refusals.note(
            answer.refusal or "",
            answer.status,
            str(answer.body.get("detail", "")),
            path=req.path,
            delivery=env.get("HTTP_X_GITHUB_DELIVERY"),
            hook=env.get("HTTP_X_GITHUB_HOOK_ID"),
            event=env.get("HTTP_X_GITHUB_EVENT"),
            content_type=env.get("CONTENT_TYPE"),
            client=req.remote_addr,
        )


def _headers(env: Mapping[str, str]) -> list[tuple[str, str]]:
    """The request's headers in the order in which each first came."""
    return [
        (_NAMES.get(name) or name.removeprefix("HTTP_").replace("_", "-").title(), value)
        for name, value in env.items()
        if name.startswith("HTTP_") or name == "CONTENT_TYPE"
    ]
