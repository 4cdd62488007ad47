"""What comments have an operator do: `cancel` and `retry`, each done once to what it is meant for, whatever dies meanwhile."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from covenq.config.load import build
from covenq.daemon.acts import Acts
from covenq.github.columns import columns
from covenq.model import DeliveryId, Kind, task_id, task_subject
from covenq.model.rows import Task as TaskObject
from covenq.operate import commanded
from covenq.routing.decide import route
from covenq.state import query
from covenq.state.store import StateStore
from covenq.tasks.scheduling.dispatcher import Dispatcher
from covenq.tasks.scheduling.fairness import OWN_KINDS, PULL_KINDS
from covenq.tasks.scheduling.interruption import recover, running_without_lease
from covenq.tasks.scheduling.waiting import waiting
from journal.errors import JournalFull
from journal.records import Appended, Entry
from tests.support.journals.chosen import open_chosen
from tests.support.requests import HOOK
from tests.support.waiting import eventually

CODY = "coven-cody[bot]"
CONFIG = build(
    {
        "familiar": [
            {"id": "cody", "bot_username": CODY, "pull": True, "trigger_labels": ["fix"]},
            {"id": "devi", "bot_username": "devi", "pull": True},
        ],
    },
    None,
    {},
)
NOW = 1_800_000_000.0


class Killed(BaseException):
    """The process dies."""


class Dying:
    """A journal whose process dies at an append: before it is recorded, or after."""

    def __init__(self, journal: Any, at: int | None = None, *, recorded: bool = False) -> None:
        self._journal, self._at, self._recorded, self.appends = journal, at, recorded, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def append(self, entries: Any) -> Any:
        self.appends += 1
        if self.appends != self._at:
            return self._journal.append(entries)
        if self._recorded:
            self._journal.append(entries)
        raise Killed


class Fold:
    moved_tasks = True

    def subscribe(self, callback: Any) -> None:
        pass


class Desk:
    """A journal, its state, and what carries out acts: the context of operations, too."""

    config = CONFIG

    def __init__(self, data: Path) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self.journal: Any = open_chosen(data)
        self.store = StateStore(data / "state.db", self.journal)
        self.number = 0

    def close(self) -> None:
        self.store.close()
        self.journal.close()

    def clock(self) -> float:
        return NOW

    def reader(self) -> sqlite3.Connection:
        self.store.catch_up()
        return self.store.reader()

    @contextmanager
    def writing(self) -> Iterator[tuple[Any, sqlite3.Connection]]:
        yield self.journal, self.reader()

    def acts(self, journal: Any = None) -> Acts:
        context: Any = self
        if journal is not None:
            context = Desk.__new__(Desk)
            context.journal, context.store = journal, self.store
        fold: Any = Fold()
        return Acts(context, context, fold, "acts")

    def deliver(self, event: str, **payload: Any) -> list[str]:
        """Receive a delivery about issue 7, or another; the ids of its tasks."""
        self.number += 1
        body = {"repository": {"id": 6, "full_name": "octo/hello", "owner": {"login": "octo"}}, **payload}
        body.setdefault("issue", {"number": 7})
        id = DeliveryId("9", f"g{self.number}")
        read, about = columns(event, body)
        data = {"hook": "9", "guid": id.guid, "event": event, **read}
        decision = route(CONFIG, id, {**data, **about}, lambda: body)
        received = Entry(
            id.subject, Kind.RECEIVED, {**data, "source": "http"}, about, json.dumps(body).encode(), expect=0
        )
        assert isinstance(self.journal.append([received, *decision.entries]), Appended)
        return list(decision.tasks)

    def work(self, number: int = 7, bot: str = CODY) -> str:
        [task] = self.deliver("issues", action="assigned", assignee={"login": bot}, issue={"number": number})
        return task

    def say(self, text: str, number: int = 7) -> str:
        comment = {"body": text, "user": {"login": "mona"}, "author_association": "OWNER"}
        [task] = self.deliver("issue_comment", action="created", comment=comment, issue={"number": number})
        return task

    def move(self, task: str, *kinds: Kind) -> None:
        for kind in kinds:
            last = self.journal.last(task_subject(task))
            data = {"attempt": 1, "worker": "w", "claim": last.seq, "category": "exit", "interruptions": 0}
            assert isinstance(self.journal.append([Entry(task_subject(task), kind, data, expect=last.seq)]), Appended)

    def task(self, id: str) -> TaskObject:
        return query.task(self.reader(), id)

    def states(self, *ids: str) -> list[str]:
        return [self.task(id).state for id in ids]

    def records(self, *kinds: Kind) -> list[Any]:
        return [record for record in self.journal.read(0) if record.kind in kinds]

    def recover(self) -> None:
        entries = recover(running_without_lease(self.reader()), NOW)
        if entries:
            assert isinstance(self.journal.append(entries), Appended)


@pytest.fixture
def desk(tmp_path: Path, journal_engine: None) -> Iterator[Desk]:
    made = Desk(tmp_path / "data")
    yield made
    made.close()


def test_cancel_ends_what_of_the_familiar_waits_or_runs_there_and_nothing_else(desk: Desk) -> None:
    waits, runs, done = desk.work(), desk.work(), desk.work()
    desk.move(runs, Kind.CLAIMED)
    desk.move(done, Kind.CLAIMED, Kind.COMPLETED)
    elsewhere, others = desk.work(number=8), desk.work(bot="devi")
    command = desk.say("@coven-cody cancel")
    later = desk.work()
    desk.move(runs, Kind.PHASE)  # it goes on meanwhile
    assert desk.acts().round() == 1
    assert desk.states(waits, runs, done) == ["cancelled", "cancelled", "completed"]
    assert desk.states(elsewhere, others, later) == ["queued"] * 3
    made = desk.records(Kind.CANCELLED)
    assert {record.data["by"] for record in made} == {"delivery 9/g6"}
    assert {record.data["reason"] for record in made} == {"cancel: a command to cody"}
    told = desk.task(command)
    assert (told.state, told.kind, told.purpose, told.familiar, told.attempts) == (
        "completed",
        "act",
        "cancel",
        "cody",
        1,
    )
    assert desk.acts().round() == 0


def test_retry_requeues_of_each_purpose_the_newest_if_that_has_failed_or_was_cancelled(desk: Desk) -> None:
    old, newest = desk.work(), desk.work()
    for task in (old, newest):
        desk.move(task, Kind.CLAIMED, Kind.FAILED)
    answer = desk.say("@coven-cody status")
    desk.move(answer, Kind.CLAIMED, Kind.FAILED)
    elsewhere = desk.work(number=8)
    desk.move(elsewhere, Kind.CANCELLED)
    command = desk.say("@coven-cody RETRY it, please")
    assert desk.acts().round() == 1
    assert desk.states(old, newest, answer, elsewhere, command) == [
        "failed",
        "queued",
        "failed",
        "cancelled",
        "completed",
    ]
    [record] = desk.records(Kind.REQUEUED)
    assert (record.subject, record.data["by"]) == (task_subject(newest), "delivery 9/g5")
    desk.say("@coven-cody retry", number=8)
    assert desk.acts().round() == 1
    assert desk.states(elsewhere) == ["queued"]


def test_nothing_is_retried_where_the_newest_went_well_or_runs(desk: Desk) -> None:
    failed, well = desk.work(), desk.work()
    desk.move(failed, Kind.CLAIMED, Kind.FAILED)
    desk.move(well, Kind.CLAIMED, Kind.COMPLETED)
    command = desk.say("@coven-cody retry")
    assert desk.acts().round() == 1
    assert desk.states(failed, well, command) == ["failed", "completed", "completed"]


def test_what_failed_after_the_command_is_not_meant(desk: Desk) -> None:
    task = desk.work()
    desk.move(task, Kind.CLAIMED)
    desk.say("@coven-cody retry")
    desk.move(task, Kind.FAILED)
    assert desk.acts().round() == 1
    assert desk.states(task) == ["failed"]


def test_a_command_whose_content_is_gone_fails_and_the_next_is_carried_out(desk: Desk) -> None:
    work, gone = desk.work(), task_id(DeliveryId("9", "gone"), "cody-cancel", 0)
    data = {"hook": "9", "guid": "gone", "route": "cody-cancel", "kind": "act", "purpose": "cancel", "policy": {}}
    desk.journal.append([Entry(task_subject(gone), Kind.QUEUED, {**data, "replay": 0, "event": "x"}, {}, expect=0)])
    command = desk.say("@coven-cody cancel")
    assert desk.acts().round() == 2
    assert desk.states(work, gone, command) == ["cancelled", "failed", "completed"]
    assert desk.task(gone).category == "policy"


def test_an_error_of_covenq_itself_ends_one_command_with_a_record_and_no_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, broken, command = (
        desk.work(number=8),
        desk.say("@coven-cody cancel"),
        desk.say("@coven-cody cancel", number=8),
    )
    ordinary = commanded.chosen

    def chosen(conn: sqlite3.Connection, wanted: commanded.Commanded) -> list[str]:
        if wanted.number == 7:
            raise ZeroDivisionError
        return ordinary(conn, wanted)

    monkeypatch.setattr(commanded, "chosen", chosen)
    assert desk.acts().round() == 2
    assert desk.states(broken, command, work) == ["failed", "completed", "cancelled"]
    assert desk.task(broken).category == "internal"


def test_a_disk_that_is_full_for_a_moment_is_waited_for(desk: Desk) -> None:
    work, command = desk.work(), desk.say("@coven-cody cancel")

    class Full(Dying):
        def append(self, entries: Any) -> Any:
            self.appends += 1
            if self.appends in (2, 4):  # what is done, and the end
                raise JournalFull("no space")
            return self._journal.append(entries)

    assert desk.acts(Full(desk.journal)).round() == 1
    assert desk.states(work, command) == ["cancelled", "completed"]


def test_no_pool_and_no_worker_is_given_an_act_and_it_says_what_it_waits_for(desk: Desk) -> None:
    command = desk.say("@coven-cody cancel")
    conn = desk.reader()
    dispatcher = Dispatcher(desk.journal, lambda: desk.journal.head().seq)
    for kinds in (OWN_KINDS, PULL_KINDS):
        assert dispatcher.pick(conn, NOW, 10, kinds=kinds) == []
    told = waiting(conn, command, NOW)
    assert told is not None
    assert (told.word, told.why) == ("daemon", "ready, until the daemon does it, which takes no worker")


COMMANDS = ("cancel", "retry")


def begun(data: Path, word: str) -> tuple[Desk, str, str]:
    """A desk with a task that the command is meant for, an older one that it isn't, and the command: (desk, task, command)."""
    desk = Desk(data)
    old, task = desk.work(), desk.work()
    for one in (old, task) if word == "retry" else (old,):
        desk.move(one, Kind.CLAIMED, Kind.FAILED)
    return desk, task, desk.say(f"@coven-cody {word}")


