"""Bearer tokens of the API over TCP. A file beside the journal holds their hashes; it is read again when it changes.

A token is 256 bits of the system's randomness, and its SHA-256 is stored. Slow hashes are for passwords that people choose:
they make each guess expensive because there are few likely ones. Here a guess is one of 2^256, so a stolen file doesn't reveal
the tokens, and a request costs a microsecond, not a tenth of a second that any client could make the daemon spend.

A file in which a token has a scope is of format SCOPED, which a covenq from before scopes refuses: it would read such a token as
one for everything, so it must let nobody in rather than one tenant see all. A file without scopes stays of format PLAIN, so that
nobody who uses none is locked out by going back to that covenq.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from covenq import atomic_file
from covenq.config import regular_file
from covenq.errors import CovenqError, NotFound, Refused, UsageError
from covenq.model import TOKEN, at_text
from covenq.model.token_scope import Scope, scope_of

PLAIN, SCOPED = 1, 2
"""Formats of the file: without scopes, and with."""
FILE_MAX = 1 << 20
PREFIX = "covenq_"
"""So that scanners for leaked secrets, and people, recognize a token."""
LOCK_S = 10.0
"""Seconds to wait for another command that changes the file."""
POLL_S = 0.02
PRESENTED_MAX = 256
"""Characters of a token: ours have 50."""

log = logging.getLogger("covenq.tokens")


class Role(StrEnum):
    """What a token may do."""

    READ = "read"
    """All that only reads."""
    OPERATE = "operate"
    """That, and all actions except claims."""
    WORKER = "worker"
    """Claims: take a task, renew its lease, report phases, finish; and read the payloads of running `pull` tasks."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is stored about a token; not the token."""

    name: str
    role: Role
    sha256: str
    created_at: str
    scope: Scope | None = None
    """What it may see; None is everything."""

    def about(self) -> dict[str, object]:
        """What `covenq tokens` shows of it."""
        return {"name": self.name, "role": str(self.role), "created_at": self.created_at, **scope_numbers(self.scope)}


def scope_numbers(scope: Scope | None) -> dict[str, object]:
    """A scope in JSON."""
    if scope is None:
        return {"installations": None, "repositories": None}
    repositories = None if scope.repositories is None else list(scope.repositories)
    return {"installations": list(scope.installations), "repositories": repositories}


