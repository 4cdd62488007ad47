"""Payloads of events about pull requests: the request, its reviews, their comments and threads."""

from __future__ import annotations

from covenq.github.samples.issues import PAGE, REPO
from covenq.github.samples.objects import (
    LABELS,
    common,
    node,
    number,
    reactions,
    repository,
    sha,
    user,
    when,
)
from covenq.model import JsonObject

_TITLES = (
    "Make all attempts before giving up on a lamp",
    "Bump orjson from 3.10 to 3.11",
    "Read the schedule once, not on every tick",
    "Fold the fog signal into the scheduler",
)


def _side(n: int, ref: str) -> JsonObject:
    return {
        "label": f"lantern-works:{ref}",
        "ref": ref,
        "sha": sha("head" if ref != "main" else "base", n),
        "user": user("lantern-works", "Organization"),
        "repo": repository(),
    }


def pull(n: int, *, labels: tuple[str, ...] = ("enhancement",), full: bool = True) -> JsonObject:
    """A pull request; events about its reviews carry it without the counts (`full=False`)."""
    url, page = f"{REPO}/pulls/{n}", f"{PAGE}/pull/{n}"
    head = sha("head", n)
    links = {
        "self": url,
        "html": page,
        "issue": f"{REPO}/issues/{n}",
        "comments": f"{REPO}/issues/{n}/comments",
        "review_comments": f"{url}/comments",
        "review_comment": f"{REPO}/pulls/comments{{/number}}",
        "commits": f"{url}/commits",
        "statuses": f"{REPO}/statuses/{head}",
    }
    made: JsonObject = {
        "url": url,
        "id": number("pull", n, digits=10),
        "node_id": node("PR", n),
        "html_url": page,
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        "issue_url": links["issue"],
        "number": n,
        "state": "open",
        "locked": False,
        "title": _TITLES[n % len(_TITLES)],
        "user": user("tomas-eide"),
        "body": "The loop left after two attempts, whatever the schedule said.\r\n\r\nFixes #12.\r\n\r\n- [x] tests\r\n",
        "created_at": when(n),
        "updated_at": when(n, minute=2),
        "closed_at": None,
        "merged_at": None,
        "merge_commit_sha": sha("merge", n),
        "assignee": None,
        "assignees": [],
        "requested_reviewers": [user()],
        "requested_teams": [],
        "labels": [LABELS[name] for name in labels],
        "milestone": None,
        "draft": False,
        "commits_url": links["commits"],
        "review_comments_url": links["review_comments"],
        "review_comment_url": links["review_comment"],
        "comments_url": links["comments"],
        "statuses_url": links["statuses"],
        "head": _side(n, f"fix/lamp-{n}"),
        "base": _side(n, "main"),
        "_links": {name: {"href": link} for name, link in links.items()},
        "author_association": "CONTRIBUTOR",
        "auto_merge": None,
        "active_lock_reason": None,
    }
    if full:
        made |= {
            "merged": False,
            "mergeable": None,
            "rebaseable": None,
            "mergeable_state": "unknown",
            "merged_by": None,
            "comments": 0,
            "review_comments": 0,
            "maintainer_can_modify": False,
            "commits": 1 + n % 3,
            "additions": 18,
            "deletions": 7,
            "changed_files": 2,
        }
    return made


def pull_request(n: int = 1, action: str | None = None) -> JsonObject:
    """Actions: opened (default), synchronize, labeled, unlabeled, closed (merged), review_requested, ready_for_review."""
    action = action or "opened"
    about = pull(n, labels=("enhancement", "needs review") if action == "labeled" else ("enhancement",))
    extra: JsonObject = {}
    match action:
        case "labeled" | "unlabeled":
            extra["label"] = LABELS["needs review"]
        case "synchronize":
            extra |= {"before": sha("before", n), "after": about["head"]["sha"]}
        case "closed":
            at = when(n, minute=6)
            about |= {"state": "closed", "merged": True, "merged_at": at, "closed_at": at, "merged_by": user()}
        case "review_requested":
            extra["requested_reviewer"] = user()
    return {"action": action, "number": n, "pull_request": about, **extra, **common()}


def pull_request_review(n: int = 1, action: str | None = None) -> JsonObject:
    ident = number("review", n, digits=10)
    page = f"{PAGE}/pull/{n}#pullrequestreview-{ident}"
    review = {
        "id": ident,
        "node_id": node("PRR", ident),
        "user": user(),
        "body": "Good catch. One question inline.",
        "commit_id": sha("head", n),
        "submitted_at": when(n, minute=5),
        "state": ("approved", "changes_requested", "commented")[n % 3],
        "html_url": page,
        "pull_request_url": f"{REPO}/pulls/{n}",
        "author_association": "MEMBER",
        "_links": {"html": {"href": page}, "pull_request": {"href": f"{REPO}/pulls/{n}"}},
        "updated_at": when(n, minute=5),
    }
    return {"action": action or "submitted", "review": review, "pull_request": pull(n, full=False), **common()}


def _review_comment(n: int) -> JsonObject:
    ident = number("review comment", n, digits=10)
    url, page = f"{REPO}/pulls/comments/{ident}", f"{PAGE}/pull/{n}#discussion_r{ident}"
    return {
        "url": url,
        "pull_request_review_id": number("review", n, digits=10),
        "id": ident,
        "node_id": node("PRRC", ident),
        "diff_hunk": "@@ -41,7 +41,7 @@ def light(lamp: Lamp) -> bool:\n     for attempt in range(2):\n"
        "-        if lamp.try_once():\n+        if lamp.try_once(attempt):\n             return True",
        "path": "beacon/lamp.py",
        "commit_id": sha("head", n),
        "original_commit_id": sha("head", n),
        "user": user(),
        "body": "Should this 2 not come from the schedule, too?",
        "created_at": when(n, minute=5),
        "updated_at": when(n, minute=5),
        "html_url": page,
        "pull_request_url": f"{REPO}/pulls/{n}",
        "_links": {
            "self": {"href": url},
            "html": {"href": page},
            "pull_request": {"href": f"{REPO}/pulls/{n}"},
        },
        "reactions": reactions(url),
        "start_line": None,
        "original_start_line": None,
        "start_side": None,
        "line": 42,
        "original_line": 42,
        "side": "RIGHT",
        "author_association": "MEMBER",
        "original_position": 3,
        "position": 3,
        "subject_type": "line",
    }


def pull_request_review_comment(n: int = 1, action: str | None = None) -> JsonObject:
    return {
        "action": action or "created",
        "comment": _review_comment(n),
        "pull_request": pull(n, full=False),
        **common(),
    }


def pull_request_review_thread(n: int = 1, action: str | None = None) -> JsonObject:
    return {
        "action": action or "resolved",
        "thread": {"node_id": node("PRRT", n), "comments": [_review_comment(n)]},
        "pull_request": pull(n, full=False),
        **common(),
    }
