"""The Overview and Journal pages: as pure functions, and what their keys do over a real daemon."""

from __future__ import annotations

import asyncio
import gc
import getpass
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from textual.command import Command, CommandList, CommandPalette
from textual.widgets import Button, Input, Static

from covenq.client.suggestion import options_given
from covenq.errors import CovenqError
from covenq.model import INTAKE_PAUSED, NOT_RUNNING
from covenq.model.drift import Drift, DriftFinding
from covenq.model.notices import NotifyStatus, TargetStatus
from covenq.model.pending_status import Uninstall
from covenq.model.rows import Task
from covenq.model.status import (
    ActivePause,
    Missing,
    Overdue,
    ReconcileStatus,
    Reload,
    SecretProblem,
    StateStatus,
    Status,
    Stuck,
    UpkeepStatus,
    Verified,
)
from covenq.model.worker_status import WorkerStatus
from covenq.operate.maintain import verify_note
from covenq.tui import text
from covenq.tui.panes import alarms, empty, header, overview, pages
from covenq.tui.screens.dialogs import Confirm
from covenq.tui.screens.maintenance import BackupDialog, CompactDialog
from covenq.tui.screens.menus import Menu
from covenq.tui.screens.progress import ProgressScreen
from covenq.tui.screens.verify import VerifyScreen
from covenq.tui.widgets.lines import Line, Lines, plain
from tests.support.answers import AGO, NOW, STATUS, THROUGHPUT
from tests.support.daemon import Daemon
from tests.support.dashboard import (
    ROUTES,
    SIZES,
    dashboard,
    document,
    drawn,
    enter_filter,
    loaded,
    on,
    row_count,
    static_text,
    until,
)
from tests.support.requests import issue


def told(status: Status, width: int = 80) -> str:
    return plain(overview.overview(status, THROUGHPUT, NOW, width))


@pytest.mark.parametrize("width", [80, 160])
def test_the_overview_tells_how_fast_what_waits_who_works_and_how_the_disk_does(width: int) -> None:
    page = told(STATUS, width)
    lines = page.splitlines()
    assert max(map(len, lines)) <= width
    accepted = next(line for line in lines if "accepted" in line)
    assert "█▄▁" in accepted
    assert accepted.split()[-3:] == ["4", "8", "13"], "the last full minute, the peak, and all"
    assert re.search(r"○ queued +4  █+ +oldest 5m", page)
    assert "p50 1.2 ms, p99 4.5 ms" in page
    assert "40.0 GiB free of 100.0 GiB" in page
    assert "fold lag    none" in page
    assert "1 of 4 slots busy" in page
    assert "◐ 5m of 10m  fix  octo/hello#12  t1" in page
    assert "signature_wrong" in page
    assert len(lines) <= (36 if width == 160 else 52)


def test_the_graphs_of_a_minute_share_one_scale_which_is_said() -> None:
    page = told(STATUS, 160)
    most = max(
        max(series) for series in (THROUGHPUT.accepted, THROUGHPUT.refused, THROUGHPUT.completed, THROUGHPUT.failed)
    )
    assert f"one scale: █ is {most}" in page
    for name in ("accepted", "refused", "completed", "failed"):
        graph = next(line for line in page.splitlines() if line.startswith(f"  {name}"))
        assert ("█" in graph) == (max(getattr(THROUGHPUT, name)) == most), graph