def digest(token: str) -> str:
    """SHA-256 of a token, as hex."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def find(tokens: tuple[Token, ...], presented: str) -> Token | None:
    """The token that was presented, or None. Every hash is compared, each in constant time."""
    if len(presented) > PRESENTED_MAX:
        return None
    hashed = digest(presented)
    found = None
    for token in tokens:
        if hmac.compare_digest(token.sha256, hashed):
            found = token
    return found


# ---- the file


def read(path: Path) -> tuple[Token, ...]:
    """The tokens in the file; none if there is no file.

    Raises Refused for a file that others may write or that can't be parsed, CovenqError if it can't be read.
    """
    try:
        content, mode = regular_file.read(path, FILE_MAX + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise CovenqError(f"{path} can't be read: {error.strerror}", hint="Check who owns it.") from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Refused(f"{path} can be written by other users", hint=f"chmod 600 {path}, and look what is in it.")
    try:
        if len(content) > FILE_MAX:
            raise ValueError("too long")
        whole = json.loads(content)
        if whole["format"] not in (PLAIN, SCOPED):
            raise ValueError("another format")
        return tuple(_token(one, scoped=whole["format"] == SCOPED) for one in whole["tokens"])
    except (ValueError, TypeError, KeyError, RecursionError, UsageError) as error:
        raise Refused(
            f"{path} is no file of tokens ({error if isinstance(error, ValueError) else type(error).__name__})",
            hint="`covenq tokens` writes it. Move it away, and make new tokens.",
        ) from None


def create(
    path: Path,
    name: str,
    role: str,
    scope: Scope | None = None,
    *,
    clock: Callable[[], float] = time.time,
    random: Callable[[int], str] = secrets.token_urlsafe,
) -> str:
    """Add a token of that name, role and scope, and return it; it is stored nowhere. Raises UsageError, Refused, CovenqError."""
    if not TOKEN.match(name):
        raise UsageError(f"{name[:80]!r} is no name of a token", hint="Letters, digits, _ and -, 64 at most.")
    if role not in set(Role):
        raise UsageError(f"{role[:40]!r} is no role", hint=f"It is one of {', '.join(Role)}.")
    token = PREFIX + random(32)
    with _changing(path):
        before = read(path)
        if any(one.name == name for one in before):
            raise Refused(
                f"there is a token named {name!r} already",
                hint=f"Choose another name, or `covenq tokens revoke {name}` first.",
            )
        _write(path, (*before, Token(name, Role(role), digest(token), at_text(clock()), scope)))
    return token


def revoke(path: Path, name: str) -> Token:
    """Remove the token of that name, and return what was stored about it. Raises NotFound, Refused, CovenqError."""
    with _changing(path):
        before = read(path)
        gone = next((one for one in before if one.name == name), None)
        if gone is None:
            raise NotFound(f"no token is named {name[:80]!r}", hint="`covenq tokens` lists them.")
        _write(path, tuple(one for one in before if one.name != name))
    return gone


def _token(one: object, *, scoped: bool) -> Token:
    """Raises ValueError, TypeError, KeyError, UsageError. In the format with scopes each token says that it has none, too."""
    if not isinstance(one, dict):
        raise TypeError(one)
    if scoped != ("installations" in one) or scoped != ("repositories" in one):
        raise ValueError("a scope that its format doesn't have" if not scoped else "a token that doesn't say its scope")
    name, role, sha256, created_at = one["name"], Role(one["role"]), one["sha256"], one["created_at"]
    if not (isinstance(name, str) and isinstance(sha256, str) and isinstance(created_at, str)):
        raise ValueError("a token without a hash")
    if len(sha256) != 64 or not sha256.isascii():
        raise ValueError("a token without a hash")
    installations, repositories = one.get("installations"), one.get("repositories")
    if installations is None and repositories is not None:
        raise ValueError("repositories without their installation")
    scope = None if installations is None else scope_of(installations, repositories)
    return Token(name, role, sha256, created_at, scope)


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Exclusive access to the file, by a lock on its directory: of two commands that change it, one waits, for LOCK_S at most.

    Whoever may enter the directory can hold that lock.
    """
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(
            f"there is no directory {path.parent}", hint="`covenq serve` makes it; --data names another."
        ) from None
    try:
        _lock(directory, path)
        yield
    except OSError as error:
        raise CovenqError(f"{path} can't be written: {error.strerror}", hint="Check space and permissions.") from error
    finally:
        os.close(directory)


def _lock(directory: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Refused(
                    f"another process holds the lock on {path.parent}",
                    hint=f"Try again. If that stays, `fuser {path.parent}` names the process.",
                ) from None
        time.sleep(POLL_S)


def _write(path: Path, tokens: tuple[Token, ...]) -> None:
    """Replace the file, 0600, whole or not at all; durable on return. Raises OSError."""
    scoped = any(token.scope is not None for token in tokens)
    whole = {"format": SCOPED if scoped else PLAIN, "tokens": [_kept(token, scoped=scoped) for token in tokens]}
    atomic_file.replace(path, json.dumps(whole, indent=1).encode() + b"\n", suffix=".new")


def _kept(token: Token, *, scoped: bool) -> dict[str, object]:
    plain: dict[str, object] = {
        "name": token.name,
        "role": token.role,
        "sha256": token.sha256,
        "created_at": token.created_at,
    }
    return plain | scope_numbers(token.scope) if scoped else plain


# ---- the daemon's view


class Tokens:
    """The current tokens of the file. A change takes effect at the next request. From any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._tokens: tuple[Token, ...] = ()

    def now(self) -> tuple[Token, ...]:
        """The tokens; none while the file can't be trusted, which is logged once: it fails closed."""
        found = self._stamp()
        with self._lock:
            if found != self._seen or self._seen is None:
                first, self._seen = self._seen is None, found
                try:
                    self._tokens = read(self.path)
                    if not first:
                        log.info("tokens reread: %s", ", ".join(one.name for one in self._tokens) or "there are none")
                except CovenqError as error:
                    self._tokens = ()
                    log.error("no token is accepted: %s", error)
            return self._tokens

    def identify(self, presented: str) -> Token | None:
        """The token that was presented; None if it is not, or no longer, known."""
        return find(self.now(), presented)

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except OSError as error:
            return (error.errno or 0,)
        return (found.st_ino, found.st_dev, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode)
