"""CovenCave's proxy for GitHub tasks, written from a description of its behaviour alone: nothing of covenq's is imported.

It answers a browser from a process-wide cache that is fresh for 60 seconds; what is older is answered at once too, and fetched
anew in the background, by one request at a time whoever asks. It sends the ETag that it holds, no Authorization, and keeps the
last good rows when a request fails. A row without an id, a repository, a number, a title or a status that it knows is dropped.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

TTL_S = 60.0
PATH = "/api/github/tasks"
STATUSES = {
    **dict.fromkeys(("queued", "in_progress", "running"), "running"),
    **dict.fromkeys(("needs_input", "review", "partial"), "review"),
    **dict.fromkeys(("completed", "success", "done"), "done"),
    **dict.fromkeys(("cancelled", "failure", "failed"), "failed"),
}


@dataclass(frozen=True)
class Row:
    """A task as the browser gets it."""

    id: str
    repo: str
    number: int
    title: str
    status: str
    updated_at: str
    session: str | None
    pull: str | int | None
    familiar: str | None

    @property
    def annotates(self) -> bool:
        """Whether it is shown beside its session: only with a session and a pull request."""
        return bool(self.session and self.pull)


@dataclass(frozen=True)
class Shown:
    """What the browser is answered, with the headers that say where it comes from."""

    rows: list[Row]
    cache: str
    """x-coven-cache: hit or miss."""
    freshness: str
    """x-coven-cache-freshness: fresh or stale."""


@dataclass
class CaveClient:
    """One process of it. `connect` gives a connection to what COVEN_GITHUB_URL names."""

    connect: Callable[[], http.client.HTTPConnection]
    clock: Callable[[], float]
    path: str = PATH
    statuses: list[int] = field(default_factory=list)
    """Of each request that it made, in order; 0 where there was no answer."""
    sent: list[dict[str, str]] = field(default_factory=list)
    """The headers of each."""
    _rows: list[Row] | None = None
    _etag: str | None = None
    _fetched_at: float = 0.0
    _flight: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self) -> Shown:
        """The browser's GET."""
        with self._lock:
            rows = self._rows
            fresh = rows is not None and self.clock() - self._fetched_at < TTL_S
            flight = None if fresh else self._take_off()
        if rows is None and flight is not None:
            flight.join()
            return Shown(self._rows or [], "miss", "fresh" if self._rows is not None else "stale")
        return Shown(rows or [], "hit", "fresh" if fresh else "stale")

    def post(self) -> Shown:
        """The browser's POST: what is there is fetched anew, however fresh."""
        with self._lock:
            flight = self._take_off()
        flight.join()
        return Shown(self._rows or [], "miss", "fresh")

    def settle(self) -> None:
        """Wait for the request that is under way."""
        flight = self._flight
        if flight is not None:
            flight.join()

    def _take_off(self) -> threading.Thread:
        """The one request under way, which is begun if there is none. The lock is held."""
        if self._flight is None:
            self._flight = threading.Thread(target=self._fetch)
            self._flight.start()
        return self._flight

    def _fetch(self) -> None:
        headers = {"Accept": "application/json"}
        if self._etag is not None:
            headers["If-None-Match"] = self._etag
        status, etag, body = 0, None, b""
        try:
            connection = self.connect()
            try:
                connection.request("GET", self.path, headers=headers)
                answer = connection.getresponse()
                status, etag, body = answer.status, answer.getheader("ETag"), answer.read()
            finally:
                connection.close()
        except OSError:
            pass
        with self._lock:
            self.sent.append(headers)
            self.statuses.append(status)
            if status == 200:
                self._rows, self._etag = rows_of(json.loads(body)), etag
            if status in (200, 304):
                self._fetched_at = self.clock()
            self._flight = None


def rows_of(answer: Any) -> list[Row]:
    """The rows of an array, or of an object's `tasks`; newest first, by the text of their times."""
    given = answer if isinstance(answer, list) else answer.get("tasks", [])
    rows = [row for row in map(_row, given) if row is not None]
    return sorted(rows, key=lambda row: row.updated_at, reverse=True)


def _row(given: Any) -> Row | None:
    def first(*names: str) -> Any:
        return next((given[name] for name in names if given.get(name) not in (None, "")), None)

    owner, name = first("repoOwner", "repo_owner"), first("repoName", "repo_name")
    repo = first("repo") or (f"{owner}/{name}" if owner and name else None)
    id, title = first("id"), first("issueTitle", "issue_title", "title")
    number, status = first("issueNumber", "issue_number"), STATUSES.get(str(first("status")))
    if not (isinstance(id, str) and isinstance(repo, str) and isinstance(title, str)):
        return None
    if isinstance(number, bool) or not isinstance(number, int) or status is None:
        return None
    return Row(
        id,
        repo,
        number,
        title,
        status,
        first("updatedAt", "updated_at") or "",
        first("sessionId", "session_id"),
        first("prUrl", "pr_url") or first("prNumber", "pr_number"),
        first("familiarName", "familiar_name", "familiarId", "familiar_id"),
    )
