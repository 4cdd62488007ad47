"""The follower: the process that folds the journal into state.db, beside the daemon that appends to it.

It reads the segments itself, up to the head that the daemon tells it, and knows nothing else of the daemon: so neither the
interpreter's lock nor a slow disk under state.db holds up what GitHub waits for. `covenq.daemon.following` starts it and looks
after it; it imports the state and the journal's face alone.

It never outlives the daemon: its main thread reads the socket, and ends the process at the end of the file, whatever the other
thread is doing; and where the system can, it is killed with the daemon. A process that ends at any point leaves state.db as
its last transaction left it, which is what a fold of those records gives.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from covenq.daemon.follower_messages import (
    Alive,
    Begin,
    Busy,
    Channel,
    Damaged,
    Distrust,
    Ended,
    Failing,
    Folded,
    Head,
    Logged,
    Marked,
    Message,
    Opened,
    Recovered,
    Scrub,
    Scrubbed,
    Stop,
    Suspect,
)
from covenq.errors import CovenqError, DiskFull, StateNotAsLeft
from covenq.state.follow import FoldLoop
from covenq.state.store import StateStore
from journal.engines import open_reader
from journal.errors import JournalDamaged, JournalError
from journal.interface import Reader

log = logging.getLogger("covenq.state")

ALIVE_S = 10.0
"""Seconds after which a long piece of work shows a sign of life."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4


def main(argv: list[str]) -> NoReturn:
    """`argv` is the number of the socket's descriptor."""
    channel = Channel(socket.socket(fileno=int(argv[0])))
    _protect()
    heard = channel.hear()
    begin = next(heard, None)
    if not isinstance(begin, Begin) or os.getppid() != begin.parent:
        os._exit(0)  # the daemon has ended before it could be tied to this process
    gc.collect()
    gc.freeze()  # what is imported lives as long as the process
    gc.set_threshold(50_000, 20, 20)  # a batch's records and rows are many, and no cycles
    logging.basicConfig(handlers=[_Log(channel)], level=logging.INFO)
    follower = Follower(channel, begin)
    threading.Thread(target=follower.run, name="fold", daemon=True).start()
    for message in heard:
        follower.hear(message)
    os._exit(0)


