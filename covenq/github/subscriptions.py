"""The events that a GitHub App subscribes to, and the permission that each needs.

An App gets no event without the permission to read what it is about. The table is GitHub's own, "To subscribe to this event, a
GitHub App must have …", with the names that permissions have in the API (published documents of 2026-11).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from covenq.config.route import Route
from covenq.config.work_token import LEVELS
from covenq.filter.tree import Match
from covenq.github.events import EVENTS

DEFAULT_EVENTS = frozenset({"issues", "issue_comment", "pull_request", "push"})
"""What an App is subscribed to where no route says which events are wanted."""

UNASKED = frozenset(
    {"github_app_authorization", "installation", "installation_repositories", "installation_target", "ping"}
)
"""What every App gets, and none subscribes to."""

_EVENTS_BY_PERMISSION = {
    "actions": "workflow_job workflow_run",
    "administration": "branch_protection_configuration branch_protection_rule repository_ruleset security_and_analysis",
    "checks": "check_run check_suite",
    "contents": "commit_comment create delete fork gollum push release repository_dispatch workflow_dispatch",
    "deployments": (
        "deploy_key deployment deployment_protection_rule deployment_review deployment_status"
    ),
    "discussions": "discussion discussion_comment",
    "issues": "issue_comment issue_dependencies issues milestone sub_issues",
    "members": "member membership organization team team_add",
    "merge_queues": "merge_group",
    "metadata": "label public repository star watch",
    "organization_administration": "org_block",
    "organization_custom_properties": "custom_property custom_property_values",
    "organization_personal_access_token_requests": "personal_access_token_request",
    "packages": "package registry_package",
    "pages": "page_build",
    "pull_requests": "pull_request pull_request_review pull_request_review_comment pull_request_review_thread",
    "secret_scanning_alerts": "secret_scanning_alert secret_scanning_alert_location secret_scanning_scan",
    "security_events": "code_scanning_alert",
    "statuses": "status",
    "vulnerability_alerts": "dependabot_alert",
}  # fmt: skip

PERMISSIONS: Mapping[str, str] = {
    event: permission for permission, events in _EVENTS_BY_PERMISSION.items() for event in events.split()
}
"""Event to the permission that it needs, to read. What isn't here no manifest can ask for with certainty."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """`events` with the `permissions` for them; `left_out` is what is wanted and has to be chosen on the App's page."""

    events: tuple[str, ...]
    permissions: Mapping[str, str]
    left_out: tuple[str, ...] = ()


def subscription(routes: Sequence[Route]) -> Subscription:
    """What the routes' filters and tokens ask for; of a route that names no event, and without routes, DEFAULT_EVENTS."""
    wanted = frozenset[str]().union(*(_events_of(route) for route in routes)) if routes else DEFAULT_EVENTS
    events = sorted(wanted & PERMISSIONS.keys())
    names = {"metadata", *(PERMISSIONS[event] for event in events)}  # metadata: GitHub adds it to any other
    permissions = dict.fromkeys(names, LEVELS[0])
    for name, level in (one for route in routes if route.token is not None for one in route.token.permissions):
        permissions[name] = max(level, permissions.get(name, LEVELS[0]), key=LEVELS.index)
    left_out = sorted(wanted - PERMISSIONS.keys() - UNASKED)
    return Subscription(tuple(events), dict(sorted(permissions.items())), tuple(left_out))


def _events_of(route: Route) -> frozenset[str]:
    """The events that its terms on event name; what one only denies names none."""
    terms = [node for node in route.filter.node.nodes if isinstance(node, Match) and node.field == "event"]
    if not terms:
        return DEFAULT_EVENTS
    known = EVENTS | frozenset(_literals(terms))
    return frozenset(
        event for event in known if all(any(pattern.matches(event) for pattern in term.patterns) for term in terms)
    )


def _literals(terms: Iterable[Match]) -> Iterable[str]:
    return (pattern.literal for term in terms for pattern in term.patterns if pattern.literal is not None)
