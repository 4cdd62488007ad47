"""The HTTP client of a daemon, over its Unix socket or to a URL (`covenq.net.transport`).

An error that the daemon answers is raised here again: the same class, sentence and hint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from covenq.errors import (
    Ambiguous,
    BodyTooLarge,
    CovenqError,
    DaemonUnreachable,
    Damaged,
    FilterError,
    NodeTokenMissing,
    NotDurable,
    NotFound,
    OnAnotherNode,
    Refused,
    ScopeInsufficient,
    StaleFence,
    StateBehind,
    StateUnreadable,
    TokenRefused,
    UsageError,
    WorkTokenRefused,
    WorkTokenUnavailable,
)
from covenq.net.address import Remote, environment_token, parse_url
from covenq.net.no_answer import reason
from covenq.net.transport import CHUNK, NO_ANSWER, Connection, Response, read_up_to
from covenq.net.unix_connection import UnixConnection
from journal.errors import (
    JournalClosed,
    JournalError,
    JournalFull,
    JournalPoisoned,
    JournalStandby,
    JournalUnavailable,
)

TIMEOUT_S = 60.0
"""Seconds of one wait."""
WHOLE_S = 300.0
"""Seconds for the rest of an answer, after one wait, however slowly it comes."""
ANSWER_MAX = 128 << 20
"""Bytes of an answer: the largest is a payload, of 64 MiB at most."""
EVENT_MAX = 1 << 20
"""Bytes of one line of an event stream: a daemon's are a few hundred."""
STREAM_TIMEOUT_S = 45.0
"""Seconds without data after which an event stream is dead: a daemon sends something every ten."""

Object = dict[str, Any]
"""A JSON object that a daemon answers. Its reader knows the type of what is in it."""

_ERRORS: dict[str, type[CovenqError] | type[JournalError]] = {
    "usage": UsageError,
    "body_too_large": BodyTooLarge,
    "not_found": NotFound,
    "refused": Refused,
    "stale_fence": StaleFence,
    "token_refused": WorkTokenRefused,
    "token_unavailable": WorkTokenUnavailable,
    "state_behind": StateBehind,
    "state_unreadable": StateUnreadable,
    "on_another_node": OnAnotherNode,
    "node_token_missing": NodeTokenMissing,
    "not_durable": NotDurable,
    "journal_damaged": Damaged,
    "journal_full": JournalFull,
    "journal_poisoned": JournalPoisoned,
    "journal_closed": JournalClosed,
    "journal_unavailable": JournalUnavailable,
    "standby": JournalStandby,
    "token_missing": TokenRefused,
    "token_wrong": TokenRefused,
    "role_insufficient": TokenRefused,
    "scope_insufficient": ScopeInsufficient,
    "phases_only": Refused,
}
_HINTS = {
    "token_missing": "Set COVENQ_TOKEN, or name a file with --token-file; `covenq tokens new` on the daemon's machine makes one.",
    "token_wrong": "Is it this daemon's? `covenq tokens` on its machine lists the names there are.",
    "path_unknown": "Is this the address of [api] bind, by default port 8788, and of a covenq as new as this one?",
}
"""Hints for the client's side, instead of the daemon's."""


