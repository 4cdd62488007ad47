"""Deliveries of every event that GitHub documents, with the columns each must have. Ours, about an invented organization.

`CASES` has one `Case` an event and shape: the actions that are sent so, the payload without its `action`, and what differs
from what almost every event has in common (`USUAL`). Nothing here calls the code that reads the columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from covenq.github.samples import code, issues, pulls, repositories
from covenq.github.samples.objects import API, node, organization, repository, small_repository, user, when

Json = dict[str, Any]

REPO = "lantern-works/beacon"
USUAL: Json = {
    "repo": REPO,
    "owner": "lantern-works",
    "sender": "mira-holm",
    "installation": 41,
    "number": None,
    "head_sha": None,
    "label": None,
}
ORG_ONLY: Json = {"repo": None}
NOBODY: Json = {"repo": None, "owner": None, "installation": None}

HEAD = "c0ffee" * 6 + "dead"
OTHER = "beef" * 10
ZEROS = "0" * 40
INSTALLED = {"installation": {"id": 41, "node_id": "MDIzOkludGVncmF0aW9uSW5zdGFsbGF0aW9uNDE="}}
SENDER = {"sender": user()}
ORG = {"organization": organization(), **SENDER, **INSTALLED}
ALL = {"repository": repository(), **ORG}
ISSUE = issues.issue(12, ("bug", "needs review"))
PULL = pulls.pull(34) | {"head": pulls.pull(34)["head"] | {"sha": HEAD}}
DISCUSSION = issues.discussion(56)["discussion"]
LABEL = {"label": {"id": 9, "name": "needs \u00fcbersicht", "color": "fbca04", "default": False, "description": None}}
PULL_REF = {"id": 7, "number": 34, "url": f"{API}/repos/{REPO}/pulls/34", "head": {"ref": "fix", "sha": HEAD}}


@dataclass(frozen=True)
class Case:
    """One shape of one event."""

    event: str
    actions: tuple[str | None, ...]
    payload: Json
    expected: Json = field(default_factory=dict)
    shape: str = ""

    @property
    def name(self) -> str:
        return f"{self.event} {self.shape}".strip()

    def made(self, action: str | None) -> Json:
        """The payload; GitHub writes `action` first."""
        return self.payload if action is None else {"action": action, **self.payload}

    def columns(self, action: str | None) -> Json:
        return {**USUAL, **self.expected, "action": action, "event": self.event}


def case(event: str, actions: str, payload: Json, shape: str = "", **expected: Any) -> Case:
    """`actions` are words; none for an event that has no action."""
    return Case(event, tuple(actions.split()) or (None,), payload, expected, shape)


def run(event: str, **more: Any) -> Json:
    """What `event` is about, at HEAD, with a pull request."""
    return getattr(code, event)(3)[event] | {"head_sha": HEAD, "pull_requests": [PULL_REF], **more}


def alert(**more: Any) -> Json:
    ident = 99
    return {
        "number": ident,
        "created_at": when(1),
        "url": f"{API}/repos/{REPO}/alerts/{ident}",
        "html_url": f"https://github.com/{REPO}/security/{ident}",
        "state": "open",
        "dismissed_at": None,
        "dismissed_by": None,
        **more,
    }


DEPLOYMENT = code.deployment(3)["deployment"] | {"sha": HEAD}
RULE = {"id": 5, "repository_id": 6, "name": "main", "admin_enforced": True, "required_status_checks": ["tests"]}
TEAM = {
    "name": "Keepers",
    "id": 3,
    "node_id": node("T", 3),
    "slug": "keepers",
    "privacy": "closed",
    "permission": "push",
}
PLAN = {"id": 435, "name": "Basic", "monthly_price_in_cents": 1000, "price_model": "FLAT_RATE", "bullets": ["Is basic"]}
PURCHASE = {
    "account": {
        "type": "Organization",
        "id": 18404719,
        "login": "harbour-office",
        "organization_billing_email": "a@b.example",
    },
    "billing_cycle": "monthly",
    "unit_count": 1,
    "on_free_trial": False,
    "free_trial_ends_on": None,
    "plan": PLAN,
}
ITEM = {"id": 8, "node_id": "PVTI_x", "project_node_id": "PVT_x", "content_node_id": "I_x", "content_type": "Issue"}
PROJECT = {"id": 2, "node_id": "PVT_x", "owner": user("lantern-works", "Organization"), "number": 77, "title": "Winter"}
PACKAGE = {
    "id": 6,
    "name": "beacon",
    "namespace": "lantern-works",
    "ecosystem": "npm",
    "package_type": "npm",
    "owner": user("lantern-works", "Organization"),
    "package_version": {"id": 7, "version": "1.0.0", "target_commitish": "main", "target_oid": OTHER, "metadata": []},
}
HOOK = repositories.ping(1)["hook"]
ACCOUNT = {"login": "keeper-1", "id": 4, "type": "User"}
APP_INSTALLED = {
    "installation": {"id": 41, "account": user("lantern-works", "Organization"), "app_id": 2, "events": ["push"]},
    **SENDER,
}
REQUEST = {
    "id": 21,
    "number": 5,
    "repository_id": 6,
    "requester_id": 7,
    "requester_login": "keeper-1",
    "status": "pending",
}
PAIR = {"parent_issue_id": 1, "parent_issue": issues.issue(11), "sub_issue_id": 2, "sub_issue": issues.issue(22)}
BLOCK = {
    "blocked_issue_id": 1,
    "blocked_issue": issues.issue(33),
    "blocking_issue_id": 2,
    "blocking_issue": issues.issue(44),
}
PROPERTY = {"property_name": "tier", "url": f"{API}/orgs/lantern-works/properties/schema/tier", "value_type": "string"}
ISSUE_ACTIONS = (
    "opened edited closed reopened deleted transferred pinned unpinned assigned unassigned milestoned demilestoned locked "
    "unlocked typed untyped"
)
PULL_ACTIONS = (
    "opened edited closed reopened assigned unassigned converted_to_draft ready_for_review enqueued dequeued locked unlocked "
    "milestoned demilestoned review_requested review_request_removed auto_merge_enabled auto_merge_disabled"
)
DISCUSSION_ACTIONS = (
    "created edited deleted answered unanswered category_changed closed reopened locked unlocked pinned unpinned "
    "transferred"
)  # fmt: skip

CASES = [
    case("branch_protection_configuration", "enabled disabled", ALL),
    case("branch_protection_rule", "created edited deleted", {"rule": RULE, **ALL}),
    case("bypass_request_push_ruleset", "created cancelled completed", {"exemption_request": REQUEST, **ALL}),
    case("bypass_request_secret_scanning", "created response_submitted", {"exemption_request": REQUEST, **ALL}),
    case(
        "check_run", "created completed rerequested", {"check_run": run("check_run"), **ALL}, number=34, head_sha=HEAD
    ),
    case(
        "check_run",
        "requested_action",
        {"check_run": run("check_run", pull_requests=[]), "requested_action": {"identifier": "fix_it"}, **ALL},
        "of a fork",
        head_sha=HEAD,
    ),
    case(
        "check_suite",
        "completed requested rerequested",
        {"check_suite": run("check_suite"), **ALL},
        number=34,
        head_sha=HEAD,
    ),
    case(
        "check_suite",
        "completed",
        {"check_suite": run("check_suite", pull_requests=[], head_branch=None), **ALL},
        "of a fork",
        head_sha=HEAD,
    ),
    case(
        "code_scanning_alert",
        "created fixed reopened closed_by_user reopened_by_user appeared_in_branch",
        {"alert": alert(tool={"name": "CodeQL"}), "ref": "refs/heads/main", "commit_oid": HEAD, **ALL},
        head_sha=HEAD,
    ),
    case(
        "code_scanning_alert",
        "closed_by_user",
        {"alert": alert(), "ref": "", "commit_oid": "", **ALL},
        "without a commit",
    ),
    case(
        "commit_comment",
        "created",
        {"comment": code.commit_comment(1)["comment"] | {"commit_id": HEAD}, **ALL},
        head_sha=HEAD,
    ),
    case(
        "create",
        "",
        {"ref": "v1", "ref_type": "tag", "master_branch": "main", "description": None, "pusher_type": "user", **ALL},
    ),
    case(
        "custom_property", "created updated deleted promote_to_enterprise", {"definition": PROPERTY, **ORG}, **ORG_ONLY
    ),
    case(
        "custom_property",
        "created",
        {"definition": PROPERTY, "enterprise": {"slug": "coast", "name": "Coast"}},
        "of an enterprise",
        sender=None,
        **NOBODY,
    ),
    case(
        "custom_property_values",
        "updated",
        {"new_property_values": [{"property_name": "tier", "value": "1"}], "old_property_values": [], **ALL},
    ),
    case("delete", "", {"ref": "fix/lamp", "ref_type": "branch", "pusher_type": "user", **ALL}),
    case(
        "dependabot_alert",
        "created dismissed fixed reintroduced reopened auto_dismissed auto_reopened assignees_changed",
        {"alert": alert(dependency={"package": {"ecosystem": "pip", "name": "lamp"}, "scope": "runtime"}), **ALL},
    ),
    case(
        "deploy_key",
        "created deleted",
        {"key": {"id": 1, "key": "ssh-ed25519 AAAA", "title": "ci", "read_only": True}, **ALL},
    ),
    case(
        "deployment",
        "created",
        {"deployment": DEPLOYMENT, "workflow": None, "workflow_run": None, **ALL},
        head_sha=HEAD,
    ),
    case(
        "deployment",
        "created",
        {
            "deployment": DEPLOYMENT,
            "workflow": {"id": 1},
            "workflow_run": run("workflow_run", head_sha=OTHER, pull_requests=[]),
            **ALL,
        },
        "by a workflow",
        head_sha=HEAD,
    ),
    case(
        "deployment",
        "created",
        {"deployment": DEPLOYMENT, "workflow": {"id": 1}, "workflow_run": run("workflow_run", head_sha=OTHER), **ALL},
        "of a pull request",
        number=34,
        head_sha=HEAD,
    ),
    case(
        "deployment_status",
        "created",
        {
            "deployment_status": code.deployment_status(1)["deployment_status"],
            "deployment": DEPLOYMENT,
            "check_run": run("check_run", head_sha=OTHER),
            "workflow": None,
            "workflow_run": None,
            **ALL,
        },
        "of a pull request",
        number=34,
        head_sha=HEAD,
    ),
    case(
        "deployment_protection_rule",
        "requested",
        {
            "environment": "harbour",
            "event": "push",
            "deployment_callback_url": f"{API}/x",
            "deployment": DEPLOYMENT,
            "pull_requests": [PULL_REF],
            **ALL,
        },
        number=34,
        head_sha=HEAD,
    ),
    case(
        "deployment_review",
        "approved rejected requested",
        {
            "workflow_run": run("workflow_run"),
            "since": when(1),
            "reviewers": [{"type": "User", "reviewer": user()}],
            **ALL,
        },
        number=34,
        head_sha=HEAD,
    ),
    case(
        "deployment_status",
        "created",
        {
            "deployment_status": code.deployment_status(1)["deployment_status"],
            "deployment": DEPLOYMENT,
            "check_run": None,
            "workflow": None,
            "workflow_run": None,
            **ALL,
        },
        head_sha=HEAD,
    ),
    case("discussion", DISCUSSION_ACTIONS, {"discussion": DISCUSSION, **ALL}, number=56),
    case(
        "discussion",
        "labeled unlabeled",
        {"discussion": DISCUSSION, **LABEL, **ALL},
        "and a label",
        number=56,
        label="needs \u00fcbersicht",
    ),
    case(
        "discussion_comment",
        "created edited deleted",
        {"comment": {"id": 1, "body": "Yes"}, "discussion": DISCUSSION, **ALL},
        number=56,
    ),
    case("dismissal_request_code_scanning", "created response_submitted", {"exemption_request": REQUEST, **ALL}),
    case("dismissal_request_dependabot", "created cancelled", {"exemption_request": REQUEST, **ALL}),
    case("dismissal_request_secret_scanning", "created completed", {"exemption_request": REQUEST, **ALL}),
    case("exemption_request_push_ruleset", "created completed", {"exemption_request": REQUEST, **ALL}),
    case("fork", "", repositories.fork(1) | ALL),
    case("github_app_authorization", "revoked", SENDER, **NOBODY),
    case(
        "gollum",
        "",
        {"pages": [{"page_name": "Home", "title": "Home", "action": "edited", "sha": OTHER, "summary": None}], **ALL},
    ),
    case(
        "installation",
        "created deleted new_permissions_accepted suspend unsuspend",
        {
            **APP_INSTALLED,
            "repositories": [small_repository(REPO), small_repository("lantern-works/quay")],
            "requester": None,
        },
        **ORG_ONLY,
    ),
    case(
        "installation",
        "created",
        {"installation": {"id": 41, "account": {"slug": "coast", "id": 3, "name": "Coast"}}, **SENDER},
        "of an enterprise",
        repo=None,
        owner="coast",
    ),
    case(
        "installation_repositories",
        "added removed",
        {
            **APP_INSTALLED,
            "repository_selection": "selected",
            "repositories_added": [small_repository(REPO)],
            "repositories_removed": [],
            "requester": None,
        },
        **ORG_ONLY,
    ),
    case(
        "installation_target",
        "renamed",
        {
            "account": {"login": "lantern-guild", "id": 4},
            "changes": {"login": {"from": "lantern-works"}},
            "target_type": "Organization",
            **INSTALLED,
            **SENDER,
        },
        repo=None,
        owner="lantern-guild",
    ),
    case(
        "issue_comment",
        "created edited deleted pinned unpinned",
        {"issue": ISSUE, "comment": issues.comment(1, "x"), **ALL},
        number=12,
    ),
    case(
        "issue_comment",
        "created",
        {"issue": issues.issue(34, pull=True), "comment": issues.comment(1, "x"), **ALL},
        "on a pull request",
        number=34,
    ),
    case(
        "issue_dependencies",
        "blocked_by_added blocked_by_removed",
        {**BLOCK, "blocking_issue_repo": repository("x/y"), **ALL},
        number=33,
    ),
    case(
        "issue_dependencies",
        "blocking_added blocking_removed",
        {**BLOCK, "blocked_issue_repo": repository("x/y"), **ALL},
        "of the other",
        number=44,
    ),
    case("issues", ISSUE_ACTIONS, {"issue": ISSUE, **ALL}, number=12),
    case(
        "issues",
        "labeled unlabeled",
        {"issue": ISSUE, **LABEL, **ALL},
        "and a label",
        number=12,
        label="needs \u00fcbersicht",
    ),
    case("label", "created edited deleted", {**LABEL, **ALL}, label="needs \u00fcbersicht"),
    case(
        "marketplace_purchase",
        "purchased cancelled changed pending_change pending_change_cancelled",
        {
            "effective_date": when(1),
            "sender": {"login": "mira-holm", "id": 3, "email": "m@b.example"},
            "marketplace_purchase": PURCHASE,
        },
        **NOBODY,
    ),
    case(
        "member",
        "added edited removed",
        {"member": user("keeper-1"), "changes": {"permission": {"to": "write"}}, **ALL},
    ),
    case("membership", "added removed", {"scope": "team", "member": user("keeper-1"), "team": TEAM, **ORG}, **ORG_ONLY),
    case(
        "merge_group",
        "checks_requested destroyed",
        {
            "merge_group": run(
                "merge_group", base_sha=OTHER, head_ref=f"refs/heads/gh-readonly-queue/main/pr-34-{OTHER}"
            )
            | {"pull_requests": None},
            **ALL,
        },
        number=34,
        head_sha=HEAD,
    ),
    case(
        "merge_group",
        "checks_requested",
        {"merge_group": run("merge_group", base_sha=OTHER, head_ref="refs/heads/x") | {"pull_requests": None}, **ALL},
        "of another branch",
        head_sha=HEAD,
    ),
    case(
        "meta", "deleted", {"hook_id": 109948940, "hook": HOOK, "repository": repository(), **SENDER}, installation=None
    ),
    case(
        "milestone",
        "created closed opened edited deleted",
        {"milestone": issues.milestone(7)["milestone"] | {"number": 7}, **ALL},
    ),
    case("org_block", "blocked unblocked", {"blocked_user": user("keeper-2"), **ORG}, **ORG_ONLY),
    case(
        "organization",
        "member_added member_removed member_invited renamed deleted",
        {"membership": {"role": "member", "state": "active", "user": user("keeper-1")}, **ORG},
        **ORG_ONLY,
    ),
    case("organization_custom_property", "created updated deleted", {"definition": PROPERTY, **ORG}, **ORG_ONLY),
    case(
        "organization_custom_property_values",
        "updated",
        {"new_property_values": [], "old_property_values": [], **ORG},
        **ORG_ONLY,
    ),
    case("package", "published updated", {"package": PACKAGE, **ALL}),
    case(
        "page_build",
        "",
        {"id": 130514899, "build": {"status": "built", "error": {"message": None}, "commit": OTHER}, **ALL},
        head_sha=OTHER,
    ),
    case(
        "personal_access_token_request",
        "created approved cancelled denied",
        {
            "personal_access_token_request": {
                "id": 1,
                "owner": ACCOUNT,
                "token_id": 3,
                "repositories": [{"full_name": REPO}],
            },
            **ORG,
        },
        **ORG_ONLY,
    ),
    case(
        "ping",
        "",
        {"zen": "Speak like a human.", "hook_id": 1, "hook": HOOK, "repository": repository(), **SENDER},
        installation=None,
    ),
    case(
        "ping",
        "",
        {"zen": "Design for failure.", "hook_id": 1, "hook": {"type": "App", "id": 1, "app_id": 2}},
        "of an App",
        sender=None,
        **NOBODY,
    ),
    case(
        "project",
        "created edited closed reopened deleted",
        {"project": {"id": 1, "number": 77, "name": "Winter", "body": ""}, **ALL},
    ),
    case(
        "project_card",
        "created converted edited moved deleted",
        {"project_card": {"id": 1, "note": "x", "column_id": 2}, **ALL},
    ),
    case("project_column", "created edited moved deleted", {"project_column": {"id": 1, "name": "To do"}, **ALL}),
    case("projects_v2", "created edited closed reopened deleted", {"projects_v2": PROJECT, **ORG}, **ORG_ONLY),
    case(
        "projects_v2_item",
        "created edited converted archived restored reordered deleted",
        {"projects_v2_item": ITEM, "changes": {"field_value": {"field_type": "text"}}, **ORG},
        **ORG_ONLY,
    ),
    case(
        "projects_v2_status_update",
        "created edited deleted",
        {"projects_v2_status_update": {"id": 1, "status": "ON_TRACK"}, **ORG},
        **ORG_ONLY,
    ),
    case("public", "", ALL),
    case("pull_request", PULL_ACTIONS, {"number": 34, "pull_request": PULL, **ALL}, number=34, head_sha=HEAD),
    case(
        "pull_request",
        "synchronize",
        {"number": 34, "pull_request": PULL, "before": OTHER, "after": HEAD, **ALL},
        "with a push",
        number=34,
        head_sha=HEAD,
    ),
    case(
        "pull_request",
        "labeled unlabeled",
        {"number": 34, "pull_request": PULL, **LABEL, **ALL},
        "and a label",
        number=34,
        head_sha=HEAD,
        label="needs \u00fcbersicht",
    ),
    case(
        "pull_request_review",
        "submitted edited dismissed",
        {"review": {"id": 1, "state": "approved", "commit_id": OTHER}, "pull_request": PULL, **ALL},
        number=34,
        head_sha=HEAD,
    ),
    case(
        "pull_request_review_comment",
        "created edited deleted",
        {
            "comment": {"id": 1, "path": "a.py", "commit_id": OTHER, "original_commit_id": OTHER},
            "pull_request": PULL,
            **ALL,
        },
        number=34,
        head_sha=HEAD,
    ),
    case(
        "pull_request_review_thread",
        "resolved unresolved",
        {"thread": {"node_id": "PRRT_x", "comments": []}, "pull_request": PULL, **ALL},
        number=34,
        head_sha=HEAD,
    ),
    case("push", "", code.push(3) | {"before": OTHER, "after": HEAD} | ALL, head_sha=HEAD),
    case(
        "push",
        "",
        code.push(3, "deleted") | {"before": OTHER, "after": ZEROS, "head_commit": None, "deleted": True} | ALL,
        "of a deletion",
    ),
    case(
        "push",
        "",
        code.push(3) | {"ref": "refs/tags/v1", "after": HEAD, "commits": [], "base_ref": "refs/heads/main"} | ALL,
        "of a tag",
        head_sha=HEAD,
    ),
    case("registry_package", "published updated", {"registry_package": PACKAGE, **ALL}),
    case(
        "release",
        "published created edited deleted prereleased released unpublished",
        {"release": repositories.release(1)["release"] | {"target_commitish": OTHER}, **ALL},
    ),
    case(
        "repository",
        "created edited renamed transferred archived unarchived privatized publicized deleted",
        {"changes": {"repository": {"name": {"from": "lantern"}}}, **ALL},
    ),
    case(
        "repository_advisory",
        "published reported",
        {"repository_advisory": {"ghsa_id": "GHSA-xxxx", "summary": "x"}, **ALL},
    ),
    case(
        "repository_dispatch",
        "relight sample.collected " + "x" * 100,
        {"branch": "main", "client_payload": {"number": 3, "label": "x"}, **ALL},
    ),
    case("repository_import", "", {"status": "success", **ALL}),
    case(
        "repository_ruleset",
        "created edited deleted",
        {"repository_ruleset": {"id": 1, "name": "main", "target": "branch"}, **ALL},
    ),
    case(
        "repository_ruleset",
        "created",
        {"repository_ruleset": {"id": 1, "source_type": "Organization"}, **ORG},
        "of an organization",
        **ORG_ONLY,
    ),
    case(
        "repository_vulnerability_alert",
        "create dismiss reopen resolve",
        {"alert": alert(affected_package_name="lamp"), **ALL},
    ),
    case(
        "secret_scanning_alert",
        "created reopened resolved validated publicly_leaked assigned unassigned",
        {"alert": alert(secret_type="adafruit_io_key", resolution=None), **ALL},
    ),
    case(
        "secret_scanning_alert_location",
        "created",
        {
            "alert": alert(),
            "location": {"type": "commit", "details": {"path": "/x.csv", "blob_sha": OTHER, "commit_sha": OTHER}},
            **ALL,
        },
    ),
    case(
        "secret_scanning_scan",
        "completed",
        {"type": "backfill", "source": "git", "started_at": when(1), "completed_at": when(2), **ALL},
    ),
    case(
        "secret_scanning_scan",
        "completed",
        {"type": "custom-pattern-backfill", "source": "issues", "started_at": when(1), **ORG},
        "of an organization",
        **ORG_ONLY,
    ),
    case(
        "security_advisory",
        "published updated withdrawn",
        {
            "security_advisory": {
                "ghsa_id": "GHSA-rf4j-j272-fj86",
                "cve_id": None,
                "summary": "x",
                "severity": "high",
                "cwes": [],
            }
        },
        sender=None,
        **NOBODY,
    ),
    case("security_and_analysis", "", {"changes": {"from": {"security_and_analysis": None}}, **ALL}),
    case(
        "sponsorship",
        "created cancelled edited tier_changed pending_cancellation pending_tier_change",
        {
            "sponsorship": {"node_id": "x", "sponsorable": ACCOUNT, "sponsor": ACCOUNT, "privacy_level": "public"},
            **SENDER,
        },
        **NOBODY,
    ),
    case("star", "created deleted", {"starred_at": None, **ALL}),
    case("status", "", code.status(1) | {"sha": HEAD} | ALL, head_sha=HEAD),
    case(
        "sub_issues",
        "sub_issue_added sub_issue_removed",
        {**PAIR, "sub_issue_repo": repository("x/y"), **ALL},
        number=11,
    ),
    case(
        "sub_issues",
        "parent_issue_added parent_issue_removed",
        {**PAIR, "parent_issue_repo": repository("x/y"), **ALL},
        "of the child",
        number=22,
    ),
    case("team", "created edited deleted", {"team": TEAM, **ORG}, **ORG_ONLY),
    case("team", "added_to_repository removed_from_repository", {"team": TEAM, **ALL}, "and a repository"),
    case("team_add", "", {"team": TEAM, **ALL}),
    case("watch", "started", ALL),
    case(
        "workflow_dispatch",
        "",
        {"inputs": {"number": "7"}, "ref": "refs/heads/main", "workflow": ".github/workflows/x.yml", **ALL},
    ),
    case(
        "workflow_job",
        "queued waiting in_progress completed",
        {"workflow_job": code.workflow_job(3)["workflow_job"] | {"head_sha": HEAD, "labels": ["self-hosted"]}, **ALL},
        head_sha=HEAD,
    ),
    case(
        "workflow_job",
        "waiting",
        {
            "workflow_job": code.workflow_job(3)["workflow_job"] | {"head_sha": HEAD},
            "deployment": DEPLOYMENT | {"sha": OTHER},
            **ALL,
        },
        "with a deployment",
        head_sha=HEAD,
    ),
    case(
        "workflow_run",
        "requested in_progress completed",
        {"workflow_run": run("workflow_run"), "workflow": {"id": 1}, **ALL},
        number=34,
        head_sha=HEAD,
    ),
    case("a_new_event", "of_tomorrow", {"thing": {"number": 7, "sha": OTHER}, **ALL}, "that nobody knows yet"),
]
