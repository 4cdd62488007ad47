"""A stand-in for GitHub's installation access tokens: minted for the App's installations, revoked with themselves.

Part of `tests.support.github_log`, which serves it over real HTTP and checks who asks. What it holds is what an audit compares
with: which tokens were minted, for what, and which of them still work.

Nothing here imports the product, so that a test's oracle is not the code under test.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Said = tuple[int, dict[str, str], bytes]

LEVELS = ("read", "write", "admin")


def classic() -> str:
    """A token of 40 characters."""
    return "ghs_" + secrets.token_urlsafe(40).replace("-", "x").replace("_", "y")[:36]


def stateless() -> str:
    """One of the form that has a JSON Web Token in it: some hundred characters."""
    part = secrets.token_urlsafe(300)
    return f"ghs_79929171_eyJhbGciOiJSUzI1NiJ9.eyJ{part[:200]}.{part[200:]}"


@dataclass
class Installation:
    """What was granted: permissions by name, repositories by their ids."""

    permissions: dict[str, str] = field(default_factory=lambda: {"issues": "write", "contents": "read"})
    repositories: set[int] = field(default_factory=lambda: {1296269})
    suspended: bool = False


@dataclass
class Token:
    token: str
    installation: int
    permissions: dict[str, str]
    repositories: list[int] | None
    made_at: float
    expires_at: float
    revoked: bool = False


@dataclass
class GithubTokens:
    """`installations` by id; `tokens` are all that were minted, in order."""

    clock: Callable[[], float]
    installations: dict[int, Installation] = field(default_factory=dict)
    tokens: list[Token] = field(default_factory=list)
    make: Callable[[], str] = classic
    life_s: float = 3600.0
    before_mint: Callable[[], None] = lambda: None
    before_answer: Callable[[], None] = lambda: None
    """Called when a token is minted, before the answer is sent."""
    before_revoke: Callable[[], None] = lambda: None
    malformed: bytes | None = None
    """What is answered in the place of a minted token."""

    def live(self) -> list[Token]:
        return [one for one in self.tokens if not one.revoked and one.expires_at > self.clock()]

    def mint(self, installation: str, body: bytes) -> Said:
        """As the App, whose JWT was checked."""
        self.before_mint()
        found = self.installations.get(int(installation)) if installation.isdecimal() else None
        if found is None:
            return _said(404, "Not Found")
        if found.suspended:
            return _said(403, "This installation has been suspended")
        asked: dict[str, Any] = json.loads(body or b"{}")
        assert set(asked) <= {"permissions", "repository_ids", "repositories"}, asked
        permissions, repositories = asked.get("permissions", found.permissions), asked.get("repository_ids")
        for name, level in permissions.items():
            granted = found.permissions.get(name)
            if granted is None or LEVELS.index(level) > LEVELS.index(granted):
                return _said(422, "The permissions requested are not granted to this installation.")
        if repositories is not None and (not repositories or not set(repositories) <= found.repositories):
            return _said(
                422,
                "There is at least one repository that does not exist or is not accessible to the parent installation.",
            )
        now = self.clock()
        made = Token(self.make(), int(installation), permissions, repositories, now, now + self.life_s)
        self.tokens.append(made)
        self.before_answer()
        if self.malformed is not None:
            return 201, {}, self.malformed
        said: dict[str, Any] = {
            "token": made.token,
            "expires_at": datetime.fromtimestamp(made.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "permissions": permissions,
            "repository_selection": "all" if repositories is None else "selected",
        }
        if repositories is not None:
            said["repositories"] = [{"id": one, "name": f"r{one}"} for one in repositories]
        return 201, {}, json.dumps(said).encode()

    def revoke(self, authorization: str) -> Said:
        """With the token itself."""
        self.before_revoke()
        kind, _, token = authorization.partition(" ")
        found = next((one for one in self.live() if (kind, token) == ("Bearer", one.token)), None)
        if found is None:
            return _said(401, "Bad credentials")
        found.revoked = True
        return 204, {}, b""


def _said(status: int, message: str) -> Said:
    return status, {}, json.dumps({"message": message, "documentation_url": "https://docs.github.com/rest"}).encode()
