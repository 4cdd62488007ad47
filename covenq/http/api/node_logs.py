"""The outputs of attempts and their results, wherever they lie: on this node, or fetched from the one that has them.

What an attempt wrote is in the data directory of the node that ran it, or that took its worker's report. It is looked for here
first. Of an attempt of another node that one's API is asked, with the caller's own token, so that nobody reads by way of this
node what they may not read there; on the Unix socket, where none is needed, the command gives one along if it has one. A token
is sent over TLS, or to this machine itself, and nowhere else. Where that is not possible it is said on which node it lies, and
what to type there.

Which nodes there are, and where, is what each has written into the journal's database. A request that was passed on says so
(PASSED), and is answered by what lies here.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from covenq.errors import CovenqError, NodeTokenMissing, NotFound, OnAnotherNode, UsageError
from covenq.http.passing import PASSED
from covenq.model.nodes_text import absence, named
from covenq.model.status import KnownNode
from covenq.net.address import Remote, parse_url
from covenq.net.http_client import error_of
from covenq.net.no_answer import reason
from covenq.net.outgoing import OutgoingConnection, Route
from covenq.net.transport import NO_ANSWER, read_up_to
from covenq.operate.inspect import view
from covenq.operate.inspect.view import ReadableJournal
from covenq.state import query
from journal.errors import JournalError

LOG_MAX = 1 << 20
"""Bytes of an attempt's output in one answer: the last of them."""
WAIT_S, WHOLE_S = 5.0, 15.0
"""Seconds of one wait for another node, and for its whole answer."""
FETCHES_MAX = 4
"""Requests that wait for another node at a time: each holds a thread of the API's."""
ASKED_MAX = 8
"""Nodes that are asked for the output of one attempt."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A part of an attempt's output, as `view.log` takes it."""

    task: str
    attempt: int
    stream: str
    last: int
    offset: int | None = None

    @property
    def target(self) -> str:
        """Path and query of the same question to another node."""
        params = {"last": self.last} if self.offset is None else {"last": self.last, "offset": self.offset}
        return f"/api/v1/tasks/{quote(self.task, safe='')}/attempts/{self.attempt}/{self.stream}?{urlencode(params)}"


