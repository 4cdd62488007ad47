"""The exchange that ends GitHub's manifest flow: a code for the App, with its private key and its webhook secret.

They are in this one answer and are never given again, and the code is good once. So what is missing or odd beside them is no
reason to refuse them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from covenq.config.github_api import CLIENT_ID
from covenq.errors import CovenqError, GithubAnswerUnreadable, GithubRefused, OutgoingFailed
from covenq.github.api_client import Pacing
from covenq.net.outgoing import Answer, OutgoingClient

ANSWER_MAX = 1 << 20
TRIES = 4
"""Of an exchange that got no answer, or 5xx. A code that GitHub took without its answer coming back is refused the next time."""

LOST = "If the App is in your settings on GitHub: delete it there, or make a key for it and add --existing."


@dataclass(frozen=True, slots=True)
class CreatedApp:
    """An App that GitHub has made. Its repr doesn't show what is secret."""

    id: int
    client_id: str | None
    name: str
    page: str
    """Its address at GitHub, as GitHub gives it; empty if it gives none."""
    private_key: bytes = field(repr=False)
    webhook_secret: bytes | None = field(repr=False)
    """None: GitHub made none."""


class _App(Struct):
    id: int
    pem: str
    client_id: str | None = None
    name: str | None = None
    html_url: str | None = None
    webhook_secret: str | None = None


def exchange_code(client: OutgoingClient, code: str, pacing: Pacing) -> CreatedApp:
    """The App of a code, which was checked. Raises GithubRefused, GithubAnswerUnreadable, OutgoingFailed; none quotes it."""
    path = f"/app-manifests/{code}/conversions"
    failures = 0
    while True:
        failed: CovenqError
        try:
            answer = client.ask("POST", path, headers={"Accept": "application/vnd.github+json"}, body_max=ANSWER_MAX)
            if answer.status < 500:
                return _created(answer, client.host)
            failed = OutgoingFailed(f"{client.host} answered {answer.status}", hint=LOST)
        except OutgoingFailed as error:
            failed = OutgoingFailed(str(error), hint=LOST, retry=error.retry)
            if not error.retry:
                raise failed from None
        failures += 1
        if failures >= TRIES:
            raise failed
        pacing.sleep(pacing.backoff_s * (1 << (failures - 1)))


def _created(answer: Answer, host: str) -> CreatedApp:
    if answer.status in (404, 422):
        raise GithubRefused(
            f"{host} does not take the code ({answer.status}): it was used, is over an hour old, or is none", hint=LOST
        )
    if answer.status != 201:
        raise GithubRefused(f"{host} answered {answer.status} to the code, which is no App", hint=LOST)
    try:
        app = msgspec.json.decode(answer.body, type=_App)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise GithubAnswerUnreadable(f"the answer of {host} has no App's id and private key", hint=LOST) from None
    client_id = app.client_id if app.client_id is not None and CLIENT_ID.match(app.client_id) else None
    secret = app.webhook_secret.encode() if app.webhook_secret else None
    return CreatedApp(app.id, client_id, app.name or "", app.html_url or "", app.pem.encode(), secret)