def test_a_sparkline_has_a_cell_for_each_value() -> None:
    assert overview.sparkline([], 0) == ""
    assert overview.sparkline([0, 0], 0) == "··"
    assert overview.sparkline([0, 1, 50, 100], 100) == "·▁▄█"
    assert overview.sparkline([5], 10) == "▄"
    assert "counting" in plain(overview.overview(STATUS, None, NOW, 80))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reasons": ["The intake is paused."]}, "The intake is paused."),
        (
            {"verified": Verified(AGO, ok=False, records=1, findings=3, seq=1, seconds=1.0, first="torn \x1b at 7")},
            "damage was found 5m ago: torn ␛ at 7 and 2 more",
        ),
        ({"state": StateStatus(1, lag=3, error="no space")}, "the state lags: no space"),
        ({"state": StateStatus(1, lag=20000, error=None)}, "20,000 records behind"),
        ({"secrets": [SecretProblem("old", "it is gone")]}, "secret old: it is gone"),
        (
            {"reload": Reload(AGO, ok=False, error="line 3", hint=None, number=1, warnings=[])},
            "was refused 5m ago, and the one before stays: line 3",
        ),
        ({"worker": WorkerStatus("w", 1, running=[], error="poisoned")}, "nothing more is run: poisoned"),
        (
            {"stuck": [Stuck("t9", route="fix", repo="o/r", state="queued", since=AGO, why="w")]},
            "task t9 (fix, o/r) is queued for 5m: w",
        ),
        ({"overdue": [Overdue("fold", "the fold loop \x1b last came round")]}, "the fold loop ␛ last came round"),
        (
            {"pauses": [ActivePause("route", "fix", repo=None, since=AGO, seq=1, by="mona", reason="deploy")]},
            "route fix is paused for 5m by mona: deploy",
        ),
        ({"upkeep": UpkeepStatus(doing=None, error="no room")}, "upkeep waits: no room"),
        (
            {"uninstalls": [Uninstall(9001, "waiting", AGO, AGO, "GitHub says that it is\x1b installed")]},
            "installation 9001 uninstalled, not erased yet: GitHub says that it is␛ installed: covenq keep 9001 stops that",
        ),
        (
            {"reconcile": ReconcileStatus(300.0, [], missing=Missing(12, AGO, AGO, AGO))},
            "are missing; GitHub begins to forget them: covenq reconcile",
        ),
        (
            {
                "reconcile": ReconcileStatus(
                    300.0,
                    [],
                    drift=Drift(
                        AGO,
                        [
                            DriftFinding("inactive", "hook 7 is not\x1b active", "Tick Active."),
                            DriftFinding("unwanted", "fork", warns=False),
                        ],
                    ),
                )
            },
            "on GitHub: hook 7 is not␛ active. Tick Active.",
        ),
        (
            {
                "notify": NotifyStatus(
                    targets=[TargetStatus(to="url", owed=2, failing_since=AGO, error="it\x1b refuses")]
                )
            },
            "[notify] url: 2 notices not told for 5m: it␛ refuses",
        ),
    ],
)
def test_alarms_are_words(change: dict[str, Any], words: str) -> None:
    assert alarms.of_status(STATUS, NOW) == []
    found = alarms.of_status(replace(STATUS, **change), NOW)
    assert len(found) == 1
    assert words in found[0].words
    assert found[0].words[:20] in "".join(told(replace(STATUS, **change)).splitlines()[1:3]), (
        "it follows the first line"
    )


def test_of_much_that_drifted_some_is_told_whole() -> None:
    many = [DriftFinding("inactive", f"hook {n} is not active", "Tick Active.") for n in range(9)]
    found = alarms.of_status(replace(STATUS, reconcile=ReconcileStatus(300.0, [], drift=Drift(AGO, many))), NOW)
    words = [one.words for one in found[2:]]
    assert words == ["on GitHub: hook 2 is not active. Tick Active.", "on GitHub: 6 more: covenq doctor"]


BY = f"tui:{getpass.getuser()}"


class Files:
    """A source without a daemon."""

    live = False
    where = "/var/lib/covenq"


def bar_alarms(**change: Any) -> list[str]:
    """Above a list, without a daemon."""
    status = replace(STATUS, pid=None, worker=None, **change)
    of_source = alarms.of_source(Files(), status, None)  # type: ignore[arg-type]
    found = alarms.in_bar(of_source, alarms.of_status(status, NOW, writable=False), status)
    return [one.words for one in found]


