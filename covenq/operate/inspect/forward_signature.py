"""What `covenq why` says of a forward whose receiver refused it, perhaps for its signature: whose that was, and what to do.

A forward keeps GitHub's signature unless its route signs anew. So once hook and receiver have a new secret, what was signed with
the one before is refused for good, however often the same task runs again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from covenq.config.load import Config, secret_names
from covenq.config.secret_source import FROM_ENVIRONMENT
from covenq.model import State
from covenq.model.rows import Attempt, Delivery, Task
from covenq.operate.inspect.history import Step

_SURELY = 401
_PERHAPS = frozenset({400, 403})
"""Statuses by which receivers refuse a signature; some of them refuse by these what is wrong otherwise, too."""
_SINCE = """SELECT 1 FROM webhook_deliveries INDEXED BY deliveries_secret
    WHERE secret = ? AND hook = ? AND seq > ? AND coalesce(source, 'http') = 'http' LIMIT 1"""
"""What is imported was signed before it came, by whichever secret was the hook's then; what `covenq send` sent, not by GitHub."""


@dataclass(frozen=True, slots=True)
class Signing:
    """What is known of the secrets that a delivery's forwards were, or would be, signed with."""

    configured: frozenset[str] = frozenset()
    """Names of the secrets of today's configuration."""
    successor: str | None = None
    """Another one of them, with which the hook has signed since."""
    by_route: dict[str, str] = field(default_factory=dict)
    """The secret with which a route of today signs anew, by its name."""


def signing_of(conn: sqlite3.Connection, config: Config, row: Delivery) -> Signing:
    names = secret_names(config.secrets)
    others = (name for name in names if row.secret and name != row.secret)
    successor = next((name for name in others if conn.execute(_SINCE, (name, row.hook, row.seq)).fetchone()), None)
    return Signing(frozenset(names), successor, {one.name: one.sign for one in config.routes if one.sign is not None})


def refused(task: Task, attempts: Sequence[Attempt], delivery: Delivery, signing: Signing) -> bool:
    """Whether the task failed since its receiver refused it, and its signature may be why."""
    if task.state != State.FAILED or task.kind != "forward" or not attempts:
        return False
    status = attempts[-1].http_status
    return status == _SURELY or (status in _PERHAPS and _rotated(delivery, signing))


def sentence(task: Task, delivery: Delivery, signing: Signing) -> str:
    """Whose signature was refused."""
    anew = _signed_anew(task)
    if anew is not None:
        return f"It was signed anew, by the secret {anew!r} as it was here then."
    told = "It kept the signature it came with"
    if delivery.secret:
        told += f", by the secret {delivery.secret!r} as it was then"
    if signing.successor is not None:
        told += f"; hook {delivery.hook} signs with {signing.successor!r} since"
    elif _rotated(delivery, signing):
        told += ", which is not configured any more"
    return f"{told}."


def steps(task: Task, delivery: Delivery, signing: Signing) -> Iterator[Step]:
    """What to do about it. Running the same task again helps only where it signs anew."""
    if _signed_anew(task) is not None:
        yield Step(
            "give the receiver and covenq the same secret, then",
            f"covenq requeue {task.id}",
        )
        return
    again = f"covenq replay {delivery.hook}/{delivery.guid}"
    today = signing.by_route.get(task.route or "")
    if today is not None:
        yield Step(f"today route {task.route} signs anew, with {today!r}: have it sent again", again)
        return
    own = delivery.secret if delivery.secret in signing.configured else None
    name = signing.successor or own or "NAME"
    yield Step(f'if the receiver has another secret by now: write sign = "{name}" in route {task.route}, then', again)


def _signed_anew(task: Task) -> str | None:
    """The secret's name in the task's frozen policy; None if it keeps GitHub's signature."""
    name = (task.policy or {}).get("sign")
    return name if isinstance(name, str) else None


def _rotated(delivery: Delivery, signing: Signing) -> bool:
    """Whether the delivery's secret is known to have been replaced. A command doesn't see that of the daemon's environment."""
    gone = bool(delivery.secret) and delivery.secret not in signing.configured and delivery.secret != FROM_ENVIRONMENT
    return gone or signing.successor is not None
