"""A fingerprint of this node's webhook secrets, by which nodes that share a journal see whether theirs differ.

It goes into a table that others may read, so guesses must be expensive to test by it, and a match must prove little: scrypt,
of which 32 bits are kept. To make it takes up to some tenths of a second and 16 MiB, so it is made once for the secrets in
effect, on a thread of its own.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence

from covenq.config.live import Snapshot
from covenq.config.secret_keys import Key

_COST, _BLOCK, _LANES, _BYTES = 2**14, 8, 1, 4

log = logging.getLogger("covenq.daemon")


def fingerprint(keys: Sequence[Key], journal: str) -> str:
    """8 hex digits, by the names and the contents in the order of the names. `journal` is the journal's id, the salt.

    May raise ValueError and MemoryError, where the machine's OpenSSL refuses.
    """
    framed = bytearray()
    for part in (
        part for name, secret in sorted((one.name, one.secret) for one in keys) for part in (name.encode(), secret)
    ):
        framed += len(part).to_bytes(8, "big") + part
    salt = b"webhook secrets " + journal.encode()
    return hashlib.scrypt(framed, salt=salt, n=_COST, r=_BLOCK, p=_LANES, dklen=_BYTES).hex()


def _in_background(run: Callable[[], None]) -> None:
    threading.Thread(target=run, name="secret-fingerprint", daemon=True).start()


class SecretFingerprint:
    """Of the secrets in effect. `of` is for one thread."""

    def __init__(self, journal: str, start: Callable[[Callable[[], None]], None] = _in_background) -> None:
        """`journal` is its id; `start` has something run, now or later."""
        self._journal = journal
        self._start = start
        self._keys: tuple[Key, ...] | None = None
        self._made: list[str] = []

    def of(self, snapshot: Snapshot) -> str | None:
        """None until it is made, and where no delivery is posted here. Waits for nothing."""
        if snapshot.config.follows_log:
            return None
        if snapshot.keys is not self._keys:
            self._keys = snapshot.keys
            self._begin(snapshot.keys)
        return self._made[0] if self._made else None

    def _begin(self, keys: tuple[Key, ...]) -> None:
        made: list[str] = []  # of these alone: one that is still being made for others gets nowhere
        self._made = made

        def make() -> None:
            try:
                made.append(fingerprint(keys, self._journal))
            except (ValueError, MemoryError) as error:
                log.warning("whether other nodes have the same webhook secrets is not known: %s", error)

        self._start(make)
