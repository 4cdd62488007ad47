"""The fold in a thread of this process, for tests of the parts that wait for it: the same loop as the follower's."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from covenq.model.status import FollowerStatus
from covenq.rounds import Loop
from covenq.state.follow import RETRY_S, FoldLoop
from covenq.state.progress import FoldProgress
from covenq.state.store import StateStore
from journal.interface import Journal


class FoldThread(FoldProgress):
    """`start` and `stop` as a thread's."""

    def __init__(
        self,
        store: StateStore,
        journal: Journal,
        *,
        retry_s: float = RETRY_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(lambda: journal.head().seq, store.folded, monotonic=monotonic)
        self.loop = Loop("fold", 60.0, "nothing is shown")
        self._fold_loop = FoldLoop(store, journal.wait, self, retry_s=retry_s, monotonic=monotonic)
        self._store = store
        self._thread = threading.Thread(target=self._run, name="fold", daemon=True)

    def status(self) -> FollowerStatus:
        return FollowerStatus(os.getpid(), 0)

    @property
    def folded(self) -> int:
        """What is committed: a test may also fold by itself."""
        return self._store.folded

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def stop(self, timeout: float = 10.0) -> None:
        self._fold_loop.stop(timeout / 2)
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            self._fold_loop.run()
        finally:
            self.ended()
