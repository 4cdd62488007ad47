"""The session brief of a headless coding agent: what a route of the contract coven-headless/2 writes as its brief.

It says in one object what the agent is to do, about what, and as whom, so that the agent needn't know GitHub's payloads. The
texts in it are GitHub's users', as they came: data, never instructions of the operator's. Its schema is
man/session-brief.schema.json, made from the types here; a field that is added later raises nothing, another meaning raises
`brief_version`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import orjson
from msgspec import Meta, Struct

from covenq.config.contract import Agent
from covenq.model import JsonObject
from covenq.tasks.execution.brief import Brief
from covenq.tasks.execution.workdir import AttemptDirectory

TEXT_MAX = 262_144
"""Characters of a text: GitHub lets a body and a comment have 65,536, and an Enterprise Server may let them have more."""

Text = Annotated[str, Meta(max_length=TEXT_MAX)]


class BriefFamiliar(Struct, frozen=True):
    """Who the agent is: by the configuration."""

    id: str | None
    display_name: str | None
    model: str | None
    skills: list[str]


class BriefTask(Struct, frozen=True):
    """What it is to do. Of `issue_number` and `pr_number` one is there at most."""

    kind: str | None
    """The task's purpose."""
    issue_number: int | None
    pr_number: int | None
    title: Text | None
    """Of the issue or pull request, as is `body`."""
    body: Text | None
    comment_body: Text | None
    """Of the comment or review that asks for it."""
    diff_hunk: Text | None
    label: Text | None
    """The label that was set."""
    reason: str
    """The event and its action: issues.assigned."""


class BriefRepository(Struct, frozen=True):
    id: int | None
    full_name: str | None
    default_branch: Text | None
    clone_url: Text | None
    private: bool | None


class BriefTarget(Struct, frozen=True):
    """What the delivery is about, and at which commit."""

    head_sha: str | None
    ref: str | None
    base_ref: Text | None
    """Of a pull request: the branch that it is to go into."""


class BriefDelivery(Struct, frozen=True):
    hook: str | None
    guid: str | None
    event: str | None
    action: str | None
    sender: str | None
    installation_id: int | None


class BriefPaths(Struct, frozen=True):
    """Files of the attempt: its working directory, the payload as JSON, the received bytes, where the result is to be, and the
    token for its work, which is replaced before it expires."""

    workspace: str
    payload: str
    body: str
    result: str
    token: str | None


class SessionBrief(Struct, frozen=True):
    """session-brief: the content of the file that `{brief}` stands for."""

    contract_version: Literal["2"]
    brief_version: Literal[1]
    session_id: str
    """The task's id: the same for each attempt at it."""
    attempt: int
    fence: str
    familiar: BriefFamiliar
    task: BriefTask
    repository: BriefRepository
    target: BriefTarget
    delivery: BriefDelivery
    paths: BriefPaths


def brief_content(
    brief: Brief, contract: str | None, agent: Agent, payload: bytes, directory: AttemptDirectory
) -> dict[str, object]:
    """What the file that `{brief}` stands for holds: by the route's contract, if it has one."""
    if contract is None:
        return brief.as_json(directory)
    told: dict[str, object] = msgspec.to_builtins(session_brief(brief, agent, payload, directory))
    return told


def contract_environment(contract: str | None, brief: Brief) -> dict[str, str]:
    """What a contract has in a command's environment beside COVENQ_…: the token for its work, as it is when the command starts.

    Agents of this contract look for it there. Nothing else puts a token into an environment, where it is not renewed, and
    where who runs as the same user can read it. Raises OSError.
    """
    if contract is None or brief.github_token_file is None:
        return {}
    return {"COVEN_GIT_TOKEN": Path(brief.github_token_file).read_text("ascii")}


def session_brief(brief: Brief, agent: Agent, payload: bytes, directory: AttemptDirectory) -> SessionBrief:
    """`payload` is the delivery's JSON. What it lacks, or has another type there, is null. Never raises for what is in it."""
    event = _parsed(payload)
    subject, is_pull = _subject(event)
    asked = _object(event.get("comment")) or _object(event.get("review"))
    repository = _object(event.get("repository"))
    base, label = _object(subject.get("base")), _object(event.get("label"))
    return SessionBrief(
        contract_version="2",
        brief_version=1,
        session_id=brief.task,
        attempt=brief.attempt,
        fence=brief.fence,
        familiar=BriefFamiliar(brief.familiar, agent.display_name, agent.model, list(agent.skills)),
        task=BriefTask(
            kind=brief.purpose,
            issue_number=None if is_pull else brief.number,
            pr_number=brief.number if is_pull else None,
            title=_text(subject.get("title")),
            body=_text(subject.get("body")),
            comment_body=_text(asked.get("body")),
            diff_hunk=_text(asked.get("diff_hunk")),
            label=_text(label.get("name")),
            reason=".".join(word for word in (brief.event, brief.action) if word),
        ),
        repository=BriefRepository(
            id=brief.repo_id,
            full_name=brief.repo,
            default_branch=_text(repository.get("default_branch")),
            clone_url=_text(repository.get("clone_url")),
            private=repository.get("private") if isinstance(repository.get("private"), bool) else None,
        ),
        target=BriefTarget(brief.head_sha, brief.ref, _text(base.get("ref"))),
        delivery=BriefDelivery(brief.hook, brief.guid, brief.event, brief.action, brief.sender, brief.installation),
        paths=BriefPaths(
            str(directory.path),
            str(directory.payload),
            str(brief.body(directory)),
            str(directory.result),
            brief.github_token_file,
        ),
    )


def _parsed(payload: bytes) -> JsonObject:
    """The payload, which the intake took for an object; empty where it is none, of a journal of another make."""
    try:
        return _object(orjson.loads(payload))
    except ValueError:
        return {}


def _subject(event: JsonObject) -> tuple[JsonObject, bool]:
    """The issue or pull request that it is about, and whether it is a pull request: comments on one come as an issue's."""
    pull = _object(event.get("pull_request"))
    if pull:
        return pull, True
    issue = _object(event.get("issue"))
    return issue, bool(_object(issue.get("pull_request")))


def _object(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value[:TEXT_MAX] if isinstance(value, str) else None
