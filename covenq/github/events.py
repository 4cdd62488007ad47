"""The events that GitHub documents: their actions, what they are about, and which columns their payloads can have.

For counts by event, which stay bounded; for the column `target`; and for `covenq routes check`, which names what can't match.
It is no gate: a signed delivery may be of any event, of any action. Gathered from GitHub's public documentation of webhook
events on 2026-11-29, with what it once documented.
"""

from __future__ import annotations

from collections.abc import Mapping

from covenq.model import Target

OTHER = "other"
"""What any other event is counted as."""

ANY = "*"
"""For the actions of an event that its sender names."""

_ACTIONS = """
branch_protection_configuration disabled enabled
branch_protection_rule created deleted edited
bypass_request_push_ruleset cancelled completed created
bypass_request_secret_scanning created response_submitted
check_run completed created requested_action rerequested
check_suite completed requested rerequested
code_scanning_alert appeared_in_branch closed_by_user created fixed reopened reopened_by_user updated_assignment
commit_comment created
create
custom_property created deleted promote_to_enterprise updated
custom_property_values updated
delete
dependabot_alert assignees_changed auto_dismissed auto_reopened created dismissed fixed reintroduced reopened
deploy_key created deleted
deployment created
deployment_protection_rule requested
deployment_review approved rejected requested
deployment_status created
discussion answered category_changed closed created deleted edited labeled locked pinned reopened transferred unanswered
    unlabeled unlocked unpinned
discussion_comment created deleted edited
dismissal_request_code_scanning cancelled created response_submitted
dismissal_request_dependabot cancelled created response_submitted
dismissal_request_secret_scanning cancelled completed created response_submitted
exemption_request_push_ruleset cancelled completed created response_submitted
fork
github_app_authorization revoked
gollum
installation created deleted new_permissions_accepted suspend unsuspend
installation_repositories added removed
installation_target renamed
issue_comment created deleted edited pinned unpinned
issue_dependencies blocked_by_added blocked_by_removed blocking_added blocking_removed
issues assigned closed deleted demilestoned edited labeled locked milestoned opened pinned reopened transferred typed
    unassigned unlabeled unlocked unpinned untyped
label created deleted edited
marketplace_purchase cancelled changed pending_change pending_change_cancelled purchased
member added edited removed
membership added removed
merge_group checks_requested destroyed
meta deleted
milestone closed created deleted edited opened
org_block blocked unblocked
organization deleted member_added member_invited member_removed renamed
organization_custom_property created deleted updated
organization_custom_property_values updated
package published updated
page_build
personal_access_token_request approved cancelled created denied
ping
project closed created deleted edited reopened
project_card converted created deleted edited moved
project_column created deleted edited moved
projects_v2 closed created deleted edited reopened
projects_v2_item archived converted created deleted edited reordered restored
projects_v2_status_update created deleted edited
public
pull_request assigned auto_merge_disabled auto_merge_enabled closed converted_to_draft demilestoned dequeued edited enqueued
    labeled locked milestoned opened ready_for_review reopened review_request_removed review_requested synchronize unassigned
    unlabeled unlocked
pull_request_review dismissed edited submitted
pull_request_review_comment created deleted edited
pull_request_review_thread resolved unresolved
push
registry_package published updated
release created deleted edited prereleased published released unpublished
repository archived created deleted edited privatized publicized renamed transferred unarchived
repository_advisory published reported
repository_dispatch *
repository_import
repository_ruleset created deleted edited
repository_vulnerability_alert create dismiss reopen resolve
secret_scanning_alert assigned created publicly_leaked reopened resolved revoked unassigned validated
secret_scanning_alert_location created
secret_scanning_scan completed
security_advisory performed published updated withdrawn
security_and_analysis
sponsorship cancelled created edited pending_cancellation pending_tier_change tier_changed
star created deleted
status
sub_issues parent_issue_added parent_issue_removed sub_issue_added sub_issue_removed
team added_to_repository created deleted edited removed_from_repository
team_add
watch started
workflow_dispatch
workflow_job completed in_progress queued waiting
workflow_run completed in_progress requested
"""
"""An event a line, with its actions; what is indented belongs to the line before."""


def _table() -> dict[str, frozenset[str]]:
    lines = (line.split() for line in _ACTIONS.replace("\n    ", " ").split("\n") if line)
    return {event: frozenset(actions) for event, *actions in lines}


ACTIONS: Mapping[str, frozenset[str]] = _table()
"""Event to its actions; none for an event whose payload has no `action`."""

EVENTS = frozenset(ACTIONS)

_PULL = "pull_request pull_request_review pull_request_review_comment pull_request_review_thread"
_RUNS = "check_run check_suite deployment deployment_protection_rule deployment_review deployment_status merge_group workflow_run"
_ISSUES = "issue_comment issue_dependencies issues sub_issues"
_DISCUSSION = "discussion discussion_comment"

TARGETS: Mapping[str, str] = {
    event: target.value
    for target, events in {
        Target.ISSUE: _ISSUES,
        Target.PULL: _PULL,
        Target.DISCUSSION: _DISCUSSION,
        Target.COMMIT: f"{_RUNS} commit_comment page_build push status workflow_job",
        Target.RELEASE: "release",
        Target.MILESTONE: "milestone",
        Target.LABEL: "label",
        Target.PACKAGE: "package registry_package",
        Target.ALERT: (
            "code_scanning_alert dependabot_alert repository_vulnerability_alert secret_scanning_alert "
            "secret_scanning_alert_location"
        ),
        Target.ADVISORY: "repository_advisory security_advisory",
        Target.PROJECT: (
            "project project_card project_column projects_v2 projects_v2_item projects_v2_status_update"
        ),
        Target.REPOSITORY: (
            "branch_protection_configuration branch_protection_rule custom_property_values deploy_key fork gollum public "
            "repository repository_import repository_ruleset secret_scanning_scan security_and_analysis star watch"
        ),
        Target.INSTALLATION: "installation installation_repositories installation_target",
    }.items()
    for event in events.split()
}  # fmt: skip
"""Event to the kind of what it is about. An event that isn't here is about none of these, or its payload says."""

_WITHOUT_REPO = frozenset(
    """custom_property github_app_authorization installation installation_repositories installation_target
    marketplace_purchase membership org_block organization organization_custom_property organization_custom_property_values
    personal_access_token_request projects_v2 projects_v2_item projects_v2_status_update security_advisory sponsorship""".split()
)
_WITH = {
    "number": f"{_ISSUES} {_PULL} {_DISCUSSION} {_RUNS}",
    "head_sha": f"{_PULL} {_RUNS} code_scanning_alert commit_comment page_build push status workflow_job",
    "ref": f"{_PULL} {_RUNS} code_scanning_alert create delete push repository_dispatch workflow_dispatch workflow_job",
    "label": f"{_ISSUES} {_PULL} {_DISCUSSION} label",
    "target": " ".join((*TARGETS, "create", "delete")),
}

COLUMNS: Mapping[str, frozenset[str]] = {
    "repo": EVENTS - _WITHOUT_REPO,
    "repo_id": EVENTS - _WITHOUT_REPO,
    "action": frozenset(event for event, actions in ACTIONS.items() if actions),
    **{column: frozenset(events.split()) for column, events in _WITH.items()},
}
"""Column to the events whose payloads can have it. Of `label`, also those that only have the labels of what they are about."""