def test_without_a_daemon_only_damage_is_called_damage() -> None:
    pauses = [ActivePause("worker", None, repo=None, since=AGO, seq=1, by="cli:mona", reason=None)]
    pauses.append(ActivePause("intake", None, repo=None, since=AGO, seq=2, by=None, reason=None))
    words = " / ".join(bar_alarms(reasons=[NOT_RUNNING], pauses=pauses))
    assert "damage" not in words
    assert words.count("no daemon is running") == 1
    assert "worker is paused for 5m by cli:mona (covenq resume worker ends it)" in words
    assert words.index("covenq resume intake") < words.index("covenq resume worker"), (
        "what refuses deliveries comes first"
    )
    found = bar_alarms(reasons=[NOT_RUNNING, "bad sum at byte 7", "bad sum at byte 9"], pauses=pauses)
    assert found[0] == "damaged (v lists 2 so far): bad sum at byte 7", "the worst first"
    assert len(found) == 4


def test_a_process_that_does_not_answer_is_named() -> None:
    found = bar_alarms(reasons=["in use by process 7, and no daemon answers"])
    assert found == ["in use by process 7, and no daemon answers: this reads the files"]


def test_the_pause_of_the_intake_is_told_once_with_what_ends_it() -> None:
    pause = ActivePause("intake", None, repo=None, since=AGO, seq=2, by="tui:mona", reason="moving")
    status = replace(STATUS, ready=False, reasons=[INTAKE_PAUSED], pauses=[pause])
    found = alarms.of_status(status, NOW)
    assert [one.words for one in found] == ["intake is paused for 5m by tui:mona: moving (p resumes it)"]


def test_an_old_status_says_how_old_it_is() -> None:
    found = alarms.of_source(None, STATUS, None, age=130.0)
    assert [one.words for one in found] == ["what is shown of the status was read 2m ago"]


def test_only_keys_that_do_something_are_named() -> None:
    def keys(**options: bool) -> str:
        return plain(pages.journal(STATUS, NOW, **options)).splitlines()[-1]

    assert keys() == "v verifies every record, K compacts, B backs up."
    assert keys(writable=False) == "v verifies every record, B backs up."
    assert keys(writable=False, read_only=True) == "v verifies every record."
    assert keys(here=False) == "K compacts. On the daemon's machine: covenq verify, covenq backup."
    assert "v verifies" in plain(pages.broken(CovenqError("gone")))
    assert "v verifies" not in plain(pages.broken(CovenqError("gone"), here=False))


def test_a_throughput_that_cannot_be_read_says_why() -> None:
    for before in (None, THROUGHPUT):
        page = plain(overview.overview(STATUS, before, NOW, 120, problem=CovenqError("no minutes")))
        assert "no minutes" in page
        assert "Durability" in page
    assert "counting" not in plain(overview.overview(STATUS, None, NOW, 120, problem=CovenqError("no minutes")))


def test_the_journal_page_lists_segments_with_what_is_in_them() -> None:
    page = plain(pages.journal(STATUS, NOW))
    assert "head seq    1,234" in page
    assert "half have 3 or less, the largest 64" in page
    assert "00000000000000001000.jsonl     1.0 MiB" in page
    assert "seq 1,000 – 1,234" in page
    assert "seq 500 – 999" in page
    assert "and 1 older ones" in page
    assert "verified    not yet" in page
    seen = Verified(AGO, ok=True, records=1234, findings=0, seq=1234, seconds=2.5)
    assert "✓ 5m ago: 1,234 records, to seq 1,234, in 2s" in plain(pages.journal(replace(STATUS, verified=seen), NOW))
    assert "covenq verify, covenq backup" in plain(pages.journal(STATUS, NOW, here=False))


def test_two_columns_begin_where_they_should() -> None:
    left: list[Line] = [[("✓ wide ├", "")], [("x", "")], []]
    right: list[Line] = [[("a", "")], [], [("b", "")], [("c", "")]]
    lines = plain(overview.two_columns(left, right, 12)).splitlines()
    assert [line.find(one) for line, one in zip(lines, ("a", "", "b", "c"), strict=True)] == [12, 0, 12, 12]
    assert text.cells(lines[0]) == 13


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    return make_daemon('[retention]\npayloads = "1s"\n' + ROUTES)


