"""Payloads of events about commits: pushes, branches, checks, workflows, deployments."""

from __future__ import annotations

from covenq.github.samples.issues import PAGE, REPO
from covenq.github.samples.objects import API, app, common, node, number, repository, sha, user, when
from covenq.model import JsonObject

_SUBJECTS = ("Make all attempts before giving up", "Read the schedule once", "Say which lamp is dark")


def _person(name: str = "Mira Holm", login: str = "mira-holm") -> JsonObject:
    return {"name": name, "email": f"{login}@users.noreply.github.com", "username": login}


def _commit(n: int, index: int = 0) -> JsonObject:
    ident = sha("after" if index == 0 else f"commit {index}", n)
    return {
        "id": ident,
        "tree_id": sha("tree", n, index),
        "distinct": True,
        "message": f"{_SUBJECTS[(n + index) % 3]}\n\nThe loop left after two of them.\n\nFixes: #{n}",
        "timestamp": when(n).replace("Z", "+01:00"),
        "url": f"{PAGE}/commit/{ident}",
        "author": _person(),
        "committer": _person("GitHub", "web-flow"),
        "added": ["tests/test_lamp.py"] if index == 0 else [],
        "removed": [],
        "modified": ["beacon/lamp.py", "beacon/schedule.py"],
    }


def push(n: int = 1, action: str | None = None) -> JsonObject:
    """`action` deleted is the push that deletes a branch; a push has no action of its own."""
    deleted = action == "deleted"
    commits = [] if deleted else [_commit(n, index) for index in range(n % 3, -1, -1)]
    after = "0" * 40 if deleted else commits[-1]["id"]
    made = {
        "ref": f"refs/heads/{f'fix/lamp-{n}' if deleted else 'main'}",
        "before": sha("before", n),
        "after": after,
        **common(),
        "pusher": {"name": "mira-holm", "email": "mira-holm@users.noreply.github.com"},
        "created": False,
        "deleted": deleted,
        "forced": False,
        "base_ref": None,
        "compare": f"{PAGE}/compare/{sha('before', n)[:12]}...{after[:12]}",
        "commits": commits,
        "head_commit": None if deleted else commits[-1],
    }
    # A push alone gives times as numbers, and the owner's name beside the login.
    made["repository"] |= {"created_at": 1680423114, "pushed_at": 1795382265, "master_branch": "main"}
    made["repository"]["owner"] |= {"name": "lantern-works", "email": "crew@lantern.example"}
    return made


def _ref_event(n: int) -> JsonObject:
    return {"ref": f"fix/lamp-{n}", "ref_type": "branch"}


def create(n: int = 1, action: str | None = None) -> JsonObject:
    more = {"master_branch": "main", "description": "Signals, lamps and the small daemon between them"}
    return {**_ref_event(n), **more, "pusher_type": "user", **common()}


def delete(n: int = 1, action: str | None = None) -> JsonObject:
    return {**_ref_event(n), "pusher_type": "user", **common()}


def _pull_ref(n: int) -> JsonObject:
    repo = {"id": number("repo", "lantern-works/beacon"), "url": REPO, "name": "beacon"}
    return {
        "url": f"{REPO}/pulls/{n}",
        "id": number("pull", n, digits=10),
        "number": n,
        "head": {"ref": f"fix/lamp-{n}", "sha": sha("head", n), "repo": repo},
        "base": {"ref": "main", "sha": sha("base", n), "repo": repo},
    }


def _suite(n: int) -> JsonObject:
    ident = number("suite", n, digits=11)
    return {
        "id": ident,
        "node_id": node("CS", ident),
        "head_branch": f"fix/lamp-{n}",
        "head_sha": sha("head", n),
        "status": "completed",
        "conclusion": ("success", "failure")[n % 2],
        "url": f"{REPO}/check-suites/{ident}",
        "before": sha("before", n),
        "after": sha("head", n),
        "pull_requests": [_pull_ref(n)],
        "app": app(),
        "created_at": when(n),
        "updated_at": when(n, minute=4),
    }


def check_suite(n: int = 1, action: str | None = None) -> JsonObject:
    head = _commit(n)
    suite = _suite(n) | {
        "rerequestable": True,
        "runs_rerequestable": True,
        "latest_check_runs_count": 3,
        "check_runs_url": f"{_suite(n)['url']}/check-runs",
        "head_commit": {key: head[key] for key in ("tree_id", "message", "timestamp", "author", "committer")}
        | {"id": sha("head", n)},
    }
    return {"action": action or "completed", "check_suite": suite, **common(sender=user("lantern-ci[bot]", "Bot"))}


