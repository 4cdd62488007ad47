"""What a pull worker says to a daemon: one connection, kept open, and the words of /api/v1/claims."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from covenq.errors import CovenqError
from covenq.net.http_client import Client, segment

_GONE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
"""What asking on a connection that the other side has closed meanwhile looks like."""
PAYLOAD_MAX = 64 << 20


@dataclass(frozen=True, slots=True)
class Granted:
    """A task in hand: the whole object, the attempt's number, the fencing token, and where the payload is."""

    task: Mapping[str, Any]
    attempt: int
    fence: str
    lease_until: str
    payload_url: str

    @property
    def id(self) -> str:
        return str(self.task["id"])


class ClaimsClient(Client):
    """Requests over one connection that is kept. For one thread. Raises as Client does.

    A request that met a connection closed in the meantime is made once more on a new one. Every word but a claim may be said
    twice; a claim that was granted twice costs the wait for the lease of the one nobody heard of.
    """

    _kept: http.client.HTTPConnection | None = None

    def claim(
        self, worker: str, lease_s: float, *, routes: Sequence[str] | None = None, wait_s: float = 0.0
    ) -> Granted | None:
        """The next task, or None: there is nothing, or there was nothing for `wait_s` seconds."""
        found = self.claim_all(worker, lease_s, 1, routes=routes, wait_s=wait_s)
        return found[0] if found else None

    def claim_all(
        self, worker: str, lease_s: float, most: int, *, routes: Sequence[str] | None = None, wait_s: float = 0.0
    ) -> list[Granted]:
        """Up to `most` tasks, in one request."""
        body: dict[str, Any] = {"worker": worker, "lease_s": lease_s, "wait_s": wait_s, "max": most}
        if routes:
            body["routes"] = list(routes)
        answer = self._ask("POST", "/api/v1/claims", orjson.dumps(body), timeout=self.timeout + wait_s)
        if not answer:
            return []
        try:
            first = orjson.loads(answer)
            return [
                Granted(
                    found["task"], int(found["attempt"]), found["fence"], found["lease_until"], found["payload_url"]
                )
                for found in (first, *first["more"])
            ]
        except (ValueError, KeyError, TypeError):
            raise CovenqError(f"{self.where} granted a claim in words that are none of covenq's") from None

    def payload(self, granted: Granted) -> bytes:
        """The delivery's bytes."""
        return self.get_bytes(granted.payload_url)

    def say(self, granted: Granted, word: str, **more: Any) -> dict[str, Any]:
        """`renew`, `phase`, `complete` or `fail`. Raises StaleFence when the task is somebody else's by now."""
        return self.post(f"/api/v1/claims/{segment(granted.id)}/{word}", {"fence": granted.fence, **more})

    def complete_all(self, granted: Sequence[Granted]) -> list[dict[str, Any]]:
        """End them well, in one request; each is answered by itself."""
        done = [{"task": one.id, "fence": one.fence, "exit_code": 0} for one in granted]
        items: list[dict[str, Any]] = self.post("/api/v1/claims/completed", {"done": done})["items"]
        return items

    def close(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    def _ask(self, method: str, target: str, body: bytes | None = None, timeout: float | None = None) -> bytes:
        timeout = self.timeout if timeout is None else timeout
        reused = self._kept is not None
        try:
            status, answer = self._over(self._open(timeout), method, target, body)
        except _GONE as error:
            self.close()
            if not reused:
                raise self._unreachable(error) from error
            status, answer = self._again(method, target, body, timeout)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unreachable(error) from error
        if not 200 <= status < 300:
            raise self._error(status, answer)
        return answer

    def _again(self, method: str, target: str, body: bytes | None, timeout: float) -> tuple[int, bytes]:
        try:
            return self._over(self._open(timeout), method, target, body)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unreachable(error) from error

    def _open(self, timeout: float) -> http.client.HTTPConnection:
        if self._kept is None:
            self._kept = self._connect(timeout)
            if self._kept.sock.family != socket.AF_UNIX:
                # Headers and body go out in two writes; the second must not wait for the first one's acknowledgement.
                self._kept.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._kept.sock.settimeout(timeout)
        return self._kept

    def _over(
        self, connection: http.client.HTTPConnection, method: str, target: str, body: bytes | None
    ) -> tuple[int, bytes]:
        headers = {**self._headers, **({"Content-Type": "application/json"} if body is not None else {})}
        connection.request(method, self._base + target, body=body, headers=headers)
        response = connection.getresponse()
        answer = response.read(PAYLOAD_MAX)
        if response.will_close:
            self.close()
        return response.status, answer
