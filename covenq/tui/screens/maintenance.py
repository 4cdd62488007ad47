"""Maintenance of the journal: compaction with its plan first, and a backup with the verification of the copy."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input, Static

from covenq.client.interface import Source
from covenq.client.suggestion import suggested
from covenq.errors import Failure
from covenq.operate.act.plan_text import compaction_lines
from covenq.operate.answers import Compaction
from covenq.operate.maintain import backup
from covenq.operate.maintain.backup_list import BackupEntry
from covenq.operate.operations import COMPACT
from covenq.operate.parameters import Compact
from covenq.text import counted
from covenq.tui import text
from covenq.tui.actions import operator
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.dialog import Dialog
from covenq.tui.screens.progress import ProgressScreen, ReportProgress
from covenq.tui.screens.screen_stack import is_on_stack
from covenq.tui.widgets.lines import Line, plain
from journal.records import Damage
from journal.reports import BackupReport

if TYPE_CHECKING:
    from covenq.model.journal_status import JournalStatus

POLL_S = 0.3
"""Seconds between two reads of the daemon's progress."""


# ---- compaction


def compact_lines(done: Compaction) -> list[Line]:
    """A compaction's result, or its plan, in words."""
    lines: list[Line] = [[(words, "")] for words in compaction_lines(done)]
    if done.policy.payloads_s is None and done.policy.attempts_s is None:
        return lines
    if not done.dry_run:
        lines += [[(f"the journal is {text.size(max(0, done.freed))} shorter", "")], []]
        lines += [[("the same from a shell:", "muted")], [(f"  {text.clean(suggested('covenq compact'))}", "")]]
    for path in done.left:
        lines.append([(f"could not be removed, the next start tries again: {text.clean(path)}", "bad")])
    return lines


def compact_job(source: Source) -> Callable[[ReportProgress], Compaction]:
    """Compacts, and meanwhile reports the daemon's progress. Closing the screen doesn't end the compaction."""

    def run(report_progress: ReportProgress) -> Compaction:
        answers: list[Compaction] = []
        errors: list[BaseException] = []

        def do() -> None:
            try:
                answers.append(source.act(COMPACT, Compact(by=operator())))
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)

        thread = threading.Thread(target=do, name="tui-compact", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(POLL_S)
            upkeep = source.status().upkeep
            if upkeep is not None and upkeep.doing is not None:
                report_progress(upkeep.doing.done, upkeep.doing.total)
        if errors:
            raise errors[0]
        return answers[0]

    return run


def compact_screen(source: Source) -> ProgressScreen[Compaction]:
    return ProgressScreen(
        "Compacting: dropping what [retention] keeps no longer",
        compact_job(source),
        compact_lines,
        ok=lambda done: not done.left,
        unit=lambda number: counted(number, "segment"),
    )


class CompactDialog(Dialog[bool]):
    """Shows what would be dropped, and asks whether to. Cancel has the focus. Dismissed with the answer."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("q", "app.quit", "Quit"),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    def __init__(self, writable: Callable[[], Source], thread: BackgroundThread) -> None:
        super().__init__()
        self._writable = writable
        self._thread = thread

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content("Compact the journal"), id="dialog-title")
            yield Static(Content("… planning"), id="dialog-body")
            yield Static(id="question")
            with Horizontal(id="dialog-buttons"):
                yield Button("Cancel", id="cancel")
                yield Button("Compact", id="go", disabled=True)

    def on_mount(self) -> None:
        self.query_one("#cancel").focus()
        self._plan()

    @work(exclusive=True)
    async def _plan(self) -> None:
        try:
            wanted = Compact(dry_run=True, by=operator())
            plan = await self._thread.call(lambda: self._writable().act(COMPACT, wanted))
        except Failure as error:
            if is_on_stack(self):
                words = f"refused: {text.clean(error)}\n{text.clean(error.hint)}"
                self.query_one("#dialog-body", Static).update(Content(words))
            return
        if is_on_stack(self):
            self.query_one("#dialog-body", Static).update(Content(plain(compact_lines(plan))))
            some = bool(plan.deliveries or plan.attempts)
            self.query_one("#question", Static).update(
                Content("Compact the journal?" if some else "There is nothing to drop.")
            )
            self.query_one("#go", Button).disabled = not some

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.dismiss(event.button.id == "go")

    def action_leave(self) -> None:
        self.dismiss(False)


# ---- backup


BackupResult = tuple[BackupReport, list[Damage], str | None]
"""The report, the damage found in the copy, and a warning."""


def backup_lines(directory: str, done: BackupResult) -> list[Line]:
    """A backup's result in words."""
    report, damage, warning = done
    lines: list[Line] = []
    for one in damage:
        lines.append([(f"✗ {text.clean(one)}", "bad")])
    if not damage:
        lines.append([("✓ the copy verifies", "good")])
    copied = (
        f"{counted(report.copied, 'segment')} copied ({text.size(report.bytes)}), {text.number(report.kept)} unchanged"
    )
    lines += [
        [(copied, "")],
        [(f"to {text.clean(directory)}", "")],
        [(f"head {report.head.seq}:{report.head.sum}", "muted")],
    ]
    if warning:
        lines.append([(text.clean(warning), "warning")])
    lines += [[], [("Not in it: the secret, the configuration, the files of attempts.", "")]]
    return [
        *lines,
        [],
        [("the same from a shell:", "muted")],
        [(f"  {text.clean(suggested(f'covenq backup {shlex.quote(directory)}'))}", "")],
    ]


def backup_job(data: Path, directory: str, source: Source | None) -> Callable[[ReportProgress], BackupResult]:
    """Copies the journal into `directory` and verifies the copy; `source` is the running daemon's, None without one."""

    def live() -> JournalStatus | None:
        return None if source is None else source.status().journal

    def run(report_progress: ReportProgress) -> BackupResult:
        @contextmanager
        def progress(what: str) -> Iterator[ReportProgress]:
            yield report_progress

        return backup.copy(data, backup.target_in(data, directory), live, verify=True, progress=progress)

    return run


def backup_screen(data: Path, directory: str, source: Source | None) -> ProgressScreen[BackupResult]:
    return ProgressScreen(
        f"Backing up to {text.clean(directory)}, and verifying the copy",
        backup_job(data, directory, source),
        lambda done: backup_lines(directory, done),
        ok=lambda done: not done[1],
    )


class BackupDialog(Dialog[str | None]):
    """Asks for the target directory. Dismissed with it, None if none was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Close")]

    def __init__(self, known: list[BackupEntry]) -> None:
        """`known`: the earlier backups, the newest last; its directory is suggested."""
        super().__init__()
        self._suggested = str(known[-1]["path"]) if known else ""

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content("Back up the journal"), id="dialog-title")
            yield Input(self._suggested, placeholder="a directory, best on another disk", id="directory", compact=True)
            yield Static(
                Content(
                    "Enter copies. Into the directory of an earlier backup, only what has changed since is copied."
                ),
                id="dialog-body",
            )

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value.strip() or None)

    def action_leave(self) -> None:
        self.dismiss(None)
