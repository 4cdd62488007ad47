"""What nobody expected on another thread is a sentence where its result would be, and the dashboard goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from covenq.client.interface import Filter, Source
from covenq.client.local import LocalSource
from covenq.config.load import Config
from covenq.errors import CovenqError
from covenq.model.answers import Event, Throughput
from covenq.model.rows import Delivery, LatestAttempt, OneDelivery, Page, Task
from covenq.model.status import ActivePause, Status
from covenq.operate.inspect.history import Why
from covenq.tui.app import Dashboard
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.detail import DetailScreen
from covenq.tui.screens.diff import DiffScreen
from covenq.tui.screens.payload import PayloadScreen
from covenq.tui.screens.progress import ProgressScreen
from covenq.tui.screens.why import StoryScreen
from journal.file.open import open_journal
from tests.support.dashboard import dashboard, drawn, enter_filter, notices, on, row_count, until
from tests.support.records import moved, of, queued, received

GUIDS = [f"{number:08x}-cc78-11e3-81ab-4c9367dc0958" for number in range(3)]


@pytest.fixture
def files(data: Path) -> Path:
    with open_journal(data / "journal") as journal:
        for guid in GUIDS:
            task = of(guid, "9", "fine")
            journal.append([received(guid), queued(guid, "9", "fine")])
            journal.append([moved("claimed", task, attempt=1, worker="w")])
    return data


class Failing(LocalSource):
    """The files, of which the calls named in `failing` raise what nobody expects."""

    live = True  # type: ignore[assignment]

    def __init__(self, data: Path) -> None:
        super().__init__(data, Config())
        self.failing: set[str] = set()

    def _fails(self, name: str) -> None:
        if name in self.failing:
            raise ZeroDivisionError(f"{name} by zero")

    def status(self) -> Status:
        self._fails("status")
        return super().status()

    def deliveries(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Page[Delivery]:
        self._fails("deliveries")
        return super().deliveries(filter, limit=limit, after=after)

    def tasks(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Page[Task]:
        self._fails("tasks")
        return super().tasks(filter, limit=limit, after=after)

    def latest_attempts(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Page[LatestAttempt]:
        self._fails("attempts")
        return super().latest_attempts(filter, limit=limit, after=after)

    def count(self, what: str, filter: Filter = "", *, limit: int = 0) -> int:
        self._fails("count")
        return super().count(what, filter, limit=limit)  # type: ignore[arg-type]

    def delivery(self, id: str) -> OneDelivery:
        self._fails("delivery")
        return super().delivery(id)

    def payload(self, id: str) -> bytes:
        self._fails("payload")
        return super().payload(id)

    def why(self, id: str) -> Why:
        self._fails("why")
        return super().why(id)

    def throughput(self, minutes: int = 60) -> Throughput:
        self._fails("throughput")
        return super().throughput(minutes)

    def pauses(self) -> list[ActivePause]:
        self._fails("pauses")
        return super().pauses()

    def events(self, after: int | None = None) -> Iterator[Event]:
        self._fails("events")
        yield from ()
        threading.Event().wait()  # nothing more happens; the thread is a daemon


def app_of(source: Source, data: Path) -> Dashboard:
    return Dashboard(lambda: source, data, filters=data / "filters.json")


async def test_a_call_raises_a_sentence() -> None:
    thread = BackgroundThread("test")

    def run() -> None:
        raise ValueError("bad value(s) in fds_to_keep")

    with pytest.raises(CovenqError, match=r"ValueError: bad value\(s\) in fds_to_keep") as caught:
        await thread.call(run)
    assert caught.value.hint
    assert "test_unexpected.py" in str(caught.value), "where it happened"


async def test_files_that_cannot_be_used_are_no_fault_of_covenq() -> None:
    thread = BackgroundThread("test")
    with pytest.raises(CovenqError, match=r"^/nonexistent/file: No such file or directory$") as caught:
        await thread.call(lambda: Path("/nonexistent/file").read_bytes())
    assert "path" in caught.value.hint


@pytest.mark.parametrize("page", ["2", "3", "4"])
async def test_a_list(files: Path, page: str) -> None:
    source = Failing(files)
    source.failing = {"deliveries", "tasks", "attempts"}
    app = app_of(source, files)
    async with app.run_test(size=(160, 30)) as pilot:
        await pilot.press(page)
        await until(pilot, lambda: "ZeroDivisionError" in drawn(app), "the list says why")
        source.failing.clear()
        app.mark_changed()
        await until(pilot, lambda: row_count(app) == 3, "and goes on")
        await pilot.press("q")
    assert app.return_code == 0


@pytest.mark.parametrize(
    ("call", "keys", "screen"),
    [
        ("status", (), None),
        ("events", (), None),
        ("throughput", ("1",), None),
        ("delivery", ("enter",), DetailScreen),
        ("payload", ("enter",), DetailScreen),
        ("payload", ("t",), PayloadScreen),
        ("why", ("w",), StoryScreen),
        ("payload", ("space", "down", "d"), DiffScreen),
        ("pauses", ("p",), None),
    ],
)
async def test_what_is_read(files: Path, call: str, keys: tuple[str, ...], screen: type | None) -> None:
    source = Failing(files)
    app = app_of(source, files)
    async with app.run_test(size=(160, 40)) as pilot:
        await until(pilot, lambda: row_count(app) == 3 and app.status, "the list")
        source.failing.add(call)
        if call == "events":
            app.refresher.open()
        await pilot.press("g", *keys)
        if screen is not None:
            await until(pilot, on(app, screen), "the screen")
        await until(pilot, lambda: f"{call} by zero" in drawn(app) + notices(app), "it is told")
        await pilot.press("escape", "2", "q")
    assert app.return_code == 0


async def test_a_count(files: Path) -> None:
    source = Failing(files)
    source.failing = {"count"}
    app = app_of(source, files)
    async with app.run_test(size=(160, 30)) as pilot:
        await until(pilot, lambda: row_count(app) == 3, "the list")
        await enter_filter(pilot, "repo:octo/hello")
        await until(pilot, lambda: "count by zero" in drawn(app) and row_count(app) == 3, "it is told")
        await pilot.press("q")
    assert app.return_code == 0


async def test_a_long_operation(files: Path) -> None:
    app = dashboard(files)

    def run(report_progress: Callable[[int, int], None]) -> int:
        report_progress(1, 2)
        return 1 // 0

    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: row_count(app) == 3, "the list")
        app.push_screen(ProgressScreen("Dividing", run, lambda _: []))
        await until(pilot, lambda: "ZeroDivisionError" in drawn(app), "it is told")
        await pilot.press("escape", "q")
    assert app.return_code == 0


async def test_an_answer_that_is_nonsense(files: Path) -> None:
    """Answers have the right types, and may be nonsense all the same: here of a daemon that counts no minutes."""

    class Nonsense(Failing):
        def throughput(self, minutes: int = 60) -> Throughput:
            return Throughput("never", -3, [], [], [], [])

    app = app_of(Nonsense(files), files)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: row_count(app) == 3 and app.status, "the list")
        await pilot.press("1")
        await until(pilot, lambda: app.refresher.throughput, "read")
        await until(pilot, lambda: "accepted" in drawn(app) and "Durability" in drawn(app), "the page is drawn")
        await pilot.press("q")
    assert app.return_code == 0
