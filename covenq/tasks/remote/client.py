"""The client of a pull worker: the requests of /api/v1/claims, over one connection that is kept open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import RemoteDisconnected

import orjson

from covenq.errors import CovenqError, DaemonUnreachable, NotDurable, StaleFence, StateBehind, StateUnreadable
from covenq.model import JsonObject
from covenq.net.http_client import Client, segment
from covenq.net.transport import Connection

NO_PULL_ROUTE = "Covenq-No-Pull-Route"
"""The header of an answer without a task that names the routes asked for that are no pull routes now, or `*`: there are none."""
_CONNECTION_CLOSED = (RemoteDisconnected, ConnectionResetError, BrokenPipeError)
"""Errors of a request on a connection that the other side has closed meanwhile."""


@dataclass(frozen=True, slots=True)
class ClaimGrant:
    """A granted claim: the task, the attempt's number, the fencing token, the end of the lease, and where the payload is."""

    task: JsonObject
    attempt: int
    fence: str
    lease_until: str
    payload_url: str

    @property
    def id(self) -> str:
        return str(self.task["id"])


class ClaimsClient(Client):
    """Requests over one kept connection. For one thread. Raises as Client does.

    A request on a connection that was closed in the meantime is repeated once on a new one. Every request but a claim is
    idempotent; of a claim that was granted twice, the grant whose answer was lost costs the wait until its lease runs out.
    """

    _connection: Connection | None = None
    answer_type: str | None = None
    """The content type of the newest answer."""
    not_pulled: tuple[str, ...] = ()
    """As the newest answer without a task said: the routes asked for that are no pull routes now; `*` where there is none."""

    def claim(
        self, worker: str, lease_s: float, *, routes: Sequence[str] | None = None, wait_s: float = 0.0
    ) -> ClaimGrant | None:
        """The next task, or None if there is none, or none came within `wait_s` seconds."""
        found = self.claim_all(worker, lease_s, 1, routes=routes, wait_s=wait_s)
        return found[0] if found else None

    def claim_all(
        self,
        worker: str,
        lease_s: float,
        most: int,
        *,
        routes: Sequence[str] | None = None,
        wait_s: float = 0.0,
        node: str | None = None,
    ) -> list[ClaimGrant]:
        """Up to `most` tasks, in one request; with `node` tasks of commands, as a pool of that node."""
        body: dict[str, object] = {"worker": worker, "lease_s": lease_s, "wait_s": wait_s, "max": most}
        if routes:
            body["routes"] = list(routes)
        if node is not None:
            body["node"] = node
        answer = self._ask("POST", "/api/v1/claims", orjson.dumps(body), timeout=self.timeout + wait_s)
        if not answer:
            return []
        try:
            first = orjson.loads(answer)
            return [
                ClaimGrant(
                    found["task"], int(found["attempt"]), found["fence"], found["lease_until"], found["payload_url"]
                )
                for found in (first, *first["more"])
            ]
        except (ValueError, KeyError, TypeError):
            raise CovenqError(f"{self.where} granted a claim in words that are none of covenq's") from None

    def payload(self, grant: ClaimGrant) -> tuple[bytes, str | None]:
        """The delivery's bytes as it received them, and their content type; None where the daemon doesn't know it."""
        body = self.get_bytes(grant.payload_url)
        return body, None if self.answer_type == "application/octet-stream" else self.answer_type

    def report(self, grant: ClaimGrant, action: str, **more: object) -> JsonObject:
        """`renew`, `phase`, `complete` or `fail`. Raises StaleFence when the claim is no longer the task's."""
        return self.post(f"/api/v1/claims/{segment(grant.id)}/{action}", {"fence": grant.fence, **more})

    def report_end(
        self, grant: ClaimGrant, action: str, said: Mapping[str, object], outputs: Mapping[str, str]
    ) -> JsonObject:
        """`complete` or `fail`, with the ends of the outputs, or without: no attempt's end may be refused for its output.

        So does a daemon of a version that knows no outputs, and a proxy that lets through shorter requests only.
        """
        try:
            return self.report(grant, action, **said, **outputs)
        except (DaemonUnreachable, NotDurable, StaleFence, StateBehind, StateUnreadable):
            raise
        except CovenqError:
            if not outputs:
                raise
        return self.report(grant, action, **said)

    def complete_all(self, grants: Sequence[ClaimGrant]) -> list[JsonObject]:
        """Complete them, in one request; each is answered by itself."""
        done = [{"task": one.id, "fence": one.fence, "exit_code": 0} for one in grants]
        items: list[JsonObject] = self.post("/api/v1/claims/completed", {"done": done})["items"]
        return items

    def ask(self, method: str, target: str, body: bytes | None = None, timeout: float | None = None) -> bytes:
        """One request, for who chooses between clients."""
        return self._ask(method, target, body, timeout)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _ask(self, method: str, target: str, body: bytes | None = None, timeout: float | None = None) -> bytes:
        if self._connection is None:
            self._connection = self._new()
        connection = self._connection
        reused = connection.is_open
        try:
            with self._telling():
                try:
                    response, answer = self._exchange(connection, method, target, body, timeout)
                except _CONNECTION_CLOSED:
                    connection.close()
                    if not reused:
                        raise
                    response, answer = self._exchange(connection, method, target, body, timeout)
        except BaseException:
            self.close()
            raise
        self.answer_type = response.header("Content-Type")
        if response.status == 204:
            self.not_pulled = tuple(filter(None, (response.header(NO_PULL_ROUTE) or "").split(",")))
        return self._accepted(response, answer)
