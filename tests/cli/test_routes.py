"""covenq routes: rules listed, checked, tried on a payload, and two sets of them held against what really came."""

from __future__ import annotations

import json
import sqlite3
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from msgspec.structs import replace

from covenq.cli.commands import routes as commands
from covenq.cli.context import Location
from covenq.config.load import build
from covenq.errors import DaemonUnreachable
from covenq.model.rows import Delivery
from covenq.routing.diff import ERASED, Diff, PayloadLost
from covenq.state.tables import DELIVERIES
from journal.errors import JournalClosed
from tests.support.answers import blank
from tests.support.daemon import Daemon
from tests.support.journals.chosen import open_chosen
from tests.support.records import note, queued, received
from tests.support.requests import issue

OLD = """
[[route]]
name = "fix"
match = "event:issues label:bug"
run = ["true"]

[[route]]
name = "watch"
match = "event:push"
run = ["true"]
"""
NEW = """
[[route]]
name = "fix"
match = "event:issues payload.issue.title:urgent*"
run = ["true"]
timeout = "1m"

[[route]]
name = "stars"
match = "event:star"
run = ["/no/such/command"]

[[route]]
name = "stars-too"
match = "event:star"
run = ["true"]
"""


@pytest.fixture(scope="module")
def daemon(journal_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("routes")
    data = directory / "data"
    data.mkdir(mode=0o700)
    (directory / "old.toml").write_text(OLD)
    (directory / "new.toml").write_text(NEW)
    with open_chosen(data) as journal:
        for n in range(8):
            title = "urgent: it breaks" if n < 2 else "it breaks"
            body = json.dumps({"action": "opened", "issue": {"number": n, "title": title}}).encode()
            journal.append([received(f"i{n}", payload=body, about={"number": n}), queued(f"i{n}")])
        for n in range(7):
            journal.append([received(f"s{n}", event="star", action="created", about={"number": None})])
            journal.append([note("ignored", f"s{n}", reason="no_match", detail="-")])
        journal.append([received("p", event="push", action=None, about={"number": None}), queued("p", route="watch")])
        journal.append([received("ping", event="ping", action=None)])
    yield Daemon(data=data, config=directory / "old.toml")


def new(daemon: Daemon) -> str:
    assert daemon.config is not None
    return str(daemon.config.with_name("new.toml"))


def test_a_diff_counts_what_would_be_otherwise_and_names_a_few(daemon: Daemon) -> None:
    found = daemon.cli_json("routes", "diff", "--config", new(daemon), "--since", "7d")
    assert found["gained"] == {"stars": 7, "stars-too": 7}
    assert found["lost"] == {"fix": 6, "watch": 1}
    assert {name: found[name] for name in ("deliveries", "same", "changed", "untold", "newly_taken", "newly_ignored")} == {
        "deliveries": 17, "same": 3, "changed": 14, "untold": 0, "newly_taken": 7, "newly_ignored": 7
    }  # fmt: skip
    assert found["policies"] == ["fix"]
    assert len(found["examples"]["+ stars"]) == 5
    assert found["examples"]["- watch"][0]["id"] == "9/p"
    only = daemon.cli_json("routes", "diff", "--config", new(daemon), "event:push", "-number:7")
    assert (only["deliveries"], only["lost"]) == (1, {"watch": 1})
    said = daemon.cli("routes", "diff", "--config", new(daemon))
    assert b"+ stars: 7 tasks more\n    9/s6  star.created  octo/hello\n" in said.stdout
    assert b"- watch: 1 task fewer\n" in said.stdout
    assert b"~ fix: its tasks would be run otherwise" in said.stdout
    assert b"17 deliveries: 3 the same, 14 otherwise" in said.stderr


def test_the_rules_in_use_are_held_against_what_was_decided(daemon: Daemon) -> None:
    found = daemon.cli_json("routes", "diff", "--config", str(daemon.config))
    assert (found["deliveries"], found["same"], found["policies"]) == (17, 17, [])


def test_a_decision_that_would_be_another_today_is_named() -> None:
    rules = build({"route": [{"name": "a", "match": "repo:Octo/Hello", "run": ["x"]}]}, None, {}).routes
    row = blank(
        Delivery, hook="9", guid="g", event="push", repo="octo/hello", received_at="2027-01-15T08:00:00.000000Z"
    )
    diff = Diff(None, rules)
    diff.add(row, dict, lambda: set())
    diff.add(row, dict, lambda: {"a"})
    diff.add(row, dict, lambda: {"a", "gone"})
    diff.add(replace(row, redacted=7, repo=None), dict, lambda: {"a"})
    found = diff.report()
    assert (found.same, found.gained, found.lost, found.untold) == (1, {"a": 1}, {"gone": 1}, 1)


def test_of_what_was_erased_it_is_told_what_rules_say_that_ask_for_what_stays() -> None:
    stays = build({"route": [{"name": "a", "match": "event:push action:x,y repo_id:5", "run": ["x"]}]}, None, {}).routes
    asks = build({"route": [{"name": "a", "match": "event:push -sender:*[bot]", "run": ["x"]}]}, None, {}).routes
    row = blank(
        Delivery,
        hook="9",
        guid="g",
        event="push",
        action="x",
        repo_id=5,
        redacted=7,
        received_at="2027-01-15T08:00:00Z",
    )
    for old in (None, stays):
        diff = Diff(old, stays)
        diff.add(row, dict, lambda: {"a"})
        assert (diff.report().same, diff.report().untold) == (1, 0)
    for one, other in ((None, asks), (stays, asks), (asks, stays)):
        diff = Diff(one, other)
        diff.add(row, dict, lambda: {"a"})
        assert diff.report().untold == 1, "null is no sender that can be told from a bot"


def test_the_fields_that_an_erasure_takes_are_those_of_the_table() -> None:
    names = {"head_sha": "sha", "labels": "label", "title": "words"}
    assert {names.get(column, column) for column in DELIVERIES.erased} == ERASED


def test_rules_are_no_different_from_themselves_and_without_any_decisions_are_what_is_left(
    daemon: Daemon, tmp_path: Path
) -> None:
    same = daemon.cli_json("routes", "diff", "--config", new(daemon), "--old", new(daemon))
    assert (same["deliveries"], same["same"], same["changed"], same["against"]) == (17, 17, 0, "rules")
    alone = Daemon(data=daemon.data)
    assert daemon.config is not None
    found = alone.cli_json("routes", "diff", "--config", str(daemon.config))
    assert (found["same"], found["newly_taken"], found["against"]) == (17, 0, "decisions")
    said = alone.cli("routes", "diff", "--config", str(daemon.config)).stderr.decode()
    assert "held against what was decided when each delivery came: no configuration is in use here." in said
    none = tmp_path / "none.toml"
    none.write_text("")
    assert alone.cli_json("routes", "diff", "--config", str(daemon.config), "--old", str(none))["newly_taken"] == 9


def test_a_diff_with_nothing_is_a_mistake(daemon: Daemon) -> None:
    assert b"which is the new one?" in daemon.cli("routes", "diff", exit_code=2).stderr
    assert b"can't be read" in daemon.cli("routes", "diff", "--config", "/no/such.toml", exit_code=2).stderr


def test_what_is_gone_can_not_be_told_and_a_rule_that_fails_says_so() -> None:
    old = build({"route": [{"name": "a", "match": "event:issues", "run": ["x"]}]}, None, {}).routes
    by_payload = build({"route": [{"name": "a", "match": "event:issues payload.a:1", "run": ["x"]}]}, None, {}).routes
    row = blank(Delivery, hook="9", guid="g", event="issues", received_at="2027-01-15T08:00:00.000000Z")
    diff = Diff(old, by_payload)

    def gone() -> object:
        raise PayloadLost

    def broken() -> object:
        raise RecursionError

    diff.add(row, gone)
    diff.add(replace(row, event="push"), gone)  # no rule asks: an earlier term says no
    diff.add(row, broken)
    found = diff.report()
    assert (found.untold, found.same, found.fails, found.lost) == (1, 1, {"a": 1}, {"a": 1})


def test_a_payload_is_tried_without_being_recorded(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "payload.json"
    path.write_text(json.dumps(issue(7)))
    before = len(daemon.records())
    found = daemon.cli_json("routes", "test", "--event", "issues", "-f", str(path))
    assert (found["matching"], found["state"], found["columns"]["number"]) == (["fix"], "queued", 7)
    assert [route["matches"] for route in found["routes"]] == [True, False]
    said = daemon.cli("routes", "test", "--event", "push", input=path.read_bytes())
    assert said.stdout.decode() == (
        "fix  doesn't match: event:issues is not so: it is push\nwatch  matches: event:push\n"
    )
    assert daemon.cli("routes", "test", "--event", "ping", input=b"{}").stderr == b"It would be ignored.\n"
    assert len(daemon.records()) == before


@pytest.mark.parametrize(("expected", "code"), [("fix", 0), ("fix,watch", 1), ("none", 1)])
def test_what_is_expected_of_a_payload_decides_the_exit_code(daemon: Daemon, expected: str, code: int) -> None:
    daemon.cli(
        "routes", "test", "--event", "issues", "--expect", expected, input=json.dumps(issue(7)).encode(), exit_code=code
    )


def test_an_expected_route_that_there_is_not_is_named(daemon: Daemon) -> None:
    words = ("routes", "test", "--event", "push", "--expect", "wach")
    said = daemon.cli(*words, input=b"{}", exit_code=1).stderr.decode()
    assert "There is no route wach." in said and "expected wach, and it is watch" in said


def test_what_is_no_payload_is_said_so(daemon: Daemon) -> None:
    for body in (b"[1]", b"\xff"):
        assert b"is no JSON object" in daemon.cli("routes", "test", "--event", "x", input=body, exit_code=2).stderr
    for nothing in (b"", b"\n"):
        told = daemon.cli("routes", "test", "--event", "x", input=nothing, exit_code=2).stderr
        assert told == b"covenq: no payload came on stdin\nhint: Give --file PATH, or send it on stdin.\n"
    assert b"can't be read" in daemon.cli("routes", "test", "--event", "x", "-f", "/no/such", exit_code=2).stderr


def test_check_and_list(daemon: Daemon) -> None:
    found = daemon.cli_json("routes", "check", "--config", new(daemon))
    assert [warning["route"] for warning in found["warnings"]] == ["stars", "stars-too"]
    assert (
        b"stars-too: it matches just what stars matches"
        in daemon.cli("routes", "check", "--config", new(daemon)).stderr
    )
    assert daemon.cli("routes", "check").stdout.decode().startswith(f"{daemon.config}: 2 routes, sha256 ")
    assert [route["name"] for route in daemon.cli_json("routes")["items"]] == ["fix", "watch"]
    assert b"event:issues label:bug" in daemon.cli("routes").stdout


NAMED = """
[[route]]
name = "docs"
match = "event:issues repo:ACME/docs"
run = ["true"]

[[route]]
name = "both"
match = "event:issues repo:acme/docs,acme/handbook"
run = ["true"]

[[route]]
name = "quiet"
match = "event:issues -repo:acme/docs,other/never"
run = ["true"]
"""


def test_check_and_doctor_name_routes_on_a_name_that_its_repository_no_longer_has(
    make_daemon: Callable[..., Daemon],
) -> None:
    def post(name: str, number: int, event: str = "issues") -> None:
        payload = issue(repo=name)
        payload["repository"]["id"] = number
        assert daemon.post(event, payload).status == 202

    def warned() -> list[tuple[str | None, str]]:
        warnings = daemon.cli_json("routes", "check")["warnings"]
        return [(one["route"], one["words"]) for one in warnings if "acme/" in one["words"]]

    def found() -> list[tuple[str, str]]:
        findings = json.loads(daemon.cli("doctor", "--json", exit_code=None).stdout)["findings"]
        return [
            (one["words"], one["next"]) for one in findings if one["level"] == "warning" and "called" in one["words"]
        ]

    daemon = make_daemon(NAMED)
    assert warned() == found() == []
    post("acme/docs", 300)
    assert warned() == found() == []
    post("acme/handbook", 300, "repository")
    words, instead = "is called acme/handbook now", "rite repo:acme/handbook, or repo_id:300"
    expected = [
        ("docs", f"docs: ACME/docs {words}: w{instead}"),
        ("quiet", f"quiet: acme/docs {words}: w{instead}"),
    ]
    assert warned() == expected
    where = daemon.cli_json("status")["config"]
    assert found() == [
        (f"route docs: ACME/docs {words}", f"W{instead} in {where}."),
        (f"route quiet: acme/docs {words}", f"W{instead} in {where}."),
    ]
    daemon.stop()
    assert warned() == expected, "by the files alone"
    daemon.start()

    post("acme/docs", 301)
    assert warned() == found() == [], "another repository has the name now"


@pytest.mark.parametrize("error", [DaemonUnreachable("it went"), JournalClosed("it went"), sqlite3.Error("it went")])
def test_check_says_that_it_could_not_look_for_renames_and_looks_only_for_names(
    data: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(commands, "source", fails)

    def warned(text: str) -> list[dict[str, str | None]]:
        config = build(tomllib.loads(text), None, {})
        return list(commands._renamed(Location(config, data), str(data), None))

    assert warned(NAMED) == [], "nothing ever came"
    data.mkdir()
    assert warned(NAMED) == [{"route": None, "words": "whether a repository was renamed can't be told: it went"}]
    assert warned(OLD) == []


FAMILIAR = """
[[route]]
name = "plain"
match = "event:push"
run = ["true"]

[[familiar]]
id = "cody"
bot_username = "coven-cody[bot]"
trigger_labels = ["coven:fix"]
run = ["/no/such/command"]
"""


def test_the_routes_of_a_familiar_are_shown_with_their_line_and_checked_as_one(tmp_path: Path) -> None:
    config = tmp_path / "covenq.toml"
    config.write_text(FAMILIAR)
    daemon = Daemon(data=tmp_path / "data", config=config)
    found = {one["name"]: one for one in json.loads(daemon.cli("routes", "--json").stdout)["items"]}
    assert (found["plain"]["line"], "trigger" in found["plain"]) == (2, False)
    fix = found["cody-fix-issue"]
    assert (fix["line"], fix["familiar"], fix["purpose"]) == (7, "cody", "fix_issue")
    assert fix["trigger"]["on"]["issues.assigned"] == "assignment"
    table = daemon.cli("routes").stdout.decode()
    assert "assigned to coven-cody[bot]; labeled coven:fix; @coven-cody fix on an issue" in table
    assert "cancels its tasks there" in table and "requeues what of its tasks there failed" in table
    warnings = json.loads(daemon.cli("routes", "check", "--json").stdout)["warnings"]
    assert [one["route"] for one in warnings] == ["cody-fix-issue"]
    assert "'/no/such/command' is no command" in warnings[0]["words"]


def test_a_command_is_tried_in_words(tmp_path: Path) -> None:
    (config := tmp_path / "covenq.toml").write_text(FAMILIAR)
    daemon = Daemon(data=tmp_path / "data", config=config)
    repository = {"id": 6, "full_name": "octo/hello"}
    comment = {"body": "@Coven-Cody fix it", "user": {"login": "mona"}, "author_association": "NONE"}
    (payload := tmp_path / "payload.json").write_text(
        json.dumps({"action": "created", "issue": {"number": 7}, "comment": comment, "repository": repository})
    )
    told = daemon.cli("routes", "test", "--event", "issue_comment", "--file", str(payload), "--expect", "none")
    words = "doesn't match: that its author is OWNER, MEMBER or COLLABORATOR of the repository is not so: it is NONE"
    assert f"cody-fix-issue  {words}" in " ".join(told.stdout.decode().split("\n    "))
