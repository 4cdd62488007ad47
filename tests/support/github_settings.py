"""Settings of webhooks, and what an App is and where it is installed, for the stand-in of `github_log`.

What is answered is held against an excerpt of GitHub's own schema, and so is what comes with a PATCH. A secret is never shown:
GitHub has asterisks in its place.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema_rs

_SCHEMAS = json.loads((Path(__file__).parent / "github_schemas.json").read_text())
_VALID = {name: jsonschema_rs.Draft202012Validator(schema) for name, schema in _SCHEMAS.items() if name != "source"}
_DATE = "2026-11-01T00:00:00Z"
Said = tuple[int, dict[str, str], bytes]


@dataclass
class Hook:
    """A webhook's settings. `secrets` are those that a PATCH set, in order: the last one is what GitHub signs with."""

    secrets: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=lambda: ["issues"])
    active: bool = True
    url: str = "https://hooks.example.org/webhook"
    content_type: str = "json"
    insecure_ssl: str = "0"

    def config(self) -> dict[str, Any]:
        found = {"content_type": self.content_type, "insecure_ssl": self.insecure_ssl, "url": self.url}
        return {**found, "secret": "********"}


@dataclass
class Installation:
    """Where the App is installed. `permissions` are those that were granted."""

    id: int
    permissions: dict[str, str]
    events: list[str] = field(default_factory=lambda: ["issues"])
    suspended_at: str | None = None
    account: str = "octo"


@dataclass
class Settings:
    """What the stand-in knows of webhooks, by their path: /app/hook, /repos/o/r/hooks/7, /orgs/o/hooks/7."""

    hooks: dict[str, Hook] = field(default_factory=lambda: {"/app/hook": Hook()})
    permissions: dict[str, str] = field(default_factory=lambda: {"issues": "read", "metadata": "read"})
    installations: list[Installation] = field(default_factory=list)
    before_change: Callable[[str], None] = lambda path: None
    """Called with the hook's path when its settings are about to change."""
    ranges: list[str] = field(default_factory=lambda: ["192.30.252.0/22", "2a0a:a440::/29"])

    @property
    def app(self) -> Hook:
        return self.hooks["/app/hook"]

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Said | None:
        """The answer; None where the path is none of settings."""
        if path == "/meta":
            return _json("api-overview", {"verifiable_password_authentication": False, "hooks": self.ranges})
        if path == "/app":
            return _json("integration", self._app())
        if path == "/app/installations":
            return self._installations(int(query.get("page", "1")), min(int(query.get("per_page", "30")), 100))
        of, _, what = path.rpartition("/")
        if of == "/app/installations":
            one = next((one for one in self.installations if str(one.id) == what), None)
            return (404, {}, b"{}") if one is None else _json("installation", self._installation(one))
        if what == "config" and of in self.hooks:
            if method == "PATCH":
                self.before_change(of)
            return self._config(self.hooks[of], method, body)
        if path in self.hooks and path != "/app/hook":
            return self._hook(path, self.hooks[path])
        return None

    def _config(self, hook: Hook, method: str, body: bytes) -> Said:
        if method == "PATCH":
            given = json.loads(body)
            _VALID["webhook-config-change"].validate(given)
            if "secret" in given:
                hook.secrets.append(given.pop("secret"))
            for name, value in given.items():
                setattr(hook, name, value)
        return _json("webhook-config", hook.config())

    def _hook(self, path: str, hook: Hook) -> Said:
        url = f"https://api.github.com{path}"
        found = {
            "id": int(path.rpartition("/")[2]),
            "type": "Repository",
            "name": "web",
            "active": hook.active,
            "events": hook.events,
            "config": hook.config(),
            "url": url,
            "ping_url": f"{url}/pings",
            "created_at": _DATE,
            "updated_at": _DATE,
        }
        if path.startswith("/orgs/"):
            return _json("org-hook", {**found, "type": "Organization"})
        last = {"code": None, "status": "unused", "message": None}
        return _json("hook", {**found, "test_url": f"{url}/test", "last_response": last})

    def _app(self) -> dict[str, Any]:
        return {
            "id": 79929171,
            "client_id": "Iv23liAbCdEfGhIjKlMn",
            "slug": "covenq-test",
            "node_id": "A_kw",
            "owner": {"login": "octo", "id": 1},
            "name": "covenq test",
            "description": None,
            "external_url": "https://example.org",
            "html_url": "https://github.com/apps/covenq-test",
            "created_at": _DATE,
            "updated_at": _DATE,
            "permissions": self.permissions,
            "events": self.app.events,
        }

    def _installations(self, page: int, size: int) -> Said:
        listed = [self._installation(one) for one in self.installations[(page - 1) * size : page * size]]
        for one in listed:
            _VALID["installation"].validate(one)
        return 200, {}, json.dumps(listed).encode()

    def _installation(self, one: Installation) -> dict[str, Any]:
        url = f"https://api.github.com/app/installations/{one.id}"
        return {
            "id": one.id,
            "account": {"login": one.account, "id": one.id + 1},
            "app_id": 79929171,
            "app_slug": "covenq-test",
            "target_id": one.id + 1,
            "target_type": "Organization",
            "permissions": one.permissions,
            "events": one.events,
            "single_file_name": None,
            "repository_selection": "all",
            "access_tokens_url": f"{url}/access_tokens",
            "repositories_url": "https://api.github.com/installation/repositories",
            "html_url": f"https://github.com/organizations/{one.account}/settings/installations/{one.id}",
            "created_at": _DATE,
            "updated_at": _DATE,
            "suspended_by": None,
            "suspended_at": one.suspended_at,
        }


def _json(schema: str, value: Any) -> Said:
    _VALID[schema].validate(value)
    return 200, {}, json.dumps(value).encode()
