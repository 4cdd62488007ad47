"""POST /webhook: bounds the memory of bodies, asks the admission, hands the request to the intake, answers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import falcon

from covenq.config.live import Live
from covenq.http.answers import respond
from covenq.http.counters import AcceptedCounts
from covenq.http.passing import Passing
from covenq.http.server.channel import BEGAN
from covenq.intake import receive, refusal_evidence
from covenq.intake.admission import STANDBY, Admission, ClosedJournal
from covenq.intake.answer import Answer, refuse
from covenq.intake.first_delivery import Lookup
from covenq.intake.refusal_log import Refusals
from covenq.intake.scope_bindings import ScopeBindings
from covenq.intake.twins import Twins
from journal.interface import Submitting

log = logging.getLogger("covenq.delivery")

BODIES_MAX = 32 << 20
"""Bytes of bodies being worked on at a time: decoded, and as a line of the journal, each takes five or six times its size."""

_CANONICAL = {
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


class WeightedSemaphore:
    """A weighted semaphore, in bytes. A request for more than is free waits; one for more than the limit gets it alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._freed = threading.Condition()

    @contextmanager
    def acquired(self, size: int) -> Iterator[None]:
        with self._freed:
            self._freed.wait_for(lambda: self._held == 0 or self._held + size <= self._limit)
            self._held += size
        try:
            yield
        finally:
            with self._freed:
                self._held -= size
                self._freed.notify_all()


@dataclass(frozen=True, slots=True)
class WebhookIntake:
    """What a delivery is received with, whichever way it is answered."""

    journal: Submitting
    admission: Admission
    bindings: ScopeBindings
    live: Live
    lookup: Lookup
    clock: Callable[[], float] = time.time


class AnswerRecorder:
    """Counts the answers to deliveries, and logs refusals."""

    def __init__(self, accepted: AcceptedCounts, refusals: Refusals) -> None:
        self._accepted = accepted
        self._refusals = refusals

    def record(
        self,
        answer: Answer,
        header: Callable[[str], str | None],
        *,
        path: str,
        client: str,
        start: bytes = b"",
    ) -> None:
        """`header` gives one by its name without HTTP_, `start` is the beginning of the body."""
        if answer.refusal is None:
            self._accepted.add(answer.status, answer.body["duplicate"], header("X_GITHUB_EVENT"))
            if log.isEnabledFor(logging.DEBUG):
                ids = {name: answer.body[name] for name in ("delivery", "seq", "state", "tasks", "duplicate")}
                log.debug(
                    "delivery", extra={"fields": {"status": answer.status, "hook": header("X_GITHUB_HOOK_ID"), **ids}}
                )
            return
        self._refusals.note(
            answer.refusal,
            answer.status,
            str(answer.body.get("detail", "")),
            path=path,
            client=client,
            **refusal_evidence.evidence_of(header, start),
        )


class Webhook:
    """The only resource that anyone may post to."""

    def __init__(
        self, intake: WebhookIntake, twins: Twins, recorder: AnswerRecorder, passing: Passing | None = None
    ) -> None:
        """`passing` is where several nodes have the journal, of which one takes deliveries in."""
        self._passing = passing
        self._intake = intake
        self._twins = twins
        self._recorder = recorder
        self._memory = WeightedSemaphore(max(BODIES_MAX, intake.live.now.config.body_limit))

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        size = req.content_length or 0
        headers = _headers_of(req.env)
        with self._memory.acquired(size):
            body = req.env["wsgi.input"].read()
            start = body[: refusal_evidence.BODY_START]
            passed = self._passed(req, headers, body)
            answer = self._answer(headers, body, size) if passed is None else passed
            if passed is None and answer.status == 503 and self._stepped_down():
                passed = self._passed(req, headers, body)
                answer = passed or answer
            del body  # it must be freed before its bytes are given back
        if passed is None or passed.refusal == STANDBY:  # the node that leads has recorded the others
            self._recorder.record(answer, headers.get, path=req.path, client=req.remote_addr, start=start)
        for name, value in answer.headers.items():
            resp.set_header(name, value)
        respond(resp, answer.status, answer.body)

    def _passed(self, req: falcon.Request, headers: Mapping[str, str], body: bytes) -> Answer | None:
        if self._passing is None:
            return None
        began = req.env.get(BEGAN, time.monotonic())
        return self._passing.answer(req.path, headers, canonical_name, body, began)

    def _stepped_down(self) -> bool:
        """Whether another node is to take deliveries in by now: what was refused here is passed on to it."""
        return self._passing is not None and not self._passing.accepts()

    def _answer(self, headers: Mapping[str, str], body: bytes, size: int) -> Answer:
        intake = self._intake
        closed = intake.admission.intake(size)
        live = intake.live.now
        request = receive.Request([(canonical_name(name), value) for name, value in headers.items()], body)
        answer = receive.receive(
            request,
            journal=intake.journal if closed is None else ClosedJournal(intake.journal),
            live=live,
            bindings=intake.bindings,
            lookup=intake.lookup,
            clock=intake.clock,
            twins=self._twins,
        )
        # A request's own faults come first in the table of answers, and what was recorded before is still reported.
        if closed is not None and answer.status == 503:
            word = closed.word if closed.word == "intake_paused" else "intake_closed"
            return refuse(503, word, closed.sentence)
        return answer


def canonical_name(name: str) -> str:
    """A header's name as GitHub spells it, from WSGI's without HTTP_."""
    return _CANONICAL.get(name) or name.replace("_", "-").title()


def _headers_of(env: Mapping[str, str]) -> dict[str, str]:
    """The request's headers in the order in which each first came, by their WSGI names without HTTP_."""
    return {
        name.removeprefix("HTTP_"): value
        for name, value in env.items()
        if name.startswith("HTTP_") or name == "CONTENT_TYPE"
    }