class Client:
    """Requests to one daemon, each with a connection of its own, so from any thread. Raises DaemonUnreachable."""

    def __init__(
        self, target: Path | str | Remote, *, timeout: float = TIMEOUT_S, env: Mapping[str, str] = os.environ
    ) -> None:
        """`target` is the socket's path, or a URL such as http://127.0.0.1:8788, with its token as a Remote.

        `timeout` in seconds, of each wait. `env` names the proxy by which a URL is reached. A certificate is checked against the
        system's authorities, or SSL_CERT_FILE's; a redirect is never followed, so that the token is sent nowhere else. Raises
        UsageError.
        """
        self.timeout = timeout
        self._base = ""
        self._headers: dict[str, str] = {}
        self._proxy: str | None = None
        self._new: Callable[[], Connection]
        self._local = isinstance(target, Path)
        self._env = env
        if isinstance(target, Path):
            self.where = str(target)
            self._new = lambda: UnixConnection(target)
            return
        from covenq.net.outgoing import OutgoingConnection, Route  # no command of this machine needs it

        remote = Remote(target) if isinstance(target, str) else target
        self.where = remote.url
        url = parse_url(remote.url)
        route = Route(url, env)
        self._new = lambda: OutgoingConnection(route)
        self._proxy = route.proxy
        self._base = url.path.rstrip("/")
        if remote.token is not None:
            self._headers["Authorization"] = f"Bearer {remote.token}"

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Object:
        """The JSON object at `path`. Raises the error that the daemon answers."""
        return _object(self._ask("GET", _target(path, params)))

    def get_bytes(self, path: str) -> bytes:
        """The bytes at `path`, for answers that aren't JSON.

        Where a daemon of this machine, which needs no token itself, has them from another node, it is given the environment's,
        then and from then on.
        """
        try:
            return self._ask("GET", path)
        except NodeTokenMissing:
            token = environment_token(self._env) if self._local else None
            if token is None:
                raise
        self._headers = {**self._headers, "Authorization": f"Bearer {token}"}
        return self._ask("GET", path)

    def post(self, path: str, body: Mapping[str, object], timeout: float | None = None) -> Object:
        """The JSON object that answers a POST of JSON. Raises the error that the daemon answers."""
        return _object(self._ask("POST", path, json.dumps(body).encode(), timeout=timeout))

    def answers(self, timeout: float) -> bool:
        """Whether /healthz is answered within `timeout` seconds."""
        try:
            self._ask("GET", "/healthz", timeout=timeout)
        except (CovenqError, JournalError):
            return False
        return True

    def stream(self, path: str, params: Mapping[str, str] | None = None) -> EventStream:
        """Open a server-sent event stream."""
        connection = self._new()
        headers = {"Accept": "text/event-stream", **self._headers}
        target = self._base + _target(path, params)
        try:
            with self._telling():
                response = connection.ask(
                    "GET", target, headers, None, wait_s=STREAM_TIMEOUT_S, whole_s=STREAM_TIMEOUT_S, endless=True
                )
                if response.status != 200:
                    with closing(response):  # what watches over it ends with it
                        raise self._error(response.status, read_up_to(response, EVENT_MAX))
        except BaseException:
            connection.close()
            raise
        return EventStream(connection, response, self.where)

    def _ask(self, method: str, target: str, body: bytes | None = None, timeout: float | None = None) -> bytes:
        connection = self._new()
        try:
            with self._telling():
                response, answer = self._exchange(connection, method, target, body, timeout)
        finally:
            connection.close()
        return self._accepted(response, answer)

    def _exchange(
        self, connection: Connection, method: str, target: str, body: bytes | None, timeout: float | None
    ) -> tuple[Response, bytes]:
        """An answer and its whole body. Raises as a Connection does."""
        headers = {**self._headers, **({"Content-Type": "application/json"} if body is not None else {})}
        wait_s = self.timeout if timeout is None else timeout
        response = connection.ask(method, self._base + target, headers, body, wait_s=wait_s, whole_s=wait_s + WHOLE_S)
        try:
            answer = read_up_to(response, ANSWER_MAX)
        finally:
            response.close()
        if len(answer) > ANSWER_MAX:
            raise CovenqError(f"{self.where} answered with more than {ANSWER_MAX >> 20} MiB")
        return response, answer

    def _accepted(self, response: Response, answer: bytes) -> bytes:
        """The answer, if it is none of an error. Raises the error that it is."""
        if not 200 <= response.status < 300:
            raise self._error(response.status, answer)
        return answer

    def _error(self, status: int, answer: bytes) -> CovenqError | JournalError:
        error = error_of(status, answer)
        if status in (502, 503, 504) and type(error) is CovenqError and not answer.lstrip().startswith(b"{"):
            # A proxy in front of a daemon that doesn't run: its body is a page for people.
            return DaemonUnreachable(f"no daemon answers at {self.where}: a proxy there says {status}", hint=_DOWN)
        return error

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Raises DaemonUnreachable, and UsageError for an address that can't be one, for what a connection raises."""
        try:
            yield
        except NO_ANSWER as error:
            raise self._unreachable(error) from error
        except ValueError as error:
            raise UsageError(f"{self.where!r} is no web address: {error}") from None

    def _unreachable(self, error: Exception) -> DaemonUnreachable:
        import ssl

        hint = None if self._local else _DOWN
        if isinstance(error, BlockingIOError):
            return DaemonUnreachable(
                f"the daemon at {self.where} has too many connections that wait for it", hint=_FULL
            )
        if isinstance(error, ssl.SSLCertVerificationError):
            said = f"its certificate is not trusted: {error.verify_message}"
            hint = "If it is your own authority's, name that in SSL_CERT_FILE."
        elif isinstance(error, ssl.SSLError):
            said, hint = f"no TLS there: {error.reason or 'protocol error'}", "Is it an http:// address?"
        else:
            said = reason(error, self._proxy)
        if self._proxy is not None:
            hint = (
                f"{hint} It is asked by the proxy of HTTPS_PROXY or HTTP_PROXY; NO_PROXY names what is reached without."
            )
        return DaemonUnreachable(f"no daemon answers at {self.where}: {said}", hint=hint)