@pytest.mark.parametrize("size", SIZES)
async def test_the_overview_of_a_daemon_counts_what_came(daemon: Daemon, size: tuple[int, int]) -> None:
    daemon.post("issues", issue(1))
    daemon.post("issues", issue(2), secret="wrong")
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=size) as pilot:
        await pilot.press("1")

        def figures(name: str) -> list[str]:
            lines = plain(app.screen.query_one("#overview", Lines).lines).splitlines()
            return next((line.split()[-1:] for line in lines if line.strip().startswith(name)), [])

        for name in ("accepted", "refused", "completed"):
            await until(pilot, lambda name=name: figures(name) == ["1"], f"one {name}")  # type: ignore[misc]
        assert figures("failed") == ["0"]
        assert "0 of 1 slots busy" in drawn(app) or size == (80, 24)
        await pilot.press("j", "G", "k", "g")
        await pilot.press("q")
    assert app.return_code == 0


async def test_findings_are_stepped_through_and_remembered(daemon: Daemon) -> None:
    for number in range(3):
        daemon.post("push", issue(number))
    assert daemon.stop() == 0
    segment = next((daemon.data / "journal").glob("*.jsonl"))
    content = segment.read_bytes()
    for number in (0, 2):
        content = content.replace(f'"number":{number},"title"'.encode(), f'"number":{number + 5},"title"'.encode())
    segment.write_bytes(content)
    app = dashboard(daemon.data)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "✗" in drawn(app) or row_count(app) >= 0, "something is shown")
        await pilot.press("5", "v")
        await until(pilot, lambda: on(app, VerifyScreen)() and "findings" in document(app), "the findings")
        count = len(app.screen.report.damage) if isinstance(app.screen, VerifyScreen) and app.screen.report else 0
        assert count >= 2
        for key, expected in (("n", 1), ("n", 2), ("N", 1), ("N", count)):
            await pilot.press(key)
            assert f"finding {expected} of {count}" in static_text(app, "#progress-status")
            marked = [line for line in app.screen.query_one(Lines).lines if line and "reverse" in line[0][1]]
            assert [line[0][0].split(".")[0] for line in marked] == [str(expected)]
        await pilot.press("escape")
        assert not on(app, VerifyScreen)()
        await until(pilot, lambda: "damage was found" in drawn(app), "it is an alarm from now on", 60)
    seen = verify_note.read(daemon.data, "file")
    assert seen is not None
    assert (seen.ok, seen.findings) == (False, count)


async def test_a_backup_is_made_and_proven_from_the_journal_page(daemon: Daemon, tmp_path: Path) -> None:
    daemon.post("issues", issue(1))
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) == 1, "open")
        await pilot.press("5")
        assert "Back up" in drawn(app).splitlines()[-1], "the footer tells it"
        await pilot.press("B")
        await until(pilot, on(app, BackupDialog), "it asks where to")
        app.screen.query_one(Input).value = str(tmp_path / "copy")
        await pilot.press("enter")
        await until(pilot, lambda: on(app, ProgressScreen)() and "the copy verifies" in document(app), "copied")
        assert f"covenq backup {tmp_path / 'copy'}" in document(app)
        await pilot.press("escape", "B")
        await until(pilot, on(app, BackupDialog), "it asks again")
        assert app.screen.query_one(Input).value == str(tmp_path / "copy"), "the last one is suggested"
        app.screen.query_one(Input).value = str(daemon.data)
        await pilot.press("enter")
        await until(
            pilot,
            lambda: on(app, ProgressScreen)() and "the journal itself" in static_text(app, "#progress-status"),
            "refused",
        )
        await pilot.press("escape")
    assert list((tmp_path / "copy" / "journal").glob("*.jsonl"))


