"""Outputs on other nodes: which is asked for one, with what, and what is said where it can't be had."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from covenq.errors import NodeTokenMissing, NotFound, OnAnotherNode
from covenq.http.api import node_logs
from covenq.http.api.node_logs import LOG_MAX, NodeLogs, Wanted
from covenq.model.nodes_text import NodeState
from covenq.model.status import KnownNode
from covenq.state.fold import fold
from journal.records import Entry, Head, Record
from tests.support.records import as_records, empty_state, moved, note, of, queued, received

TASK, PULLED = of("g"), of("p")
WANTED = Wanted(TASK, 1, "stdout", 100)
TOKEN = "covenq_secret"
AT = "2026-11-30T02:03:04.000000Z"


class Records:
    """A journal that has a result in each record."""

    epoch = "e" * 16

    def read(self, after: int, only: Container[int] | None = None, *, payloads: bool = True) -> Iterator[Record]:
        return iter(())

    def get(self, seq: int) -> Record | None:
        (record,) = as_records([Entry("ops.x", "x.y", {}, payload=b"result of %d" % seq)])
        return record

    def head(self) -> Head:
        return Head(9, "")


RECORDS = Records()


@pytest.fixture
def conn() -> sqlite3.Connection:
    """A task that node b ran, and one that it gave to a worker elsewhere."""
    made = empty_state()
    claim = {"attempt": 1, "worker": "w", "lease_until": None, "node": "b"}
    run = [received("g"), queued("g"), moved("claimed", TASK, **claim), moved("completed", TASK, attempt=1)]
    pulled = [received("p"), queued("p", kind="pull"), moved("claimed", PULLED, **claim), moved("completed", PULLED)]
    fold(made, as_records([*run, *pulled]))
    return made


def node(name: str, api: str | None = None, state: NodeState = "standby", *, here: bool = False) -> KnownNode:
    return KnownNode(name, name, f"{name}:8787", state, here, AT, AT, api=api)


@dataclass
class Other:
    """The API of another node: keeps what it was asked, and answers every time the same."""

    status: int = 200
    body: bytes = b"of b"
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""


@contextmanager
def answering(other: Other) -> Iterator[Other]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            other.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(other.status)
            self.send_header("Content-Length", str(len(other.body)))
            self.end_headers()
            self.wfile.write(other.body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        other.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield other
        finally:
            server.shutdown()
            thread.join()


def logs_of(data: Path, *others: KnownNode) -> NodeLogs:
    return NodeLogs(data, RECORDS, "a", lambda: [node("a", here=True), *others])


def test_the_node_that_ran_it_is_asked_with_the_caller_s_token(conn: sqlite3.Connection, tmp_path: Path) -> None:
    with answering(Other()) as other, answering(Other()) as stranger:
        logs = logs_of(tmp_path, node("c", stranger.url), node("b", other.url + "/covenq"))
        assert logs.read(conn, Wanted(TASK, 1, "stderr", 7, 3), TOKEN) == b"of b"
    ((path, headers),) = other.asked
    assert path == f"/covenq/api/v1/tasks/{TASK}/attempts/1/stderr?last=7&offset=3"
    assert headers["authorization"] == f"Bearer {TOKEN}" and int(headers["covenq-passed"]) > 0
    assert stranger.asked == []


def test_what_lies_here_is_asked_of_nobody(conn: sqlite3.Connection, tmp_path: Path) -> None:
    directory = tmp_path / "attempts" / TASK / "1"
    directory.mkdir(parents=True)
    (directory / "stdout").write_bytes(b"of a")
    with answering(Other()) as other:
        logs = logs_of(tmp_path, node("b", other.url))
        assert logs.read(conn, WANTED, None) == logs.here(conn, WANTED) == b"of a"
        with pytest.raises(NotFound):
            logs.here(conn, Wanted(TASK, 1, "stderr", 100))
    assert other.asked == []


def test_a_result_is_in_the_journal_or_on_the_node(conn: sqlite3.Connection, tmp_path: Path) -> None:
    wanted, end = Wanted(TASK, 1, "result", 3), Wanted(TASK, 1, "result", 100, 7)
    with answering(Other(body=b"large")) as other:
        logs = logs_of(tmp_path, node("b", other.url))
        assert logs.read(conn, wanted, TOKEN) == b"large" and len(other.asked) == 1
        conn.execute("UPDATE task_attempts SET result_seq = 4 WHERE task = ?", (TASK,))
        assert (logs.read(conn, wanted, None), logs.here(conn, end)) == (b"f 4", b"of 4")
        fold(conn, as_records([note("redacted", "g", drops=[[1, 4]], about=True, received=1)], first=9))
        with pytest.raises(NotFound, match="was erased"):
            logs.read(conn, wanted, TOKEN)
        assert len(other.asked) == 1


def test_what_was_erased_is_asked_of_nobody(conn: sqlite3.Connection, tmp_path: Path) -> None:
    fold(conn, as_records([note("redacted", "g", drops=[[1, 2]], about=True, received=1)], first=9))
    with answering(Other()) as other, pytest.raises(NotFound, match="was erased"):
        logs_of(tmp_path, node("b", other.url)).read(conn, WANTED, TOKEN)
    assert other.asked == []


@pytest.mark.parametrize(
    ("api", "state", "token", "said"),
    [
        ("https://b", "away", TOKEN, r"which is away since 2026-11-30 02:03:04Z$"),
        ("https://b", "stopped", TOKEN, r"which was stopped at 2026-11-30 02:03:04Z$"),
        (None, "standby", TOKEN, "whose API others can't ask"),
        ("http://me:hush@b", "standby", TOKEN, "whose API can't be asked"),
        ("http://10.9.8.7:8788", "standby", TOKEN, "a token would reach in clear"),
        ("https://b", "standby", None, "needs a bearer token"),
        ("http://127.0.0.1:9", "standby", TOKEN, "which can't be reached at http://127.0.0.1:9: "),
    ],
)
def test_what_can_not_be_had_is_said_with_what_to_type_there(
    conn: sqlite3.Connection, tmp_path: Path, api: str | None, state: NodeState, token: str | None, said: str
) -> None:
    with pytest.raises(OnAnotherNode, match=said) as refused:
        logs_of(tmp_path, node("b", api, state)).read(conn, WANTED, token)
    assert str(refused.value).startswith(f"what attempt 1 of {TASK} wrote lies on node b (b:8787), wh")
    assert f"There, covenq logs {TASK} 1 shows it." in refused.value.hint
    assert isinstance(refused.value, NodeTokenMissing) == (token is None)
    assert "hush" not in str(refused.value) + refused.value.hint and TOKEN not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (401, b'{"error":"token_wrong","detail":"Not known."}', OnAnotherNode, "which refuses this token: Not known$"),
        (403, b'{"error":"role_insufficient","detail":"No."}', OnAnotherNode, "which refuses this token: No$"),
        (404, b'{"error":"not_found","detail":"it has none"}', NotFound, "^it has none$"),
        (503, b'{"error":"state_behind","detail":"Wait."}', OnAnotherNode, "which answers with 503: Wait$"),
        (302, b"", OnAnotherNode, "which answers with 302: the daemon answered 302, not as covenq does$"),
        (200, b"x" * (LOG_MAX + 1), OnAnotherNode, "too much"),
    ],
)
def test_what_the_other_answers_is_told(
    conn: sqlite3.Connection, tmp_path: Path, status: int, body: bytes, kind: type[Exception], said: str
) -> None:
    with answering(Other(status, body)) as other, pytest.raises(kind, match=said):
        logs_of(tmp_path, node("b", other.url)).read(conn, WANTED, TOKEN)


def test_an_attempt_of_a_node_that_nobody_knows(conn: sqlite3.Connection, tmp_path: Path) -> None:
    with pytest.raises(OnAnotherNode, match=f"attempt 1 of {TASK} ran on node b, and no node"):
        logs_of(tmp_path, node("c")).read(conn, WANTED, TOKEN)
    with pytest.raises(NotFound):
        NodeLogs(tmp_path, RECORDS, "a").read(conn, WANTED, TOKEN)  # a journal in files: a node that was renamed


def test_what_a_worker_reported_may_lie_on_another_than_gave_it_the_task(
    conn: sqlite3.Connection, tmp_path: Path
) -> None:
    wanted = Wanted(PULLED, 1, "stdout", 100)
    missing = b'{"error":"not_found","detail":"none"}'
    with answering(Other(404, missing)) as first, answering(Other(body=b"of c")) as other:
        gone = node("d", state="away")
        assert logs_of(tmp_path, gone, node("c", other.url), node("b", first.url)).read(conn, wanted, TOKEN) == b"of c"
        assert len(first.asked) == len(other.asked) == 1
        with pytest.raises(NotFound, match="none"):
            logs_of(tmp_path, gone, node("b", first.url)).read(conn, wanted, TOKEN)


def test_so_many_wait_at_a_time(conn: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_logs, "FETCHES_MAX", 0)
    with answering(Other()) as other, pytest.raises(OnAnotherNode, match="too many wait"):
        logs_of(tmp_path, node("b", other.url)).read(conn, WANTED, TOKEN)
    assert other.asked == []


def test_who_quotes_an_output_waits_for_no_other_node(conn: sqlite3.Connection, tmp_path: Path) -> None:
    with answering(Other()) as other, pytest.raises(OnAnotherNode, match="lies on node b") as refused:
        logs_of(tmp_path, node("b", other.url)).quoted(conn, TASK, 1, "stderr", 100)
    assert other.asked == [] and f"covenq logs {TASK} 1" in refused.value.hint