def check_run(n: int = 1, action: str | None = None) -> JsonObject:
    """Actions: completed (default), created, rerequested, requested_action."""
    action = action or "completed"
    ident = number("check run", n, digits=11)
    url = f"{REPO}/check-runs/{ident}"
    done = action != "created"
    run = {
        "id": ident,
        "name": "tests (3.13, ubuntu-latest)",
        "node_id": node("CR", ident),
        "head_sha": sha("head", n),
        "external_id": f"run-{n}",
        "url": url,
        "html_url": f"{PAGE}/runs/{ident}",
        "details_url": f"https://ci.lantern.example/runs/{n}",
        "status": "completed" if done else "queued",
        "conclusion": ("success", "failure")[n % 2] if done else None,
        "started_at": when(n),
        "completed_at": when(n, minute=4) if done else None,
        "output": {
            "title": "418 tests",
            "summary": "417 passed, 1 failed: `test_lamp.py::test_all_attempts`",
            "text": None,
            "annotations_count": n % 2,
            "annotations_url": f"{url}/annotations",
        },
        "check_suite": _suite(n),
        "app": app(),
        "pull_requests": [_pull_ref(n)],
    }
    extra = {"requested_action": {"identifier": "fix_it"}} if action == "requested_action" else {}
    return {"action": action, "check_run": run, **extra, **common()}


def status(n: int = 1, action: str | None = None) -> JsonObject:
    commit = sha("head", n)
    return {
        "id": number("status", n, digits=11),
        "sha": commit,
        "name": "lantern-works/beacon",
        "target_url": f"https://ci.lantern.example/runs/{n}",
        "avatar_url": user()["avatar_url"],
        "context": "lantern/package",
        "description": "The package builds",
        "state": "success",
        "commit": {
            "sha": commit,
            "node_id": node("C", commit),
            "commit": {
                "author": _person() | {"date": when(n)},
                "committer": _person() | {"date": when(n)},
                "message": _SUBJECTS[n % 3],
                "tree": {"sha": sha("tree", n), "url": f"{REPO}/git/trees/{sha('tree', n)}"},
                "url": f"{REPO}/git/commits/{commit}",
                "comment_count": 0,
            },
            "url": f"{REPO}/commits/{commit}",
            "html_url": f"{PAGE}/commit/{commit}",
            "author": user(),
            "committer": user(),
            "parents": [{"sha": sha("base", n), "url": f"{REPO}/commits/{sha('base', n)}"}],
        },
        "branches": [{"name": "main", "commit": {"sha": commit, "url": f"{REPO}/commits/{commit}"}, "protected": True}],
        "created_at": when(n),
        "updated_at": when(n),
        **common(),
    }


def commit_comment(n: int = 1, action: str | None = None) -> JsonObject:
    ident = number("commit comment", n)
    commit = sha("head", n)
    said = {
        "url": f"{REPO}/comments/{ident}",
        "html_url": f"{PAGE}/commit/{commit}#commitcomment-{ident}",
        "id": ident,
        "node_id": node("CC", ident),
        "user": user(),
        "position": None,
        "line": None,
        "path": None,
        "commit_id": commit,
        "created_at": when(n),
        "updated_at": when(n),
        "author_association": "MEMBER",
        "body": "This made the night shift quiet. Thank you!",
    }
    return {"action": action or "created", "comment": said, **common()}


def _workflow(n: int) -> JsonObject:
    ident = number("workflow", "tests", digits=8)
    return {
        "id": ident,
        "node_id": node("W", ident),
        "name": "tests",
        "path": ".github/workflows/tests.yml",
        "state": "active",
        "created_at": "2024-01-10T09:00:00.000Z",
        "updated_at": "2026-06-03T09:00:00.000Z",
        "url": f"{REPO}/actions/workflows/{ident}",
        "html_url": f"{PAGE}/blob/main/.github/workflows/tests.yml",
        "badge_url": f"{PAGE}/workflows/tests/badge.svg",
    }


def workflow_run(n: int = 1, action: str | None = None) -> JsonObject:
    ident = number("workflow run", n, digits=11)
    url = f"{REPO}/actions/runs/{ident}"
    links = ("jobs", "logs", "artifacts", "cancel", "rerun")
    head = _commit(n)
    run = {
        "id": ident,
        "name": "tests",
        "node_id": node("WFR", ident),
        "head_branch": f"fix/lamp-{n}",
        "head_sha": sha("head", n),
        "path": ".github/workflows/tests.yml",
        "display_title": _SUBJECTS[n % 3],
        "run_number": n,
        "event": "pull_request",
        "status": "completed",
        "conclusion": ("success", "failure")[n % 2],
        "workflow_id": number("workflow", "tests", digits=8),
        "check_suite_id": number("suite", n, digits=11),
        "check_suite_node_id": node("CS", n),
        "url": url,
        "html_url": f"{PAGE}/actions/runs/{ident}",
        "pull_requests": [_pull_ref(n)],
        "created_at": when(n),
        "updated_at": when(n, minute=4),
        "actor": user(),
        "run_attempt": 1,
        "referenced_workflows": [],
        "run_started_at": when(n),
        "triggering_actor": user(),
        **{f"{word}_url": f"{url}/{word}" for word in links},
        "check_suite_url": f"{REPO}/check-suites/{number('suite', n, digits=11)}",
        "previous_attempt_url": None,
        "workflow_url": _workflow(n)["url"],
        "head_commit": {key: head[key] for key in ("tree_id", "message", "timestamp", "author", "committer")}
        | {"id": sha("head", n)},
        "repository": repository(),
        "head_repository": repository(),
    }
    return {"action": action or "completed", "workflow_run": run, "workflow": _workflow(n), **common()}


