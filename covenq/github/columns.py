"""The columns that are extracted from a payload of any event, for routes, filters and tables.

Values in, values out. The payload may come from anyone, so every value is checked, bounded or dropped: what is absent, of
another type or out of bounds is None, and no shape of a payload is an error. The rules, in the words of covenq-http(7):

action        `action`, of up to 100 printable characters (that of repository_dispatch is its sender's own words); create,
              delete, fork, gollum, page_build, ping, public, push, status, team_add and workflow_dispatch have none.
repo, repo_id `repository.full_name` and `.id`. Events of an organization, an App or an account have no repository, also
              where they list several (`installation`).
owner         `repository.owner`'s login, else `organization.login`, else that of the account an App is installed in
              (`installation.account`; of `installation_target`, the account by its new name).
sender        `sender.login`. An advisory of GitHub's own has none.
installation  `installation.id`.
number        of the issue, pull request or discussion; for checks, workflow runs and deployments that of the first of their
              pull requests, a deployment's being those of its workflow run or check (none if the branch is a fork's); for a
              merge group that in the name of its branch. For `sub_issues` and `issue_dependencies` it is the issue in
              `repository`. Numbers of milestones, alerts and projects are others.
head_sha      the commit the event is about: a pull request's `head.sha`; the `head_sha` of a check, run, job or merge group;
              a deployment's or a status's `sha`; a push's `after`, unless it is all zeros: a deleted branch has none; a
              commented commit; a code scanning alert's `commit_oid`; a page build's `build.commit`.
ref           the branch or tag, as the payload spells it: a pull request's `head.ref`; the `head_branch` of a check, run or
              job; the `head_ref` of a merge group; the `ref` of a deployment, a push, a creation, a deletion, a dispatch and a
              code scanning alert; the `branch` of repository_dispatch. Only push, merge groups, alerts and dispatches begin it
              with `refs/`.
target        the kind of what it is about (`covenq.model.Target`). A comment on a pull request comes as an issue's and is a
              pull request's; a push that deletes a branch or a tag is about that, any other about its commit.
label         the label put on or taken off, or the one that the event `label` is about. `labels` are all that the issue,
              pull request or discussion has.
title         of the issue, pull request or discussion; a run's or check's name; the first line of the message of a push, a
              status, a check suite or a merge group; a release's, a milestone's, a package's or a project's name; the summary
              of an advisory, also of an alert's; the rule of a code scanning alert, the kind of a leaked secret; a wiki page's
              title, the first one's.
"""

from __future__ import annotations

import re
from typing import TypedDict

from covenq.errors import BadRequest
from covenq.github.events import TARGETS
from covenq.github.request import load
from covenq.model import JsonObject, Target
from covenq.text import storable

ACTION_MAX = 100
"""Characters of an action. That of repository_dispatch is its sender's own words, of so many at most."""
TEXT_MAX = 256
"""Characters of one text column."""
LABELS_MAX = 100
"""Labels of one delivery; GitHub allows an issue 100."""

_INTEGER_MAX = 2**63 - 1
_RUNS = ("check_run", "workflow_run", "check_suite", "workflow_job", "merge_group", "deployment")
_RUN_OF = {"deployment": "deployment", "deployment_status": "deployment", "deployment_protection_rule": "deployment"}
"""Deployments may come with the workflow run that made them; what they are about is the deployment."""
_DEPLOYED_BY = ("workflow_run", "check_run")
"""What a deployment was made by, in the same payload: its pull requests are those of the deployment."""
_QUEUED_PULL = re.compile(r"/pr-([0-9]{1,18})-[0-9a-f]+\Z")
"""The end of the branch that a merge group is built on."""
_TITLED = (
    ("release", "name"), ("release", "tag_name"), ("milestone", "title"), ("package", "name"), ("registry_package", "name"),
    ("projects_v2", "title"), ("project", "name"), ("security_advisory", "summary"), ("repository_advisory", "summary"),
)  # fmt: skip
"""What has a title of its own where there is no issue and no run, and what the title is called there."""
_LINKED = {"sub_issues": ("sub_issue", "parent_issue"), "issue_dependencies": ("blocked_issue", "blocking_issue")}
"""Events of a pair of issues. GitHub sends one for each: `repository` is the first one's if the action is `first_…`."""
_FIRST_IN = ("parent_issue_", "blocked_by_")
"""The actions from the first issue's point of view: it was given a parent, it became blocked by another."""


class DataColumns(TypedDict):
    """The columns that a record has in `data`."""

    action: str | None
    installation: int | None
    repo_id: int | None
    target: str | None


class AboutColumns(TypedDict):
    """The columns that a record has in `about`. Texts hold no lone surrogate and no NUL, and are bounded."""

    repo: str | None
    owner: str | None
    sender: str | None
    number: int | None
    head_sha: str | None
    ref: str | None
    title: str | None
    label: str | None
    labels: list[str]


def sender_of(payload: bytes) -> str | None:
    """The login of the account that the payload names as its sender; None where it names none, or can't be read."""
    try:
        body = load(payload)
    except BadRequest:
        return None
    return columns("", body)[1]["sender"] if isinstance(body, dict) else None


