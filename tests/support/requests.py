"""Signed deliveries and plain HTTP requests, made with the standard library.

Nothing here imports the product, so that a test's oracle is not the code under test.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECRET = "a test's webhook secret"
HOOK = "446581321"


def sign(body: bytes, secret: str | bytes = SECRET) -> str:
    """The value of X-Hub-Signature-256, from the standard library alone."""
    key = secret.encode() if isinstance(secret, str) else secret
    return "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()


def encode(payload: Any) -> bytes:
    """Bytes are bodies as they are; anything else becomes compact JSON."""
    return payload if isinstance(payload, bytes) else json.dumps(payload, separators=(",", ":")).encode()


def new_guid() -> str:
    return str(uuid.uuid4())


def signed(
    event: str,
    payload: Any,
    guid: str | None = None,
    hook: str = HOOK,
    *,
    secret: str | bytes = SECRET,
    content_type: str = "application/json",
    **more: str,
) -> tuple[bytes, dict[str, str]]:
    """(body, headers) of one signed delivery, as GitHub sends it. `more` adds headers: X_Name="value"."""
    body = encode(payload)
    headers = {
        "User-Agent": "GitHub-Hookshot/0000000",
        "Content-Type": content_type,
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": guid or new_guid(),
        "X-GitHub-Hook-ID": hook,
        "X-GitHub-Hook-Installation-Target-Type": "integration",
        "X-GitHub-Hook-Installation-Target-ID": "79929171",
        "X-Hub-Signature-256": sign(body, secret),
    }
    headers.update({name.replace("_", "-"): value for name, value in more.items()})
    return body, headers


def repository_number(name: str) -> int:
    """The number of the repository of that name, in these payloads."""
    return 1296269 if name == "octo/hello" else zlib.crc32(name.lower().encode())


def issue(number: int = 7, *, action: str = "opened", repo: str = "octo/hello", **more: Any) -> dict[str, Any]:
    """A small `issues` payload of the real shape. Each repository has a number of its own."""
    owner, _, name = repo.partition("/")
    payload: dict[str, Any] = {
        "action": action,
        "issue": {
            "number": number,
            "title": f"Issue {number}",
            "state": "open",
            "user": {"login": "octocat", "id": 1},
            "labels": [{"name": "bug"}],
            "body": "It does not work.",
        },
        "repository": {
            "id": repository_number(repo),
            "name": name,
            "full_name": repo,
            "owner": {"login": owner, "id": 1},
        },
        "sender": {"login": "octocat", "id": 1, "type": "User"},
        "installation": {"id": 2311},
    }
    payload.update(more)
    return payload


@dataclass
class Answer:
    """A server's answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on an open connection."""
    connection.request(method, path, body=body, headers=dict(headers or {}))
    response = connection.getresponse()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
