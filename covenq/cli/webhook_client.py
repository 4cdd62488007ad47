"""A webhook client: posts one delivery, as GitHub does, and reads the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from covenq.errors import DaemonUnreachable, UsageError

ANSWER_LIMIT = 1 << 20
"""Bytes of an answer that are read, at most."""

TIMEOUT = 30.0
"""Seconds of one wait: three times what GitHub itself waits for an answer."""

UPLOAD_S = 300.0
"""Seconds more for the whole, however slowly it goes."""


_HEADER = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_LOOK = "Look at --guid, --hook, --event and --url."


@dataclass(frozen=True, slots=True)
class Reply:
    """The server's answer. `body` has at most ANSWER_LIMIT bytes of it."""

    status: int
    body: bytes

    @property
    def answer(self) -> dict[str, object]:
        """The body if it is a JSON object, else {}."""
        import json

        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def post(
    url: str, body: bytes, headers: Mapping[str, str], env: Mapping[str, str] | None = None, timeout: float = TIMEOUT
) -> Reply:
    """Send one POST, by the proxy that `env` names, if it is given.

    Raises UsageError for an invalid URL, header or proxy, DaemonUnreachable if no complete answer comes.
    """
    from http.client import InvalidURL
    from urllib.parse import urlsplit

    from covenq.net.no_answer import reason
    from covenq.net.outgoing import OutgoingConnection, Route
    from covenq.net.transport import NO_ANSWER, read_up_to

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is no web address", hint="Write it as http://127.0.0.1:8787/webhook.")
    try:
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"{url!r} is no web address: {error}", hint="A port is a number up to 65535.") from None
    broken = next((name for name, value in headers.items() if not _HEADER.fullmatch(value)), None)
    if broken is not None:
        raise UsageError(f"this can't be sent: {broken} is no header's value: {headers[broken]!r}", hint=_LOOK)
    route = Route(parts, env or {})
    connection = OutgoingConnection(route)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        response = connection.ask("POST", target, headers, body, wait_s=timeout, whole_s=timeout + UPLOAD_S)
        try:
            return Reply(response.status, read_up_to(response, ANSWER_LIMIT)[:ANSWER_LIMIT])
        finally:
            response.close()
    except NO_ANSWER as error:
        if isinstance(error, InvalidURL):
            raise UsageError(f"this can't be sent: {error}", hint=_LOOK) from error
        raise DaemonUnreachable(f"no answer from {url}: {reason(error, route.proxy)}") from error
    except ValueError as error:  # a host that can't be one
        raise UsageError(f"this can't be sent: {error}", hint=_LOOK) from error
    finally:
        connection.close()
