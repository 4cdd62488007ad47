"""The words of notices: of a test, of what begins and of what ends. Bounded, in one line, and without secrets."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable

from covenq.model import at_text
from covenq.model.notices import ENDED, TEST, TEXT_MAX, Notice
from covenq.operate.notify.transitions import Change
from covenq.text import duration, one_line

HOST_MAX = 64
_ID_BYTES = 8

_ENDS = {
    "intake": "Deliveries are received again",
    "damage": "No damage of {scope} is known any more",
    "failures": "Attempts of {scope} no longer fail as they did",
    "receiver": "{scope} answers again",
    "waiting": "What waited too long goes on ({scope})",
    "ledger": "Nothing that GitHub sent is missing any more",
    "disk": "There is room on the data directory's disk again",
    "overdue": "What stood still goes on ({scope})",
    "uninstall": "The erasure of the content of {scope} is over: it is done, or was stopped",
}
"""What is said of an end."""


def new_id() -> str:
    """Unique: 64 random bits."""
    return f"n{secrets.token_hex(_ID_BYTES)}"


def host() -> str:
    """The name of this machine, which may be any bytes."""
    return one_line(socket.gethostname(), HOST_MAX)


def notice_of(change: Change, now: float, id: Callable[[], str] = new_id, mask: Callable[[str], str] = str) -> Notice:
    """The notice of a transition. `mask` takes secrets out of a text: a route may have been named after one."""
    one, text, command = change.condition, change.condition.text, change.condition.command
    if change.state == ENDED:
        after = duration(max(0.0, now - change.began_at))
        text, command = f"{_ENDS[one.kind].format(scope=one.scope)}, after {after}", None
    return Notice(
        id=id(),
        kind=one.kind,
        state=change.state,
        scope=mask(one.scope),
        at=at_text(now),
        since=at_text(change.began_at),
        text=one_line(mask(text), TEXT_MAX),
        command=None if command is None else mask(command),
        host=host(),
    )


def notice_of_test(now: float, id: Callable[[], str] = new_id) -> Notice:
    """One that says that it is none."""
    return Notice(
        id=id(),
        kind=TEST,
        state=TEST,
        scope=TEST,
        at=at_text(now),
        since=None,
        text="A test of covenq's notices: nothing is wrong.",
        command=None,
        host=host(),
    )
