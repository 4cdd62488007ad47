"""A stand-in for GitHub's delivery log over real HTTP: what `covenq reconcile` asks, answered from a list of attempts of its own.

Credentials are checked as GitHub checks them: a JWT against the App's public key, its dates against a clock that a test may set.
Pages go by cursors, new attempts may come between two of them, and some are listed late. Faults are served in the order in which
they were asked for. Every answer is held against an excerpt of GitHub's own schema.

Nothing here imports the product, so that a test's oracle is not the code under test.
"""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import jsonschema_rs
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.github_apps import GithubApps
from tests.support.github_settings import Settings
from tests.support.github_tokens import GithubTokens
from tests.support.requests import HOOK, SECRET, encode, new_guid, signed

APP_ID = 79929171
CLIENT_ID = "Iv23liAbCdEfGhIjKlMn"
FIRST_ID = 3_800_000_000_000_000_000
_SCHEMAS = json.loads((Path(__file__).parent / "github_schemas.json").read_text())
_ITEM = jsonschema_rs.Draft202012Validator(_SCHEMAS["hook-delivery-item"])
_DETAIL = jsonschema_rs.Draft202012Validator(_SCHEMAS["hook-delivery"])
_STATUS = {200: "OK", 202: "Accepted", 0: "failed to connect"}


def new_key() -> tuple[bytes, Any]:
    """A private key as PEM, as GitHub gives it, and its public half."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return pem, key.public_key()


@lru_cache(1)
def app_key() -> tuple[bytes, Any]:
    """The App's, made once a process: it takes a while."""
    return new_key()


@dataclass
class Attempt:
    """One attempt to deliver: `headers` and `body` are what is, or would have been, sent."""

    id: int
    guid: str
    at: float
    status_code: int
    headers: dict[str, str]
    body: bytes
    redelivery: bool = False
    installation_id: int | None = None
    repository_id: int | None = None
    listed_after: int = 0
    """Requests of the list after which it is in it."""
    headers_kept: bool = True
    payload_kept: bool = True
    log: str | None = None
    """The path of the log that it is in; None: of every one."""
    forgotten: bool = False
    """Its detail is 404."""
    answer: str = "{}"
    """What was answered to it."""

    def item(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "guid": self.guid,
            "delivered_at": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "redelivery": self.redelivery,
            "duration": 0.27,
            "status": _STATUS.get(self.status_code, "Invalid HTTP Response: " + str(self.status_code)),
            "status_code": self.status_code,
            "event": self.headers["X-GitHub-Event"],
            "action": json.loads(self.body).get("action"),
            "installation_id": self.installation_id,
            "repository_id": self.repository_id,
            "throttled_at": None,
        }

    def detail(self) -> bytes:
        """With the payload in the key order and the numbers that it was sent with."""
        headers = json.dumps(self.headers if self.headers_kept else None)
        payload = self.body.decode() if self.payload_kept else "null"
        head = json.dumps({**self.item(), "url": "https://hooks.example.org/webhook"})[:-1]
        said = json.dumps({"headers": {"Content-Type": "application/json"}, "payload": self.answer})
        return f'{head}, "request": {{"headers": {headers}, "payload": {payload}}}, "response": {said}}}'.encode()


@dataclass
class Fault:
    """What is answered in the place of one answer. `truncated`: the right one, of which half is sent."""

    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"message": "a fault"}'
    truncated: bool = False
    on: str = ""
    """Only where the path has this in it."""
    whole: bool = False
    """Only where the path ends with that: of a list, and not of its details."""
    method: str = ""
    """Only of this one."""

    def is_for(self, method: str, path: str) -> bool:
        here = path.endswith(self.on) if self.whole else self.on in path
        return here and self.method in ("", method)


