"""The outbox: what was told, what is owed to whom, and what was sent last, in one file of the data directory.

A transition and the notices that follow from it become durable in one atomic write (`covenq.atomic_file`), before anything is
sent; that a target took one becomes durable after. So of a crash anywhere

- before the first write, nothing is left: the condition still holds at the next start, or doesn't, and is looked at anew;
- after it, the notices are owed: the next start sends them;
- between a target's yes and the second write, the notice is sent once more, the same bytes with the same id.

Each notice is therefore sent at least once, and twice only after a crash, or where a yes was lost; its id tells. Where the file
can't be written (a disk that is full or read-only), what is owed is sent from memory all the same, and that it isn't kept is
shown: then a crash may have it told anew with another id, and what ended meanwhile told by nobody. So it is where a write hangs,
as on a disk that has stopped: that is waited for SAVE_S, since whoever is told must not hear of it only when it is over.

Why a file, and no records in the journal: notices are wanted most where the journal can take none (poisoned, full, damaged, not
opened at all); they are about this machine and no delivery, so that no fold, export or restored copy should have them; and the
journal keeps for ever what is of interest for a week.

What is owed is bounded: of one condition and target at most OWED_MAX notices; where another comes, the oldest pair, of a
beginning and its end that nobody took, is given up and kept among what was sent, as not taken.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from covenq import atomic_file
from covenq.config import regular_file
from covenq.errors import CovenqError
from covenq.model import at_text
from covenq.model.notices import Notice, OwedNotice, SentNotice
from covenq.operate.notify.conditions import Condition, Key
from covenq.operate.notify.transitions import Change, Track, step, told
from covenq.text import instant
from journal.presence import is_absent

SENT_MAX = 100
"""What was sent last is kept so far."""
OWED_MAX = 4
"""Of one condition and target: two beginnings and their ends."""
FILE_MAX = 8 << 20
"""Bytes of the file. What is bounded above takes a quarter of it."""
SAVE_S = 2.0
"""Seconds for which a write is waited for."""
BACKOFF_FIRST_S = 5.0
BACKOFF_MAX_S = 600.0
"""Seconds until what was not taken is tried again: twice as long each time, up to this."""
DROPPED = "given up: it came and went again before anybody took it"


class Kept(Struct, kw_only=True):
    """The file's content."""

    version: int = 1
    tracks: list[Track] = []
    owed: list[OwedNotice] = []
    sent: list[SentNotice] = []
    """Oldest first."""


def read(path: Path) -> Kept:
    """What the file has; nothing, where there is none. Raises CovenqError where it can't be read."""
    try:
        if is_absent(path):
            return Kept()
        content, _ = regular_file.read(path, FILE_MAX + 1)
        if len(content) > FILE_MAX:
            raise ValueError(f"it has more than {FILE_MAX >> 20} MiB")
        found = msgspec.json.decode(content, type=Kept)
        if found.version != 1:
            raise ValueError(f"it is of version {found.version}")
    except (OSError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        reason = error.strerror if isinstance(error, OSError) else error
        raise CovenqError(
            f"what was told of is not known: {path} can't be read: {reason}",
            hint="Put the file aside: it is made anew.",
        ) from error
    return found


def with_owed(
    owed: Sequence[OwedNotice], notice: Notice, targets: Sequence[str]
) -> tuple[list[OwedNotice], list[OwedNotice]]:
    """What is owed with that notice to these targets, and what is given up for it."""
    found, dropped = list(owed), []
    for to in targets:
        same = [one for one in found if one.to == to and _key(one) == (notice.kind, notice.scope)]
        if len(same) >= OWED_MAX:
            oldest = same[:2]
            dropped += oldest
            found = [one for one in found if not any(one is other for other in oldest)]
        found.append(OwedNotice(notice=notice, to=to))
    return found, dropped


def due(owed: Sequence[OwedNotice], to: str, now: float) -> tuple[OwedNotice | None, float | None]:
    """What is sent next to a target at `now`; or, where nothing is due, in how many seconds something is: None for never.

    Of one condition the oldest first, so that no end comes before its beginning; of several the one that was tried least, so that
    one that is never taken keeps nobody waiting.
    """
    first: dict[Key, OwedNotice] = {}
    for one in owed:
        if one.to == to:
            first.setdefault(_key(one), one)
    waits = [(_wait_s(one, now), one.tries, number) for number, one in enumerate(first.values())]
    ready = [(tries, number) for wait_s, tries, number in waits if wait_s <= 0]
    if ready:
        return list(first.values())[min(ready)[1]], None
    return None, min((wait_s for wait_s, _, _ in waits), default=None)


def backoff_s(tries: int) -> float:
    """Seconds after so many failures."""
    return float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(max(tries - 1, 0), 16)))


def _wait_s(one: OwedNotice, now: float) -> float:
    at = instant(one.next_at)
    wait_s = 0.0 if at is None else at - now
    return wait_s if wait_s <= BACKOFF_MAX_S else 0.0  # the clock was set back


def _key(one: OwedNotice) -> Key:
    return one.notice.kind, one.notice.scope