def _protect() -> None:
    """Leave the signals of a terminal or a service manager to the daemon, show nobody this memory, and die with the daemon."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform.startswith("linux"):
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


class Follower:
    """Opens what it is told, folds, and answers. `hear` is for the thread that reads the socket, `run` for another."""

    def __init__(
        self,
        channel: Channel,
        begin: Begin,
        *,
        exit: Callable[[int], NoReturn] = os._exit,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channel = channel
        self._begin = begin
        self._exit = exit
        self._monotonic = monotonic
        self._heads = Heads(begin.head)
        self._store: StateStore | None = None
        self._loop: FoldLoop | None = None
        self._stop: Stop | None = None
        self._starting = threading.Lock()
        self._said = 0.0
        self._marking = threading.Lock()
        self._failing = True
        """As long as nothing was tried: the one before may have met damage."""

    # ---- what the daemon says

    def hear(self, message: Message) -> None:
        match message:
            case Head(seq):
                self._heads.move(seq)
            case Scrub():
                threading.Thread(target=self._scrub, name="scrub", daemon=True).start()
            case Distrust():
                threading.Thread(target=self._mark, name="mark", daemon=True).start()
            case Stop(within_s):
                with self._starting:
                    self._stop = message
                    if self._loop is not None:
                        self._loop.stop(within_s)
                self._heads.stop()

    def _scrub(self) -> None:
        store = self._store
        done = store is not None and store.truncate_wal()
        self._channel.tell(Scrubbed() if done else Busy())

    def _mark(self) -> None:
        """Between two rounds of the fold. Where it fails there is no answer, and the daemon asks again."""
        store = self._store
        if store is None or not self._marking.acquire(blocking=False):
            return
        try:
            store.mark_for_rebuild()
        except (sqlite3.Error, CovenqError) as error:
            log.error("state.db can't be marked to be made anew: %s", error)
        else:
            self._channel.tell(Marked())
        finally:
            self._marking.release()

    # ---- the fold

    def run(self) -> None:
        """Fold until it is told to stop, or can't; then this process ends."""
        code = 1
        try:
            with open_reader(os.fsdecode(self._begin.journal), upto=self._begin.head) as journal:
                self._follow(journal)
            code = 0
        except JournalDamaged as error:
            self._channel.tell(Ended(_text(error), error.hint, damage=tuple(error.damage)))
        except (CovenqError, JournalError) as error:
            full, lost = isinstance(error, DiskFull), isinstance(error, StateNotAsLeft)
            self._channel.tell(Ended(_text(error), error.hint, full=full, lost=lost))
        except (sqlite3.Error, OSError) as error:
            self._channel.tell(Ended(_text(f"state.db can't be folded: {error}")))
        finally:
            self._exit(code)

    def _follow(self, journal: Reader) -> None:
        path = os.fsdecode(self._begin.state)
        with StateStore(Path(path), journal, at_least=self._begin.at_least, working=self.alive) as store:
            self._store = store
            self._heads.follow(journal)
            self._channel.tell(Opened(store.folded))
            with self._starting:
                self._loop = FoldLoop(store, self._heads.wait, self, monotonic=self._monotonic)
                if self._stop is not None:
                    self._loop.stop(self._stop.within_s)
            self._loop.run()

    # ---- what it reports (`covenq.state.progress.FoldReport`)

    def advanced(self, seq: int, *, moved_tasks: bool) -> None:
        self._say(Folded(seq, moved_tasks))

    def failed(self, error: str, *, full: bool = False, damage: JournalDamaged | None = None) -> None:
        self._failing = True
        said = _text(error)
        self._say(Failing(said, full) if damage is None else Damaged(said, tuple(damage.damage)))

    def recovered(self) -> None:
        if self._failing:
            self._failing = False
            self._say(Recovered())

    def distrust(self) -> None:
        self._say(Suspect())

    def alive(self) -> None:
        """A sign of life in a long piece of work: at most one in ALIVE_S goes out."""
        if self._monotonic() - self._said >= ALIVE_S:
            self._say(Alive())

    def _say(self, message: Message) -> None:
        self._said = self._monotonic()
        self._channel.tell(message)


class Heads:
    """The head that the daemon has told, for the fold to wait for. Methods may be called from any thread."""

    def __init__(self, seq: int) -> None:
        self._seq = seq
        self._journal: Reader | None = None
        self._stopping = False
        self._moved = threading.Condition()

    def follow(self, journal: Reader) -> None:
        """From now on `journal` is moved, too, to what was told and to what will be."""
        with self._moved:
            self._journal = journal
            journal.advance(self._seq)

    def move(self, seq: int) -> None:
        with self._moved:
            self._seq = max(self._seq, seq)
            if self._journal is not None:
                self._journal.advance(self._seq)
            self._moved.notify_all()

    def stop(self) -> None:
        """Nobody need wait any longer."""
        with self._moved:
            self._stopping = True
            self._moved.notify_all()

    def wait(self, after: int, timeout: float) -> bool:
        """As `journal.interface.Journal.wait`."""
        with self._moved:
            self._moved.wait_for(lambda: self._seq > after or self._stopping, timeout)
            return self._seq > after


def _text(said: object) -> str:
    """As JSON can carry it: a path need not be UTF-8."""
    return str(said).encode("utf-8", "backslashreplace").decode()


class _Log(logging.Handler):
    """Gives the daemon what is logged here: its log is the one that is looked at."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        self._channel.tell(Logged(record.levelno, record.name, _text(record.getMessage())))


if __name__ == "__main__":
    main(sys.argv[1:])
