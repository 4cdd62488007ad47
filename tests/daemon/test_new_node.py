"""A new node's state.db: when another's is fetched, everything for which it isn't, and that each is said."""

from __future__ import annotations

import errno
import json
import logging
import re
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import cast

import pytest

from covenq.config.load import Config, build
from covenq.daemon import new_node
from covenq.daemon.log_masking import LogMask
from covenq.daemon.new_node import NewNode, may_fetch
from covenq.daemon.start import StartOptions, open_alone
from covenq.errors import StopAsked
from covenq.operate.maintain.journal_home import OpenedJournal
from covenq.state import schema, snapshot
from covenq.state.store import StateStore
from journal.errors import JournalUnavailable
from journal.file.engine import FileJournal
from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from journal.interface import Succeeding
from journal.records import Leader, Node, NodeSeen
from tests.support.records import queued, received

TOKEN = "covenq_secret"
ENV = {"COVENQ_TOKEN": TOKEN}


@dataclass
class Shared:
    """A journal that another node leads."""

    others: list[NodeSeen] = field(default_factory=list)
    leads: bool = False
    led: bool = True
    away: bool = False

    def leader(self) -> Leader | None:
        return Leader("a", "a:8787", "") if self.led else None

    def nodes(self, *, ask: bool = False) -> list[NodeSeen]:
        assert ask
        if self.away:
            raise JournalUnavailable("the database is away")
        return [seen("here", "http://127.0.0.1:9"), seen("a", None, leads=self.led), *self.others]


def seen(name: str, api: str | None, *, leads: bool = False, silent_s: float = 0.5, folded: int = 40) -> NodeSeen:
    about = json.dumps({"api": api, "folded": folded})
    return NodeSeen(name, name, f"{name}:8787", "", "2026-11-30T01:02:03Z", silent_s, False, about, leads)


@dataclass
class Other:
    """Another node's API: what it sends, and what it was asked."""

    body: bytes
    headers: dict[str, str]
    status: int = 200
    cut: int = 0
    """Bytes of the body that it keeps to itself."""
    before: Callable[[str], None] = lambda method: None
    """Called before an answer to this method."""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    given_up: Event = field(default_factory=Event)
    """Whether the connection was closed before the end of an answer."""
    url: str = ""

    @property
    def methods(self) -> list[str]:
        return [method for method, _, _ in self.asked]


@contextmanager
def answering(other: Other) -> Iterator[Other]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(b"")

        def do_GET(self) -> None:
            self._answer(other.body)

        def _answer(self, body: bytes) -> None:
            other.asked.append((self.command, self.path, self.headers["Authorization"]))
            other.before(self.command)
            self.send_response(other.status)
            self.send_header("Content-Length", str(len(other.body)))
            for name, value in other.headers.items():
                self.send_header(f"Covenq-Snapshot-{name}", value)
            try:
                self.end_headers()
                self.wfile.write(body[: len(body) - other.cut])
            except ConnectionError:
                other.given_up.set()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        other.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield other
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[FileJournal]:
    with open_journal(tmp_path / "journal", settings=WriteSettings(idle_s=3600)) as one:
        for n in range(20):
            one.append([received(f"g{n}"), queued(f"g{n}")])
        yield one


@pytest.fixture
def other(tmp_path: Path, journal: FileJournal) -> Iterator[Other]:
    """A node that has folded everything."""
    path, copy = tmp_path / "other.db", tmp_path / "copy.db"
    with StateStore(path, journal) as store:
        store.catch_up()
    about = snapshot.make(path, copy, lambda: False)
    witness = about.position.witness
    said = {"Journal": witness.journal, "Seq": witness.seq, "Sum": witness.sum, "Schema": schema.VERSION}
    headers = {name: str(value) for name, value in {**said, "Bytes": about.bytes}.items()}
    with answering(Other(copy.read_bytes(), headers)) as made:
        yield made


@dataclass
class Start:
    """The start of a new node in a directory of its own."""

    data: Path
    journal: FileJournal
    shared: Shared
    log: pytest.LogCaptureFixture
    now: float = 0.0

    def begin(self, new: NewNode | None = None) -> str:
        """What is logged."""
        self.log.clear()
        opened = OpenedJournal(self.journal, node=Node("here", "here", ""), succession=cast(Succeeding, self.shared))
        (self.new if new is None else new).begin(opened)
        return self.log.text

    @property
    def new(self) -> NewNode:
        return NewNode(Config(), self.data, ENV, False, lambda: False, lambda: self.now)

    @property
    def usable(self) -> bool:
        return snapshot.is_usable(self.data / "state.db", self.journal)

    def names(self) -> set[str]:
        return {path.name for path in self.data.iterdir()}


