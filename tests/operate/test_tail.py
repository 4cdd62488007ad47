"""covenq tail: what the journal records, filtered, from a place or a time on, and over a restart of the daemon."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from covenq.filter.grammar import parse
from covenq.model.answers import Tail
from covenq.operate.inspect import tail
from covenq.state import schema
from covenq.state.fold import fold
from journal.records import Entry, Head, Record, Witness
from tests.support.daemon import Daemon
from tests.support.records import START, as_records, empty_state, moved, note, of, queued, received
from tests.support.requests import issue


class Log:
    """Records as a journal would return them, and their state."""

    def __init__(self, entries: list[Entry]) -> None:
        self.records = as_records(entries)
        self.epoch = "e" * 16
        self.conn = empty_state()
        self.fold(self.records)

    def fold(self, records: list[Record]) -> None:
        fold(self.conn, records)
        schema.set_position(self.conn, Witness("j" * 32, records[-1].seq, records[-1].sum), self.epoch)

    def head(self) -> Head:
        return Head(len(self.records), "0" * 64)

    def get(self, seq: int) -> Record | None:
        return self.records[seq - 1] if 0 < seq <= len(self.records) else None

    def read(self, after: int, *, payloads: bool = True) -> Any:
        return iter(self.records[after:])

    def answer(self, filter: str = "", **which: Any) -> Tail:
        return tail.answer(self.conn, self, parse(filter), START + 1000, **which)

    def seqs(self, filter: str = "", **which: Any) -> list[int]:
        return [item.seq for item in self.answer(filter, **which).items]


def history() -> Log:
    return Log(
        [
            received("a"),
            queued("a"),
            received("b", event="push", about={"repo": "octo/other"}),
            note("ignored", "b", reason="no_match", detail="No route."),
            moved("claimed", of("a"), attempt=1, worker="w"),
            Entry("ops.journal", "journal.synced", {}),
            Entry("ops.pauses", "ops.paused", {"what": "route", "name": "fix", "by": "cli:ada", "reason": "busy"}),
            moved("failed", of("a"), attempt=1, category="exit", exit_code=2),
        ]
    )


def test_what_the_state_has_not_folded_yet_is_told_by_the_next_look() -> None:
    """Whether it matches could not be said: a look that went over it would miss it for good."""
    log = history()
    log.conn = empty_state()
    log.fold(log.records[:2])
    for which in ({"after": 0}, {"newest": 10}):
        found = log.answer("repo:octo/other", **which)
        assert (found.items, found.next, found.head) == ([], 2, 8)
    log.fold(log.records[2:])
    assert log.seqs("repo:octo/other", after=2) == [3, 4]


def test_it_tells_whose_record_it_is_and_what_it_says() -> None:
    log = history()
    found = log.answer(after=0)
    assert (found.next, found.head) == (8, 8)
    assert [item.kind for item in found.items] == [
        "delivery.received", "task.queued", "delivery.received", "delivery.ignored", "task.claimed", "ops.paused",
        "task.failed",
    ]  # fmt: skip
    last = found.items[-1]
    assert (last.task, last.guid, last.route, last.state) == (of("a"), "a", "fix", "failed")
    assert last.data == {"attempt": 1, "category": "exit", "exit_code": 2}
    assert found.items[-2].data["what"] == "route"
    assert " ".join(tail.line_parts(last)).startswith(f"{of('a')} issues.opened octo/hello#12 route fix attempt=1")


def test_a_filter_takes_the_records_of_what_matches_now() -> None:
    log = history()
    assert log.seqs("repo:octo/other", after=0) == [3, 4]
    assert log.seqs("state:failed", after=0) == [1, 2, 5, 8]
    assert log.seqs("-state:failed", after=0) == [3, 4]
    assert log.seqs("payload.guid:b", after=0) == [3, 4]
    assert log.seqs("payload.guid:a", after=4) == [5, 8]


def test_from_a_time_from_a_place_and_the_newest() -> None:
    log = history()
    assert log.seqs(after=6) == [7, 8]
    assert log.seqs(after=8) == []
    assert log.answer(after=99).next == 8  # a place of another history
    assert log.seqs(newest=2) == [7, 8]
    assert log.seqs("repo:octo/other", newest=1) == [4]
    for seq in range(1, 9):  # record n came n seconds after START; now is START + 1000
        assert tail.seq_at(log, START + seq) == seq - 1
    assert tail.seq_at(log, 0) == 0
    assert tail.seq_at(log, START + 8.5) == 8
    assert log.seqs(since_s=993.5) == [7, 8]


def test_a_look_is_bounded_and_says_where_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    log = history()
    told, reached = tail.scan(log.conn, log, parse("state:none*"), 0, now=START, most=3)
    assert (told, reached) == ([], 3)


CONFIG = '[[route]]\nname = "all"\nmatch = "event:issues"\nrun = ["true"]\n'


class Followed:
    """`covenq tail -f` as a process; its lines as they come."""

    def __init__(self, daemon: Daemon, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "covenq", "tail", "-f", "--jsonl", *words],
            env=daemon.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lines: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as out:
            for line in out:
                self.lines.put(json.loads(line))

    def next(self) -> dict[str, Any]:
        return self.lines.get(timeout=60)


def test_it_follows_over_a_restart_and_misses_nothing(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(CONFIG)
    followed = Followed(daemon, "--after", "0", "event:issues")
    seen: list[dict[str, Any]] = []

    def until(number: int) -> None:
        while sum(item["kind"] == "task.completed" for item in seen) < number:
            seen.append(followed.next())

    try:
        daemon.post("issues", issue(1))
        until(1)
        assert daemon.stop() == 0
        daemon.start()
        daemon.post("push", {"ref": "x"})
        daemon.post("issues", issue(2))
        until(2)
        followed.process.send_signal(2)
        assert followed.process.wait(60) == 130
        assert followed.process.stderr is not None
        with followed.process.stderr as err:
            said = err.read()
        assert b"Traceback" not in said
    finally:
        followed.process.kill()
    seqs = [item["seq"] for item in seen]
    assert seqs == sorted(set(seqs))
    expected = [record["seq"] for record in daemon.records() if record["kind"].startswith(("delivery.", "task."))]
    pushes = {record["seq"] for record in daemon.records() if record["data"].get("event") == "push"}
    kept = [seq for seq in expected if seq not in pushes and seq - 1 not in pushes]
    assert [seq for seq in kept if seq <= seqs[-1]] == seqs
    assert {item["event"] for item in seen} == {"issues"}


def test_without_a_daemon_it_tells_what_there_is(tmp_path: Path) -> None:
    from tests.support.journals.chosen import open_chosen

    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    with open_chosen(data) as journal:
        for n in range(30):
            journal.append([received(f"g{n}")])
    daemon = Daemon(data=data)
    lines = daemon.cli("tail").stdout.decode().splitlines()
    assert len(lines) in (9, 10)  # the last ten, of which one may be the journal's own
    assert "delivery.received" in lines[-1]
    assert len(daemon.cli("tail", "--after", "0", "--jsonl").stdout.splitlines()) == 30
    assert len(daemon.cli("tail", "--since", "1h").stdout.splitlines()) == 30
    assert b"name two beginnings" in daemon.cli("tail", "--since", "1h", "--after", "1", exit_code=2).stderr
    assert b"is no duration" in daemon.cli("tail", "--since", "soon", exit_code=2).stderr
