"""Pausing: durable, told with who and why, idempotent, and never confused by erased names or two operators at once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from covenq.client.local import LocalSource
from covenq.client.open import open_source
from covenq.client.remote import RemoteSource
from covenq.errors import NotFound
from covenq.operate.act import pauses
from covenq.operate.inspect import view
from covenq.operate.operations import PAUSE, REDACT, RESUME
from covenq.operate.parameters import Pause, Redact
from covenq.state import schema
from covenq.state.fold import fold
from journal.file.engine import FileJournal
from journal.records import Appended, Conflict, Entry
from tests.support.daemon import Daemon
from tests.support.journal_json import journal_lines
from tests.support.journals.chosen import config_in, open_chosen
from tests.support.records import as_records
from tests.support.requests import issue, new_guid, repository_number
from tests.support.serving import serving
from tests.support.waiting import eventually

Make = Callable[..., Daemon]


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    conn = sqlite3.connect(":memory:", isolation_level=None)
    conn.row_factory = sqlite3.Row
    schema.create(conn)
    yield conn
    conn.close()


def paused(what: str, name: str | None = None, repo: str | None = None) -> Entry:
    about = {"repo": repo} if repo else None
    return Entry("ops.pauses", "ops.paused", {"what": what, "name": name, "by": "me", "reason": "why"}, about)


def names(conn: sqlite3.Connection) -> list[tuple[str, str | None, str | None]]:
    return [(one.what, one.name, one.repo) for one in view.pauses(conn)]


# ---- the fold


def test_the_table_holds_what_is_paused(conn: sqlite3.Connection) -> None:
    entries = [paused("intake"), paused("repo", "5", "octo/a"), paused("route", "deploy"), paused("installation", "7")]
    records = as_records(entries)
    fold(conn, records)
    assert names(conn) == [
        ("intake", None, None),
        ("repo", "5", "octo/a"),
        ("route", "deploy", None),
        ("installation", "7", None),
    ]
    first = view.pauses(conn)[0]
    assert (first.seq, first.since, first.by, first.reason) == (1, records[0].at, "me", "why")
    by_seq = Entry("ops.pauses", "ops.resumed", {"what": "repo", "name": None, "of": [2]})
    by_name = Entry("ops.pauses", "ops.resumed", {"what": "route", "name": "deploy"})
    fold(conn, as_records([by_seq, by_name, Entry("ops.pauses", "ops.resumed", {"what": "intake"})], first=5))
    assert names(conn) == [("installation", "7", None)]


@pytest.mark.parametrize("erased", [False, True], ids=["by name", "its name erased in the log"])
def test_an_erased_name_leaves_the_same_pauses_live_and_folded_again(conn: sqlite3.Connection, erased: bool) -> None:
    def of(repo: str) -> str | None:
        return None if erased else repo

    entries = [
        paused("repo", "5", of("octo/a")),
        paused("repo", None, of("octo/b")),
        paused("repo", "6", of("octo/c")),
        Entry("ops.pauses", "ops.resumed", {"what": "repo", "name": "6", "of": [3]}),
        Entry("ops.retention", "journal.dropped", {"drops": [[1, 3]], "about": True}),
    ]
    for record in as_records(entries):
        fold(conn, [record])
    assert names(conn) == [("repo", "5", None)]


def test_hostile_records_pause_nothing(conn: sqlite3.Connection) -> None:
    fold(
        conn,
        as_records(
            [
                Entry("ops.pauses", "ops.paused", {"what": "route", "name": 5}),
                Entry("ops.pauses", "ops.resumed", {"what": {}, "of": ["x", None, 1 << 70]}),
                Entry("ops.other", "ops.paused", {"what": "intake"}),
            ]
        ),
    )
    assert names(conn) == []


# ---- the operation


def test_both_sources_pause_alike_and_say_what_was_so_already(data: Path) -> None:
    with serving(data) as served:
        served.post("issues", issue(1, repo="Octo/Hello"), new_guid())
        with open_source(data, config_in(data)) as remote:
            assert isinstance(remote, RemoteSource)
            first = remote.act(PAUSE, Pause(what="repo", name="octo/hello", reason="a\nline", by="me"))
            assert (first.changed, first.paused, first.repo) == (True, True, "Octo/Hello")
            assert (first.name, first.reason, first.by) == (str(repository_number("Octo/Hello")), "a line", "me")
            again = remote.act(PAUSE, Pause(what="repo", name="Octo/Hello", by="you"))
            assert (again.changed, again.by, again.seq) == (False, "me", first.seq)
            with pytest.raises(NotFound, match="no route is named 'al'") as failed:
                remote.act(PAUSE, Pause(what="route", name="al"))
            assert failed.value.hint == "There are all."
            assert remote.act(PAUSE, Pause(what="route", name="all")).changed
            assert remote.status().pauses == remote.pauses()
            assert served.intake.admission.reasons() == [], "only the intake's pause closes it"
    with open_source(data, config_in(data)) as local:
        assert isinstance(local, LocalSource)
        assert [one.what for one in local.pauses()] == ["repo", "route"] == [p.what for p in local.status().pauses]
        assert not local.act(PAUSE, Pause(what="route", name="all")).changed, (
            "not in the configuration any more, and yet it has tasks"
        )
        ended = local.act(RESUME, Pause(what="repo", name="OCTO/HELLO", by="me"))
        assert (ended.changed, ended.paused, ended.seq) == (True, False, first.seq)
        assert not local.act(RESUME, Pause(what="repo", name="octo/hello")).changed
        assert not local.act(RESUME, Pause(what="worker")).changed
        assert local.act(PAUSE, Pause(what="repo", name="never/seen")).name is None
        assert [one.what for one in local.pauses()] == ["route", "repo"]


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("all", None),
        ("", None),
        ("worker", "w1"),
        ("route", None),
        ("repo", ""),
        ("repo", "octo"),
        ("installation", "x"),
        ("installation", "9" * 30),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(data: Path, what: str, name: str | None) -> None:
    with serving(data) as served:
        body = {"what": what, "name": name}
        for path in ("/api/v1/pause", "/api/v1/resume"):
            answer = served.ask(path, body)
            assert (answer.status, answer.json["error"]) == (400, "usage"), answer.body
        assert served.journal.last("ops.pauses") is None


def test_two_operators_at_once_pause_once(data: Path) -> None:
    with serving(data) as served:
        answers = []
        barrier = threading.Barrier(4)

        def act() -> None:
            barrier.wait()
            answers.append(served.ask("/api/v1/pause", {"what": "worker"}).json)

        threads = [threading.Thread(target=act) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(one["changed"] for one in answers) == [False, False, False, True]
        assert len({one["seq"] for one in answers}) == 1
        assert len(served.ask("/api/v1/pauses").json["items"]) == 1


class Rival(FileJournal):
    """Just before the first append, somebody else appends one to the same subject."""

    def __init__(self, inner: FileJournal, entry: Entry) -> None:
        self._inner, self._entry = inner, [entry]

    def append(self, entries: Sequence[Entry]) -> Appended | Conflict:
        if self._entry:
            self._inner.append([self._entry.pop()])
        return self._inner.append(entries)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def last(self, subject: str):  # type: ignore[no-untyped-def]
        return self._inner.last(subject)


def test_a_pause_carries_on_whether_the_intake_is_paused_whatever_comes_between(
    data: Path, conn: sqlite3.Connection
) -> None:
    with open_chosen(data) as journal:
        done = 0

        def rows() -> sqlite3.Connection:
            nonlocal done
            fold(conn, list(journal.read(done)))
            done = journal.head().seq
            return conn

        assert pauses.intake(journal) is None
        between = Entry("ops.pauses", "ops.paused", {"what": "worker", "name": None, "intake": None})
        seq = pauses.pause(Rival(journal, between), rows, Pause(what="intake", by="me", reason="disk swap")).seq
        assert seq == 2, "the other's came first, and was looked at"
        pauses.resume(journal, rows, Pause(what="worker"))
        pauses.pause(journal, rows, Pause(what="installation", name="07"))
        found = pauses.intake(journal)
        assert found is not None and found.word == "intake_paused"
        assert "disk swap" in found.log_detail and "disk swap" not in found.sentence, "the world isn't told why"
        pauses.resume(journal, rows, Pause(what="intake"))
        assert pauses.intake(journal) is None
        assert names(rows()) == [("installation", "7", None)]


def test_erasing_a_repository_erases_its_name_from_pauses_and_leaves_it_paused(data: Path) -> None:
    with serving(data) as served:
        served.post("issues", issue(1, repo="octo/hush-hush"), new_guid())
        with open_source(data, config_in(data)) as source:
            source.act(PAUSE, Pause(what="repo", name="octo/hush-hush"))
            source.act(RESUME, Pause(what="repo", name="octo/hush-hush"))
            source.act(PAUSE, Pause(what="repo", name="octo/hush-hush"))
            source.act(REDACT, Redact(ids=[source.deliveries().items[0].guid]))
            assert source.pauses()[0].repo == "octo/hush-hush"
            source.act(REDACT, Redact(repo="OCTO/hush-hush"))
            assert [(one.name, one.repo) for one in source.pauses()] == [
                (str(repository_number("octo/hush-hush")), None)
            ]
    stored = b"".join(journal_lines(data))
    assert b"hush-hush" not in stored
    (data / "state.db").unlink()
    with open_source(data, config_in(data)) as source:
        assert [(one.name, one.repo) for one in source.pauses()] == [(str(repository_number("octo/hush-hush")), None)]
    assert Daemon(data).cli_json("verify")["ok"]


# ---- the intake, and the commands


def test_a_paused_intake_answers_503_tells_what_it_holds_and_opens_on_resume(data: Path) -> None:
    with serving(data) as served:
        guid = new_guid()
        assert served.post("issues", issue(1), guid).status == 202
        served.ask("/api/v1/pause", {"what": "intake", "reason": "a secret plan"})
        answer = served.post("issues", issue(2))
        assert (answer.status, answer.json["error"]) == (503, "intake_paused")
        assert int(answer.headers["retry-after"]) > 0
        assert b"secret plan" not in answer.body
        assert served.post("issues", issue(1), guid).json["duplicate"], "what is known is still told"
        assert served.post("issues", issue(3), secret="wrong").status == 401
        ready = served.request("GET", "/readyz")
        assert (ready.status, ready.json["reasons"]) == (503, ["An operator paused the intake."])
        assert served.request("GET", "/healthz").status == 200
        assert served.refused() == {"intake_paused": 1, "signature_wrong": 1}
        served.disk.free = 0
        assert len(served.ask("/api/v1/status").json["reasons"]) == 2, "one reason hides no other"
        assert served.post("issues", issue(2)).json["error"] == "intake_closed"
        served.disk.free = 1 << 40
        served.ask("/api/v1/resume", {"what": "intake"})
        assert served.post("issues", issue(2)).status == 202
        assert served.request("GET", "/readyz").status == 200


def test_a_paused_intake_stays_so_over_a_restart_and_is_logged_once(make_daemon: Make) -> None:
    daemon = make_daemon()
    said = daemon.cli("pause", "intake", "--yes", "--reason", "moving house").stderr.decode()
    assert "The intake is paused" in said
    assert "was paused already" in daemon.cli("pause", "intake", "--yes").stderr.decode()
    assert daemon.post("star", {"action": "created"}).status == 503
    eventually(lambda: "intake is closed" in daemon.log_tail())
    assert daemon.stop() == 0
    assert daemon.log_tail().count("intake is closed") == 1
    assert "moving house" in daemon.log_tail()
    assert "PAUSED" in daemon.cli("status", exit_code=6).stdout.decode(), "without a daemon too"
    daemon.start(wait=False)
    eventually(lambda: daemon.get("/healthz").status == 200)
    assert daemon.get("/readyz").status == 503
    assert daemon.post("star", {"action": "created"}).json["error"] == "intake_paused"
    shown = daemon.cli("status", exit_code=1).stdout.decode()
    assert "NOT READY" in shown and "moving house" in shown
    eventually(lambda: daemon.log_tail().count("intake is closed") == 2)
    assert "goes on" in daemon.cli("resume", "intake").stderr.decode()
    assert daemon.post("star", {"action": "created"}).status == 202
    eventually(lambda: "open again" in daemon.log_tail())
    assert "was not paused" in daemon.cli("resume", "intake").stderr.decode()


def test_an_unknown_thing_is_refused_by_the_command(data: Path) -> None:
    with open_chosen(data):
        pass
    daemon = Daemon(data)
    assert b"pause what?" in daemon.cli("pause", exit_code=2).stderr
    assert b"can't be paused" in daemon.cli("pause", "everything", exit_code=2).stderr
    assert b"no route is named" in daemon.cli("pause", "route", "x", exit_code=3).stderr
    assert daemon.cli_json("pause", "worker")["changed"] is True
    assert b"goes on" in daemon.cli("resume", "worker").stderr
    assert daemon.cli("resume", "worker").stdout == b""
