"""`covenq status`: the verdict first, what is wrong before what isn't, the log's lines of it, and no word cut on a terminal."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from msgspec.structs import replace

from covenq.cli import output
from covenq.cli.commands import status as command
from covenq.errors import CovenqError
from covenq.model import NOT_RUNNING, at_text
from covenq.model.answers import Throughput
from covenq.model.journal_status import HeadStatus, JournalStatus
from covenq.model.route_times import RouteMinutes, RouteTimes
from covenq.model.status import (
    ActivePause,
    LogLine,
    Oldest,
    Overdue,
    SecretProblem,
    StateStatus,
    Status,
    Stuck,
    Verified,
)
from covenq.model.waiting import WaitingTasks
from covenq.model.worker_status import WorkerStatus
from covenq.text import width
from tests.support.answers import blank

NOW = 1_800_000_000.0
LATELY = at_text(NOW - 60)
RUNNING = blank(
    Status,
    ready=True,
    reasons=[],
    version="1.2.3",
    pid=7,
    started_at=LATELY,
    data="/var/lib/covenq",
    webhook_url="http://127.0.0.1:8787/webhook",
    journal=blank(JournalStatus, head=HeadStatus(9, "ab")),
    state=StateStatus(9, 0, None),
    oldest=Oldest({}, {}),
    tasks={"completed": 4},
    routes=["fix"],
)
LOG = [LogLine(LATELY, "warning", "covenq.tasks", f"line {number}") for number in range(9)]
REASON = "a release of the payments service that takes all of the afternoon, and some of the evening"


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def say(
    monkeypatch: pytest.MonkeyPatch, found: Status, *, terminal: int = 0, routes: Any = (), **options: Any
) -> tuple[str, int]:
    """What it prints, to a terminal of so many columns or to a pipe, and how it exits."""

    @contextmanager
    def source(data: str | None, config: str | None) -> Iterator[Any]:
        def throughput() -> Throughput:
            if isinstance(routes, Exception):
                raise routes
            return blank(Throughput, routes=list(routes))

        yield SimpleNamespace(status=lambda: found, throughput=throughput)

    out = (Terminal if terminal else io.TextIOWrapper)(io.BytesIO(), "utf-8")
    monkeypatch.setattr(command, "source", source)
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("time.time", lambda: NOW)
    monkeypatch.setenv("COLUMNS", str(terminal))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    code = 0
    try:
        command.status(**options)
    except typer.Exit as ended:
        code = ended.exit_code
    out.flush()
    return out.buffer.getvalue().decode(), code  # type: ignore[attr-defined]


def labels(text: str) -> list[str]:
    return [line[: command.LABEL].strip() for line in text.splitlines() if line[:1].strip()]


def test_of_what_is_well_it_says_so_and_nothing_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    said, code = say(monkeypatch, replace(RUNNING, log=LOG))
    assert said.startswith("READY       deliveries are accepted\ncovenq      1.2.3, pid 7, up 1m\n\n")
    assert "line 8" not in said and "doctor" not in said and code == 0


def test_what_is_wrong_comes_before_the_rest_with_the_log_lines_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = replace(
        RUNNING,
        verified=Verified(LATELY, False, 9, 1, 9, 0.1, "a byte differs"),
        worker=WorkerStatus("w", 2, [], "it met a fault"),
        overdue=[Overdue("fold", "the fold loop last came round an hour ago")],
        stuck=[Stuck("t1", "fix", None, "running", None, "it runs for long")],
        secrets=[SecretProblem("app", "the file is gone")],
        pauses=[ActivePause("route", "fix", None, LATELY, 3, "root", REASON)],
        log=LOG,
    )
    said, code = say(monkeypatch, found)
    assert code == 5
    expected = "DAMAGED covenq DAMAGED STOPPED OVERDUE STUCK UNREADABLE PAUSED log deliveries"
    assert labels(said)[: len(expected.split())] == expected.split()
    assert said.index("`covenq doctor` says what to do.") < said.index(f"{LATELY[11:19]}Z warning: line 4")
    assert "line 3" not in said and "line 8" in said, "the newest few"


def test_a_route_that_fails_is_told_of_with_the_command_that_lists_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = RouteMinutes("deploy", [9], 0, RouteTimes(attempts=9, failed=9, categories={"exit": 9}))
    well = RouteMinutes("fix", [9], 0, RouteTimes(attempts=9, completed=9))
    said, code = say(monkeypatch, RUNNING, routes=[well, bad])
    words = "route deploy: 9 of 9 attempts of the last hour failed: exit ×9: `covenq tasks route:deploy state:failed`"
    assert f"FAILING     {words}\n" in said and "route fix" not in said and code == 0
    many = [replace(bad, name=f"r{n}") for n in range(command.FAILING_MAX + 2)]
    assert "and 2 more routes: `covenq stats`" in say(monkeypatch, RUNNING, routes=many)[0]
    held = WaitingTasks("receiver", "route deploy", 3, None, None, None, "it refuses")
    assert "FAILING" not in say(monkeypatch, replace(RUNNING, waiting=[held]), routes=[bad])[0], (
        "what waits tells of it"
    )
    stopped = replace(RUNNING, ready=False, pid=None, reasons=[NOT_RUNNING])
    assert f"FAILING     {words}\n" in say(monkeypatch, stopped, routes=[bad])[0], "by what the files say"
    held_by = replace(stopped, reasons=["process 7 has it, and no daemon answers"])
    assert "FAILING" not in say(monkeypatch, held_by, routes=CovenqError("it is not asked"))[0]
    unknown, code = say(monkeypatch, RUNNING, routes=CovenqError("it takes too long"))
    assert "FAILING     not known: it takes too long\n" in unknown and unknown.startswith("READY") and code == 0


def test_without_a_daemon_it_says_where_its_log_may_be_and_how_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = replace(RUNNING, ready=False, pid=None, reasons=[NOT_RUNNING])
    said, code = say(monkeypatch, stopped)
    assert said.startswith("NO DAEMON   ") and code == 6
    assert "`covenq serve` starts one" in said and "journalctl" in said
    silent, code = say(monkeypatch, replace(stopped, reasons=["process 7 has it, and no daemon answers"]))
    assert silent.startswith("NO ANSWER   ") and "process 7 has it" in silent and code == 6
    assert "covenq serve" not in silent


@pytest.mark.parametrize("columns", [40, 80, 100, 160])
def test_on_a_terminal_it_wraps_at_words_below_its_labels(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    pause = ActivePause("route", "fix", None, LATELY, 3, "root", REASON)
    found = replace(RUNNING, ready=False, reasons=["No."], pauses=[pause], routes=[f"route-{n}" for n in range(40)])
    said, code = say(monkeypatch, found, terminal=columns)
    assert code == 1
    assert max(map(width, said.splitlines())) <= columns
    assert f"{output.BOLD}{output.BAD}NOT READY{output.PLAIN}   nothing is received" in said
    assert f"{output.BOLD}{output.WARNING}PAUSED{output.PLAIN} " in said
    text = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert REASON in " ".join(text.split()), "and no word of it is cut"
    assert all(line.startswith(" " * 12) for line in text.splitlines() if "route-39" in line)


def test_json_is_printed_all_the_same_and_the_code_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = replace(RUNNING, ready=False, pid=None, reasons=[NOT_RUNNING])
    said, code = say(monkeypatch, stopped, json=True)
    assert code == 6 and json.loads(said)["data"] == "/var/lib/covenq"
    assert say(monkeypatch, stopped, json=True, exit_zero=True) == (said, 0)
    assert say(monkeypatch, stopped, exit_zero=True)[1] == 0
