"""The objects that webhook payloads are made of: people, repositories, Apps. All invented, all deterministic."""

from __future__ import annotations

import base64
import hashlib

from covenq.model import JsonObject

API = "https://api.github.com"
WEB = "https://github.com"


def number(*parts: object, digits: int = 9) -> int:
    """A stable number derived from `parts`, for ids."""
    seed = "/".join(str(part) for part in parts).encode()
    low: int = 10 ** (digits - 1)
    return low + int.from_bytes(hashlib.sha256(seed).digest()[:8]) % (9 * low)


def sha(*parts: object) -> str:
    """A stable commit or tree id: 40 hex digits."""
    return hashlib.sha256("/".join(str(part) for part in parts).encode()).hexdigest()[:40]


def node(kind: str, of: object) -> str:
    return f"{kind}_{base64.urlsafe_b64encode(hashlib.sha256(f'{kind}{of}'.encode()).digest()[:12]).decode()}"


def when(n: int, *, minute: int = 0) -> str:
    """A moment in 2026, later for a greater n."""
    total = n * 7 + minute
    return f"2026-{1 + total // 40320 % 11:02}-{1 + total // 1440 % 28:02}T{total // 60 % 24:02}:{total % 60:02}:12Z"


def user(login: str = "mira-holm", kind: str = "User") -> JsonObject:
    api, web = f"{API}/users/{login}", f"{WEB}/{login}"
    if kind == "Bot":
        web = f"{WEB}/apps/{login.removesuffix('[bot]')}"
        api = f"{API}/users/{login.replace('[', '%5B').replace(']', '%5D')}"
    ident = number("user", login, digits=7)
    return {
        "login": login,
        "id": ident,
        "node_id": node({"Organization": "O", "Bot": "BOT"}.get(kind, "U"), login),
        "avatar_url": f"https://avatars.githubusercontent.com/u/{ident}?v=4",
        "gravatar_id": "",
        "url": api,
        "html_url": web,
        "followers_url": f"{api}/followers",
        "following_url": f"{api}/following{{/other_user}}",
        "gists_url": f"{api}/gists{{/gist_id}}",
        "starred_url": f"{api}/starred{{/owner}}{{/repo}}",
        "subscriptions_url": f"{api}/subscriptions",
        "organizations_url": f"{api}/orgs",
        "repos_url": f"{api}/repos",
        "events_url": f"{api}/events{{/privacy}}",
        "received_events_url": f"{api}/received_events",
        "type": kind,
        "user_view_type": "public",
        "site_admin": False,
    }


def organization(login: str = "lantern-works") -> JsonObject:
    api = f"{API}/orgs/{login}"
    ident = number("user", login, digits=7)
    return {
        "login": login,
        "id": ident,
        "node_id": node("O", login),
        "url": api,
        "repos_url": f"{api}/repos",
        "events_url": f"{api}/events",
        "hooks_url": f"{api}/hooks",
        "issues_url": f"{api}/issues",
        "members_url": f"{api}/members{{/member}}",
        "public_members_url": f"{api}/public_members{{/member}}",
        "avatar_url": f"https://avatars.githubusercontent.com/u/{ident}?v=4",
        "description": "Tools for keeping the lights on.",
    }


_PLAIN = (
    "forks", "teams", "hooks", "events", "tags", "languages", "stargazers", "contributors", "subscribers",
    "subscription", "merges", "downloads", "deployments",
)  # fmt: skip
_TEMPLATES = {
    "keys_url": "keys{/key_id}",
    "collaborators_url": "collaborators{/collaborator}",
    "issue_events_url": "issues/events{/number}",
    "assignees_url": "assignees{/user}",
    "branches_url": "branches{/branch}",
    "blobs_url": "git/blobs{/sha}",
    "git_tags_url": "git/tags{/sha}",
    "git_refs_url": "git/refs{/sha}",
    "trees_url": "git/trees{/sha}",
    "statuses_url": "statuses/{sha}",
    "commits_url": "commits{/sha}",
    "git_commits_url": "git/commits{/sha}",
    "comments_url": "comments{/number}",
    "issue_comment_url": "issues/comments{/number}",
    "contents_url": "contents/{+path}",
    "compare_url": "compare/{base}...{head}",
    "archive_url": "{archive_format}{/ref}",
    "issues_url": "issues{/number}",
    "pulls_url": "pulls{/number}",
    "milestones_url": "milestones{/number}",
    "notifications_url": "notifications{?since,all,participating}",
    "labels_url": "labels{/name}",
    "releases_url": "releases{/id}",
}


