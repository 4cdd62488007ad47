"""A webhook client: posts one delivery, as GitHub does, and reads the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from covenq.errors import DaemonUnreachable, UsageError

ANSWER_LIMIT = 1 << 20
"""Bytes of an answer that are read, at most."""

TIMEOUT = 30.0
"""Seconds: three times what GitHub itself waits for an answer."""


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


def post(url: str, body: bytes, headers: Mapping[str, str], timeout: float = TIMEOUT) -> Reply:
    """Send one POST. Raises UsageError for an invalid URL or header, DaemonUnreachable if no complete answer comes."""
    import http.client
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is no web address", hint="Write it as http://127.0.0.1:8787/webhook.")
    try:
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{url!r} is no web address: {error}", hint="A port is a number up to 65535.") from None
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, port, timeout=timeout)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", target, body=body, headers=dict(headers))
        response = connection.getresponse()
        return Reply(response.status, response.read(ANSWER_LIMIT))
    except ValueError as error:  # a header or a path that HTTP can't carry
        raise UsageError(f"this can't be sent: {error}", hint="Look at --guid, --hook, --event and --url.") from error
    except (OSError, http.client.HTTPException) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DaemonUnreachable(f"no answer from {url}: {said}") from error
    finally:
        connection.close()
