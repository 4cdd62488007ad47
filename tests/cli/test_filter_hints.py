"""A mistyped value of a filter is told of on stderr, with the one that was probably meant; what is printed stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from covenq.cli.filter_hints import HINTS_MAX, say_unknown_to_routes, say_unknown_values
from covenq.client.mistyped import unknown_words
from covenq.filter.grammar import parse
from covenq.filter.literals import literals
from tests.support.daemon import Daemon
from tests.support.requests import issue

HELD = {"event:issues", "event:brand_new", "route:gone", "reason:asked-for", 'reason:"two words"'}


class Stub:
    """A source that holds one of each of HELD, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def _listing(self, words: Sequence[str], *, limit: int) -> Any:
        assert limit == 1
        self.asked += words
        return SimpleNamespace(items=[one for one in words if one in HELD])

    deliveries = tasks = _listing

    def status(self) -> Any:
        return SimpleNamespace(routes=["fix", "ci-results"])


def hints(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    opened: Any = Stub()
    say_unknown_values(opened, words, "tasks")
    said = capsys.readouterr()
    assert said.out == ""
    return said.err.splitlines()


@pytest.mark.parametrize(
    ("term", "hint"),
    [
        ("event:isues", "no event is called `isues`; did you mean issues?"),
        ("-event:isues", "no event is called `isues`; did you mean issues?"),
        ("event:issues,Pull-Request", "no event is called `Pull-Request`; did you mean pull_request?"),
        ("event:zzz", "no event is called `zzz`: nothing here has it, and it is none that is known."),
        ("route:fx", "no route is called `fx`; did you mean fix?"),
        ("route:deploy", "no route is called `deploy`: there are ci-results, fix."),
        ("source:htp", "no source is called `htp`; did you mean http?"),
        ("source:webhook", "no source is called `webhook`: there are http, import, send."),
        ("kind:exec", "no kind is called `exec`: there are act, forward, pull, run."),
        ("reason:no-match", "no reason is called `no-match`; did you mean no_match?"),
        ("reason:timeuot", "no reason is called `timeuot`; did you mean timeout?"),
        ("event:\x1b[2Jx", "no event is called `\\x1b[2Jx`: nothing here has it, and it is none that is known."),
    ],
)
def test_a_value_that_nothing_has_is_told_of(capsys: pytest.CaptureFixture[str], term: str, hint: str) -> None:
    assert hints(capsys, term) == [f"hint: {hint}"]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["event:issues,push", "route:fix", "source:http", "reason:held,timeout,newer,no_match", "kind:run"],
        ["event:brand_new", "route:gone", "reason:asked-for", 'reason:"two words"'],
        ["event:isu*", "route:*", "repo:octo/nothing", "isues", "payload.action:opned", "number:7", "since:1h"],
    ],
)
def test_nothing_is_said_of_what_is_known_or_held_or_can_be_anything(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert hints(capsys, *words) == []


def test_what_is_known_costs_no_question(capsys: pytest.CaptureFixture[str]) -> None:
    opened: Any = Stub()
    say_unknown_values(opened, ["event:issues", "event:isues", "-event:isues"], "deliveries")
    assert opened.asked == ["event:isues"]


def test_many_are_not_all_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(hints(capsys, "event:" + ",".join(f"none{number}" for number in range(50)))) == HINTS_MAX


def test_before_anything_is_held_the_configuration_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    say_unknown_to_routes(["route:fx", "event:push"], ["fix"])
    assert capsys.readouterr().err == "hint: no route is called `fx`; did you mean fix?\n"
    assert unknown_words("route", "fx", []) == "no route is called `fx`: there is none."


def test_values_are_those_without_a_star() -> None:
    found = literals(parse("event:a,b* -route:c not:source:d word repo:e/f payload.x:g number:1"))
    assert list(found) == [("event", "a"), ("route", "c"), ("source", "d"), ("repo", "e/f")]


def test_the_commands_say_it_and_print_what_they_did(make_daemon: Any) -> None:
    daemon: Daemon = make_daemon('[[route]]\nname = "fix"\nmatch = "event:issues"\nrun = ["true"]\n')
    assert daemon.post("issues", issue()).status == 202
    daemon.wait_all_done()
    hint = b"hint: no event is called `isues`; did you mean issues?\n"
    for args in (
        ["deliveries", "event:isues"],
        ["tasks", "event:isues"],
        ["stats", "event:isues"],
        ["tail", "event:isues"],
        ["export", "event:isues"],
        ["replay", "event:isues", "--yes"],
        ["requeue", "event:isues", "--yes"],
        ["redact", "event:isues", "--dry-run"],
    ):
        done = daemon.cli(*args)
        assert hint in done.stderr, args
        assert hint not in daemon.cli(*[one.replace("isues", "issues") for one in args], exit_code=None).stderr
    assert daemon.cli_json("tasks", "event:isues") == {"items": [], "next": None}
    found = daemon.cli("deliveries", "event:isues,issues", "--jsonl")
    assert len(found.stdout.splitlines()) == 1 and hint in found.stderr
    assert b"did you mean fix?" in daemon.cli("tasks", "route:fxi").stderr