async def test_compacting_shows_its_plan_first(daemon: Daemon) -> None:
    daemon.post("issues", issue(1))
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: row_count(app) == 1, "open")
        await pilot.press("5", "K")
        await until(
            pilot, lambda: on(app, CompactDialog)() and "would be dropped" in static_text(app, "#dialog-body"), "a plan"
        )
        assert app.focused is app.screen.query_one("#cancel")
        await pilot.press("enter")
        assert not on(app, CompactDialog)()
        assert daemon.records("delivery.payload_dropped") == []

        async def planned() -> bool:
            await pilot.press("K")
            await until(pilot, lambda: "would be" in static_text(app, "#dialog-body"), "a plan")
            if not app.screen.query_one("#go", Button).disabled:
                return True
            await pilot.press("escape")
            return False

        for _ in range(100):  # until the payload is a second old
            if await planned():
                break
            await pilot.pause(0.1)
        await pilot.press("tab", "enter")
        await until(pilot, lambda: on(app, ProgressScreen)() and "dropped" in document(app), "done")
        assert "covenq compact" in document(app)
        await pilot.press("escape")
    assert [record["data"]["by"] for record in daemon.records() if record["kind"].endswith("dropped")] == [BY]


async def test_what_writes_has_no_key_with_read_only(daemon: Daemon) -> None:
    app = dashboard(daemon.data, read_only=True)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: row_count(app) == 0, "open")
        await pilot.press("5", "B", "K")
        await pilot.pause()
        assert len(app.screen_stack) == 1
        assert "Compact" not in drawn(app)
        assert "Back up" not in drawn(app)
        await pilot.press("v")
        await until(pilot, lambda: on(app, VerifyScreen)() and "no damage" in document(app), "verifying only reads")
    assert verify_note.read(daemon.data, "file") is None, "and leaves no note"


async def test_the_palette_finds_actions_pages_and_saved_filters(daemon: Daemon, tmp_path: Path) -> None:
    daemon.post("push", issue(1))
    filters = tmp_path / "filters.json"
    filters.write_text('{"mine": "event:issues"}')
    app = dashboard(daemon.data, filters=filters)
    async with app.run_test(size=(80, 24)) as pilot:

        async def command(words: str) -> None:
            await pilot.press("ctrl+p")
            await until(pilot, on(app, CommandPalette), "the palette")
            app.screen.query_one(Input).value = words

            def found() -> bool:
                hits = app.screen.query_one(CommandList)
                hit = hits.get_option_at_index(0) if hits.option_count else None
                return isinstance(hit, Command) and words in str(hit.hit.text or "").lower()

            await until(pilot, found, words)
            await pilot.press("enter")
            await until(pilot, lambda: not on(app, CommandPalette)(), "closed")

        await until(pilot, lambda: row_count(app) == 1, "open")
        await command("journal")
        await until(pilot, lambda: "Segments" in drawn(app), "the journal page")
        await command("deliveries")
        await until(pilot, lambda: row_count(app) == 1, "the list again")
        await command("mine")
        await until(pilot, lambda: app.pane is not None and app.pane.filter == "event:issues", "the saved filter")
        await pilot.press("escape")
        await command("copy the id")
        await until(pilot, on(app, Menu), "what can be copied")
        await pilot.press("escape")
        assert all(isinstance(one, Static) for one in app.screen.query("#tabs"))


async def test_the_tasks_that_a_filter_shows_are_those_of_the_command_line(daemon: Daemon) -> None:
    for number in range(1, 4):
        daemon.post("issues", issue(number, repo=f"octo/{number}"))
        daemon.post("issues", issue(number, action="closed"))
    daemon.wait_all_done()
    app = dashboard(daemon.data)
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.press("3")
        await until(pilot, lambda: row_count(app) == 6, "the tasks")
        pane = app.pane
        assert pane is not None
        for words in ("state:failed -number:2", "route:fine repo:octo/*"):
            await enter_filter(pilot, words)
            items = (await asyncio.to_thread(daemon.cli_json, "tasks", words))["items"]
            expected = [item["id"] for item in reversed(items)]
            assert expected

            def shown() -> list[str]:
                return [row.id for row in loaded(app, Task)]

            await until(pilot, lambda expected=expected: shown() == expected, words)  # type: ignore[misc]


