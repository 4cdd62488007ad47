"""Verification of the journal: progress while it runs, then every finding, or that there is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from covenq.client.suggestion import suggested
from covenq.config.journal import JournalSettings
from covenq.model import now_text
from covenq.operate.maintain import verify, verify_note
from covenq.tui import text
from covenq.tui.screens.progress import ProgressScreen, ReportProgress
from covenq.tui.widgets.lines import Line, Lines
from journal.reports import VerifyReport

VerifyJob = Callable[[ReportProgress], VerifyReport]


def verify_job(data: Path, journal: JournalSettings, upto: Callable[[], int | None], *, note: bool = True) -> VerifyJob:
    """Verify the journal in a data directory.

    `upto` returns the head of the daemon that is writing it, None without one: what it writes beyond that is no damage. With
    `note` the result is remembered in the directory.
    """

    def run(progress: ReportProgress) -> VerifyReport:
        started = time.monotonic()
        report = verify.check(data, journal, upto=upto(), progress=progress)
        if note:
            with suppress(OSError):  # a convenience; the data directory may not be writable for this user
                verify_note.write(data, report, now_text(), time.monotonic() - started, journal.engine)
        return report

    return run


def finding_lines(report: VerifyReport) -> tuple[list[Line], list[int]]:
    """The report in words, and the index of the line at which each finding begins."""
    head = f"{text.number(report.records)} records verify; the head is seq {report.head.seq}"
    if report.ok:
        return [[("✓ no damage", "good")], [], [(head, "")], [(f"sum {report.head.sum}", "muted")]], []
    lines: list[Line] = [[(f"✗ {text.number(len(report.damage))} findings", "bad")], [], [(head, "")]]
    starts = []
    for number, one in enumerate(report.damage, 1):
        lines.append([])
        starts.append(len(lines))
        lines.append([(f"{number}. {text.clean(one.kind)}", "bad")])
        where = f"   segment {text.clean(one.segment)}, byte {text.number(one.offset)}"
        lines.append([(where + (f", seq {one.seq}" if one.seq is not None else ""), "")])
        if one.delivery:
            lines.append([(f"   delivery {text.clean(one.delivery)}", "")])
        lines.append([(f"   {text.clean(one.detail)}", "")])
    lines += [[], [(f"Nothing was changed. The same from a shell: {text.clean(suggested('covenq verify'))}", "muted")]]
    return lines, starts


class VerifyScreen(ProgressScreen[VerifyReport]):
    """n and N step through the findings."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "step(1)", "Next", tooltip="the next finding"),
        Binding("N", "step(-1)", "Previous", tooltip="the finding before"),
    ]

    def __init__(self, run: VerifyJob) -> None:
        super().__init__(
            "Verifying every record against its hash and its predecessor's",
            run,
            lambda report: finding_lines(report)[0],
            ok=lambda report: report.ok,
        )
        self.current = -1
        """Index of the finding that was stepped to, -1 before."""

    @property
    def report(self) -> VerifyReport | None:
        return self.result

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return True if action != "step" else self.report is not None and not self.report.ok

    def action_step(self, step: int) -> None:
        if self.report is None or self.report.ok:
            return
        lines, starts = finding_lines(self.report)
        self.current = (
            (self.current + step) % len(starts) if self.current >= 0 else (0 if step > 0 else len(starts) - 1)
        )
        start = starts[self.current]
        marked = [
            [(run, f"{style} reverse") for run, style in line] if n == start else line for n, line in enumerate(lines)
        ]
        document = self.query_one(Lines)
        document.show(marked)
        document.scroll_to(y=max(0, start - 2), animate=False)
        status = f"✗ finding {self.current + 1} of {text.number(len(starts))}"
        self.query_one("#progress-status", Static).update(Content(status))