@pytest.fixture
def start(
    tmp_path: Path,
    journal: FileJournal,
    other: Other,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Start:
    """Forty records, of which each takes a second to be folded, and a node that stands by beside the one that leads."""
    monkeypatch.setattr(new_node, "RECORDS_MIN", 40)
    monkeypatch.setattr(new_node, "FOLD_S", 1.0)
    monkeypatch.setattr(new_node, "ASK_S", 60.0)
    caplog.set_level(logging.INFO)
    data = tmp_path / "new"
    data.mkdir()
    return Start(data, journal, Shared([seen("b", f"{other.url}/covenq")]), caplog)


def test_it_goes_on_from_another_node_s_and_says_so(start: Start, other: Other) -> None:
    said = start.begin()
    assert start.usable and start.names() == {"state.db", "state.lock"}
    assert "state.db is that of node b (b:8787), 40 of 40 records" in said
    assert "where to fold them takes about 40s" in said
    assert [one[:2] for one in other.asked] == [(way, "/covenq/api/v1/snapshot") for way in ("HEAD", "GET")]
    assert {one[2] for one in other.asked} == {f"Bearer {TOKEN}"} and TOKEN not in said
    start.journal.append([received("later")])
    with StateStore(start.data / "state.db", start.journal) as store:
        assert store.folded == 40 and store.catch_up() == 41
    assert (start.data / "state.db").stat().st_mode & 0o777 == 0o600


def test_one_of_another_schema_is_replaced(start: Start) -> None:
    with closing(sqlite3.connect(start.data / "state.db")) as conn:
        conn.execute("PRAGMA user_version = 7")
    assert "state.db is that of node b" in start.begin() and start.usable


def test_its_own_is_gone_on_with_in_silence(start: Start, other: Other) -> None:
    start.begin()
    other.asked.clear()
    assert (start.begin(), other.asked) == ("", [])


def test_a_journal_in_files_has_no_other_node(start: Start, other: Other) -> None:
    start.new.begin(OpenedJournal(start.journal))
    assert (start.log.text, other.asked, start.names()) == ("", [], set())


def test_leftovers_of_a_crash_are_removed_whatever_is_decided(start: Start) -> None:
    for name in ("state.fetched", "state.snapshot"):
        (start.data / name).touch()
    start.shared.leads = True
    start.begin()
    assert start.names() == set()


def led_here(start: Start) -> NewNode:
    start.shared.leads = True
    return start.new


def alone(start: Start) -> NewNode:
    start.shared.others = [seen("gone", "http://127.0.0.1:9", silent_s=60), seen("mute", None)]
    return start.new


def unled(start: Start) -> NewNode:
    start.shared.led = False
    return start.new


def away(start: Start) -> NewNode:
    start.shared.away = True
    return start.new


NOT_ASKED: dict[str, tuple[Callable[[Start], NewNode], str]] = {
    "it leads": (led_here, "this node leads, and takes deliveries in meanwhile"),
    "requests wait": (lambda start: replace(start.new, holds=True), "requests wait for this node to start"),
    "no token": (lambda start: replace(start.new, env={}), "COVENQ_TOKEN_FILE names no token"),
    "a token that is none": (lambda start: replace(start.new, env={"COVENQ_TOKEN": "a b"}), "no token in COVENQ_TOKEN"),
    "nobody there": (alone, "no other node that is there gave its own"),
    "nobody leads": (unled, "about 40s: no node leads"),
    "the database is away": (away, "the database is away"),
}


@pytest.mark.parametrize("what", NOT_ASKED)
def test_nobody_is_asked_where_a_fold_is_better(start: Start, other: Other, what: str) -> None:
    make, words = NOT_ASKED[what]
    said = start.begin(make(start))
    assert "state.db is folded from the start, 40 records, about 40s: " in said and words in said
    assert (other.asked, start.names()) == ([], set())


def test_few_records_are_folded(start: Start, other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_node, "RECORDS_MIN", 41)
    assert "40 records, about 40s: other nodes are asked for theirs from 41 on" in start.begin()
    assert (other.asked, start.names()) == ([], set())


@pytest.mark.parametrize(
    ("api", "words"),
    [
        ("http://covenq.example.org:8788", "would reach http://covenq.example.org:8788 in clear"),
        ("ftp://covenq.example.org", "its API can't be asked"),
        ("http://127.0.0.1:9", "can't be reached: Connection refused"),
    ],
)
def test_an_api_that_can_not_be_asked_is_said_and_the_next_is(start: Start, api: str, words: str) -> None:
    start.shared.others.insert(0, seen("c", api, folded=50))
    start.shared.others[1] = replace(start.shared.others[1], leads=True)  # it is asked last
    said = start.begin()
    assert "state.db is not that of node c (c:8787): " in said and words in said
    assert "state.db is that of node b" in said and start.usable


def with_header(name: str, value: str) -> Callable[[Other], object]:
    return lambda other: other.headers.update({name: value})


def with_body(change: Callable[[bytes], bytes]) -> Callable[[Other], object]:
    return lambda other: setattr(other, "body", change(other.body))


def behind(other: Other) -> None:
    """It has folded nothing since the first record, and says so."""
    other.headers["Seq"] = "0"


REFUSED: dict[str, tuple[Callable[[Other], object], str, list[str]]] = {
    "refused": (lambda other: setattr(other, "status", 403), "refuses the token: one that it knows", ["HEAD"]),
    "older": (lambda other: setattr(other, "status", 404), "answers with 404", ["HEAD"]),
    "another journal": (with_header("Journal", "x" * 32), "of another journal", ["HEAD"]),
    "another schema": (with_header("Schema", "9"), "has the schema 9, and", ["HEAD"]),
    "no number": (with_header("Seq", "-1"), "Covenq-Snapshot-Seq is no number", ["HEAD"]),
    "a huge number": (with_header("Bytes", "9" * 16), "Covenq-Snapshot-Bytes is no number", ["HEAD"]),
    "too large": (with_header("Bytes", "9" * 12), "would take too long: about", ["HEAD"]),
    "far behind": (behind, "would take too long: about", ["HEAD"]),
    "cut": (lambda other: setattr(other, "cut", 5000), "its state.db broke off", ["HEAD", "GET"]),
    "shorter than said": (with_body(lambda body: body[:-4096]), "bytes, and sent", ["HEAD", "GET"]),
    "another position": (with_header("Seq", "39"), "it said record 39, and sent a file at 40", ["HEAD", "GET"]),
    "no database": (with_body(lambda body: b"x" * len(body)), "not a database", ["HEAD", "GET"]),
    "damaged": (with_body(lambda body: body[:8192] + bytes(8192) + body[16384:]), "damaged|malformed", ["HEAD", "GET"]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_verify_is_not_used_and_is_said(start: Start, other: Other, what: str) -> None:
    change, words, methods = REFUSED[what]
    change(other)
    said = start.begin()
    (line,) = [one for one in start.log.messages if one.startswith("state.db is not that of node b (b:8787): ")]
    assert re.search(words, line)
    assert "folded from the start, 40 records, about 40s: no other node that is there gave its own" in said
    assert other.methods == methods and start.names() == set() and TOKEN not in said


def test_a_disk_without_room_is_not_filled(start: Start, other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "has_room", lambda directory, size: False)
    assert "the disk has no room for its state.db" in start.begin()
    assert (other.methods, start.names()) == (["HEAD"], set())


def test_no_more_is_taken_than_was_said(start: Start, other: Other) -> None:
    other.body += bytes(64 << 20)
    assert "bytes, and sent more" in start.begin()
    assert other.given_up.wait(60) and start.names() == set()


def test_fetching_takes_no_longer_than_a_fold(start: Start, other: Other) -> None:
    def late(method: str) -> None:
        if method == "GET":
            start.now = 41.0

    other.before = late
    start.shared.others.append(seen("c", other.url))
    assert "it took too long" in start.begin()
    assert (other.methods, start.names()) == (["HEAD", "GET"], set())


def test_fetching_ends_where_nobody_leads_any_more(start: Start, other: Other) -> None:
    other.before = lambda method: setattr(start.shared, "led", method == "HEAD")
    assert "no node leads any more" in start.begin()
    assert (other.methods, start.names()) == (["HEAD", "GET"], set())


def test_who_leads_need_not_be_known_at_once(start: Start, other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start.shared, "leader", lambda: None)
    assert "state.db is that of node b" in start.begin()


def test_a_stop_ends_what_waits_for_the_other_node(start: Start, other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_node, "FOLD_S", 10.0)
    go, ended = Event(), list[bool]()
    other.before = lambda method: None if method == "HEAD" else ended.append(go.wait(60))
    try:
        with pytest.raises(StopAsked):
            start.begin(replace(start.new, stopped=lambda: "GET" in other.methods))
        assert ended == []
    finally:
        go.set()
    assert start.names() == set()


def test_a_journal_of_any_length_keeps_a_node_for_so_long_at_most(
    start: Start, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_node, "LONGEST_S", 2.0)
    other.before = lambda method: setattr(start, "now", 2.0 if method == "GET" else 0.0)
    assert "it took too long" in start.begin()
    other.headers["Bytes"] = str(int(2.5 * new_node.BYTES_PER_S))
    start.now = 0.0
    assert "would take too long: about 2.5s" in start.begin()
    assert start.names() == set()


def test_which_start_may_have_to_fetch(start: Start) -> None:
    shared = replace(Config(), journal=replace(Config().journal, url="postgresql://x/y"))
    assert may_fetch(shared, start.data, ENV)
    assert not may_fetch(Config(), start.data, ENV) and not may_fetch(shared, start.data, {})
    assert not may_fetch(shared, start.data, {"COVENQ_TOKEN": "a b"})
    start.begin()
    assert not may_fetch(shared, start.data, ENV)


@pytest.mark.parametrize("env", [ENV, {}])
def test_connections_are_refused_where_they_might_wait_for_a_fetch(tmp_path: Path, env: dict[str, str]) -> None:
    raw = {"journal": {"engine": "postgres", "url": "postgresql://x/y"}, "server": {"bind": "127.0.0.1:0"}}
    config = build(raw, None, env)
    with ExitStack() as cleanup:
        opened = open_alone(config, tmp_path, env, StartOptions(), [], cleanup, LogMask(), again=False)
        assert opened.parts.sockets.webhook is not None
        client = cleanup.enter_context(socket.socket())
        refused = client.connect_ex(opened.parts.sockets.webhook.getsockname()) == errno.ECONNREFUSED
    assert refused == bool(env)
