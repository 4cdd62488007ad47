"""Masks what must never be written to a log: the values of webhook secrets, GitHub's tokens and our own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from covenq.config.secret_keys import Key
from covenq.tasks.execution.scrub import Scrubber

OWN_TOKEN = r"covenq_[0-9A-Za-z_\-]{43}"  # noqa: S105 - a pattern, not a token
"""The tokens that `covenq tokens` makes."""


class LogMask:
    """Masks secrets and tokens in a text. From any thread. The last line of defence: callers log ids and words anyway."""

    def __init__(self) -> None:
        self._keys: Callable[[], Sequence[Key]] = lambda: ()
        self._cached: tuple[Sequence[Key], Scrubber] = ((), Scrubber([OWN_TOKEN]))

    def use(self, keys: Callable[[], Sequence[Key]]) -> None:
        """Mask also the values of these keys: those in effect at each call."""
        self._keys = keys

    def __call__(self, text: str) -> str:
        keys = self._keys()
        cached = self._cached
        if cached[0] is not keys:
            cached = self._cached = (keys, Scrubber([OWN_TOKEN], [key.secret for key in keys]))
        return cached[1].scrub(text.encode("utf-8", "replace")).decode("utf-8", "replace")
