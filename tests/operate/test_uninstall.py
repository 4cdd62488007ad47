"""What becomes of an uninstalled installation: the rule as a table, what is erased and what stays, and the same end if killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from covenq.config.retention import KEEP
from covenq.errors import GithubRefused, NotFound, Refused
from covenq.model import task_subject
from covenq.model.uninstall_text import uninstall_text
from covenq.operate.maintain import uninstall
from covenq.operate.maintain.keep import keep
from covenq.operate.maintain.uninstall_work import ASK_FIRST_S, ASK_MAX_S
from covenq.operate.parameters import Keep
from covenq.tasks.execution import running
from journal.records import Entry
from tests.support.checkout import ROOT
from tests.support.records import moved, note, of
from tests.support.uninstalling import GONE, GRACE_S, OTHER, POLICY, delivery, fill, lifecycle, opened

EARLIER = "2020-01-01T00:00:00.000000Z"
ERASED = ["noticed", "begun", "done"]
TWIN = {"twin": "another-guid"}


@pytest.mark.parametrize(
    ("deletion", "later", "kinds"),
    [
        # what starts it
        (lifecycle("x"), [], ERASED),
        ([*lifecycle("x"), note("repeated", "x", received=3)], [], ERASED),
        (lifecycle("x", "suspend"), [], []),
        (lifecycle("x", "removed", event="installation_repositories"), [], []),
        (lifecycle("x", source="import"), [], []),
        (lifecycle("x", source="import", secret=None), [], []),
        (lifecycle("x", source="import", origin={"delivered_at": EARLIER}), [], []),
        (lifecycle("x", source="send"), [], []),
        (lifecycle("x", secret=None), [], []),
        (lifecycle("x", **TWIN), [], []),
        # what of it came later, where no App is configured
        (lifecycle("x"), lifecycle("y", "created"), ["noticed", "kept"]),
        (lifecycle("x"), lifecycle("y", "new_permissions_accepted"), ["noticed", "kept"]),
        (lifecycle("x"), lifecycle("y", "unsuspend"), ["noticed", "kept"]),
        (lifecycle("x"), delivery("y"), ["noticed", "kept"]),
        (lifecycle("x"), lifecycle("y", "created", OTHER), ERASED),
        (lifecycle("x"), lifecycle("y", "created", **TWIN), ERASED),
        (lifecycle("x"), lifecycle("y", "created", source="import", origin={"delivered_at": EARLIER}), ERASED),
    ],
    ids="""deleted repeated suspend repositories imported imported-unsigned recovered sent unsigned twin created accepted
    unsuspend any-delivery of-another twin-of-a-grant grant-sent-before""".split(),
)  # fmt: skip
def test_what_erases(data: Path, deletion: list[Entry], later: list[Entry], kinds: list[str]) -> None:
    with opened(data) as place:
        place.add(delivery("of-it"), delivery("other", OTHER), deletion, later)
        place.rounds()
        assert place.kinds() == kinds
        assert ("of-it" in place.with_content()) is (kinds != ERASED) and "other" in place.with_content()


def test_nothing_is_erased_before_the_grace_is_over_and_nothing_twice(data: Path) -> None:
    with opened(data) as place:
        place.add(delivery("of-it"), lifecycle("x"))
        place.round()
        place.round(GRACE_S - 60)
        assert place.kinds() == ["noticed"] and len(place.with_content()) == 2
        place.rounds(61)
        assert place.kinds() == ERASED and not place.with_content()
        place.add(delivery("after-it"))  # the boundary is before it
        place.rounds(10 * GRACE_S)
        assert place.kinds() == ERASED and place.with_content() == {"after-it"}


def test_what_comes_while_it_is_erased_is_not_touched(data: Path) -> None:
    """Nothing after the boundary is: neither what came since it was begun, nor a task of that."""
    with opened(data) as place:
        place.add(delivery("of-it"), lifecycle("x"))
        place.round()
        place.round(GRACE_S)
        assert place.kinds() == ["noticed", "begun"]
        place.add(delivery("since"))
        place.rounds()
        assert place.kinds() == ERASED and place.with_content() == {"since"}
        tasks = place.store.reader().execute("SELECT guid, state FROM tasks").fetchall()
        assert {row["guid"]: row["state"] for row in tasks} == {"of-it": "cancelled", "since": "queued"}


def says(status: int) -> Callable[[int, int | None], bool]:
    def ask(installation: int, app: int | None) -> bool:
        assert (installation, app) == (GONE, 2), "the App is read out of the signed body"
        if status not in (200, 404):
            raise GithubRefused(f"GitHub answered {status}")
        return status == 200

    return ask


@pytest.mark.parametrize("later", [[], lifecycle("y", "created")], ids=["", "a-grant-is-held"])
@pytest.mark.parametrize("status", [404, 200, 401, 403, 500])
def test_with_an_app_github_decides(data: Path, status: int, later: list[Entry]) -> None:
    with opened(data, is_installed=says(status)) as place:
        place.add(delivery("of-it"), lifecycle("x"), later)
        place.rounds()
        if status == 404:
            assert place.kinds() == ERASED and place.journal.get(place.newest().seq)
            begun = next(one for one in place.journal.read(0) if one.kind == "uninstall.begun")
            assert begun.data["shown_by"] == "github" and not place.with_content()
            return
        assert place.kinds() == ["noticed"] and "of-it" in place.with_content()
        why = "it is installed" if status == 200 else str(status)
        assert why in place.work.waits()[GONE]
        shown = uninstall.shown(place.store.reader(), POLICY, place.work.waits())
        assert why in uninstall_text(shown[0], place.context().clock())
        place.is_installed = says(404)
        place.rounds(ASK_FIRST_S)
        assert place.kinds() == ERASED and not place.work.waits()


def test_github_is_asked_again_ever_more_seldom(data: Path) -> None:
    asked: list[float] = []

    def ask(installation: int, app: int | None) -> bool:
        asked.append(place.later_s)
        raise GithubRefused("no")

    with opened(data, is_installed=ask) as place:
        place.add(lifecycle("x"))
        place.round()
        place.round(GRACE_S)
        for _ in range(900):
            place.round(ASK_FIRST_S)
        gaps = [b - a for a, b in pairwise(asked)]
        assert gaps == sorted(gaps) and gaps[0] == ASK_FIRST_S and gaps[-1] == ASK_MAX_S


def test_only_with_erase_and_with_the_whole_grace_after_that_is_switched_on(data: Path) -> None:
    with opened(data, policy=replace(POLICY, on_uninstall=KEEP)) as place:
        place.add(delivery("of-it"), delivery("other", OTHER), lifecycle("x"))
        place.rounds(10 * GRACE_S)
        assert not place.kinds() and not uninstall.shown(place.store.reader(), place.policy, {})
        place.policy, place.later_s = POLICY, 0.0
        place.round()
        assert place.kinds() == ["noticed"], "it has the grace before it, however old it is"
        place.policy = replace(POLICY, on_uninstall=KEEP)
        place.rounds()
        assert place.kinds() == ["noticed", "kept"]
        place.policy = POLICY
        place.round()
        assert place.kinds() == ["noticed", "kept", "noticed"] and len(place.with_content()) == 3
        place.rounds()
        assert place.kinds() == ["noticed", "kept", *ERASED] and place.with_content() == {"other"}


def test_what_was_begun_is_ended_whatever_the_configuration_says(data: Path) -> None:
    with opened(data) as place:
        place.add(delivery("of-it"), lifecycle("x"))
        place.round()
        place.round(GRACE_S)
        place.policy = replace(POLICY, on_uninstall=KEEP)
        place.round()
        assert place.kinds() == ERASED and not place.with_content()


def test_that_installation_s_alone_and_ids_stay(data: Path) -> None:
    """Others have the same repository, by number and name, as one that was transferred has."""
    with opened(data) as place:
        fill(place.journal)
        place.add(lifecycle("x"))
        place.rounds()
        assert (
            all(guid.startswith((str(OTHER), "None")) for guid in place.with_content())
            and len(place.with_content()) == 12
        )
        states = {
            row["guid"]: row["state"]
            for row in place.store.reader().execute("SELECT guid, state FROM tasks WHERE installation = ?", (GONE,))
        }
        assert set(states.values()) == {"cancelled"} and len(states) == 4
        others = place.store.reader().execute(
            "SELECT count(*) FROM tasks WHERE installation IS NOT 9001 AND state = 'cancelled'"
        )
        assert others.fetchone()[0] == 0
        again = place.journal.append(delivery(f"{GONE}-0"))
        assert type(again).__name__ == "Conflict", "its id is known for good"


def test_a_command_that_still_ends_is_waited_for(data: Path) -> None:
    with opened(data) as place:
        place.add(delivery("of-it"), [moved("claimed", of("of-it"), attempt=1, worker="w", fence="f")], lifecycle("x"))
        running.note(data, of("of-it"), 1, "f")
        running.note(data, of("other"), 1, "f")
        place.rounds()
        assert place.kinds() == ["noticed", "begun"] and "of-it" in place.with_content()
        newest = place.journal.last(task_subject(of("of-it")))
        assert newest is not None and newest.kind == "task.cancelled", "but it was told to end"
        running.remove(data, of("of-it"), 1)
        place.rounds()
        assert place.kinds() == ERASED and not place.with_content()


def test_an_operator_keeps_it_or_is_told_why_not(data: Path) -> None:
    with opened(data) as place:

        def act(installation: int = GONE, **options: Any) -> Any:
            place.store.catch_up()
            return keep(place.journal, place.store.reader, place.policy, Keep(installation=installation, **options))

        place.add(delivery("of-it"), lifecycle("x"))
        with pytest.raises(NotFound):
            act()
        place.round()
        with pytest.raises(NotFound):
            act(OTHER)
        assert act(dry_run=True).dry_run and place.kinds() == ["noticed"]
        assert not act(by="mona", reason="they come back").dry_run
        assert place.newest().data == {
            "installation": GONE,
            "deletion": 3,
            "policy": False,
            "by": "mona",
            "reason": "they come back",
        }
        place.rounds()
        assert place.kinds() == ["noticed", "kept"] and "of-it" in place.with_content()
        with pytest.raises(NotFound):
            act()
        place.add(lifecycle("z"))  # installed again, under the same number, and uninstalled
        place.round()
        place.round(GRACE_S)
        place.store.catch_up()
        assert place.kinds()[-1] == "begun"
        with pytest.raises(Refused, match="is being erased"):
            act()
        place.round()
        with pytest.raises(Refused, match="was erased"):
            act()
        assert place.kinds() == ["noticed", "kept", *ERASED]


def test_of_an_operator_and_the_daemon_one_is_first(data: Path) -> None:
    """Each has read the same rows: what is appended second is refused."""
    with opened(data) as place:
        place.add(delivery("of-it"), lifecycle("x"))
        place.round()
        place.store.catch_up()
        (one,) = uninstall.pending(place.store.reader(), POLICY)
        place.add([uninstall.kept(one, "mona", None)])
        assert type(place.journal.append([uninstall.begun(one, 4, "github")])).__name__ == "Conflict"
        place.rounds()
        assert place.kinds() == ["noticed", "kept"] and "of-it" in place.with_content()


def test_a_forged_or_foreign_record_moves_nothing(data: Path) -> None:
    """A record that fits no row changes none: it names another deletion, lacks a boundary, or has no numbers."""
    with opened(data) as place:
        place.add(delivery("of-it"), lifecycle("x"))
        place.round()
        for kind, told in (
            ("uninstall.begun", {"installation": GONE, "deletion": 3, "boundary": None}),
            ("uninstall.begun", {"installation": GONE, "deletion": 99, "boundary": 9}),
            ("uninstall.done", {"installation": GONE, "deletion": 3}),
            ("uninstall.kept", {"installation": "9001", "deletion": 3}),
            ("uninstall.other", {"installation": GONE, "deletion": 3}),
        ):
            place.add([Entry(f"ops.uninstall_{GONE}", kind, told)])
        rows = place.store.reader().execute("SELECT state, boundary FROM uninstalls").fetchall()
        assert [tuple(row) for row in rows] == [("waiting", None)]


def test_a_deletion_is_noticed_where_a_salvage_lost_an_earlier_record(data: Path) -> None:
    with opened(data) as place:
        lost = {"installation": GONE, "deletion": 1, "policy": False}
        place.add([Entry(f"ops.uninstall_{GONE}", "uninstall.kept", lost)], delivery("of-it"), lifecycle("x"))
        place.rounds()
        assert place.kinds() == ["kept", *ERASED] and not place.with_content()


def _killed(tmp_path: Path, seed: int, points: int) -> Sequence[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.support.uninstalling", str(tmp_path), str(seed), str(points)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.files("calls of the disk are counted")
@pytest.mark.parametrize(
    ("seed", "points"), [(1, 30), *(pytest.param(seed, 100, marks=pytest.mark.deep) for seed in range(2, 6))]
)
def test_killed_at_any_point_it_has_the_same_end(tmp_path: Path, seed: int, points: int) -> None:
    """SIGKILL in the middle of writes, syncs, renames, between steps and rounds, some of them twice; then a start."""
    whole, *killed = _killed(tmp_path, seed, points)
    assert whole["kinds"] == ERASED and whole["done"] == {"deliveries": 7, "tasks": 4}
    assert len(whole["held"]) == 12 and not whole["left"] and not whole["repeated"] and not whole["erasing"]
    assert len(whole["redacted"]) == 7 and len(whole["cancelled"]) == 4 and len(whole["files"]) == 1
    assert len(killed) == points and any(one["again"] for one in killed)
    for one in killed:
        assert {name: one[name] for name in whole if name not in ("point", "calls")} == {
            name: whole[name] for name in whole if name not in ("point", "calls")
        }, one["point"]
