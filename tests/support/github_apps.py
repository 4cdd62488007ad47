"""A stand-in for GitHub's making of Apps from manifests: the page that a manifest is posted to, and the exchange of its code.

Part of `tests.support.github_log`, which serves it over real HTTP. A manifest is held against what GitHub publishes: which events
there are for Apps, and which permission each needs. The browser is `Browser`, an HTTP client that follows as a person would.

Nothing here imports the product, so that a test's oracle is not the code under test.
"""

from __future__ import annotations

import http.client
import json
import re
import secrets
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import jsonschema_rs

_SCHEMAS = json.loads((Path(__file__).parent / "github_app_schemas.json").read_text())
_CREATED = jsonschema_rs.Draft202012Validator(_SCHEMAS["integration-from-manifest"])
SUBSCRIPTIONS: dict[str, str] = _SCHEMAS["subscriptions"]
"""Event to the permission that an App needs for it, in the words of GitHub's documents."""
PERMISSIONS = frozenset(_SCHEMAS["app-permissions"])

Said = tuple[int, dict[str, str], bytes]


@dataclass
class GithubApps:
    """The Apps that were made. `codes` are those that were not exchanged yet."""

    web: str = ""
    app_id: int = 0
    client_id: str = ""
    private_key: bytes = b""
    manifests: list[dict[str, Any]] = field(default_factory=list)
    owners: list[str | None] = field(default_factory=list)
    codes: dict[str, dict[str, Any]] = field(default_factory=dict)
    webhook_secret: str | None = field(default_factory=lambda: secrets.token_hex(20))
    without_client_id: bool = False

    def page(self, path: str, query: str, body: bytes) -> Said | None:
        """What the page for new Apps answers to a form: the redirect, or what is wrong with it. None for another path."""
        found = re.fullmatch(r"(?:/organizations/([0-9A-Za-z-]+))?/settings/apps/new", path)
        if found is None:
            return None
        state = parse_qs(query).get("state", [])
        manifest = json.loads(dict(parse_qsl(body.decode(), strict_parsing=True))["manifest"])
        wrong = _problem(manifest)
        if wrong is not None:
            return 422, {"Content-Type": "text/plain"}, wrong.encode()
        code = secrets.token_hex(20)
        self.manifests.append(manifest)
        self.owners.append(found[1])
        self.codes[code] = manifest
        asked = urlencode({"code": code, **({"state": state[0]} if state else {})})
        return 302, {"Location": f"{manifest['redirect_url']}?{asked}"}, b""

    def convert(self, code: str) -> Said:
        """The exchange of a code: once, and never again."""
        manifest = self.codes.pop(code, None)
        if manifest is None:
            return 404, {}, b'{"message": "Not Found"}'
        made = {
            **self.about(manifest),
            "client_secret": secrets.token_hex(20),
            "webhook_secret": self.webhook_secret,
            "pem": self.private_key.decode(),
        }
        _CREATED.validate(made)
        if self.without_client_id:
            del made["client_id"]
        return 201, {}, json.dumps(made).encode()

    def about(self, manifest: dict[str, Any]) -> dict[str, Any]:
        slug = re.sub(r"[^a-z0-9]+", "-", manifest["name"].lower())
        return {
            "id": self.app_id,
            "client_id": self.client_id,
            "node_id": "MDExOkludGVncmF0aW9uMQ==",
            "owner": {"login": "octocat", "id": 1},
            "name": manifest["name"],
            "description": None,
            "external_url": manifest["url"],
            "html_url": f"{self.web}/apps/{slug}",
            "created_at": "2026-11-29T12:00:00Z",
            "updated_at": "2026-11-29T12:00:00Z",
            "permissions": manifest["default_permissions"],
            "events": manifest["default_events"],
        }


def _problem(manifest: dict[str, Any]) -> str | None:
    """Why GitHub would not take it."""
    known = {"name", "url", "hook_attributes", "redirect_url", "public", "default_permissions", "default_events"}
    if set(manifest) != known:
        return f"keys {set(manifest) ^ known}"
    if not 1 <= len(manifest["name"]) <= 34 or manifest["public"] is not False:
        return "name or public"
    if not urlsplit(manifest["hook_attributes"]["url"]).netloc or manifest["hook_attributes"]["active"] is not True:
        return "hook_attributes"
    permissions = manifest["default_permissions"]
    if set(permissions) - PERMISSIONS or set(permissions.values()) - {"read", "write", "admin"}:
        return f"permissions {permissions}"
    for event in manifest["default_events"]:
        if event not in SUBSCRIPTIONS:
            return f"default_events: {event} is for no App"
    return None


class _Form(HTMLParser):
    """The one form of a page, and what else it would load or run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.loads: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            assert given.get("method") == "post"
            self.action = given["action"] or ""
        elif tag == "input":
            self.fields[given["name"] or ""] = given["value"] or ""
        elif tag in ("script", "style", "link", "img", "iframe", "object", "base") or {"src", "href"} & set(given):
            self.loads.append(tag)


@dataclass
class Page:
    """What a browser got."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def form(self) -> _Form:
        return _Form(self.text)


class Browser:
    """A browser without scripts: it keeps cookies of the page it is at, posts forms, and follows one redirect."""

    def __init__(self) -> None:
        self.cookie: str | None = None

    def get(self, url: str, host: str | None = None, method: str = "GET") -> Page:
        parts = urlsplit(url)
        headers = {} if host is None else {"Host": host}
        if self.cookie is not None:
            headers["Cookie"] = self.cookie
        got = self._ask(method, url, parts.netloc, None, headers)
        if "set-cookie" in got.headers:
            self.cookie = got.headers["set-cookie"].partition(";")[0]
        return got

    def submit(self, page: Page) -> str:
        """Post the page's form; where GitHub redirects to."""
        form = page.form
        body = urlencode(form.fields).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        got = self._ask("POST", form.action, urlsplit(form.action).netloc, body, headers)
        assert got.status == 302, got.text
        return got.headers["location"]

    def _ask(self, method: str, url: str, netloc: str, body: bytes | None, headers: dict[str, str]) -> Page:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(netloc, timeout=30)
        try:
            connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body, headers)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Page(answer.status, told, answer.read().decode())
        finally:
            connection.close()
