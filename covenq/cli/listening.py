"""What `covenq listen` prints of the daemon that it runs: each delivery as it comes, and what became of it.

The daemon is `covenq serve`'s, in this process. It is asked as any other is, on its Unix socket, from a thread of its own.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from covenq.cli import output
from covenq.cli.output import clean, say
from covenq.cli.record_line import print_record
from covenq.client.interface import Source
from covenq.client.open import open_running
from covenq.config.load import Config
from covenq.errors import CovenqError, DaemonUnreachable, StateBehind
from covenq.model import at_text
from covenq.model.status import Status
from covenq.operate.log_records import read_state
from covenq.text import counted
from journal.interface import Engine

KINDS = frozenset(
    "delivery.received delivery.ignored task.completed task.failed task.retry task.cancelled task.superseded".split()
)
"""Records that get a line: of a delivery that it came, and of its tasks how they ended."""
WAIT_S = 25.0
CATCHING_UP_S = 0.5
"""Seconds for which the daemon holds a request until a record comes, and while it isn't caught up."""
_PAUSE_S = 0.05
END_S = 5.0
"""Seconds for what is still to be printed when the daemon has ended."""


class Listening(threading.Thread):
    """Prints from when the daemon is ready until it ends. `opened` and `ready` are `covenq.daemon.start`'s to call."""

    def __init__(self, data: Path, config: Config, filter: Sequence[str]) -> None:
        super().__init__(name="listening", daemon=True)
        self.error: Exception | None = None
        """What ended it, and with it the daemon, before its time."""
        self._data = data
        self._config = config
        self._filter = filter
        self._position = 0
        self._printed = 0
        self._caught_up = False
        self._ended = threading.Event()

    def opened(self, journal: Engine) -> None:
        """Begin behind what is in the journal, and say from where each log is taken. Raises JournalError."""
        self._position = journal.head().seq
        for one in self._config.github_logs.all:
            state = read_state(journal, one)
            if state is None:
                say(f"Listening to {clean(one.name)}, from now on.")
            else:
                at = state.baseline if state.mark is None else state.mark.at
                say(f"Listening to {clean(one.name)}, from {at_text(at)[:19]}Z (where it last stopped).")

    def ready(self) -> None:
        """The daemon is up: print from now on."""
        say("Ctrl-C ends it.")
        self.start()

    def finish(self) -> None:
        """The daemon has ended: print what is left. Raises what ended the printing, such as a reader that left."""
        self._ended.set()
        if self.ident is not None:
            self.join(END_S)
        if self.error is not None:
            raise self.error
        say("Stopped: `covenq listen` goes on from here.")

    def run(self) -> None:
        try:
            while not self._ended.is_set():
                self._follow_running()
        except (CovenqError, OSError) as error:
            self.error = error
            os.kill(os.getpid(), signal.SIGTERM)  # nobody sees what it would print

    def _follow_running(self) -> None:
        """Print until the daemon doesn't answer: it ends, or has too much to do just now. Then it is asked again, from there."""
        try:
            opened = open_running(self._data)
            if opened is not None:
                with opened:
                    self._follow(opened)
        except (DaemonUnreachable, StateBehind):
            pass
        self._ended.wait(CATCHING_UP_S)

    def _follow(self, opened: Source) -> None:
        while not self._ended.is_set():
            status = None if self._caught_up else opened.status()
            until = None if status is None else _caught_up_at(status)
            self._print(opened, WAIT_S if self._caught_up else 0.0)
            if status is not None and until is not None and self._position >= until:
                self._caught_up = True
                came = self._printed if status.reconcile is None else status.reconcile.fetched
                shown = f", {self._printed:,} of them shown" if self._filter else ""
                say(f"Caught up: {counted(came, 'delivery', 'deliveries')} came since then{shown}.")
            elif not self._caught_up:
                self._ended.wait(CATCHING_UP_S)

    def _print(self, opened: Source, wait_s: float) -> None:
        """Print the next records, waited for so long."""
        output.stop_if_unread()
        found = opened.tail(self._filter, after=self._position, wait_s=wait_s)
        for item in found.items:
            if item.kind in KINDS:
                print_record(item)
            self._printed += item.kind == "delivery.received"
        output.flush()
        if self._position == found.next:
            time.sleep(_PAUSE_S)  # a daemon that stops answers at once
        self._position = found.next


def _caught_up_at(status: Status) -> int | None:
    """The seq up to which records are of what GitHub listed before; None as long as not every log was seen to its end."""
    passes = status.reconcile
    if passes is None or any(one.last is None or one.last.finished_at is None for one in passes.logs):
        return None
    return status.journal.head.seq
