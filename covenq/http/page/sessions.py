"""Sessions: who has logged in, in memory.

They end with the daemon, which costs a log-in after a restart, and nothing else: no key that signs cookies is kept on disk, where
a copy of it would let anybody in for ever, and a log-out ends a session here, not only in the browser. The cookie is 256 random
bits, of which the SHA-256 is kept, as of tokens.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from covenq.config.api_tokens import Role, Token, Tokens

SESSION_S = 8 * 3600.0
"""Seconds after the log-in at which a session ends."""
SESSIONS_MAX = 1000
"""At a time; one more ends the oldest of the token that has most, so that no program's log-ins end another's session."""
ID_MAX = 100
"""Characters of a cookie that is looked at: ours have 43."""


@dataclass(frozen=True, slots=True)
class Session:
    """By which token it was begun, and until when it goes on at most."""

    token: Token
    until: float


class Sessions:
    """The sessions of one daemon. Methods may be called from any thread."""

    def __init__(
        self,
        tokens: Tokens,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[int], str] = secrets.token_urlsafe,
    ) -> None:
        self._tokens = tokens
        self._monotonic = monotonic
        self._random = random
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def begin(self, token: Token) -> str:
        """A new session's id, for the cookie alone."""
        id = self._random(32)
        with self._lock:
            now = self._monotonic()
            for key in [key for key, one in self._sessions.items() if one.until <= now]:
                del self._sessions[key]
            while len(self._sessions) >= SESSIONS_MAX:
                ((most, _),) = Counter(one.token.sha256 for one in self._sessions.values()).most_common(1)
                del self._sessions[next(key for key, one in self._sessions.items() if one.token.sha256 == most)]
            self._sessions[_digest(id)] = Session(token, now + SESSION_S)
        return id

    def find(self, id: str | None) -> Session | None:
        """The session, unless it has ended: by its time, by a log-out, or because its token was revoked."""
        if id is None or len(id) > ID_MAX:
            return None
        key = _digest(id)
        with self._lock:
            found = self._sessions.get(key)
        if found is None:
            return None
        if self._monotonic() >= found.until or not self._is_held(found.token):
            self.end(id)
            return None
        return found

    def end(self, id: str | None) -> Session | None:
        """End the session, and return what it was; None if there is none."""
        if id is None or len(id) > ID_MAX:
            return None
        with self._lock:
            return self._sessions.pop(_digest(id), None)

    def _is_held(self, token: Token) -> bool:
        return any(
            one.sha256 == token.sha256 and one.scope == token.scope and may_read(one) for one in self._tokens.now()
        )


def may_read(token: Token) -> bool:
    """Whether a page is shown for it: for `read` alone. One that may do more has no business in a browser."""
    return token.role == Role.READ


def _digest(id: str) -> str:
    return hashlib.sha256(id.encode("utf-8", "surrogateescape")).hexdigest()