async def test_rerouting_is_recorded(daemon: Daemon, write_config: Callable[[str], Path]) -> None:
    daemon.post("star", {**issue(1), "action": "created"})
    write_config(ROUTES + '\n[[route]]\nname = "stars"\nmatch = "event:star"\nrun = ["true"]\n')
    app = dashboard(daemon.data)
    async with app.run_test(size=(160, 50)) as pilot:
        await until(pilot, lambda: row_count(app) == 1, "listed")
        await until(
            pilot, lambda: app.status is not None and "stars" in app.status.routes, "the new route is in effect"
        )
        await pilot.press("R")
        await until(pilot, lambda: on(app, Confirm)() and not app.screen.query_one("#go", Button).disabled, "a plan")
        await pilot.press("tab", "enter")
        await until(pilot, lambda: "done      1 delivery" in static_text(app, "#dialog-body"), "done")
        assert "covenq reroute" in static_text(app, "#dialog-body")
        await pilot.press("escape")
    assert [one["data"]["route"] for one in daemon.records("task.queued")] == ["stars"]


async def test_a_click_on_a_tab_opens_its_page(data: Path) -> None:
    app = dashboard(data)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "stopped" in static_text(app, "#tabs"), "it is open")
        line = static_text(app, "#tabs")
        for _, name, title in (*header.PAGES[::-1], header.PAGES[3]):
            assert await pilot.click("#tabs", offset=(line.index(title) + 1, 0))
            assert app.page == name
        before = app.page
        for column in (0, line.index("stopped")):
            await pilot.click("#tabs", offset=(column, 0))
            assert app.page == before, "beside the tabs nothing happens"


async def test_the_keys_that_were_shown_are_forgotten(data: Path) -> None:
    """Else each page and each screen that was ever opened makes every key slower."""

    def keys() -> int:
        gc.collect()
        return sum(type(one).__name__ == "FooterKey" for one in gc.get_objects())

    before = keys()
    app = dashboard(data)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: row_count(app) == 0, "an empty list")
        shown = keys()
        for _ in range(5):
            await pilot.press("5")
            await until(pilot, lambda: "K Compact" in drawn(app), "the keys of the page")
            await pilot.press("2")
            await until(pilot, lambda: "r Replay" in drawn(app), "the keys of the list")
        await until(pilot, lambda: keys() <= before + 2 * (shown - before), "what is gone is forgotten")
        await pilot.press("q")


def test_what_is_to_be_typed_looks_where_the_dashboard_looks() -> None:
    idle = replace(STATUS, routes=[], webhook_url=None, pid=None, reasons=[])
    with options_given({"data": "/srv/my data", "config": None, "url": None, "token_file": None}):
        told = [empty.no_deliveries(idle), empty.no_tasks(idle)]
        told += [one.words for one in alarms.of_source(Files(), idle, None)]  # type: ignore[arg-type]
    typed = [line for words in told for line in words.split("\n") if "covenq " in line]
    assert len(typed) == 5
    for line in typed:
        assert re.search(r"covenq (serve|send issues|init) --data '/srv/my data'$", line), line
    assert empty.no_tasks(idle).endswith("\n  covenq init"), "without --data none is said"


def test_an_alarm_is_cut_between_words_and_what_to_do_about_it_stays() -> None:
    words = "repo octo/spoon is paused for 12m by mona: a release is going out (p resumes it)"
    found = [alarms.Alarm(words, "pause"), alarms.Alarm("another", "other")]
    assert alarms.bar(found, 200) == f"! {words}  ! another".ljust(191) + "  a hides"
    assert (
        alarms.bar(found[:1], 80) == "! repo octo/spoon is paused for 12m by mona: a release … (p resumes it)  a hides"
    )
    assert alarms.bar(found[:1], 60).startswith("! repo octo/spoon is paused for …")
    for width in range(30, 120):
        assert text.cells(alarms.bar(found, width)) == width


def test_of_where_it_is_whole_parts_are_shown_and_the_state_always() -> None:
    for width, shown in ((200, "● live  /var/lib/covenq"), (84, "● live  …/covenq"), (83, "● live"), (30, "● live")):
        told = header.tabs("tasks", "● live", "/var/lib/covenq", width).plain
        assert told.endswith(f"5 Journal   {shown}"), (width, told)
