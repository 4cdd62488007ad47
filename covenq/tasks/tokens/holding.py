"""What is known of the tokens of one attempt: those that it has, what there may be besides, and what was recorded of it last."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from covenq.model import at_text
from covenq.model.rows import Time
from covenq.state.fold_tokens import TokenState
from covenq.tasks.tokens.apis import TokenRequest
from covenq.tasks.tokens.owed import OwedToken

RENEW_S = 600.0
"""Seconds before its end at which a token is replaced: what has just read the old one can still use it."""


class WorkTokenGiven(TypedDict):
    """The answer to a worker that asks for the token for its work, which is in no log. It is to ask again after so long."""

    token: str
    expires_at: Time
    renew_after_s: float


@dataclass(frozen=True, slots=True)
class GivenToken:
    """A token for an attempt's work: when it expires, and after how many seconds it should be asked for again."""

    token: str = field(repr=False)
    expires_at: float
    renew_after_s: float

    def as_answer(self) -> WorkTokenGiven:
        return {"token": self.token, "expires_at": at_text(self.expires_at), "renew_after_s": self.renew_after_s}


@dataclass(eq=False)
class Holding:
    """The tokens of one attempt. `lock` is held by who changes anything but `released`."""

    task: str
    attempt: int
    fence: str
    request: TokenRequest | None = None
    """What is asked for; None of an attempt that an earlier process gave it to, until it asks again."""
    owed: list[OwedToken] = field(default_factory=list)
    """The newest last."""
    gone: list[OwedToken] = field(default_factory=list)
    """Of no use any more, and not yet recorded so."""
    expired: bool = False
    """Whether one of those is of no use for its age alone: GitHub was asked in vain."""
    lost_until: float | None = None
    """Until when there may be one that nobody has."""
    file: Path | None = None
    """What its command reads; None of a worker's elsewhere, which has its own."""
    learn: Callable[[bytes], None] = lambda token: None
    renew_at: float = float("inf")
    renew_within: float = float("inf")
    """The same by the monotonic clock: the other one may be set back."""
    released: bool = False
    wait_s: float = 0.0
    again_at: float = 0.0
    """When what failed is tried again, by the monotonic clock: GitHub's trouble with one installation is that one's alone."""
    recorded: tuple[TokenState, str | None] | None = None
    """The state and the time of the newest record."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def claim_seq(self) -> int:
        """The seq of the claim's record, as its fence has it."""
        number = self.fence.rpartition(".")[2]
        return int(number) if number.isdecimal() else 0


def end_of(held: Holding) -> TokenState:
    """The state of an attempt of which no token is left."""
    if not held.gone:
        return held.recorded[0] if held.recorded is not None and held.recorded[1] is None else TokenState.REFUSED
    return TokenState.EXPIRED if held.expired else TokenState.REVOKED


def renewal_of(owed: OwedToken, now: float) -> float:
    """When it is to be replaced: RENEW_S before its end, of one that is short-lived at half of its life."""
    left = owed.expires_at - now
    return now + max(left - RENEW_S, left / 2, 1.0)
