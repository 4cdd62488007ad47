"""A repository is its number: what is erased, told and paused by its name follows it through renames, not its namesakes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from covenq.config.limits import NO_CAPS
from covenq.model.rows import Repository
from covenq.operate.maintain.mentions import mentions
from covenq.state import repositories
from covenq.state.fold import fold
from covenq.tasks.scheduling.limiter import Limiter
from journal.errors import JournalDamaged
from journal.records import Damage, Entry
from tests.support.daemon import Daemon
from tests.support.records import START, as_records, empty_state, received
from tests.support.requests import HOOK, issue, new_guid

Make = Callable[..., Daemon]

ROUTE = """
[[route]]
name = "all"
match = "event:issues"
run = ["true"]
"""


def post(daemon: Daemon, number: int, name: str, repo_id: int, event: str = "issues", **more: Any) -> str:
    payload = issue(number, repo=name, **more)
    payload["repository"]["id"] = repo_id
    guid = new_guid()
    assert daemon.post(event, payload, guid).status == 202
    return f"{HOOK}/{guid}"


def after_a_rename(daemon: Daemon) -> tuple[list[str], list[str]]:
    """The deliveries of acme/old, which became acme/new, and of a younger repository that has its old name."""
    mine = [
        post(daemon, 7, "acme/old", 5501),
        post(
            daemon,
            7,
            "acme/new",
            5501,
            "repository",
            action="renamed",
            changes={"repository": {"name": {"from": "old"}}},
        ),
        post(daemon, 7, "ACME/New", 5501, action="edited"),
    ]
    return mine, [post(daemon, 7, "acme/old", 6002)]


def test_all_names_of_a_repository_are_erased_and_nothing_of_its_namesake(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    mine, theirs = after_a_rename(daemon)
    fork = post(daemon, 9, "someone/fork", 7003, "fork", forkee={"full_name": "acme/new"})
    daemon.wait_all_done()

    refused = daemon.cli("redact", "--repo", "acme/old", "--dry-run", exit_code=2).stderr.decode()
    assert "acme/old has been the name of several repositories: 6002 (acme/old); 5501 (" in refused
    assert "--repo-id 6002" in refused

    plan = daemon.cli("redact", "--repo", "acme/new", "--dry-run")
    assert plan.stdout.decode().split() == mine
    assert "ACME/New (5501), also as acme/old: 3 deliveries" in plan.stderr.decode()
    told = daemon.cli_json("redact", "--repo-id", "5501", "--dry-run")
    assert told["eligible"] == mine
    assert told["repositories"] == [{"repo_id": 5501, "names": ["ACME/New", "acme/old"], "deliveries": 3}]
    assert told["elsewhere"] == {"deliveries": 2, "examples": [*theirs, fork], "complete": True}

    done = daemon.cli_json("redact", "--repo-id", "5501", "--yes")
    assert [one["id"] for one in done["done"]] == mine
    held = [record for record in daemon.records() if record["kind"] == "delivery.received"]
    assert [bool(record.get("about")) for record in held] == [False, False, False, True, True]
    assert daemon.cli_json("show", theirs[0])["repo"] == "acme/old"
    assert daemon.cli_json("redact", "--repo-id", "5501", "--yes")["done"] == []
    assert daemon.cli_json("redact", "--repo", "acme/old", "--dry-run")["eligible"] == theirs, "only one has it now"


def test_without_numbers_a_name_is_a_name() -> None:
    conn = empty_state()
    fold(
        conn,
        as_records(
            [
                received("g1", repo_id=None, about={"repo": "acme/old"}),
                received("g2", repo_id=5, about={"repo": "Acme/Old"}),
                received("g3", repo_id=5, about={"repo": "acme/new"}),
            ]
        ),
    )
    try:
        assert repositories.named(conn, "acme/OLD") == [
            Repository(5, ["acme/new", "Acme/Old"], 2),
            Repository(None, ["acme/old"], 1),
        ]
        assert repositories.newest(conn, "ACME/old") == (5, "Acme/Old")
        assert repositories.named(conn, "no/such") == [] and repositories.newest(conn, "no/such") is None
    finally:
        conn.close()


def test_an_issue_is_told_under_all_names_of_its_repository_and_apart_from_a_namesakes(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    mine, theirs = after_a_rename(daemon)
    daemon.wait_all_done()
    new = daemon.cli_json("why", "acme/NEW#7")
    assert [story["id"] for story in new["stories"]] == mine[::-1]
    assert new["namesakes"] == []
    old = daemon.cli_json("why", "Acme/old#7")
    assert [story["id"] for story in old["stories"]] == theirs, "the one that has the name now"
    assert [one["repo_id"] for one in old["namesakes"]] == [5501]
    said = daemon.cli("why", "acme/old#7").stderr.decode()
    assert (
        "Another repository (5501, later ACME/New) had that name too: covenq deliveries repo_id:5501 number:7" in said
    )


def test_a_pause_by_name_follows_the_repository_through_a_rename() -> None:
    conn = empty_state()
    by_name = Entry("ops.pauses", "ops.paused", {"what": "repo", "name": None, "by": "me"}, {"repo": "acme/old"})
    first = received("g1", repo_id=5, about={"repo": "Acme/OLD"})
    renamed = received("g2", repo_id=5, about={"repo": "acme/new"})
    reused = received("g3", repo_id=6, about={"repo": "acme/old"})
    try:
        fold(conn, as_records([by_name]))
        assert holds(conn, 5, "acme/OLD") and holds(conn, None, "Acme/old") and not holds(conn, 5, "acme/new")
        fold(conn, as_records([by_name, first, renamed, reused])[1:])
        assert holds(conn, 5, "acme/new") and holds(conn, 5, "acme/old") and holds(conn, None, "acme/old")
        assert not holds(conn, 6, "acme/old"), "another repository has that name now"
    finally:
        conn.close()


def holds(conn: sqlite3.Connection, number: int | None, name: str) -> bool:
    """Whether a pause keeps that repository's tasks from starting."""
    return Limiter(conn, START, NO_CAPS).check_repo(number, name) is not None