class NodeLogs:
    """Reads outputs. From any thread."""

    def __init__(
        self, data: Path, records: ReadableJournal, here: str, nodes: Callable[[], Sequence[KnownNode]] = tuple
    ) -> None:
        """`here` is this node's name; `nodes` gives all that share the journal, none where nobody can."""
        self._data = data
        self._records = records
        self._here = here
        self._nodes = nodes
        self._free = threading.BoundedSemaphore(FETCHES_MAX)

    def here(self, conn: sqlite3.Connection, wanted: Wanted) -> bytes:
        """What lies here, a result that is in the journal among it. Raises NotFound."""
        part = (wanted.last, wanted.offset)
        try:
            return view.log(conn, self._data, wanted.task, wanted.attempt, wanted.stream, *part)
        except NotFound:
            if wanted.stream != "result":
                raise
            recorded = view.recorded_result(conn, self._records, wanted.task, wanted.attempt, *part)
            if recorded is None:
                raise
            return recorded

    def quoted(self, conn: sqlite3.Connection, task: str, attempt: int, stream: str, last: int) -> bytes:
        """What lies here, for who waits for no other node. Raises NotFound, and OnAnotherNode for what lies there."""
        wanted = Wanted(task, attempt, stream, last)
        try:
            return self.here(conn, wanted)
        except NotFound:
            nodes = self._holders(conn, wanted)
            if not nodes:
                raise
            raise OnAnotherNode(_lies(wanted, nodes[0]), hint=_typed(wanted)) from None

    def read(self, conn: sqlite3.Connection, wanted: Wanted, token: str | None) -> bytes:
        """What lies here, or on another node; `token` is the caller's. Raises NotFound, OnAnotherNode."""
        try:
            return self.here(conn, wanted)
        except NotFound as error:
            missing = error
        failed: OnAnotherNode | None = None
        for node in self._holders(conn, wanted)[:ASKED_MAX]:
            try:
                return self._fetched(node, wanted, token)
            except NotFound as error:
                missing = error
            except OnAnotherNode as error:
                failed = failed or error
        raise failed or missing

    def _holders(self, conn: sqlite3.Connection, wanted: Wanted) -> list[KnownNode]:
        """The other nodes that may have what doesn't lie here, the likeliest first. Raises OnAnotherNode for one unknown.

        What a worker elsewhere reports is kept by the node that leads then, which needn't be the one that gave it the task.
        """
        known = self._nodes()
        ran = query.attempt_location(conn, wanted.task, wanted.attempt)
        if not known or ran is None or view.is_erased(conn, wanted.task):
            return []
        others = [one for one in known if not one.here]
        found = [one for one in others if one.name == ran.node]
        if ran.kind == "pull":
            if not ran.ended:
                return []
            return found + [one for one in others if one not in found and absence(one.state, one.seen) is None]
        if not found and ran.node not in (None, self._here):
            raise OnAnotherNode(
                f"attempt {wanted.attempt} of {wanted.task} ran on node {ran.node}, and no node of this journal is called so",
                hint="It was renamed, or has not been there for a month: `covenq nodes` lists those that are known.",
            )
        return found

    def _fetched(self, node: KnownNode, wanted: Wanted, token: str | None) -> bytes:
        """What the other node answers. Raises NotFound, and OnAnotherNode where it can't be had from there."""
        lies, typed = _lies(wanted, node), _typed(wanted)
        if (gone := absence(node.state, node.seen)) is not None:
            raise OnAnotherNode(f"{lies}, which {gone}", hint=f"Ask again when it is back. {typed}")
        if node.api is None:
            raise OnAnotherNode(f"{lies}, whose API others can't ask: it has no [api], or says no address", hint=typed)
        try:
            exposed, parts = Remote(node.api, token).exposed, parse_url(node.api)
        except UsageError as error:
            raise OnAnotherNode(f"{lies}, whose API can't be asked: {error}", hint=typed) from None
        if token is None:
            hint = f"Set COVENQ_TOKEN, or COVENQ_TOKEN_FILE, to one of that node's. {typed}"
            raise NodeTokenMissing(f"{lies}, whose API needs a bearer token", hint=hint)
        if exposed:
            hint = f"Have it say an https address, with [node] api. {typed}"
            raise OnAnotherNode(f"{lies}, whose API at {node.api} a token would reach in clear", hint=hint)
        if not self._free.acquire(blocking=False):
            raise OnAnotherNode(f"{lies}, and too many wait for other nodes now", hint="Try again in a moment.")
        headers = {"Authorization": f"Bearer {token}", PASSED: str(int(WHOLE_S * 1000)), "Connection": "close"}
        try:
            connection = OutgoingConnection(Route(parts, {}))
            try:
                target = parts.path.rstrip("/") + wanted.target
                response = connection.ask("GET", target, headers, None, wait_s=WAIT_S, whole_s=WHOLE_S)
                content = read_up_to(response, LOG_MAX)
            finally:
                connection.close()
        except (*NO_ANSWER, ValueError) as error:
            why = reason(error) if isinstance(error, NO_ANSWER) else "no HTTP"
            raise OnAnotherNode(f"{lies}, which can't be reached at {node.api}: {why}", hint=typed) from None
        finally:
            self._free.release()
        return _accepted(response.status, content, lies, typed)


def _accepted(status: int, content: bytes, lies: str, typed: str) -> bytes:
    """The answer, if it is the output. Raises NotFound, OnAnotherNode."""
    if status == 200 and len(content) <= LOG_MAX:
        return content
    error: CovenqError | JournalError = error_of(status, content) if status != 200 else CovenqError("too much")
    if isinstance(error, NotFound):
        raise error
    words = str(error).removesuffix(".")[:500]
    if status in (401, 403):
        hint = f"Each node has its own tokens: give one that both know, or [api] tokens the same file. {typed}"
        raise OnAnotherNode(f"{lies}, which refuses this token: {words}", hint=hint)
    raise OnAnotherNode(f"{lies}, which answers with {status}: {words}", hint=typed)


def _lies(wanted: Wanted, node: KnownNode) -> str:
    return f"what attempt {wanted.attempt} of {wanted.task} wrote lies on node {named(node.name, node.address)}"


def _typed(wanted: Wanted) -> str:
    """What to type there. Not in backticks, to which a command adds the options that lead here."""
    return f"There, covenq logs {wanted.task} {wanted.attempt} shows it."
