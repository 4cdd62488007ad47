"""Suggested commands have the options by which the command that suggests them was told where to look."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from covenq.cli.app import COMMANDS, build
from covenq.cli.commands.ledger import _sums
from covenq.cli.listening import Listening
from covenq.cli.output import say
from covenq.cli.reconcile_report import ExpectedHolds, report
from covenq.client.suggestion import ANYWHERE, LOCAL, options_given, suggested, with_suggestions
from covenq.config.load import load
from covenq.model.status import Missing, ReconcileStatus
from covenq.reconcile.result import Row
from tests.support.daemon import Daemon

PLACE = {"data": "/d d", "config": None, "url": None, "token_file": None}


def test_which_command_takes_which_options_is_as_their_signatures_have_it() -> None:
    local, anywhere = set(), set()
    for name in COMMANDS:
        command = build(name)
        for sub, one in (getattr(command, "commands", None) or {"": command}).items():
            names = {param.name for param in one.params}
            if {"data", "config"} <= names:
                if "token_file" in names:
                    anywhere.add(name)
                else:
                    local.add(f"{name} {sub}" if name == "secrets" else name)
    assert (local, anywhere) == (LOCAL, ANYWHERE)


@pytest.mark.parametrize(
    ("place", "command", "expected"),
    [
        (PLACE, "covenq requeue t1", "covenq requeue t1 --data '/d d'"),
        ({**PLACE, "config": "c"}, "covenq serve", "covenq serve --data '/d d' --config c"),
        ({**PLACE, "config": "c"}, "covenq doctor --config other", "covenq doctor --config other --data '/d d'"),
        (PLACE, "covenq worker --route r -- CMD x", "covenq worker --route r --data '/d d' -- CMD x"),
        (PLACE, "covenq phase built", "covenq phase built"),
        (PLACE, "covenq was stopping", "covenq was stopping"),
        (PLACE, "covenq", "covenq"),
        (
            {"url": "http://h", "token_file": "t", "data": None, "config": None},
            "covenq why g",
            "covenq why g --url http://h --token-file t",
        ),
        ({"url": "http://h", "token_file": None, "data": None, "config": None}, "covenq verify", "covenq verify"),
        ({"url": "http://h/webhook", "data": "d", "config": None}, "covenq why g", "covenq why g --data d"),
        ({"data": None, "config": None}, "covenq why g", "covenq why g"),
    ],
)
def test_a_command_gets_what_it_takes(place: dict[str, str | None], command: str, expected: str) -> None:
    with options_given(place):
        assert suggested(command) == expected
    assert suggested(command) == command


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Look at `covenq status`.", "Look at `covenq status --data d`."),
        ("covenq verify", "covenq verify --data d"),
        ("1 delivery is missing: covenq reconcile", "1 delivery is missing: covenq reconcile --data d"),
        ("covenq was stopping. Redeliver it.", "covenq was stopping. Redeliver it."),
        ("its log says where covenq serve runs", "its log says where covenq serve runs"),
    ],
)
def test_words_get_it_where_a_command_stands_in_them(words: str, expected: str) -> None:
    with options_given({"data": "d"}):
        assert with_suggestions(words) == expected
    assert with_suggestions(words) == words


def test_what_ledger_reconcile_and_listen_say_has_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = Missing(2, "2026-11-30T02:00:00.000000Z", "2026-11-30T03:00:00.000000Z", "2026-12-03T02:00:00.000000Z")
    passes = ReconcileStatus(None, [], missing=missing)
    row = Row("app", None, "g", "push", None, None, None, missing.since, 1, "1", 502, "missing")
    with options_given({**PLACE, "data": "d"}):
        for words in _sums([], passes, 0.0):
            say(words)
        report([row], [], False, "covenq reconcile event:push", ExpectedHolds(0, 0))
        Listening(tmp_path, load(None, {}), []).finish()
    said = capsys.readouterr().err
    assert ": covenq reconcile --data d\n" in said
    assert "`covenq reconcile event:push --data d` fetches" in said
    assert "`covenq listen --data d` goes on from here" in said


def test_hints_and_findings_and_what_is_told_have_it(tmp_path: Path) -> None:
    data, config = tmp_path / "data", tmp_path / "covenq.toml"
    config.write_text("")
    data.mkdir(mode=0o700)
    daemon = Daemon(data=data, config=config)
    place = f"--data {shlex.quote(str(data))}"

    def said(*args: str) -> str:
        return daemon.cli(*args, "--data", str(data), exit_code=None).stderr.decode()

    assert f"`covenq refused {place}`" in said("why", "nobody-knows-it")
    assert f"`covenq deliveries {place}`" in said("show", "nobody-knows-it")
    doctor = daemon.cli("doctor", "--data", str(data), exit_code=1).stdout.decode()
    assert f"next: covenq serve {place}\n" in doctor
    status = daemon.cli("status", "--data", str(data), exit_code=None).stdout.decode()
    assert f"`covenq serve {place}` starts one. `covenq doctor {place}` says what to do." in status
    assert "--data" not in daemon.cli("why", "nobody-knows-it", exit_code=3).stderr.decode(), (
        "the environment is theirs, too"
    )
