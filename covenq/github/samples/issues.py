"""Payloads of issue, comment, discussion, label and milestone events."""

from __future__ import annotations

from covenq.github.samples.objects import API, LABELS, WEB, common, node, number, reactions, user, when
from covenq.model import JsonObject

REPO = f"{API}/repos/lantern-works/beacon"
PAGE = f"{WEB}/lantern-works/beacon"

_TITLES = (
    "Lamp goes dark after the second retry",
    "Document the fog signal options",
    "Crash when the schedule file is empty",
    "Keep the log readable at 4 a.m. – naïve wrapping breaks “quotes”",
    "Reload the configuration without a restart",
)

_BODY = """### What happens

After the second retry the lamp stays dark until the daemon is restarted. The log has one line:

```
2026-11-20T03:12:44Z beacon[312]: lamp 3: giving up (attempt 2 of 5)
```

### What should happen

All five attempts should be made, with the pauses that `schedule.toml` sets.

### How to reproduce

1. Start with `beacon --schedule examples/harbour.toml`
2. Pull the plug of lamp 3
3. Wait for two minutes, plug it in again

Version 2.4.1 on Debian 13, installed from the package. Happens every time 💡
"""


def issue(n: int, labels: tuple[str, ...] = ("bug",), *, pull: bool = False) -> JsonObject:
    url = f"{REPO}/issues/{n}"
    page = f"{PAGE}/{'pull' if pull else 'issues'}/{n}"
    made: JsonObject = {
        "url": url,
        "repository_url": REPO,
        "labels_url": f"{url}/labels{{/name}}",
        "comments_url": f"{url}/comments",
        "events_url": f"{url}/events",
        "html_url": page,
        "id": number("issue", n, digits=10),
        "node_id": node("I", n),
        "number": n,
        "title": _TITLES[n % len(_TITLES)],
        "user": user("tomas-eide"),
        "labels": [LABELS[name] for name in labels],
        "state": "open",
        "locked": False,
        "assignee": None,
        "assignees": [],
        "milestone": None,
        "comments": n % 4,
        "created_at": when(n),
        "updated_at": when(n, minute=3),
        "closed_at": None,
        "author_association": "CONTRIBUTOR",
        "active_lock_reason": None,
        "sub_issues_summary": {"total": 0, "completed": 0, "percent_completed": 0},
        "body": _BODY,
        "reactions": reactions(url),
        "timeline_url": f"{url}/timeline",
        "performed_via_github_app": None,
        "state_reason": None,
    }
    if pull:
        made["pull_request"] = {
            "url": f"{REPO}/pulls/{n}",
            "html_url": page,
            "diff_url": f"{page}.diff",
            "patch_url": f"{page}.patch",
            "merged_at": None,
        }
    return made


def issues(n: int = 1, action: str | None = None) -> JsonObject:
    """Actions: opened (default), edited, closed, reopened, assigned, labeled, unlabeled."""
    action = action or "opened"
    about = issue(n, ("bug", "coven:fix") if action == "labeled" else ("bug",))
    extra: JsonObject = {}
    match action:
        case "labeled" | "unlabeled":
            extra["label"] = LABELS["coven:fix"]
        case "assigned":
            about["assignee"] = extra["assignee"] = user()
            about["assignees"] = [about["assignee"]]
        case "closed":
            about |= {"state": "closed", "state_reason": "completed", "closed_at": when(n, minute=5)}
        case "edited":
            extra["changes"] = {"title": {"from": "Lamp goes dark"}}
    return {"action": action, "issue": about, **extra, **common()}


def comment(n: int, of: str) -> JsonObject:
    ident = number("comment", of, n, digits=10)
    url = f"{REPO}/issues/comments/{ident}"
    return {
        "url": url,
        "html_url": f"{PAGE}/issues/{n}#issuecomment-{ident}",
        "issue_url": f"{REPO}/issues/{n}",
        "id": ident,
        "node_id": node("IC", ident),
        "user": user(),
        "created_at": when(n, minute=4),
        "updated_at": when(n, minute=4),
        "body": "Seen here as well, on two of five lamps.\r\n\r\n/coven fix this, please. The trace is above.",
        "author_association": "MEMBER",
        "reactions": reactions(url),
        "performed_via_github_app": None,
    }