@pytest.mark.parametrize("word", COMMANDS)
def test_it_is_done_once_wherever_the_process_dies(tmp_path: Path, journal_engine: None, word: str) -> None:
    desk, *_ = begun(tmp_path / "count", word)
    whole = Dying(desk.journal)
    desk.acts(whole).round()
    desk.close()
    assert whole.appends == 3, "a claim, what is done, and the end"
    wanted, did = {"cancel": ("cancelled", Kind.CANCELLED), "retry": ("queued", Kind.REQUEUED)}[word]
    for at in range(1, whole.appends + 1):
        for recorded in (False, True):
            desk, task, command = begun(tmp_path / f"{at}-{recorded}", word)
            with pytest.raises(Killed):
                desk.acts(Dying(desk.journal, at, recorded=recorded)).round()
            desk.recover()  # as the next start does
            desk.acts().round()
            assert desk.states(task, command) == [wanted, "completed"], (at, recorded)
            assert [record.subject for record in desk.records(did)] == [task_subject(task)], (at, recorded)
            desk.close()


@pytest.mark.parametrize("word", COMMANDS)
def test_what_an_operator_does_between_two_tries_stays(tmp_path: Path, journal_engine: None, word: str) -> None:
    desk, task, command = begun(tmp_path / "data", word)
    with pytest.raises(Killed):
        desk.acts(Dying(desk.journal, 3)).round()  # all is done but the end
    desk.move(task, *((Kind.REQUEUED,) if word == "cancel" else (Kind.CLAIMED, Kind.FAILED)))
    desk.recover()
    desk.acts().round()
    assert desk.states(task, command) == ["queued" if word == "cancel" else "failed", "completed"]
    desk.close()


