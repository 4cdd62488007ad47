"""Attempts that an error of covenq itself ends: recorded as `internal`, retried as the route says; they hold up nobody."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from covenq.model import Kind
from covenq.tasks.execution.attempt import Attempt
from covenq.tasks.execution.attempt_context import AttemptContext
from covenq.tasks.execution.scrub import Scrubber, Stream
from covenq.tasks.scheduling.outcome import Task
from journal.records import Entry
from tests.support.pool import Harness, alive
from tests.support.waiting import eventually

PY = [sys.executable, "-S", "-c"]
RETRY = {"max": 1, "backoff_s": 0.01, "cap_s": 0.02}


@pytest.fixture
def harness(journal_engine: None, tmp_path: Path) -> Iterator[Harness]:
    opened = Harness(tmp_path / "data").open()
    yield opened
    opened.files.full = False
    opened.close()


class BrokenStream(Stream):
    """A stream of an output that fails at the command's first word."""

    def feed(self, chunk: bytes) -> bytes:
        raise RuntimeError(f"what nobody thought of: {chunk!r}")


class BrokenScrubber(Scrubber):
    def stream(self) -> Stream:
        return BrokenStream(self)


def breaking(times: int) -> Callable[[Sequence[bytes]], Scrubber]:
    """Scrubbers of which the first ones can't be made."""
    left = iter(range(times))

    def make(secrets: Sequence[bytes]) -> Scrubber:
        if next(left, None) is not None:
            raise RuntimeError("s3cret")
        return Scrubber((), secrets)

    return make


def test_an_attempt_that_breaks_ends_as_internal_and_is_retried(harness: Harness) -> None:
    task = harness.add("g1", ["true"], key="k", retry=RETRY)
    other = harness.add("g2", ["true"], key="k")
    harness.pool(concurrency=1, scrubber=breaking(1))
    assert harness.wait(task).state == "completed"
    assert harness.wait(other).state == "completed", "its key is not held"
    first, second = harness.attempts(task)
    assert (first.outcome, first.category, second.outcome) == ("failed", "internal", "completed")
    assert first.detail == "covenq itself failed (RuntimeError); its log has the traceback"
    assert harness.row(task).retries == 1, "it is counted, or it would be tried for ever"


def test_an_attempt_that_breaks_without_retries_fails(harness: Harness) -> None:
    task = harness.add("g1", ["true"])
    harness.pool(scrubber=breaking(1))
    row = harness.wait(task)
    assert (row.state, row.category, row.attempts) == ("failed", "internal", 1)


def test_the_route_may_say_what_is_retried(harness: Harness) -> None:
    task = harness.add("g1", ["true"], retry={**RETRY, "on": ["exit"]})  # type: ignore[dict-item]
    harness.pool(scrubber=breaking(1))
    assert harness.wait(task).category == "internal"


def test_a_command_that_still_runs_is_ended_first(harness: Harness, tmp_path: Path) -> None:
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))"
    code += "; print('x', flush=True); time.sleep(600)"
    task = harness.add("g1", [*PY, code])
    harness.pool(scrubber=BrokenScrubber)
    assert harness.wait(task).category == "internal"
    assert not alive(int((tmp_path / "pid").read_text()))


@pytest.mark.files("the disk is full")
def test_its_end_waits_for_a_disk_that_is_full(harness: Harness, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    task = harness.add("g1", [*PY, f"open({str(go)!r}).read(); print('x', flush=True)"])
    harness.pool(scrubber=BrokenScrubber)
    eventually(lambda: "phase started" in harness.kinds(task))
    harness.files.full = True
    go.write_text("")
    eventually(lambda: harness.journal.health().full is not None)
    assert harness.kinds(task)[-1] == "phase started"
    harness.files.full = False
    row = harness.wait(task)
    assert (row.state, row.category) == ("failed", "internal")


def test_an_attempt_number_that_is_none_ends_its_task_alone(harness: Harness) -> None:
    """The record of a claim may say anything."""
    task = harness.add("g1", ["true"], retry=RETRY)
    seq = harness.row(task).last_seq
    harness.journal.append(
        [
            Entry(f"task.{task}", Kind.CLAIMED, {"attempt": -5, "worker": "w", "lease_until": None}, expect=seq),
            Entry(f"task.{task}", Kind.RETRY, {"attempt": -5, "category": "exit", "interruptions": 0}),
        ]
    )
    good = harness.add("g2", ["true"])
    harness.pool(concurrency=1)
    assert (harness.wait(task).category, harness.wait(good).state) == ("internal", "completed")


def test_a_claim_that_was_recorded_before_an_error_is_ended(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    task = harness.add("g1", ["true"], retry=RETRY)
    append, broken = harness.journal.append, iter(range(1))

    def claim_then_break(entries: Sequence[Entry], *more: object, **named: object) -> object:
        answer = append(entries, *more, **named)  # type: ignore[arg-type]
        if entries[0].kind == Kind.CLAIMED and next(broken, None) is not None:
            raise RuntimeError("after the record")
        return answer

    monkeypatch.setattr(harness.journal, "append", claim_then_break)
    harness.pool()
    assert harness.wait(task).state == "completed"
    assert [one.category for one in harness.attempts(task)] == ["internal", None]


def test_an_address_that_is_none_ends_its_task_alone(harness: Harness) -> None:
    odd = harness.add("g1", [], forward="https://[")
    good = harness.add("g2", ["true"])
    harness.pool(concurrency=1)
    assert harness.wait(good).state == "completed"
    row = harness.wait(odd)
    assert (row.category, row.detail) == ("policy", "the task's address is none")


def test_what_could_not_be_handed_out_is_picked_again(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covenq.tasks.execution.pool.RETRY_S", 0.01)
    broken = iter([OSError(errno.EMFILE, os.strerror(errno.EMFILE))])

    def make(task: Task, context: AttemptContext) -> Attempt:
        if (error := next(broken, None)) is not None:
            raise error
        return Attempt(task, context)

    monkeypatch.setattr("covenq.tasks.execution.pool.Attempt", make)
    tasks = [harness.add(f"g{n}", ["true"]) for n in range(3)]
    harness.pool(concurrency=3)
    for task in tasks:
        assert harness.wait(task).state == "completed"
