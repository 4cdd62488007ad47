"""The tests' own tools: a helper that can't fail proves nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from journal.records import Entry
from tests.support import chosen_engine
from tests.support.checkout import clean_env
from tests.support.commands import run_command
from tests.support.daemon import Daemon
from tests.support.forking import ForkedDaemon
from tests.support.journal_json import journal_lines, payload_of
from tests.support.journals.chosen import open_chosen
from tests.support.journals.making import fill
from tests.support.requests import sign
from tests.support.waiting import eventually


def test_sign_agrees_with_the_vector_github_documents() -> None:
    # docs.github.com, "Validating webhook deliveries", testing the webhook payload validation
    expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert sign(b"Hello, World!", "It's a Secret to Everybody") == expected


def test_eventually_gives_the_value_or_says_what_did_not_come() -> None:
    values = iter([0, None, 3])
    assert eventually(lambda: next(values), 5) == 3
    with pytest.raises(AssertionError, match="the moon"):
        eventually(lambda: False, 0.01, "the moon")


def test_eventually_takes_a_failed_assertion_as_not_yet_and_keeps_it_as_the_cause() -> None:
    def never() -> bool:
        raise AssertionError("still two of three")

    with pytest.raises(AssertionError) as caught:
        eventually(never, 0.01, "all three")
    assert "still two of three" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (b"", None),
        (b',"payload":{"a": 1}', b'{"a": 1}'),
        (b',"about":{"x":"}"},"payload":{"a": 1}', b'{"a": 1}'),
        (b',"body":"a=\\u0001"', b"a=\x01"),
        (b',"body64":"/w=="', b"\xff"),
    ],
)
def test_payload_of_cuts_the_received_bytes_from_a_line(rest: bytes, expected: bytes | None) -> None:
    line = b'{"seq":1,"payload_bytes":' + json.dumps(len(expected or b"")).encode() + b',"sum":"00"' + rest + b"}"
    assert payload_of(line) == expected


@pytest.mark.postgres
def test_the_lines_of_tables_are_those_of_a_file(tmp_path: Path) -> None:
    kept: list[list[bytes]] = []
    for engine in chosen_engine.ENGINES:
        chosen_engine.choose(engine)
        try:
            with open_chosen(tmp_path) as journal:
                fill(journal)
                drops = {"drops": [[3, 3], [9, 9]]}
                journal.erase([Entry("ops.retention", "journal.dropped", {**drops, "about": False})])
            found = [line for line in journal_lines(tmp_path) if b'"subject"' in line and b"journal.synced" not in line]
            kept.append([line.partition(b',"sum":"')[2][65:] for line in found])
        finally:
            chosen_engine.give_back(tmp_path)
            chosen_engine.choose(chosen_engine.FILE)
    assert kept[0] == kept[1] and len(kept[0]) > 20


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--version"], b""),
        (["tasks"], b""),
        (["nothing"], b""),
        (["routes", "test", "-"], b"{}"),
        (["show", "-"], b""),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_a_forked_command_does_and_says_what_one_that_is_started_does(
    words: list[str], said: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    env = clean_env(COVENQ_DATA=str(tmp_path / "data"))
    argv = [sys.executable, "-m", "covenq", *words]
    started = subprocess.run(argv, env=env, input=said, capture_output=True, check=False)
    forked = run_command(words, env, said)
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)


def test_a_forked_daemon_says_and_does_what_one_that_is_started_does(
    make_daemon: Callable[..., Daemon], data: Path
) -> None:
    said = []
    for number, forked in enumerate((True, False)):
        daemon = make_daemon(data=data.with_name(f"data-{number}"), forked=forked)
        assert isinstance(daemon.process, ForkedDaemon) == forked
        assert daemon.api("/api/v1/status").json["pid"] == daemon.pid
        assert os.getsid(daemon.pid) == daemon.pid and daemon.post("ping", {}).status == 200
        daemon.wait_told("covenq init --data ")  # its last line
        assert daemon.stop() == 0
        said.append(re.sub(r"[0-9]+", "N", daemon.log.read_text()))
        daemon.start().kill()
        assert daemon.process.returncode == -signal.SIGKILL
    assert said[0] == said[1]


def test_a_daemon_is_ended_and_waited_for_by_any_threads_while_a_command_runs(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = make_daemon()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ended: list[int] = []

    def end() -> None:
        with pipe.open("w"):  # when the command reads it, which goes on until all of these have closed it
            daemon.kill()
            ended.append(daemon.process.wait(30))

    threads = [threading.Thread(target=end) for _ in range(4)]
    for one in threads:
        one.start()
    done = run_command(["routes", "check", "--config", str(pipe)], daemon.environment(), timeout=60)
    for one in threads:
        one.join(60)
    assert (done.returncode, ended) == (0, [-signal.SIGKILL] * 4), done.stderr


def test_a_command_that_hangs_is_ended_and_told(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_command(["tail", "--follow"], clean_env(COVENQ_DATA=str(tmp_path / "data")), timeout=1)


def test_a_command_of_another_thread_or_interpreter_waits_for_no_other() -> None:
    told: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: told.append(run_command(["--version"], clean_env()).stdout)) for _ in range(2)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    told.append(run_command(["--version"], clean_env(PYTHONUTF8="1")).stdout)
    assert len(set(told)) == 1 and told[0].startswith(b"covenq ")
