"""What must never be written to a log: the values of webhook secrets, and tokens of GitHub's or our own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from covenq.config.secret_keys import Key
from covenq.tasks.execution.scrub import Scrubber

OWN_TOKEN = r"covenq_[0-9A-Za-z_\-]{43}"  # noqa: S105 - what ours look like, not one
"""As `covenq tokens` makes them."""


class LogMask:
    """Masks them in a text. From any thread. It is the last line of a defence: what is logged is ids and words anyway."""

    def __init__(self) -> None:
        self._keys: Callable[[], Sequence[Key]] = lambda: ()
        self._made: tuple[Sequence[Key], Scrubber] = ((), Scrubber([OWN_TOKEN]))

    def use(self, keys: Callable[[], Sequence[Key]]) -> None:
        """From now on also the values of these keys: those in effect at each call."""
        self._keys = keys

    def __call__(self, text: str) -> str:
        keys = self._keys()
        made = self._made
        if made[0] is not keys:
            made = self._made = (keys, Scrubber([OWN_TOKEN], [key.secret for key in keys]))
        return made[1].scrub(text.encode("utf-8", "replace")).decode("utf-8", "replace")
