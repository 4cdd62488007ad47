"""Following what grows, by one request after another: `covenq tail` and `covenq audit`, over restarts of the daemon."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from covenq.cli import output
from covenq.cli.context import ask_again, source
from covenq.cli.output import say
from covenq.errors import DaemonUnreachable, StateBehind, StateUnreadable

if TYPE_CHECKING:
    from covenq.client.interface import Source

T = TypeVar("T")

RETRY_S = 0.5
"""Seconds between two attempts to reach a daemon."""


class Followed(ABC, Generic[T]):
    """The items in their order, one list per request. What goes on over requests is for `_ask` to remember."""

    def __init__(self, follow: bool, data: str | None, config: str | None) -> None:
        self.follow = follow
        self._data = data
        self._config = config

    @abstractmethod
    def _ask(self, opened: Source) -> tuple[list[T], bool]:
        """The next items, and whether these are all that there are now. Waits for more where that is called for."""

    def __iter__(self) -> Iterator[list[T]]:
        """With `follow` it never ends, and waits for a daemon that isn't running, or whose state is behind; else it raises."""
        waiting = behind = False
        while True:
            try:
                with source(self._data, self._config) as opened:
                    if waiting and not opened.live:
                        _wait()
                        continue
                    if waiting:
                        say("The daemon is back.")
                    waiting = False
                    for items in self._requests(opened):
                        behind = False
                        yield items
                    return
            except (StateBehind, StateUnreadable):
                if not self.follow:
                    raise
                if not behind:
                    say("The state can't be read now, or is behind: waiting for it.")
                behind = True
                _wait()
            except DaemonUnreachable:
                if not self.follow:
                    raise
                if not waiting:
                    say("No daemon is running: waiting for it.")
                waiting = True
                _wait()

    def _requests(self, opened: Source) -> Iterator[list[T]]:
        while True:
            if self.follow:
                output.stop_if_unread()
            items, all_of_it = self._ask(opened)
            yield items
            if all_of_it:
                if not self.follow:
                    return
                if not opened.live:
                    raise DaemonUnreachable("there is no daemon")


def _wait() -> None:
    output.pause(RETRY_S)
    ask_again()
