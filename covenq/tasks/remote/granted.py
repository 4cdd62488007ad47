"""What a grant says of the command that is to run: its brief, and how long it may take."""

from __future__ import annotations

from covenq.config.contract import NO_AGENT, Agent
from covenq.github.columns import sender_of
from covenq.model import JsonObject
from covenq.tasks.execution.brief import Brief
from covenq.tasks.execution.session_brief import brief_content
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.remote.client import ClaimGrant


def brief_of(
    grant: ClaimGrant, content_type: str | None, payload: bytes, github_token_file: str | None = None
) -> Brief:
    task = grant.task
    return Brief(
        task=grant.id,
        attempt=grant.attempt,
        fence=grant.fence,
        route=task.get("route"),
        hook=task.get("hook"),
        guid=task.get("guid"),
        seq=task.get("delivery_seq"),
        event=task.get("event"),
        action=task.get("action"),
        repo=task.get("repo"),
        repo_id=task.get("repo_id"),
        sender=sender_of(payload),
        installation=task.get("installation"),
        number=task.get("number"),
        head_sha=task.get("head_sha"),
        ref=task.get("ref"),
        purpose=task.get("purpose"),
        familiar=task.get("familiar"),
        content_type=content_type,
        github_token_file=github_token_file,
    )


def contract_of(grant: ClaimGrant) -> str | None:
    """The contract of its route, by its frozen policy."""
    found = _policy_of(grant).get("contract")
    return found if isinstance(found, str) else None


def content_of_brief(grant: ClaimGrant, brief: Brief, payload: bytes, directory: AttemptDirectory) -> dict[str, object]:
    """What the file that `{brief}` stands for holds."""
    told = _policy_of(grant).get("agent")
    try:
        agent = Agent.from_json(told) if isinstance(told, dict) else NO_AGENT
    except (TypeError, ValueError):
        agent = NO_AGENT
    return brief_content(brief, contract_of(grant), agent, payload, directory)


def _policy_of(grant: ClaimGrant) -> JsonObject:
    policy = grant.task.get("policy")
    return policy if isinstance(policy, dict) else {}


def timeout_of(grant: ClaimGrant) -> float:
    found = _policy_of(grant).get("timeout_s")
    return float(found) if isinstance(found, int | float) and found > 0 else 600.0