class Outbox:
    """The file, for one process. Methods may be called from any thread."""

    def __init__(self, path: Path, log: Callable[[str], None] = lambda words: None) -> None:
        """Reads the file. One that can't be read counts as empty, and `log` is told; so it is of each new error in writing."""
        self._path = path
        self._log = log
        self._lock = threading.Lock()
        self._closed = False
        self._writing: threading.Thread | None = None
        self.error: str | None = None
        """Why what is told and owed isn't kept, if it isn't."""
        try:
            kept = read(path)
        except CovenqError as error:
            kept = Kept()
            self._failed(str(error))
        self._tracks = {one.key: replace(one, turning_at=None) for one in kept.tracks}
        self._owed = [replace(one, next_at=None) for one in kept.owed]
        self._sent = kept.sent
        self.untracked = 0

    def told(self) -> dict[Key, Condition]:
        """The conditions whose beginning was told, and whose end was not yet."""
        with self._lock:
            return told(self._tracks)

    def look(
        self,
        seen: Sequence[Condition],
        now: float,
        debounce_s: float,
        on: Sequence[str],
        targets: Sequence[str],
        notice_of: Callable[[Change, float], Notice],
    ) -> list[Notice]:
        """Take in what holds at `now`; what has to be told of it is durably owed to the targets on return. → those notices.

        What is of a kind that nobody is told of any more is forgotten, and so is what is owed to no target.
        """
        with self._lock:
            tracks = {key: one for key, one in self._tracks.items() if one.kind in on}
            found = step(tracks, seen, now, debounce_s)
            notices = [notice_of(change, now) for change in found.changes]
            owed = [one for one in self._owed if one.to in targets]
            changed = bool(notices) or len(owed) != len(self._owed) or len(tracks) != len(self._tracks)
            for notice in notices:
                owed, dropped = with_owed(owed, notice, targets)
                self._note(*(_given_up(one, now) for one in dropped))
            self._tracks, self._owed, self.untracked = found.tracks, owed, found.untracked
            if changed or self.error is not None:
                self._save(durable=True)
            return notices

    def forget(self) -> None:
        """Nobody is told of anything any more: what holds, and what is owed, would be old news to whoever is told next."""
        with self._lock:
            if self._tracks or self._owed:
                self._tracks, self._owed, self.untracked = {}, [], 0
                self._save(durable=True)

    def due(self, to: str, now: float) -> tuple[OwedNotice | None, float | None]:
        """`due` of what is owed now."""
        with self._lock:
            return due(self._owed, to, now)

    def taken(self, one: OwedNotice, detail: str, now: float) -> None:
        """The target took it. What it had not taken before is tried again at once, for it is back."""
        with self._lock:
            if not self._remove(one):
                return
            self._owed = [replace(other, next_at=None) if other.to == one.to else other for other in self._owed]
            self._note(
                SentNotice(notice=one.notice, to=one.to, ok=True, at=at_text(now), tries=one.tries + 1, detail=detail)
            )
            self._save(durable=True)

    def refused(self, one: OwedNotice, detail: str, now: float) -> None:
        """The target didn't take it."""
        with self._lock:
            for other in self._owed:
                if other.to == one.to and other.notice.id == one.notice.id:
                    other.tries += 1
                    other.detail = detail
                    other.next_at = at_text(now + backoff_s(other.tries))
            self._save(durable=False)

    def listing(self) -> tuple[list[OwedNotice], list[SentNotice]]:
        """What is owed, oldest first, and what was sent, newest first."""
        with self._lock:
            return [replace(one) for one in self._owed], self._sent[::-1]

    def close(self) -> None:
        """Write no more: another process may."""
        with self._lock:
            self._closed = True

    def _remove(self, one: OwedNotice) -> bool:
        before = len(self._owed)
        self._owed = [other for other in self._owed if (other.to, other.notice.id) != (one.to, one.notice.id)]
        return len(self._owed) < before

    def _note(self, *sent: SentNotice) -> None:
        self._sent = [*self._sent, *sent][-SENT_MAX:]

    def _save(self, *, durable: bool) -> None:
        if self._closed:
            return
        kept = Kept(tracks=list(self._tracks.values()), owed=self._owed, sent=self._sent)
        if (
            self._writing is None or not self._writing.is_alive()
        ):  # else it is written when that has ended, by a later look
            found: list[OSError | None] = []
            given = self._path, msgspec.json.encode(kept), durable, found
            self._writing = threading.Thread(target=_write, args=given, daemon=True)
            try:
                self._writing.start()
                self._writing.join(SAVE_S)
            except RuntimeError:  # no more threads can be had
                _write(*given)
            if found:
                if found[0] is None:
                    self.error = None
                else:
                    self._failed(f"what is told of can't be kept: {self._path.name}: {found[0].strerror}")
                return
        self._failed(f"what is told of can't be kept: {self._path.name}: the disk doesn't answer")

    def _failed(self, words: str) -> None:
        if words != self.error:
            self._log(words)
        self.error = words


def _write(path: Path, content: bytes, durable: bool, found: list[OSError | None]) -> None:
    """Write it, and put the error, or None, into `found`."""
    try:
        atomic_file.replace(path, content, durable=durable)
    except OSError as error:
        found.append(error)
    else:
        found.append(None)


def _given_up(one: OwedNotice, now: float) -> SentNotice:
    return SentNotice(notice=one.notice, to=one.to, ok=False, at=at_text(now), tries=one.tries, detail=DROPPED)
