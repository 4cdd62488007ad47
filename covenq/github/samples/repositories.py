"""Payloads of events about repositories, hooks and Apps themselves."""

from __future__ import annotations

from covenq.github.samples.issues import PAGE, REPO
from covenq.github.samples.objects import (
    API,
    WEB,
    app,
    common,
    node,
    number,
    organization,
    reactions,
    repository,
    small_repository,
    user,
    when,
)
from covenq.model import JsonObject


def ping(n: int = 1, action: str | None = None) -> JsonObject:
    ident = number("hook", n)
    hook = {
        "type": "Repository",
        "id": ident,
        "name": "web",
        "active": True,
        "events": ["issues", "issue_comment", "pull_request", "push"],
        "config": {
            "content_type": "json",
            "insecure_ssl": "0",
            "secret": "********",
            "url": "https://hooks.lantern.example/webhook",
        },
        "updated_at": when(n),
        "created_at": when(n),
        "url": f"{REPO}/hooks/{ident}",
        "test_url": f"{REPO}/hooks/{ident}/test",
        "ping_url": f"{REPO}/hooks/{ident}/pings",
        "deliveries_url": f"{REPO}/hooks/{ident}/deliveries",
        "last_response": {"code": None, "status": "unused", "message": None},
    }
    return {"zen": "Half measures are as bad as nothing at all.", "hook_id": ident, "hook": hook,
            "repository": repository(), "sender": user()}  # fmt: skip


def star(n: int = 1, action: str | None = None) -> JsonObject:
    action = action or "created"
    return {
        "action": action,
        "starred_at": when(n) if action == "created" else None,
        **common(sender=user(f"visitor-{n}")),
    }


def watch(n: int = 1, action: str | None = None) -> JsonObject:
    return {"action": action or "started", **common(sender=user(f"visitor-{n}"))}


def fork(n: int = 1, action: str | None = None) -> JsonObject:
    login = f"visitor-{n}"
    copy = repository(f"{login}/beacon") | {"fork": True, "owner": user(login), "public": True}
    return {"forkee": copy, **common(sender=user(login))}


def release(n: int = 1, action: str | None = None) -> JsonObject:
    ident = number("release", n)
    url, tag = f"{REPO}/releases/{ident}", f"v2.{n}.0"
    asset = {
        "url": f"{REPO}/releases/assets/{number('asset', n)}",
        "id": number("asset", n),
        "node_id": node("RA", n),
        "name": f"beacon-2.{n}.0.tar.gz",
        "label": "",
        "uploader": user(),
        "content_type": "application/gzip",
        "state": "uploaded",
        "size": 183204,
        "digest": None,
        "download_count": 0,
        "created_at": when(n),
        "updated_at": when(n),
        "browser_download_url": f"{PAGE}/releases/download/{tag}/beacon-2.{n}.0.tar.gz",
    }
    made = {
        "url": url,
        "assets_url": f"{url}/assets",
        "upload_url": f"https://uploads.github.com/repos/lantern-works/beacon/releases/{ident}/assets{{?name,label}}",
        "html_url": f"{PAGE}/releases/tag/{tag}",
        "id": ident,
        "author": user(),
        "node_id": node("RE", ident),
        "tag_name": tag,
        "target_commitish": "main",
        "name": f"Beacon 2.{n}",
        "draft": False,
        "immutable": False,
        "prerelease": False,
        "created_at": when(n),
        "published_at": when(n, minute=1),
        "updated_at": when(n, minute=1),
        "assets": [asset],
        "tarball_url": f"{REPO}/tarball/{tag}",
        "zipball_url": f"{REPO}/zipball/{tag}",
        "body": "* All attempts are made before a lamp is given up\n* The schedule is read once\n",
        "reactions": reactions(url),
    }
    return {"action": action or "published", "release": made, **common()}


def repository_event(n: int = 1, action: str | None = None) -> JsonObject:
    action = action or "edited"
    changes = {"changes": {"description": {"from": "Signals and lamps"}}} if action == "edited" else {}
    return {"action": action, **changes, **common()}


def public(n: int = 1, action: str | None = None) -> JsonObject:
    return common()


def member(n: int = 1, action: str | None = None) -> JsonObject:
    changes = {"permission": {"to": "write"}, "role_name": {"to": "write"}}
    return {"action": action or "added", "member": user(f"keeper-{n}"), "changes": changes, **common()}


def gollum(n: int = 1, action: str | None = None) -> JsonObject:
    page = {
        "page_name": "Harbour-lights",
        "title": "Harbour lights",
        "summary": None,
        "action": "edited",
        "sha": f"{number('wiki', n):040x}",
        "html_url": f"{PAGE}/wiki/Harbour-lights",
    }
    return {"pages": [page], **common()}


def organization_event(n: int = 1, action: str | None = None) -> JsonObject:
    membership = {
        "url": f"{API}/orgs/lantern-works/memberships/keeper-{n}",
        "state": "active",
        "role": "member",
        "organization_url": f"{API}/orgs/lantern-works",
        "user": user(f"keeper-{n}"),
        "direct_membership": True,
    }
    made: JsonObject = {"action": action or "member_added", "membership": membership}
    return {**made, "organization": organization(), "sender": user()}


def _installation() -> JsonObject:
    ident = number("installation", "lantern-works", digits=8)
    made = app()
    return {
        "id": ident,
        "client_id": made["client_id"],
        "account": user("lantern-works", "Organization"),
        "repository_selection": "selected",
        "access_tokens_url": f"{API}/app/installations/{ident}/access_tokens",
        "repositories_url": f"{API}/installation/repositories",
        "html_url": f"{WEB}/organizations/lantern-works/settings/installations/{ident}",
        "app_id": made["id"],
        "app_slug": made["slug"],
        "target_id": number("user", "lantern-works", digits=7),
        "target_type": "Organization",
        "permissions": made["permissions"],
        "events": made["events"],
        "created_at": "2026-01-08T07:30:00.000Z",
        "updated_at": "2026-01-08T07:30:00.000Z",
        "single_file_name": None,
        "has_multiple_single_files": False,
        "single_file_paths": [],
        "suspended_by": None,
        "suspended_at": None,
    }


def installation(n: int = 1, action: str | None = None) -> JsonObject:
    return {
        "action": action or "created",
        "installation": _installation(),
        "repositories": [small_repository("lantern-works/beacon"), small_repository("lantern-works/foghorn")],
        "requester": None,
        "sender": user(),
    }


def installation_repositories(n: int = 1, action: str | None = None) -> JsonObject:
    action = action or "added"
    changed = [small_repository(f"lantern-works/buoy-{n}")]
    return {
        "action": action,
        "installation": _installation(),
        "repository_selection": "selected",
        "repositories_added": changed if action == "added" else [],
        "repositories_removed": changed if action == "removed" else [],
        "requester": None,
        "sender": user(),
    }
