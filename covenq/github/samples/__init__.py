"""Sample deliveries of the common events, as GitHub shapes them, about an invented organization.

`covenq send` posts them, the demonstration streams them, and the tests read columns from them. They are written for
covenq; nothing in them was ever anyone's data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import orjson

from covenq.errors import NotFound
from covenq.github.request import SENDER
from covenq.github.samples import code, issues, pulls, repositories
from covenq.github.signature import sign
from covenq.model import JsonObject


class Builder(Protocol):
    """Makes a payload. `n` is the number that ids, titles and commits come from; `action` chooses among the event's actions, of
    which each builder has a usual one."""

    def __call__(self, n: int = 1, action: str | None = None) -> JsonObject: ...


SAMPLES: dict[str, Builder] = {
    "check_run": code.check_run,
    "check_suite": code.check_suite,
    "commit_comment": code.commit_comment,
    "create": code.create,
    "delete": code.delete,
    "deployment": code.deployment,
    "deployment_status": code.deployment_status,
    "discussion": issues.discussion,
    "discussion_comment": issues.discussion_comment,
    "fork": repositories.fork,
    "gollum": repositories.gollum,
    "installation": repositories.installation,
    "installation_repositories": repositories.installation_repositories,
    "issue_comment": issues.issue_comment,
    "issues": issues.issues,
    "label": issues.label,
    "member": repositories.member,
    "merge_group": code.merge_group,
    "milestone": issues.milestone,
    "organization": repositories.organization_event,
    "ping": repositories.ping,
    "public": repositories.public,
    "pull_request": pulls.pull_request,
    "pull_request_review": pulls.pull_request_review,
    "pull_request_review_comment": pulls.pull_request_review_comment,
    "pull_request_review_thread": pulls.pull_request_review_thread,
    "push": code.push,
    "release": repositories.release,
    "repository": repositories.repository_event,
    "repository_dispatch": code.repository_dispatch,
    "star": repositories.star,
    "status": code.status,
    "watch": repositories.watch,
    "workflow_dispatch": code.workflow_dispatch,
    "workflow_job": code.workflow_job,
    "workflow_run": code.workflow_run,
}
"""Event name → builder."""

HOOK = "446581321"
"""The hook id samples are sent under unless another is given."""


def hook_for(allowed: Sequence[str]) -> str:
    """The hook id to send a sample under where only these may deliver, or any where there are none."""
    return allowed[0] if allowed and HOOK not in allowed else HOOK


def body(event: str, n: int = 1, action: str | None = None) -> bytes:
    """The bytes of a sample delivery, as GitHub would write them: compact, UTF-8. Raises NotFound."""
    if event not in SAMPLES:
        raise NotFound(f"there is no sample of {event[:64]!r}", hint=f"There are: {', '.join(SAMPLES)}.")
    return orjson.dumps(SAMPLES[event](n, action))


def headers(
    event: str, guid: str, hook: str | None, body: bytes, secret: bytes | None, *, form: bool = False
) -> dict[str, str]:
    """The headers GitHub sends with `body`, signed with `secret` (None: unsigned, to see it refused).

    `hook` None leaves the hook's id out, as some relays do.
    """
    made = {
        "Accept": "*/*",
        "Content-Type": "application/x-www-form-urlencoded" if form else "application/json",
        "User-Agent": SENDER,
        "X-GitHub-Delivery": guid,
        "X-GitHub-Event": event,
    }
    if hook is not None:
        made |= {
            "X-GitHub-Hook-ID": hook,
            "X-GitHub-Hook-Installation-Target-ID": "271828182",
            "X-GitHub-Hook-Installation-Target-Type": "repository",
        }
    if secret is not None:
        made["X-Hub-Signature-256"] = sign(secret, body)
    return made
