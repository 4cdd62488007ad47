"""What a grant says of the command that is to run: its brief, and how long it may take."""

from __future__ import annotations

from covenq.github.columns import sender_of
from covenq.tasks.execution.brief import Brief
from covenq.tasks.remote.client import ClaimGrant


def brief_of(grant: ClaimGrant, content_type: str | None, payload: bytes) -> Brief:
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
    )


def timeout_of(grant: ClaimGrant) -> float:
    policy = grant.task.get("policy")
    found = policy.get("timeout_s") if isinstance(policy, dict) else None
    return float(found) if isinstance(found, int | float) and found > 0 else 600.0
