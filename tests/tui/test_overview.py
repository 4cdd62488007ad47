"""The Overview: three answers on the first screen, a table per route on one scale, and lines that open the list they tell of."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from covenq.client.local import LocalSource
from covenq.client.suggestion import options_given
from covenq.config import load as configuration
from covenq.model.answers import Event
from covenq.model.journal_status import SyncTimes
from covenq.model.route_times import (
    RouteMinutes,
    RouteTimes,
    Times,
    failing,
)
from covenq.model.status import KnownNode, Status, Stuck
from covenq.model.waiting import WaitingTasks
from covenq.tui import text
from covenq.tui.app import Dashboard
from covenq.tui.panes import overview, route_table
from covenq.tui.panes.durability import durability
from covenq.tui.panes.overview_page import OverviewPage
from covenq.tui.widgets.lines import Line, Link, link_of, plain
from journal.file.open import open_journal
from tests.support.answers import AGO, NOW, STATUS, THROUGHPUT
from tests.support.dashboard import drawn, until
from tests.support.records import moved, of, queued, received

WAITING = [
    WaitingTasks("paused", "repo acme/payments", 190, AGO, None, "covenq resume repo acme/payments", "paused by root"),
    WaitingTasks("receiver", "route mirror", 208, AGO, None, None, "http://127.0.0.1:9 refuses, 10 in a row"),
    WaitingTasks("unclaimed", "route ci", 286, AGO, None, "covenq worker --route ci -- CMD", "nobody claims them"),
    WaitingTasks("worker", "worker", 3, AGO, None, None, "the one worker is busy"),
]
ROUTES = [
    RouteMinutes("fix", [1] * 60, 0, RouteTimes(40, 39, 1, {"exit": 1}, Times(40, 0.25, 1.5), Times(40, 12.0, 75.0))),
    RouteMinutes("mirror", [*[0] * 50, *[9] * 10], 208, RouteTimes(20, 2, 18, {"upstream": 18})),
    RouteMinutes("gone", [0] * 60, 1, RouteTimes(3, 0, 3, {"timeout": 2, "exit": 1})),
]
STUCK = Stuck("t9", route="ci", repo="octo/hello", state="running", since=AGO, why="longer than its timeout of 600 s")
TROUBLE = replace(STATUS, waiting=WAITING, stuck=[STUCK], routes=["quiet", "mirror", "fix"])
LAST_HOUR = replace(THROUGHPUT, routes=ROUTES)


def page(status: Status = TROUBLE, width: int = 79) -> list[Line]:
    return overview.overview(status, LAST_HOUR, NOW, width)


# ---- the three answers


def test_the_first_line_says_whether_anything_is_wrong() -> None:
    def first(status: Status, last_hour: list[RouteMinutes] | None = None) -> str:
        found = replace(THROUGHPUT, routes=last_hour or [])
        return plain(overview.overview(status, found, NOW, 79)).splitlines()[0]

    calm = replace(STATUS, tasks={})
    assert first(calm) == "✓ READY  accepts deliveries; nothing is wrong; nothing waits"
    assert first(STATUS) == "✓ READY  accepts deliveries; nothing is wrong; 4 wait"
    assert first(TROUBLE) == "! READY  accepts deliveries; 2 things are wrong; 687 wait  covenq doctor"
    assert first(TROUBLE, ROUTES) == first(TROUBLE), "a receiver that refuses and its route that fails are one thing"
    lines = plain(overview.overview(calm, LAST_HOUR, NOW, 79)).splitlines()
    assert lines[1:3] == [
        "  ✗ route mirror: 18 of 20 attempts of the last hour failed: upstream ×18",
        "    covenq tasks route:mirror state:failed",
    ], "and which, why, and what to type"
    assert first(calm, ROUTES) == "! READY  accepts deliveries; 1 thing is wrong; nothing waits  covenq doctor"
    closed = first(replace(calm, ready=False, reasons=["The disk is full."]))
    assert closed == "✗ NOT READY  receives nothing; 1 thing is wrong; nothing waits  covenq doctor"
    stopped = first(replace(calm, ready=False, pid=None, reasons=["no daemon is running"]))
    assert stopped.startswith("✗ NO ") and "nothing is received" in stopped and stopped.endswith("covenq doctor")


def test_commands_are_typed_where_the_dashboard_was_told_to_look() -> None:
    calm = replace(STATUS, tasks={})
    with options_given({"data": "/srv/a b", "config": None, "url": None, "token_file": None}):
        shown = plain(overview.overview(replace(calm, waiting=WAITING[:1]), LAST_HOUR, NOW, 79))
    for command in ("doctor", "resume repo acme/payments", "tasks route:mirror state:failed"):
        assert f"covenq {command} --data '/srv/a b'" in shown
    with options_given({"data": "/srv/a b", "config": None, "url": None, "token_file": None}):
        none = plain(overview.overview(replace(calm, routes=[]), replace(LAST_HOUR, routes=[]), NOW, 79))
    assert none.count("none: `covenq init --data '/srv/a b'` writes some") == 2
    away = plain(overview.overview(calm, LAST_HOUR, NOW, 79, here=False)).splitlines()[0]
    assert away.endswith("  covenq status"), "doctor looks at files, which are elsewhere"


def test_what_fails_is_wrong_as_the_alert_has_it_and_a_few_failures_are_not() -> None:
    assert [one.name for one in failing(ROUTES, [])] == ["mirror"]
    stopped = replace(ROUTES[1], times=RouteTimes(20, 2, 18, {"interrupted": 14, "exit": 4}))
    assert failing([stopped], []) == [], "a daemon that was restarted is no failure"
    lines = route_table.failing_lines([replace(ROUTES[1], name=f"r{n}") for n in range(5)], 140)
    assert [plain([line]) for line in lines][-1] == "  ✗ 2 more routes fail: covenq stats"
    assert len(lines) == 4 and link_of(lines[0]) == Link("tasks", "route:r0 state:failed")


def test_many_alarms_leave_what_waits_in_view() -> None:
    stuck = [replace(STUCK, task=f"t{n}", route=f"r{n}") for n in range(9)]
    lines = plain(page(replace(TROUBLE, stuck=stuck))).splitlines()
    assert lines[0].startswith("! READY  accepts deliveries; 10 things are wrong")
    waiting = next(n for n, line in enumerate(lines) if line.startswith("Waiting"))
    assert "and 5 more, below the routes" in "".join(lines[:waiting]) and waiting + 3 < 22
    assert all(any(f"(r{n}, octo/hello)" in line for line in lines) for n in range(9)), "each is told whole"


# ---- the table


@pytest.mark.parametrize("width", [79, 99, 131, 159])
def test_the_columns_of_numbers_are_under_their_headings_at_every_width(width: int) -> None:
    lines = plain(route_table.route_lines(LAST_HOUR, TROUBLE.routes, width)).splitlines()
    assert all(text.cells(line) <= width for line in lines)
    title, head, *rows = lines
    assert [row.split()[0] for row in rows] == ["quiet", "mirror", "fix", "gone"], "the configuration's order"
    for name, values in {
        "fix": {"tasks": "60", "ok": "97%", "waited": "250ms", "ran": "12s", "wait now": "–"},
        "mirror": {"tasks": "90", "ok": "10%", "wait now": "208"},
        "quiet": {"tasks": "0"},
    }.items():
        row = next(row for row in rows if row.split()[0] == name)
        for heading, value in values.items():
            assert row[: head.index(heading) + len(heading)].endswith(f" {value}"), (heading, row)
    fix, mirror = rows[2], rows[1]
    assert "1.5s" in fix and "1.2m" in fix
    each = int(title.split(" min a cell")[0].split()[-1])
    assert f"one scale: █ is {9 * each}" in title
    assert "█" in mirror and "█" not in fix, "a ninth of it is a low graph"
    assert ("upstream ×18" in mirror) == (width >= 131)


def test_that_numbers_are_of_a_sample_and_routes_are_left_out_is_said() -> None:
    many = [RouteMinutes(name=f"r{n}", tasks=[n] * 60) for n in range(30)]
    found = replace(THROUGHPUT, routes=many, more_routes=7, sampled=True)
    lines = plain(route_table.route_lines(found, [], 99)).splitlines()
    assert "estimated from a sample" in lines[0] and "and 25 more: covenq stats" in lines[-1]
    before, after = (route_table.route_lines(one, ["fix", "mirror", "gone"], 79) for one in (None, LAST_HOUR))
    assert "counting" in plain(before) and len(before) == len(after), "nothing below moves once it is counted"
    assert [link_of(line) for line in before] == [link_of(line) for line in after]
    assert "none" in plain(route_table.route_lines(replace(THROUGHPUT, routes=[]), [], 79))


NAMES = st.one_of(st.none(), st.text(st.sampled_from('ab-/ 漢é\u0301\x1b"'), min_size=1, max_size=40))


@settings(max_examples=25)
@given(
    names=st.lists(NAMES, max_size=14),
    numbers=st.lists(st.integers(0, 10**7), min_size=4, max_size=4),
    width=st.integers(79, 200),
)
def test_no_line_is_wider_than_the_screen(names: list[str | None], numbers: list[int], width: int) -> None:
    took = Times(9, numbers[0] / 1000, numbers[1] / 10)
    times = RouteTimes(9, 1, numbers[2], {"upstream": numbers[2]}, took, took)
    routes = [RouteMinutes(name, [0] * 56 + numbers, numbers[3], times) for name in names]
    waits = [replace(one, scope=f"route {name}") for one, name in zip(WAITING, names, strict=False)]
    status = replace(TROUBLE, waiting=waits)
    for line in overview.overview(status, replace(THROUGHPUT, routes=routes), NOW, width)[: 8 + 3 * len(names)]:
        assert text.cells(plain([line])) <= width or " " not in plain([line]).strip(), plain([line])


def test_syncs_are_a_histogram_with_its_bounds() -> None:
    times = SyncTimes(10, 1.2, 150.0, 150.0, [1.0, 100.0], [8, 1, 1])
    lines = durability(replace(STATUS, journal=replace(STATUS.journal, recent_syncs_ms=times)), NOW)
    bars, bounds = (plain([line]) for line in lines[2:4])
    assert bars.split() == ["████", "▁▁▁▁", "▁▁▁▁"] and bounds.split() == ["≤1", "≤100", "more", "ms"]
    assert [tone for _, tone in lines[2][1:]] == ["active", "active", "warning"]
    assert len(durability(STATUS, NOW)) == len(lines) - 2, "an older daemon says no bounds"


# ---- what a line opens


def test_each_line_opens_what_it_tells_of() -> None:
    links = {plain([line]).split()[1]: link_of(line) for line in page() if link_of(line) is not None}
    assert links["190"] == Link("tasks", "state:queued repo:acme/payments")
    assert links["208"] == Link("tasks", "state:queued route:mirror")
    assert links["3"] == Link("tasks", "state:queued")
    opened = {link.filter for link in links.values() if link}
    assert {"id:t1", "state:completed"} <= opened
    rows = [link_of(line) for line in route_table.route_lines(LAST_HOUR, TROUBLE.routes, 79)]
    assert [link and link.filter for link in rows] == [
        None,
        None,
        *(f"route:{n}" for n in ("quiet", "mirror", "fix", "gone")),
    ]
    both = overview.two_columns([[("a", "")]], [page()[5]], 40)
    assert link_of(both[0]) == link_of(page()[5])


class LiveSource(LocalSource):
    """The source of the files, which tells what a daemon in trouble would."""

    live = True  # type: ignore[assignment]

    def status(self) -> Status:
        return replace(super().status(), ready=True, reasons=[], pid=7, waiting=WAITING, stuck=[STUCK])

    def events(self, after: int | None = None) -> Iterator[Event]:
        threading.Event().wait()  # nothing more happens; the thread is a daemon
        yield from ()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> LiveSource:
    data = tmp_path_factory.mktemp("overview") / "data"
    data.mkdir(mode=0o700)
    with open_journal(data / "journal") as journal:
        for number in range(6):
            guid, route = f"g{number}", "mirror" if number % 2 else "fix"
            journal.append([received(guid), queued(guid, route=route)])
            if number < 4:
                journal.append([moved("claimed", of(guid, route=route), attempt=1, worker="w")])
                end = "completed" if route == "fix" else "failed"
                journal.append([moved(end, of(guid, route=route), attempt=1, category="exit")])
    routes = [{"name": name, "match": "event:issues", "run": ["true"]} for name in ("quiet", "mirror", "fix")]
    return LiveSource(data, configuration.build({"route": routes}, None, {}))


async def test_the_three_answers_are_on_the_first_screen_and_enter_and_a_click_open_a_list(
    source: LiveSource, tmp_path: Path
) -> None:
    app = Dashboard(lambda: source, tmp_path, filters=tmp_path / "filters.json")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("1")
        await until(pilot, lambda: "wait now" in drawn(app), "the routes")
        shown = drawn(app)
        assert "● live" in shown.splitlines()[0]
        # is anything wrong? what waits, and why? what do I type?
        assert "! READY  accepts deliveries; 2 things are wrong; 687 wait  covenq doctor" in shown
        for words in ("task t9 (ci, octo/hello) is running", "Waiting  687", "✗ 208 mirror", "refuses, 10 in a row"):
            assert words in shown, words
        assert "covenq resume repo acme/payments" in shown and "covenq worker --route ci -- CMD" in shown
        mirror = next(line for line in shown.splitlines() if line.startswith("  mirror"))
        assert mirror.split()[2:4] == ["3", "0%"]
        page = app.query_one(OverviewPage)
        assert page.cursor is not None and plain([page.lines[page.cursor]]).startswith("  ‖ 190")
        assert "▸ ‖ 190 acme/payments" in shown, "the cursor is at the first line that opens a list"
        await pilot.press("j")
        assert "▸ ✗ 208 mirror" in drawn(app)
        app.throughput_read()
        assert "▸ ✗ 208 mirror" in drawn(app), "it stays when the page is drawn again"
        await pilot.press("enter")
        await until(pilot, lambda: app.page == "tasks" and app.pane and app.pane.rows.loaded, "the tasks")
        assert app.pane is not None and app.pane.filter == "state:queued route:mirror"
        await until(pilot, lambda: app.pane and app.pane.rows.count == 1, "those alone")
        await pilot.press("1")
        at = next(n for n, line in enumerate(drawn(app).splitlines()) if line.startswith("  fix"))
        await pilot.click(OverviewPage, offset=(5, at - 1))
        await until(
            pilot, lambda: app.pane and app.pane.filter == "route:fix" and app.pane.rows.count == 3, "its tasks"
        )
        await pilot.press("1", *["j"] * 40, "k")
        assert page.scroll_y > 0, "the rest is scrolled to"
        await pilot.press("q")


def test_a_cursor_is_where_a_line_opens_something_or_nowhere() -> None:
    widget = OverviewPage()
    widget.show([[("nothing", "")]])
    assert widget.cursor is None
    widget.show(page())
    first = widget.cursor
    assert first is not None and link_of(widget.lines[first]) == Link("tasks", "state:queued repo:acme/payments")
    assert plain([widget.lines[first + 1]]).strip() == "covenq resume repo acme/payments"
    assert first + 1 not in widget._stops(), "the second line of the same"


def test_each_node_that_shares_the_journal_has_a_line_and_one_that_is_away_an_alarm() -> None:
    here = KnownNode("a1", "node-a", "10.0.0.1:8787", "leads", True, AGO, AGO, "1.0", 0, False)
    away = KnownNode("b1", "node-b", None, "away", False, AGO, AGO, "1.0", 12, True)
    lines = plain(page(replace(STATUS, nodes=[here, away]))).splitlines()
    assert any(line.startswith("! node node-b has said nothing for ") for line in lines[:3])
    [at] = [number for number, line in enumerate(lines) if "node-a (here) leads" in line]
    assert lines[at].split()[0] == "nodes" and lines[at + 1].split()[:3] == ["node-b", "away", "since"]
    assert "node-a" not in plain(page(replace(STATUS, nodes=[here])))
