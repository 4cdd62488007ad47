"""Caring for the journal from the dashboard: what compacting would drop, and doing it; a backup, and its proof."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from covenq.client.interface import Object, Source
from covenq.errors import Failure
from covenq.operate.maintain import backup
from covenq.tui import text
from covenq.tui.actions import BY
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.is_open import is_open
from covenq.tui.screens.progress import Tell, WorkScreen
from covenq.tui.widgets.lines import Line
from journal.file.backup import BackupReport
from journal.records import Damage

LOOK_S = 0.3
"""How often a daemon at work is asked how far it is."""


# ---- compacting


def compact_lines(done: Object) -> list[Line]:
    """What was, or with a plan would be, dropped, in words."""
    policy = done["policy"]
    if policy["payloads_s"] is None and policy["attempts_s"] is None:
        return [[("The configuration has no [retention]: everything is kept.", "")]]
    would = "would be " if done["dry_run"] else ""
    lines: list[Line] = [
        [(f"{text.number(done['deliveries'])} payloads of {text.size(done['payload_bytes'])} {would}dropped, ", "")],
        [(f"in {text.number(done['segments'])} segments", "")],
        [(f"the files of {text.number(done['attempts'])} tasks {would}removed", "")],
    ]
    if not done["dry_run"]:
        lines += [[(f"the journal is {text.size(max(0, done['freed']))} shorter", "")], []]
        lines += [[("the same from a shell:", "dim")], [("  covenq compact", "")]]
    for path in done["left"]:
        lines.append([(f"could not be removed, the next start tries again: {text.clean(path)}", "red")])
    return lines


def compactor(source: Source) -> Callable[[Tell], Object]:
    """Compacts, and meanwhile tells how far the daemon is. It isn't ended by leaving."""

    def run(tell: Tell) -> Object:
        answers: list[Object] = []
        errors: list[BaseException] = []

        def do() -> None:
            try:
                answers.append(source.compact(by=BY))
            except BaseException as error:  # noqa: BLE001 - raised again by who waits
                errors.append(error)

        thread = threading.Thread(target=do, name="tui-compact", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(LOOK_S)
            doing = (source.status().get("upkeep") or {}).get("doing")
            if doing is not None:
                tell(int(doing["done"]), int(doing["total"]))
        if errors:
            raise errors[0]
        return answers[0]

    return run


def compact_screen(source: Source) -> WorkScreen[Object]:
    return WorkScreen(
        "Compacting: dropping what [retention] keeps no longer",
        compactor(source),
        compact_lines,
        ok=lambda done: not done["left"],
        unit=lambda number: f"{text.number(number)} segments",
    )


class CompactDialog(ModalScreen[bool]):
    """What would be dropped, and whether to. Cancel has the focus."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("q", "app.quit", "Quit"),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    def __init__(self, writable: Callable[[], Source], lane: BackgroundThread) -> None:
        super().__init__()
        self._writable = writable
        self._lane = lane

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content("Compact the journal"), id="dialog-title")
            yield Static(Content("… planning"), id="dialog-body")
            yield Static(Content("What is dropped is gone for ever; hashes, states and history stay."), id="warning")
            with Horizontal(id="dialog-buttons"):
                yield Button("Cancel", id="cancel")
                yield Button("Compact", id="go", variant="warning", disabled=True)

    def on_mount(self) -> None:
        self.query_one("#cancel").focus()
        self._plan()

    @work(exclusive=True)
    async def _plan(self) -> None:
        try:
            plan = await self._lane.call(lambda: self._writable().compact(dry_run=True, by=BY))
        except Failure as error:
            if is_open(self):
                said = f"refused: {text.clean(error)}\n{text.clean(error.hint)}"
                self.query_one("#dialog-body", Static).update(Content(said))
            return
        if is_open(self):
            words = "\n".join("".join(run for run, _ in line) for line in compact_lines(plan))
            self.query_one("#dialog-body", Static).update(Content(words))
            self.query_one("#go", Button).disabled = not (plan["deliveries"] or plan["attempts"])

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.dismiss(event.button.id == "go")

    def action_leave(self) -> None:
        self.dismiss(False)


# ---- backing up


Copied = tuple[BackupReport, list[Damage], str | None]


def backup_lines(directory: str, done: Copied) -> list[Line]:
    """What a backup came to, in words."""
    report, damage, forgotten = done
    lines: list[Line] = []
    for one in damage:
        lines.append([(f"✗ {text.clean(one)}", "red")])
    if not damage:
        lines.append([("✓ the copy verifies", "green")])
    copied = f"{text.number(report.copied)} segments copied ({text.size(report.bytes)}), {text.number(report.kept)} unchanged"
    lines += [
        [(copied, "")],
        [(f"to {text.clean(directory)}", "")],
        [(f"head {report.head.seq}:{report.head.sum}", "dim")],
    ]
    if forgotten:
        lines.append([(text.clean(forgotten), "yellow")])
    lines += [[], [("Not in it: the secret, the configuration, the files of attempts.", "")]]
    return [*lines, [], [("the same from a shell:", "dim")], [(f"  covenq backup {text.clean(directory)}", "")]]


def backer(data: Path, directory: str, source: Source | None) -> Callable[[Tell], Copied]:
    """Copies the journal into `directory` and proves the copy; `source` is the running daemon's, None without one."""

    def live() -> Object | None:
        if source is None:
            return None
        journal: Object = source.status()["journal"]
        return journal

    def run(tell: Tell) -> Copied:
        @contextmanager
        def progress(what: str) -> Iterator[Tell]:
            yield tell

        return backup.copy(data, backup.target_in(data, directory), live, verify=True, progress=progress)

    return run


def backup_screen(data: Path, directory: str, source: Source | None) -> WorkScreen[Copied]:
    return WorkScreen(
        f"Backing up to {text.clean(directory)}, and verifying the copy",
        backer(data, directory, source),
        lambda done: backup_lines(directory, done),
        ok=lambda done: not done[1],
        failed=(*Failure, OSError),
    )


class BackupDialog(ModalScreen[str | None]):
    """Asks for the directory. Dismissed with it, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Close")]

    def __init__(self, known: list[dict[str, Any]]) -> None:
        """`known`: the backups that are remembered, the newest last, which is suggested."""
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
