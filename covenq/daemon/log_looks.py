"""When followed logs were last seen to their end, noted in the data directory: by that it is told what GitHub forgot meanwhile.

The log's own records say what it listed, and nothing of when it was last looked at: a log in which nothing happens changes no
record. The note proves nothing, and may be deleted: then the mark is taken for it, the newest that is known to be settled.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
from msgspec import Struct

from covenq import atomic_file
from covenq.model import at_text
from covenq.model.log_ingress import LogGap
from covenq.paths import LOOKS_NAME

TOLD_S = 7 * 86_400.0
"""Seconds for which a gap is told after it was found."""
NOTED_S = 60.0
"""A look is noted when the one noted before is older."""
_MAX = 1 << 16

log = logging.getLogger("covenq.reconcile")


class _Look(Struct):
    at: float
    gap: tuple[float, float] | None = None
    """From when to when GitHub may have sent what it had forgotten at the look after."""
    gap_at: float = 0.0


class LogLooks:
    """The notes, by the log's digest. Times are seconds since 1970. For one thread, but for `gap`."""

    def __init__(self, data: Path) -> None:
        self._path = data / LOOKS_NAME
        self._looks = _read(self._path)
        self._noted: dict[str, float] = {}

    def looked(self, digest: str, now: float, settled: float, kept_s: float) -> LogGap | None:
        """Note a look to the end; the gap that it found, if it is one after a longer time than GitHub keeps a log.

        `settled` is until when all was settled before it.
        """
        before = self._looks.get(digest)
        last = settled if before is None else max(before.at, settled)
        found = None
        look = _Look(now) if before is None else _Look(now, before.gap, before.gap_at)
        if last < now - kept_s:
            look.gap, look.gap_at = (last, now - kept_s), now
            found = _gap(look, now)
        self._looks[digest] = look
        noted = self._noted.get(digest)
        if found is not None or noted is None or not 0 <= now - noted < NOTED_S:
            self._noted[digest] = now
            self._write()
        return found

    def gap(self, digest: str, now: float) -> LogGap | None:
        """The newest gap, while it is told."""
        look = self._looks.get(digest)
        return None if look is None else _gap(look, now)

    def _write(self) -> None:
        try:
            atomic_file.replace(self._path, msgspec.json.encode(self._looks) + b"\n", durable=False)
        except OSError as error:  # it is a note: the mark stands in for it
            log.warning("%s can't be written: %s", self._path, error.strerror)


def _gap(look: _Look, now: float) -> LogGap | None:
    if look.gap is None or now - look.gap_at > TOLD_S:
        return None
    return LogGap(at_text(look.gap[0]), at_text(look.gap[1]))


def _read(path: Path) -> dict[str, _Look]:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_MAX), type=dict[str, _Look])
    except (OSError, ValueError, RecursionError):
        return {}
