"""Verifying the journal from the dashboard: progress while it runs, then every finding, or that there is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, ProgressBar, Static

from covenq.errors import Failure
from covenq.state import read_witness
from covenq.tui import text
from covenq.tui.lanes import Lane
from covenq.tui.layer import is_open
from covenq.tui.lines import Line, Lines
from journal.verify import VerifyReport, verify

Run = Callable[[Callable[[int, int], None]], VerifyReport]
"""Verifies, telling (bytes done, bytes in all) as it goes. Blocks."""


class Abandoned(Exception):
    """Esc while it ran: raised out of the progress callback to end it."""


def runner(data: Path, upto: int | None) -> Run:
    """Verify the journal in a data directory; `upto` is the head of the daemon that is writing it, if one is.

    Without a daemon the state's position is a witness: a log shorter than that has lost something.
    """

    def run(progress: Callable[[int, int], None]) -> VerifyReport:
        seen = read_witness(data / "state.db") if upto is None else None
        return verify(data / "journal", upto=upto, witnesses=[seen] if seen else [], progress=progress)

    return run


def findings(report: VerifyReport) -> list[Line]:
    """The report in words."""
    head = f"{text.number(report.records)} records verify; the head is seq {report.head.seq}"
    if report.ok:
        return [[("✓ no damage", "green")], [("", "")], [(head, "")], [(f"sum {report.head.sum}", "dim")]]
    lines: list[Line] = [[(f"✗ {text.number(len(report.damage))} findings", "red")], [("", "")], [(head, "")]]
    for number, one in enumerate(report.damage, 1):
        lines += [[("", "")], [(f"{number}. {text.clean(one.kind)}", "red")]]
        where = f"   segment {text.clean(one.segment)}, byte {text.number(one.offset)}"
        lines.append([(where + (f", seq {one.seq}" if one.seq is not None else ""), "")])
        if one.delivery:
            lines.append([(f"   delivery {text.clean(one.delivery)}", "")])
        lines.append([(f"   {text.clean(one.detail)}", "")])
    lines += [[("", "")], [("Nothing was changed. The same from a shell: covenq verify", "dim")]]
    return lines


class VerifyScreen(Screen[None]):
    """Runs once when opened. Esc leaves, and ends it if it still runs."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        Binding("question_mark", "app.help", "Help"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run
        self._lane = Lane("verify")
        self._progress = (0, 0)
        self._abandoned = False
        self.report: VerifyReport | None = None

    def compose(self) -> ComposeResult:
        yield Static(Content("Verifying every record against its hash and its predecessor's"), id="detail-title")
        yield ProgressBar(id="verify-bar", show_eta=False)
        yield Static(id="verify-said")
        yield Lines()
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        self.set_interval(0.1, self._show_progress)
        self._verify()

    @work(exclusive=True)
    async def _verify(self) -> None:
        started = time.monotonic()
        try:
            report = await self._lane.call(lambda: self._run(self._tell))
        except Failure as error:
            if is_open(self):
                said = f"✗ {text.clean(error)}\n{text.clean(error.hint)}"
                self.query_one("#verify-said", Static).update(Content(said))
            return
        except Abandoned:
            return
        if not is_open(self):
            return
        self.report = report
        self._show_progress()
        took = text.duration(time.monotonic() - started)
        total = text.size(self._progress[1])
        self.query_one("#verify-said", Static).update(Content(f"{'✓' if report.ok else '✗'} {total} in {took}"))
        self.query_one(Lines).show(findings(report))
        self.query_one(Lines).focus()

    def _tell(self, done: int, total: int) -> None:
        """Called on the lane's thread; the timer shows it, ten times a second at most."""
        self._progress = (done, total)
        if self._abandoned:
            raise Abandoned

    def _show_progress(self) -> None:
        done, total = self._progress
        if self.report is not None:
            done = total = max(total, 1)
        if total:
            self.query_one(ProgressBar).update(total=total, progress=done)
        if self.report is None and total:
            said = f"{text.size(done)} of {text.size(total)}"
            self.query_one("#verify-said", Static).update(Content(said))

    def action_leave(self) -> None:
        self._abandoned = True
        self.dismiss(None)