def issue_comment(n: int = 1, action: str | None = None) -> JsonObject:
    return {
        "action": action or "created",
        "issue": issue(n, ("bug", "needs review"), pull=n % 3 == 0),
        "comment": comment(n, "issue"),
        **common(),
    }


def _discussion(n: int) -> JsonObject:
    url = f"{REPO}/discussions/{n}"
    return {
        "repository_url": REPO,
        "category": {
            "id": number("category", "ideas", digits=8),
            "node_id": node("DIC", "ideas"),
            "repository_id": number("repo", "lantern-works/beacon"),
            "emoji": ":bulb:",
            "name": "Ideas",
            "description": "Share ideas for new features",
            "created_at": "2023-04-02T08:11:54Z",
            "updated_at": "2023-04-02T08:11:54Z",
            "slug": "ideas",
            "is_answerable": False,
        },
        "answer_html_url": None,
        "answer_chosen_at": None,
        "answer_chosen_by": None,
        "html_url": f"{PAGE}/discussions/{n}",
        "id": number("discussion", n, digits=7),
        "node_id": node("D", n),
        "number": n,
        "title": "Should lamps talk to each other?",
        "user": user("tomas-eide"),
        "labels": [LABELS["enhancement"]],
        "state": "open",
        "state_reason": None,
        "locked": False,
        "comments": 2,
        "created_at": when(n),
        "updated_at": when(n, minute=2),
        "author_association": "CONTRIBUTOR",
        "active_lock_reason": None,
        "body": "If lamp 2 knew that lamp 1 is dark, it could take over its sector. What would break?",
        "reactions": reactions(url),
        "timeline_url": f"{url}/timeline",
    }


def discussion(n: int = 1, action: str | None = None) -> JsonObject:
    action = action or "created"
    extra = {"label": LABELS["enhancement"]} if action in ("labeled", "unlabeled") else {}
    return {"action": action, "discussion": _discussion(n), **extra, **common()}


def discussion_comment(n: int = 1, action: str | None = None) -> JsonObject:
    ident = number("discussion comment", n, digits=8)
    said = {
        "id": ident,
        "node_id": node("DC", ident),
        "html_url": f"{PAGE}/discussions/{n}#discussioncomment-{ident}",
        "parent_id": None,
        "child_comment_count": 0,
        "repository_url": REPO,
        "discussion_id": number("discussion", n, digits=7),
        "author_association": "MEMBER",
        "user": user(),
        "created_at": when(n, minute=9),
        "updated_at": when(n, minute=9),
        "body": "The sectors overlap by design, so a takeover would double the light there.",
        "reactions": reactions(f"{REPO}/discussions/comments/{ident}"),
    }
    return {"action": action or "created", "comment": said, "discussion": _discussion(n), **common()}


def label(n: int = 1, action: str | None = None) -> JsonObject:
    names = sorted(LABELS)
    return {"action": action or "created", "label": LABELS[names[n % len(names)]], **common()}


def milestone(n: int = 1, action: str | None = None) -> JsonObject:
    url = f"{REPO}/milestones/{n}"
    return {
        "action": action or "created",
        "milestone": {
            "url": url,
            "html_url": f"{PAGE}/milestone/{n}",
            "labels_url": f"{url}/labels",
            "id": number("milestone", n, digits=8),
            "node_id": node("MI", n),
            "number": n,
            "title": f"2.{n}",
            "description": "Before the autumn storms",
            "creator": user(),
            "open_issues": 4,
            "closed_issues": 0,
            "state": "open",
            "created_at": when(n),
            "updated_at": when(n),
            "due_on": "2026-12-01T08:00:00Z",
            "closed_at": None,
        },
        **common(),
    }