def test_a_pause_by_name_outlives_the_erasure_of_what_told_its_number(make_daemon: Make) -> None:
    """The first delivery says whose the name was; without it, the pause would be of whoever has the name now."""
    daemon = make_daemon(ROUTE)
    daemon.cli("pause", "repo", "acme/old", "--reason", "it is moved")
    mine, _ = after_a_rename(daemon)
    since = daemon.cli_json("status")["pauses"][0]["since"]
    assert daemon.cli_json("redact", mine[0], "--yes")["done"]
    [pause] = daemon.cli_json("status")["pauses"]
    assert (pause["since"], pause["reason"], pause["name"]) == (since, "it is moved", "5501")
    assert daemon.cli_json("resume", "repo", "acme/new")["changed"] is True
    daemon.wait_all_done()


def test_what_has_lost_its_name_is_erased_by_its_number(make_daemon: Make) -> None:
    daemon = make_daemon(ROUTE)
    payload = issue(1)
    payload["repository"] = {"id": 5501}
    assert daemon.post("issues", payload, guid := new_guid()).status == 202
    daemon.wait_all_done()
    plan = daemon.cli("redact", "--repo-id", "5501", "--dry-run")
    assert plan.stdout.decode().split() == [f"{HOOK}/{guid}"]
    assert "a repository without a name (5501): 1 delivery" in plan.stderr.decode()
    done = daemon.cli_json("redact", "--repo-id", "5501", "--yes")
    assert [one["id"] for one in done["done"]] == [f"{HOOK}/{guid}"]


class _Reading:
    def __init__(self, entries: list[Entry]) -> None:
        self._records = as_records(entries)

    def read(self, after: int, *, payloads: bool = True) -> Any:
        return iter(self._records[after:])


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (b'{"x":"acme/old"}', True),
        (b'{"x":"https://api.github.com/repos/ACME/Old/issues"}', True),
        (b'{"x":"acme/old-name"}', False),
        (b'{"x":"macme/old"}', False),
        (b'{"x":"acme/oldest"}', False),
        (b'{"x":"acme/old.js"}', False),
        (rb'{"x":"acme\/old"}', True),
        (b'{"x":"git@github.com:acme/old.git"}', True),
        (b'{"x":"It moved to acme/old."}', True),
    ],
)
def test_a_mention_is_the_whole_name_in_any_case(payload: bytes, named: bool) -> None:
    journal: Any = _Reading([received("g1", payload=payload), received("g2", payload=payload)])
    found = mentions(journal, ["acme/old"], {"9/g1"})
    assert (found.deliveries, found.examples) == ((1, ["9/g2"]) if named else (0, []))


def test_damage_keeps_no_erasure_from_being_planned() -> None:
    """What else names the repository is then not known, and said so."""

    class Damaged(_Reading):
        def read(self, after: int, *, payloads: bool = True) -> Any:
            yield from super().read(after)
            raise JournalDamaged([Damage("flipped", "segment 2", 0, 2, None, "its sum does not match")])

    journal: Any = Damaged([received("g1", payload=b'{"x":"acme/old"}')])
    found = mentions(journal, ["acme/old"], set())
    assert (found.deliveries, found.complete) == (1, False)


def test_a_form_is_looked_through_decoded() -> None:
    headers = [["Content-Type", "application/x-www-form-urlencoded"]]
    forms = [b"payload=%7B%22x%22%3A%22acme%2Fold%22%7D", b"payload=%7B%22x%22%3A%22acme%2Folder%22%7D"]
    journal: Any = _Reading([received(f"g{n}", payload=form, headers=headers) for n, form in enumerate(forms)])
    assert mentions(journal, ["acme/old"], set()).examples == ["9/g0"]


def test_what_can_not_be_looked_through_in_time_is_said_so() -> None:
    journal: Any = _Reading([received(f"g{n}", payload=b'{"x":"acme/old"}') for n in range(9)])
    ticks = iter(range(0, 100, 5))
    found = mentions(journal, ["acme/old"], set(), lambda: float(next(ticks)))
    assert (found.complete, found.deliveries) == (False, 4)