def test_a_daemon_cancels_what_holds_its_only_worker_and_once_over_a_kill(make_daemon: Any) -> None:
    familiar = f'[[familiar]]\nid = "cody"\nbot_username = "{CODY}"\nrun = ["sleep", "300"]\n'
    daemon = make_daemon(config=f"[worker]\nconcurrency = 1\n{familiar}")
    thread = {"issue": {"number": 7}, "repository": {"id": 6, "full_name": "octo/hello"}}

    def say(text: str, guid: str) -> str:
        comment = {"body": text, "user": {"login": "mona"}, "author_association": "OWNER"}
        payload = {"action": "created", "comment": comment, **thread}
        return str(daemon.post("issue_comment", payload, guid=guid).json["tasks"][0])

    def wait_for(task: str, state: str) -> None:
        eventually(lambda: daemon.api(f"/api/v1/tasks/{task}").json["state"] == state)

    payload = {"action": "assigned", "assignee": {"login": CODY}, **thread}
    work = daemon.post("issues", payload, guid="assigned").json["tasks"][0]
    wait_for(work, "running")
    command = say("@coven-cody cancel", "c1")
    daemon.kill()
    daemon.start()
    wait_for(command, "completed")
    wait_for(work, "cancelled")
    assert say("@coven-cody cancel", "c1") == command
    assert [one["data"]["by"] for one in daemon.records("task.cancelled")] == [f"delivery {HOOK}/c1"]
    retried = say("@coven-cody retry", "c2")
    wait_for(retried, "completed")
    wait_for(work, "running")
    assert daemon.stop() == 0
