"""A client that tries any node, as a balancer does: it turns to the next one where a node takes no connection, or loses one.

What was sent on a connection that was lost is told apart: GitHub doesn't send it again, and balancers don't repeat a POST.

Nothing here imports the product, so that a test's oracle is not the code under test.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Sequence
from http.client import HTTPException

from tests.support.daemon import Daemon
from tests.support.requests import ask, issue, new_guid, signed

WAIT_S = 60.0
"""Seconds that an answer may take: what a loaded machine needs is not what is tested."""


class AnywhereLoad:
    """Threads that send one delivery after another, each to a node by turns, on a connection of its own, until they are ended."""

    def __init__(self, nodes: Sequence[Daemon], senders: int = 4, seed: int = 1) -> None:
        self.accepted: list[tuple[float, str]] = []
        """When each was answered, by the monotonic clock, and its GUID."""
        self.refused: list[str] = []
        """Each delivery that got another answer than 2xx, and what; or none of any node."""
        self.cut: list[str] = []
        """Each delivery that was sent on a connection which was lost before its answer came, and how."""
        self._nodes = list(nodes)
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(random.Random(seed * 100 + number),)) for number in range(senders)
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, chance: random.Random) -> None:
        number = 0
        while not self._over.is_set():
            guid, number = new_guid(), number + 1
            body, headers = signed("issues", issue(number), guid)
            for node in chance.sample(self._nodes, len(self._nodes)):
                connection = node.connect(WAIT_S)
                try:
                    connection.connect()
                    answer = ask(connection, "POST", "/webhook", body, headers)
                except ConnectionRefusedError:
                    continue
                except (OSError, HTTPException) as error:
                    self.cut.append(f"{guid}: {error!r}")
                    continue
                else:
                    if answer.status in (200, 202):
                        self.accepted.append((time.monotonic(), guid))
                    else:
                        self.refused.append(f"{guid}: {answer.status} {answer.body!r}")
                finally:
                    connection.close()
                break
            else:
                self.refused.append(f"{guid}: no node answers")

    def longest_gap(self, since: float, until: float) -> float:
        """The longest time without a 2xx, in seconds, from before `since` to behind `until`."""
        times = sorted(at for at, _ in self.accepted)
        first = max((at for at in times if at <= since), default=since)
        last = min((at for at in times if at >= until), default=until)
        inside = [first, *(at for at in times if first < at < last), last]
        return max(later - earlier for earlier, later in itertools.pairwise(inside))

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(WAIT_S)

    def __enter__(self) -> AnywhereLoad:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