class GithubLog(ThreadingHTTPServer):
    """The server. `attempts` is its log; what it was asked is in `asked`, as method and path with query."""

    daemon_threads = True

    def __init__(self, base: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.base = base
        self.lock = threading.Lock()
        self.private_key, self.public_key = app_key()
        self.issuers: tuple[str, ...] = (CLIENT_ID, str(APP_ID))
        web = f"http://127.0.0.1:{self.server_address[1]}"
        self.apps = GithubApps(web, APP_ID, CLIENT_ID, self.private_key)
        self.tokens: dict[str, str] = {}
        """Path of a log, such as /repos/o/r/hooks/7/deliveries, to the token that may read it."""
        self.settings = Settings()
        self.work_tokens = GithubTokens(lambda: self.clock())
        self.clock: Callable[[], float] = time.time
        self.attempts: list[Attempt] = []
        self.faults: list[Fault] = []
        self.asked: list[str] = []
        self.seen_headers: list[dict[str, str]] = []
        self.listed = 0
        self.before_page: Callable[[int], None] = lambda number: None
        """Called before the page of that number, from 0, is made: what it adds comes between two pages."""
        self.before_detail: Callable[[], None] = lambda: None
        self.before_redelivery: Callable[[], None] = lambda: None
        """Called when one is asked for."""
        self.before_post: Callable[[], None] = lambda: None
        """Called before one is posted to the door."""
        self.refused_cursors = 0
        """So many requests with a cursor are answered 422."""
        self.remaining: int | None = None
        self.limit: int | None = None
        self.reset = int(time.time()) + 3600
        self.door: str | None = None
        """Where redeliveries are posted; None: they never come."""
        self.redelivered_at: dict[str, float] = {}
        """When the first redelivery of that GUID was begun."""
        self.redelivered: list[threading.Thread] = []
        self.link_host: str | None = None
        """The host that the link header names; None is its own."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{self.base}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away, or didn't trust the certificate, is no fault."""

    def add(
        self,
        event: str = "issues",
        payload: Any = None,
        *,
        guid: str | None = None,
        at: float | None = None,
        status_code: int = 0,
        hook: str = HOOK,
        secret: str = SECRET,
        **more: Any,
    ) -> Attempt:
        """One more attempt, by default one that failed just now."""
        body = encode({"action": "opened", "n": len(self.attempts)} if payload is None else payload)
        body, headers = signed(event, body, guid or new_guid(), hook, secret=secret)
        moment = self.clock() if at is None else at
        one = Attempt(
            FIRST_ID + len(self.attempts) * 1_000_003, headers["X-GitHub-Delivery"], moment, status_code, headers, body,
            **more,
        )  # fmt: skip
        with self.lock:
            self.attempts.append(one)
        return one

    def again(self, one: Attempt, *, at: float, status_code: int) -> Attempt:
        """Another attempt of the same delivery."""
        return self.add(
            one.headers["X-GitHub-Event"],
            one.body,
            guid=one.guid,
            at=at,
            status_code=status_code,
            hook=one.headers["X-GitHub-Hook-ID"],
            redelivery=True,
            installation_id=one.installation_id,
            repository_id=one.repository_id,
        )

    def requests(self, part: str) -> list[str]:
        """What was asked of paths with this in them."""
        return [one for one in self.asked if part in one]


Said = tuple[int, dict[str, str], bytes]


class _Handler(BaseHTTPRequestHandler):
    server: GithubLog
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server = self.server
        parts = urlsplit(self.path)
        with server.lock:
            server.asked.append(f"{self.command} {self.path}")
            server.seen_headers.append({name.lower(): value for name, value in self.headers.items()})
            fault = next((one for one in server.faults if one.is_for(self.command, parts.path)), None)
            if fault is not None:
                server.faults.remove(fault)
        if fault is not None and not fault.truncated:
            self._send(fault.status, fault.headers, fault.body)
            return
        status, headers, said = self._answer(parts.path, dict(parse_qsl(parts.query)), body)
        self._send(status, headers, said, cut=fault is not None)

    def _send(self, status: int, headers: dict[str, str], body: bytes, cut: bool = False) -> None:
        server = self.server
        self.send_response_only(status)
        given = {"Date": formatdate(server.clock(), usegmt=True), "Content-Length": str(len(body)), **headers}
        if server.remaining is not None:
            server.remaining -= 1
            given.setdefault("X-RateLimit-Remaining", str(max(0, server.remaining)))
            given.setdefault("X-RateLimit-Reset", str(server.reset))
        if server.limit is not None:
            given.setdefault("X-RateLimit-Limit", str(server.limit))
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut

    def _answer(self, path: str, query: dict[str, str], given: bytes = b"") -> Said:
        server = self.server
        if self.command == "POST":
            made = server.apps.page(path, urlsplit(self.path).query, given)
            if made is not None:
                return made
        if not path.startswith(server.base + "/"):
            return _said(404, "Not Found")
        path = path.removeprefix(server.base)
        if self.command == "POST" and path.startswith("/app-manifests/"):
            return server.apps.convert(path.removeprefix("/app-manifests/").removesuffix("/conversions"))
        if self.command == "DELETE" and path == "/installation/token":
            return server.work_tokens.revoke(self.headers.get("Authorization", ""))
        minted = re.fullmatch(r"/app/installations/(\d+)/access_tokens", path)
        if self.command == "POST" and minted is not None:
            return self._unauthorised("/app/hook/deliveries") or server.work_tokens.mint(minted[1], given)
        log, _, rest = path.partition("/deliveries")
        refused = None if path == "/meta" else self._unauthorised(_log_beside(log))
        if refused is not None:
            return refused
        settings = server.settings.answer(self.command, path, query, given)
        if settings is not None:
            return settings
        if not rest:
            return self._list(path, query)
        id, _, more = rest.removeprefix("/").partition("/")
        with server.lock:
            found = next((one for one in server.attempts if str(one.id) == id and not one.forgotten), None)
        if found is None or more not in ("", "attempts") or (self.command == "POST") != (more == "attempts"):
            return _said(404, "Not Found")
        if more:
            server.before_redelivery()
            self._redeliver(found)
            return 202, {}, b"{}"
        server.before_detail()
        body = found.detail()
        _DETAIL.validate(json.loads(body))
        return 200, {}, body

    def _unauthorised(self, log: str) -> Said | None:
        server = self.server
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if log in server.tokens:
            return None if (kind, token) == ("Bearer", server.tokens[log]) else _said(401, "Bad credentials")
        if log != "/app/hook/deliveries":
            return _said(404, "Not Found")
        try:
            claims = jwt.decode(
                token, server.public_key, algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False}
            )
        except jwt.InvalidTokenError:
            return _said(401, "A JSON web token could not be decoded")
        now = server.clock()
        if str(claims.get("iss")) not in server.issuers:
            return _said(401, "Integration must generate a public key")
        if claims["iat"] > now:
            return _said(401, "'Issued at' claim ('iat') must be an Integer representing the time in the past")
        if claims["exp"] <= now or claims["exp"] > now + 600:
            return _said(401, "'Expiration time' claim ('exp') is too far in the future, or has passed")
        return None

    def _list(self, path: str, query: dict[str, str]) -> Said:
        server = self.server
        with server.lock:
            number = server.listed
            server.listed += 1
        server.before_page(number)
        with server.lock:
            listed = sorted(
                (one for one in server.attempts if one.listed_after <= number and one.log in (None, path)),
                key=lambda one: (-one.at, -one.id),
            )
            cursor = query.get("cursor")
            if cursor is not None and server.refused_cursors:
                server.refused_cursors -= 1
                return _said(422, "Validation Failed")
        start = 0
        if cursor is not None:
            ids = [f"v1_{one.id}" for one in listed]
            if cursor not in ids:
                return _said(422, "Validation Failed")
            start = ids.index(cursor)
        size = min(int(query.get("per_page", "30")), 100)
        page = [one.item() for one in listed[start : start + size]]
        for item in page:
            _ITEM.validate(item)
        headers = {}
        if len(listed) > start + size:
            host = server.link_host or server.url
            after = quote(f"v1_{listed[start + size].id}")
            headers["Link"] = f'<{host}{path}?per_page={size}&cursor={after}>; rel="next"'
        return 200, headers, json.dumps(page).encode()

    def _redeliver(self, one: Attempt) -> None:
        """Post it to the door at its own pace, as GitHub does, if there is one; the attempt is listed by what became of it."""
        server = self.server

        def post() -> None:
            assert server.door is not None
            server.before_post()
            at, said = server.clock(), ""
            server.redelivered_at.setdefault(one.guid, at)
            request = urllib.request.Request(server.door, one.body, one.headers)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    status, said = int(answer.status), answer.read().decode()
            except urllib.error.HTTPError as error:
                status = error.code
            except OSError:
                status = 0
            server.again(one, at=at, status_code=status).answer = said

        if server.door is not None:
            thread = threading.Thread(target=post)
            thread.start()
            server.redelivered.append(thread)  # to be joined, which is refused of one that has not started

    def log_message(self, *_: object) -> None:
        pass


def _log_beside(path: str) -> str:
    """The log whose credentials are those for this path: of a hook, or of the App."""
    if path == "/app" or path.startswith("/app/"):
        return "/app/hook/deliveries"
    return path.removesuffix("/config") + "/deliveries"


def _said(status: int, message: str) -> Said:
    return status, {}, json.dumps({"message": message}).encode()


def app_table(server: GithubLog, directory: Path, key: bytes | None = None, client_id: str | None = CLIENT_ID) -> str:
    """[github.app] of this GitHub's App, or of one with another key, which is written into the directory."""
    file = directory / "app.pem"
    file.write_bytes(server.private_key if key is None else key)
    file.chmod(0o600)
    known = "" if client_id is None else f'client_id = "{client_id}"\n'
    return f'[github.app]\nid = {APP_ID}\n{known}private_key_file = "{file}"\napi_url = "{server.url}"'


@contextmanager
def github(base: str = "") -> Iterator[GithubLog]:
    """A stand-in that answers until the end of the `with`."""
    server = GithubLog(base)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        for one in server.redelivered:
            one.join()
        server.shutdown()
        thread.join()
        server.server_close()


def guids(attempts: Sequence[Attempt]) -> set[str]:
    return {one.guid for one in attempts}