class EventStream:
    """The events of one stream, each the object of its `data`. `close` may be called from another thread to end it."""

    def __init__(self, connection: Connection, response: Response, where: str) -> None:
        self._connection = connection
        self._response = response
        self._where = where
        self._closed = False

    def __iter__(self) -> Iterator[Object]:
        why = "it is stopping"
        try:
            for line in self._lines():
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])
        except (*NO_ANSWER, ValueError, AttributeError, RecursionError) as error:
            # http.client raises AttributeError or ValueError when it is closed while it reads.
            why = reason(error)
        if not self._closed:
            self.close()
            raise DaemonUnreachable(f"the daemon at {self._where} ended the stream: {why}")

    def _lines(self) -> Iterator[bytes]:
        rest = b""
        while piece := self._response.read1(CHUNK):
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > EVENT_MAX:
                raise ValueError("a line without end")
            yield from lines

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._connection.shutdown()  # wakes a thread that is reading
        self._response.close()
        self._connection.close()


_FULL = "Something on this machine opens them without end; try again when that has stopped."
_DOWN = "Is `covenq serve` running there, with an [api] section, and does the address lead to it?"


def segment(text: str) -> str:
    """Text as one segment of a path."""
    return quote(text, safe="")


def error_of(status: int, body: bytes) -> CovenqError | JournalError:
    """The error that a daemon's answer represents."""
    try:
        answer = json.loads(body)
        word, detail, hint = str(answer["error"]), str(answer["detail"]), answer.get("hint")
        column, ids = int(answer.get("column") or 1), [str(id) for id in answer.get("ids") or ()]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return CovenqError(f"the daemon answered {status}, not as covenq does")
    if hint == UsageError.hint_over_http:
        hint = UsageError.hint
    if word == "ambiguous" and ids:
        return Ambiguous(str(answer.get("guid")), ids)
    if word == "filter_invalid":
        return FilterError(detail.removesuffix(f" (column {column})"), column=column, hint=hint)
    return _ERRORS.get(word, CovenqError)(detail, hint=_HINTS.get(word, hint))


def _target(path: str, params: Mapping[str, str] | None) -> str:
    return f"{path}?{urlencode(params)}" if params else path


def _object(body: bytes) -> Object:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise CovenqError("the daemon's answer is no JSON object", hint="Is something else listening there?")
    return answer
