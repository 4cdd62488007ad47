"""The two sources: a daemon's and the files' answer alike."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from covenq.client.interface import each
from covenq.client.local import LocalSource
from covenq.client.open import open_source
from covenq.client.remote import RemoteSource
from covenq.config import load as configuration
from covenq.config.load import Config
from covenq.errors import Ambiguous, CovenqError, DaemonUnreachable, FilterError, NotFound, UsageError
from covenq.model.rows import Page, Task
from covenq.net import unix_socket
from covenq.net.http_client import Client
from covenq.operate.inspect.history import Why
from covenq.operate.operations import REPLAY, REQUEUE
from covenq.operate.parameters import Replay, Selection
from covenq.tasks.execution.workdir import AttemptDirectory
from journal.errors import JournalDamaged, JournalLocked
from journal.file.open import open_journal
from tests.support.records import moved, of, queued, received
from tests.support.requests import issue, new_guid
from tests.support.serving import ROUTE, Served, serving
from tests.support.waiting import eventually

CONFIG = configuration.build({"route": [ROUTE]}, None, {})


def fill(served: Served) -> dict[str, str]:
    guids = {"first": new_guid(), "twice": new_guid(), "star": new_guid()}
    served.post("issues", issue(1), guids["first"])
    for hook in ("7", "8"):
        served.post("issues", issue(2), guids["twice"], hook)
    served.post("star", b'{ "action":"created" }', guids["star"])
    return guids


def everything(source: RemoteSource | LocalSource, guids: dict[str, str]) -> list[Any]:
    """But what tasks wait for: without a daemon, that is a daemon."""
    found = answers_of(source, guids)
    cause = "worker" if source.live else "stopped"
    for task in [one for answer in found for one in tasks_in(answer)]:
        assert task.waits is not None
        assert task.waits.cause == cause
        task.waits = None
    return found


def tasks_in(answer: Any) -> list[Task]:
    several = answer.items if isinstance(answer, Page) else answer if isinstance(answer, list) else [answer]
    return [one for one in several if isinstance(one, Task)]


def answers_of(source: RemoteSource | LocalSource, guids: dict[str, str]) -> list[Any]:
    tasks = source.tasks().items
    return [
        source.deliveries(),
        source.deliveries("event:issues", limit=1),
        source.deliveries(["event:issues", "-number:1"], limit=0),
        tasks,
        source.delivery(guids["first"]),
        source.delivery(f"8/{guids['twice']}"),
        source.payload(guids["star"]),
        source.task(tasks[0].id),
        source.attempts(tasks[0].id),
        list(each(source.deliveries, "", page=2)),
        list(each(source.tasks, "", limit=2, page=1)),
        source.act(REPLAY, Replay(ids=[guids["star"]], dry_run=True)),
        source.act(REQUEUE, Selection(filter="", dry_run=True)),
    ]


def failures(source: RemoteSource | LocalSource, guids: dict[str, str]) -> list[tuple[type, str, str]]:
    found = []
    for call in (
        lambda: source.delivery(new_guid()),
        lambda: source.delivery(guids["twice"]),
        lambda: source.delivery("../../x"),
        lambda: source.payload(f"9/{guids['first']}"),
        lambda: source.task("../x"),
        lambda: source.attempts("nothing"),
        lambda: source.deliveries("stat:failed"),
        lambda: source.tasks("", after="x"),
        lambda: source.act(REPLAY, Replay()),
        lambda: source.act(REQUEUE, Selection(ids=["nothing"])),
    ):
        with pytest.raises((NotFound, UsageError)) as raised:
            call()
        found.append((type(raised.value), str(raised.value).replace(new_guid(), ""), raised.value.hint))
    return found


def test_with_and_without_a_daemon_the_answers_are_the_same(data: Path) -> None:
    with serving(data) as served:
        guids = fill(served)
        with open_source(data, CONFIG) as remote:
            assert isinstance(remote, RemoteSource)
            assert (remote.live, remote.where) == (True, str(data / "covenq.sock"))
            answers = everything(remote, guids)
            wrong = failures(remote, guids)
            status = remote.status()
    with open_source(data, CONFIG) as local:
        assert isinstance(local, LocalSource)
        assert (local.live, local.where) == (False, str(data))
        assert everything(local, guids) == answers
        assert [kind for kind, _, _ in failures(local, guids)] == [kind for kind, _, _ in wrong]
        assert {kind for kind, _, _ in wrong} == {NotFound, Ambiguous, UsageError, FilterError}
        offline = local.status()
    for name in ("deliveries", "tasks", "routes", "data"):
        assert getattr(offline, name) == getattr(status, name)
    told = [[(one.cause, one.count, one.command) for one in each.waiting] for each in (status, offline)]
    assert told == [[("worker", 3, None)], [("stopped", 3, "covenq serve")]]
    assert (offline.ready, offline.reasons, offline.pid) == (False, ["no daemon is running"], None)
    (data / "state.db").unlink()
    assert everything(LocalSource(data, CONFIG), guids) == answers, "the state is a cache"


def test_an_output_is_read_from_its_end_or_from_an_offset(data: Path) -> None:
    with serving(data) as served:
        task = served.post("issues", issue(1)).json["tasks"][0]
        with open_source(data, CONFIG) as remote, LocalSource(data, CONFIG) as local:
            directory = AttemptDirectory.for_attempt(data, task, 1)
            directory.keep_output("stdout", b"0123456789")
            for source in (remote, local):
                assert source.log(task, 1, "stdout") == b"0123456789"
                assert source.log(task, 1, "stdout", 3) == b"789"
                assert source.log(task, 1, "stdout", 3, 0) == b"012"
                assert source.log(task, 1, "stdout", 3, 8) == b"89"
                assert source.log(task, 1, "stdout", 3, 10) == source.log(task, 1, "stdout", 3, 10**15) == b""
                for number, stream in ((1, "stderr"), (2, "stdout")):
                    with pytest.raises(NotFound):
                        source.log(task, number, stream, 3, 0)  # type: ignore[arg-type]


def test_why_quotes_an_output_without_waiting_for_the_lock_that_it_has(data: Path) -> None:
    """It would wait for an hour, for itself."""
    data.mkdir(exist_ok=True)
    guid = new_guid()
    task = of(guid)
    with open_journal(data / "journal") as journal:
        journal.append(
            [
                received(guid),
                queued(guid),
                moved("claimed", task, attempt=1, worker="w1"),
                moved("failed", task, attempt=1, category="exit", exit_code=1),
            ]
        )
    AttemptDirectory.for_attempt(data, task, 1).keep_output("stderr", b"no such branch\n")
    answers: list[Why] = []
    asking = threading.Thread(target=lambda: answers.append(LocalSource(data, CONFIG, 3600.0).why(guid)), daemon=True)
    asking.start()
    (story,) = eventually(lambda: answers)[0].stories
    asking.join()
    assert [one.last_output and one.last_output.lines for one in story.tasks] == [["no such branch"]]


class OlderDaemon(Client):
    """A client of a daemon that knows no offset, and has this output."""

    output = b""

    def get_bytes(self, path: str) -> bytes:
        if "offset" in path:
            raise UsageError("there is no parameter 'offset' here")
        return self.output[-int(path.rpartition("=")[2]) :]


def test_an_output_is_read_from_an_older_daemon_while_it_is_short(tmp_path: Path) -> None:
    client = OlderDaemon(tmp_path / "socket")
    client.output = b"0123456789"
    source = RemoteSource(client)
    assert [source.log("t1", 1, "stdout", 4, at) for at in (0, 4, 8, 10)] == [b"0123", b"4567", b"89", b""]
    client.output = b"x" * (1 << 20) + b"y"
    with pytest.raises(CovenqError, match="older version"):
        source.log("t1", 1, "stdout", 4, 0)


def test_a_daemon_whose_socket_is_gone_is_not_said_to_be_stopped(data: Path) -> None:
    with serving(data):
        (data / "covenq.sock").rename(data / "elsewhere")
        with open_source(data, CONFIG) as local:
            reason = local.status().reasons[0]
        assert reason.endswith(f"is in use by process {os.getpid()}, and no daemon answers"), reason
        (data / "elsewhere").rename(data / "covenq.sock")


def test_without_a_daemon_replays_are_recorded_and_seen(data: Path) -> None:
    with serving(data, routes=False) as served:
        guid = new_guid()
        served.post("issues", issue(), guid)
    source = LocalSource(data, CONFIG)
    assert source.delivery(guid).state == "ignored"
    done = source.act(REPLAY, Replay(ids=[guid], reason="a route is there now", by="me")).done
    assert [one.id for one in done] == [f"7/{guid}"]
    found = source.delivery(guid)
    assert (found.state, found.tasks, found.replays) == ("queued", done[0].tasks, 1)
    assert [one.kind for one in source.events(0)][:2] == ["delivery.received", "delivery.ignored"]
    assert list(source.events()) == []
    with serving(data) as served:
        remote = RemoteSource(open_source(data, CONFIG)._client)  # type: ignore[union-attr]
        assert remote.delivery(guid) == found
        again = remote.act(REPLAY, Replay(filter=["event:issues"], dry_run=True))
        assert (again.eligible, len(again.skipped)) == ([], 1)


def test_where_nothing_ever_was_everything_is_empty_and_nothing_is_made(data: Path) -> None:
    source = LocalSource(data, Config())
    assert (source.deliveries(), source.tasks()) == (Page([], None), Page([], None))
    assert source.status().deliveries == {}
    assert list(source.events(0)) == []
    for call in (lambda: source.delivery("x"), lambda: source.act(REPLAY, Replay(ids=["x"])), lambda: source.task("x")):
        with pytest.raises(NotFound):
            call()
    assert not data.exists()


def test_while_another_process_holds_the_lock_reads_go_on_and_writes_say_why(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covenq.client.local_files.LOCK_S", 0.05)
    with serving(data) as served:
        guids = fill(served)
    with open_journal(data / "journal"):
        source = LocalSource(data, CONFIG)
        assert len(source.deliveries().items) == 4
        with pytest.raises(JournalLocked):
            source.act(REPLAY, Replay(ids=[guids["first"]]))
        with unix_socket.bind(data / "covenq.sock") as deaf:
            deaf.listen()
            with pytest.raises(DaemonUnreachable, match="doesn't answer"):
                source.act(REPLAY, Replay(ids=[guids["first"]]))
    source.act(REPLAY, Replay(ids=[guids["star"]], dry_run=True))


def test_damage_is_named_and_what_can_be_read_is(data: Path) -> None:
    with serving(data) as served:
        guids = fill(served)
    segment = next((data / "journal").glob("*.jsonl"))
    content = bytearray(segment.read_bytes())
    content[content.rindex(b'"kind":"delivery.ignored"') + 10] ^= 1
    segment.write_bytes(content)
    for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
        (data / "journal" / name).unlink(missing_ok=True)
    source = LocalSource(data, CONFIG)
    assert len(source.status().reasons) == 2
    assert source.delivery(guids["first"]).number == 1
    with pytest.raises(JournalDamaged):
        source.act(REPLAY, Replay(ids=[guids["star"]]))


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    with serving(data) as served:
        yield served


def test_events_end_when_the_source_is_closed_from_another_thread(served: Served, data: Path) -> None:
    source = open_source(data, CONFIG)
    got: list[Any] = []
    first = threading.Event()

    def follow() -> None:
        for event in source.events(0):
            got.append(event)
            first.set()

    thread = threading.Thread(target=follow)
    thread.start()
    served.post("issues", issue())
    assert first.wait(30)
    source.close()
    thread.join(30)
    assert not thread.is_alive()
    assert got[0].kind == "delivery.received"


def test_a_daemon_that_goes_away_is_unreachable(data: Path) -> None:
    with serving(data):
        source = open_source(data, CONFIG)
        assert source.live
    with pytest.raises(DaemonUnreachable):
        source.status()
    with pytest.raises(DaemonUnreachable):
        open_source(data, CONFIG, url="http://127.0.0.1:1")
