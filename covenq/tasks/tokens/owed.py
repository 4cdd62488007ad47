"""Tokens that have to be revoked, each in a private file of its own, durable until that was done.

A token can be revoked with itself alone, so this is the one place where covenq keeps one on the disk: a file below
DATA/github-tokens (0700), 0600, written whole and synced with its name before anybody gets the token, and removed once GitHub
has answered and that is recorded. So from the answer of GitHub that was read on, a token is in a file or of no use; before
that, the record that `covenq.tasks.tokens.keeper` appended tells that there may be one.

What a crash left of a write is read as well: a file without its name that is whole has a token that must be revoked too.
"""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

from covenq import atomic_file
from covenq.config import regular_file
from covenq.model import TOKEN

log = logging.getLogger("covenq.tokens")

_SUFFIX, _TEMPORARY = ".json", ".new"
_FILE_MAX = 16 * 1024


@dataclass(frozen=True, slots=True)
class OwedToken:
    """A token of an attempt. `until` is when it is of no use in any case, `expires_at` when GitHub says so; by this clock."""

    task: str
    attempt: int
    fence: str
    api_url: str
    token: str = field(repr=False)
    expires_at: float
    until: float

    @property
    def name(self) -> str:
        """`until` tells the tokens of an attempt apart: each is asked for later than the one before."""
        return f"{self.task}.{self.attempt}.{self.until:.6f}{_SUFFIX}"


class OwedFiles:
    """The files. Methods from any thread; of one token from one at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made = False
        """Whether this process has seen to it that the directory itself is durable."""

    def keep(self, owed: OwedToken) -> None:
        """Durable, with its name, on return. Raises OSError."""
        if not TOKEN.match(owed.task):
            raise ValueError(f"{owed.task[:80]!r} names no file")
        if not self._made:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            atomic_file.sync_directory(self._directory.parent)
            self._made = True
        atomic_file.replace(self._directory / owed.name, json.dumps(asdict(owed)).encode(), suffix=_TEMPORARY)

    def remove(self, owed: OwedToken) -> None:
        """It was revoked, or has expired, and that is recorded. One that stays is revoked once more, which does no harm."""
        for name in (owed.name, owed.name + _TEMPORARY):
            with contextlib.suppress(OSError):
                (self._directory / name).unlink()

    def all(self) -> list[OwedToken]:
        """Those that an earlier process left. A file that has none goes: nothing can be done with it. Raises OSError."""
        found: dict[str, OwedToken] = {}
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(self._directory.iterdir()):
                if not path.name.endswith((_SUFFIX, _SUFFIX + _TEMPORARY)):
                    continue
                try:
                    content, _ = regular_file.read(path, _FILE_MAX)
                    owed = _owed(content)
                except ValueError:
                    log.warning("%s has no token that could be revoked: it goes", path)
                    path.unlink(missing_ok=True)
                    continue
                found[owed.name] = owed
        return list(found.values())


def _owed(content: bytes) -> OwedToken:
    """Raises ValueError."""
    try:
        said = json.loads(content)
        owed = OwedToken(
            task=str(said["task"]),
            attempt=int(said["attempt"]),
            fence=str(said["fence"]),
            api_url=str(said["api_url"]),
            token=str(said["token"]),
            expires_at=float(said["expires_at"]),
            until=float(said["until"]),
        )
    except (KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError("no token") from error
    if not TOKEN.match(owed.task):
        raise ValueError("no task")
    return owed