def repository(full_name: str = "lantern-works/beacon") -> JsonObject:
    owner, _, name = full_name.partition("/")
    api, web = f"{API}/repos/{full_name}", f"{WEB}/{full_name}"
    return {
        "id": number("repo", full_name),
        "node_id": node("R", full_name),
        "name": name,
        "full_name": full_name,
        "private": False,
        "owner": user(owner, "Organization"),
        "html_url": web,
        "description": "Signals, lamps and the small daemon between them",
        "fork": False,
        "url": api,
        **{f"{word}_url": f"{api}/{word}" for word in _PLAIN},
        **{key: f"{api}/{path}" for key, path in _TEMPLATES.items()},
        "created_at": "2023-04-02T08:11:54Z",
        "updated_at": "2026-11-20T16:40:02Z",
        "pushed_at": "2026-11-22T21:17:45Z",
        "git_url": f"git://github.com/{full_name}.git",
        "ssh_url": f"git@github.com:{full_name}.git",
        "clone_url": f"{web}.git",
        "svn_url": web,
        "homepage": "https://lantern.example",
        "size": 48213,
        "stargazers_count": 1287,
        "watchers_count": 1287,
        "language": "Python",
        "has_issues": True,
        "has_projects": True,
        "has_downloads": True,
        "has_wiki": True,
        "has_pages": False,
        "has_discussions": True,
        "forks_count": 96,
        "mirror_url": None,
        "archived": False,
        "disabled": False,
        "open_issues_count": 41,
        "license": {
            "key": "apache-2.0",
            "name": "Apache License 2.0",
            "spdx_id": "Apache-2.0",
            "url": f"{API}/licenses/apache-2.0",
            "node_id": node("L", "apache-2.0"),
        },
        "allow_forking": True,
        "is_template": False,
        "web_commit_signoff_required": False,
        "topics": ["daemon", "lighthouse", "signals"],
        "visibility": "public",
        "forks": 96,
        "open_issues": 41,
        "watchers": 1287,
        "default_branch": "main",
        "custom_properties": {},
    }


def small_repository(full_name: str) -> JsonObject:
    """A repository as events about installations list it."""
    return {
        "id": number("repo", full_name),
        "node_id": node("R", full_name),
        "name": full_name.partition("/")[2],
        "full_name": full_name,
        "private": False,
    }


def installation_ref() -> JsonObject:
    ident = number("installation", "lantern-works", digits=8)
    return {"id": ident, "node_id": node("MDIzOkludGVncmF0aW9u", ident)}


def common(**changed: JsonObject) -> JsonObject:
    """The keys at the end of almost every payload of an App that is installed in an organization."""
    shared: JsonObject = {"repository": repository(), "organization": organization(), "sender": user()}
    return shared | changed | {"installation": installation_ref()}


def label(name: str, color: str = "d73a4a", description: str | None = None) -> JsonObject:
    return {
        "id": number("label", name, digits=10),
        "node_id": node("LA", name),
        "url": f"{API}/repos/lantern-works/beacon/labels/{name.replace(' ', '%20')}",
        "name": name,
        "color": color,
        "default": name in ("bug", "enhancement"),
        "description": description,
    }


LABELS = {
    "bug": label("bug", "d73a4a", "Something isn't working"),
    "enhancement": label("enhancement", "a2eeef", "New feature or request"),
    "coven:fix": label("coven:fix", "5319e7", "For the fixing familiar"),
    "needs review": label("needs review", "fbca04"),
}


def reactions(url: str) -> JsonObject:
    kinds = ("+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes")
    return {"url": f"{url}/reactions", "total_count": 0, **dict.fromkeys(kinds, 0)}


def app() -> JsonObject:
    slug = "lantern-ci"
    return {
        "id": number("app", slug, digits=6),
        "client_id": "Iv23liEXAMPLEexample1",
        "slug": slug,
        "node_id": node("A", slug),
        "owner": user("lantern-works", "Organization"),
        "name": "Lantern CI",
        "description": "Builds and tests every push",
        "external_url": "https://ci.lantern.example",
        "html_url": f"{WEB}/apps/{slug}",
        "created_at": "2023-05-11T10:00:00Z",
        "updated_at": "2026-09-01T12:30:00Z",
        "permissions": {"checks": "write", "contents": "read", "metadata": "read", "pull_requests": "write"},
        "events": ["check_run", "check_suite", "pull_request", "push"],
    }