def columns(event: str, body: JsonObject) -> tuple[DataColumns, AboutColumns]:
    """The columns of a payload, as (for `data`, for `about`)."""
    repository = _object(body, "repository")
    pull = _object(body, "pull_request")
    subject = _object(body, "issue") or pull or _object(body, "discussion") or _linked(event, body)
    run = _object(body, _RUN_OF[event]) if event in _RUN_OF else _first(body, _RUNS)
    data: DataColumns = {
        "action": _action(body.get("action")),
        "installation": _integer(_object(body, "installation").get("id")),
        "repo_id": _integer(repository.get("id")),
        "target": _target(event, body, subject),
    }
    about: AboutColumns = {
        "repo": _text(repository.get("full_name")),
        "owner": _owner(event, body, repository),
        "sender": _text(_object(body, "sender").get("login")),
        "number": _number(event, body, subject, run),
        "head_sha": _head_sha(event, body, pull, run),
        "ref": _ref(event, body, pull, run),
        "title": _title(event, body, subject, run),
        "label": _text(_object(body, "label").get("name")),
        "labels": _labels(subject),
    }
    return data, about


def _action(value: object) -> str | None:
    """Never cut, because rules compare it. Printable, because environment variables and tables show it."""
    return value if isinstance(value, str) and 0 < len(value) <= ACTION_MAX and value.isprintable() else None


def _linked(event: str, body: JsonObject) -> JsonObject:
    """The one of two linked issues that is in `repository`."""
    if event not in _LINKED:
        return {}
    first, second = _LINKED[event]
    action = body.get("action")
    is_first = isinstance(action, str) and action.startswith(_FIRST_IN)
    return _object(body, first if is_first else second)


def _owner(event: str, body: JsonObject, repository: JsonObject) -> str | None:
    owner = _object(repository, "owner")
    installed = body if event == "installation_target" else _object(body, "installation")
    account = _object(installed, "account")
    return (
        _text(owner.get("login"))
        or _text(owner.get("name"))  # old pushes have no login
        or _text(_object(body, "organization").get("login"))
        or _text(account.get("login"))
        or _text(account.get("slug"))  # an enterprise has no login
    )


def _number(event: str, body: JsonObject, subject: JsonObject, run: JsonObject) -> int | None:
    if subject:
        return _integer(subject.get("number"))
    made_by = _first(body, _DEPLOYED_BY) if event in _RUN_OF else {}
    pulls = run.get("pull_requests") or body.get("pull_requests") or made_by.get("pull_requests")
    if isinstance(pulls, list) and pulls and isinstance(pulls[0], dict):
        return _integer(pulls[0].get("number"))
    if event == "merge_group":
        found = _QUEUED_PULL.search(_text(run.get("head_ref")) or "")
        return int(found[1]) if found else None
    return _integer(body.get("number"))


def _head_sha(event: str, body: JsonObject, pull: JsonObject, run: JsonObject) -> str | None:
    found = (
        _text(_object(pull, "head").get("sha"))
        or _text(run.get("head_sha"))
        or _text(run.get("sha"))
        or _text(body.get("commit_oid"))
        or _text(_object(body, "comment").get("commit_id"))
        or _text(_object(body, "build").get("commit"))
    )
    if found is None and event == "push":
        found = _text(body.get("after"))
    elif found is None and event == "status":
        found = _text(body.get("sha"))
    return None if found is None or not found.strip("0") else found


def _ref(event: str, body: JsonObject, pull: JsonObject, run: JsonObject) -> str | None:
    return (
        _text(_object(pull, "head").get("ref"))
        or _text(run.get("head_branch"))
        or _text(_object(run, "check_suite").get("head_branch"))
        or _text(run.get("head_ref"))
        or _text(run.get("ref"))
        or _text(body.get("ref"))
        or (_text(body.get("branch")) if event == "repository_dispatch" else None)
    )


def _target(event: str, body: JsonObject, subject: JsonObject) -> str | None:
    if event in ("create", "delete"):
        kind = body.get("ref_type")
        return str(kind) if kind in (Target.BRANCH, Target.TAG) else None
    if event == "push" and body.get("deleted") is True:
        ref = body.get("ref")
        return (Target.TAG if isinstance(ref, str) and ref.startswith("refs/tags/") else Target.BRANCH).value
    if event == "issue_comment" and isinstance(subject.get("pull_request"), dict):
        return Target.PULL.value
    return TARGETS.get(event)


def _title(event: str, body: JsonObject, subject: JsonObject, run: JsonObject) -> str | None:
    if subject:
        return _text(subject.get("title"))
    if run:
        named = _text(run.get("display_title")) or _text(run.get("name"))
        return named or _first_line(_object(run, "head_commit"))
    if event in ("push", "status"):
        return _first_line(
            _object(body, "head_commit") if event == "push" else _object(_object(body, "commit"), "commit")
        )
    for thing, name in _TITLED:
        if thing in body and (found := _text(_object(body, thing).get(name))):
            return found
    alert, pages = _object(body, "alert"), body.get("pages")
    page = pages[0] if isinstance(pages, list) and pages and isinstance(pages[0], dict) else {}
    return (
        _text(_object(alert, "security_advisory").get("summary"))
        or _text(_object(alert, "rule").get("description"))
        or _text(alert.get("secret_type_display_name"))
        or _text(page.get("title"))
    )


def _first_line(commit: JsonObject) -> str | None:
    message = commit.get("message")
    return _text(message.partition("\n")[0]) if isinstance(message, str) else None


def _labels(subject: JsonObject) -> list[str]:
    labels = subject.get("labels")
    if not isinstance(labels, list):
        return []
    names = (_text(label.get("name")) for label in labels[:LABELS_MAX] if isinstance(label, dict))
    return [name for name in names if name]


def _object(holder: JsonObject, key: str) -> JsonObject:
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


def _first(body: JsonObject, keys: tuple[str, ...]) -> JsonObject:
    for key in keys:
        if key in body:
            found = _object(body, key)
            if found:
                return found
    return {}


def _integer(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= _INTEGER_MAX else None


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    if len(value) <= TEXT_MAX and value.isascii() and "\0" not in value:
        return value  # as `storable` would give it, and nearly always so
    return storable(value, TEXT_MAX)