def workflow_job(n: int = 1, action: str | None = None) -> JsonObject:
    ident, run = number("job", n, digits=11), number("workflow run", n, digits=11)
    names = ("Set up job", "Check out", "Install", "Test", "Complete job")
    job = {
        "id": ident,
        "run_id": run,
        "workflow_name": "tests",
        "head_branch": f"fix/lamp-{n}",
        "run_url": f"{REPO}/actions/runs/{run}",
        "run_attempt": 1,
        "node_id": node("CR", ident),
        "head_sha": sha("head", n),
        "url": f"{REPO}/actions/jobs/{ident}",
        "html_url": f"{PAGE}/actions/runs/{run}/job/{ident}",
        "status": "completed",
        "conclusion": "success",
        "created_at": when(n),
        "started_at": when(n, minute=1),
        "completed_at": when(n, minute=4),
        "name": "tests (3.13)",
        "steps": [
            {
                "name": name,
                "status": "completed",
                "conclusion": "success",
                "number": place,
                "started_at": when(n, minute=1),
                "completed_at": when(n, minute=2),
            }
            for place, name in enumerate(names, 1)
        ],
        "check_run_url": f"{REPO}/check-runs/{ident}",
        "labels": ["ubuntu-latest"],
        "runner_id": 7,
        "runner_name": "GitHub Actions 7",
        "runner_group_id": 0,
        "runner_group_name": "GitHub Actions",
    }
    return {"action": action or "completed", "workflow_job": job, **common()}


def workflow_dispatch(n: int = 1, action: str | None = None) -> JsonObject:
    return {"inputs": {"lamp": str(n)}, "ref": "refs/heads/main", "workflow": _workflow(n)["path"], **common()}


def _deployment(n: int) -> JsonObject:
    ident = number("deployment", n)
    return {
        "url": f"{REPO}/deployments/{ident}",
        "id": ident,
        "node_id": node("DE", ident),
        "task": "deploy",
        "original_environment": "harbour",
        "environment": "harbour",
        "description": None,
        "created_at": when(n),
        "updated_at": when(n),
        "statuses_url": f"{REPO}/deployments/{ident}/statuses",
        "repository_url": REPO,
        "creator": user(),
        "sha": sha("head", n),
        "ref": "main",
        "payload": {},
        "transient_environment": False,
        "production_environment": True,
        "performed_via_github_app": None,
    }


def deployment(n: int = 1, action: str | None = None) -> JsonObject:
    made = {"deployment": _deployment(n), "workflow": None, "workflow_run": None}
    return {"action": action or "created", **made, **common()}


def deployment_status(n: int = 1, action: str | None = None) -> JsonObject:
    of = _deployment(n)
    ident = number("deployment status", n)
    state = {
        "url": f"{of['statuses_url']}/{ident}",
        "id": ident,
        "node_id": node("DES", ident),
        "state": "success",
        "creator": user(),
        "description": "The harbour is lit",
        "environment": "harbour",
        "target_url": "https://harbour.lantern.example",
        "created_at": when(n, minute=3),
        "updated_at": when(n, minute=3),
        "deployment_url": of["url"],
        "repository_url": REPO,
        "environment_url": "https://harbour.lantern.example",
        "log_url": "",
        "performed_via_github_app": None,
    }
    return {"action": action or "created", "deployment_status": state, "deployment": of, **common()}


def merge_group(n: int = 1, action: str | None = None) -> JsonObject:
    group = {
        "head_sha": sha("queue", n),
        "head_ref": f"refs/heads/gh-readonly-queue/main/pr-{n}-{sha('base', n)}",
        "base_ref": "refs/heads/main",
        "base_sha": sha("base", n),
        "head_commit": {
            "id": sha("queue", n),
            "tree_id": sha("tree", n),
            "message": f"Merge pull request #{n} from lantern-works/fix/lamp-{n}",
            "timestamp": when(n),
            "author": _person(),
            "committer": _person("GitHub", "web-flow"),
        },
    }
    return {"action": action or "checks_requested", "merge_group": group, **common()}


def repository_dispatch(n: int = 1, action: str | None = None) -> JsonObject:
    inputs = {"lamp": n, "source": f"{API}/zen"}
    return {"action": action or "relight", "branch": "main", "client_payload": inputs, **common()}
