"""Use of the webhook secrets, for their rotation; never their values.

It shows which hooks signed with which secret, when each was last used, and which may be retired.

A secret may be retired when every hook that signed with it has signed with another one since: that hook was changed. Of a
hook that has not delivered since, this isn't known, so its secret waits for it; after `QUIET_S` the hook counts as removed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import asdict

from covenq.config.secret_source import EVERYTHING, Scope, SecretSource, SecretStatus
from covenq.model import at_text, seconds_of
from covenq.model.answers import ScopeBinding, Secret, SecretScope, SecretVerdict, SourceKind, VerdictWord
from covenq.model.rows import Page
from covenq.model.scope_record import subject_of
from covenq.state import fold_scopes, repositories

QUIET_S = 30 * 24 * 3600.0
"""Seconds that a secret waits for a hook that doesn't deliver; also the time over which `recent` counts."""
PAIRS_MAX = 10_000
"""Pairs of a secret and a hook that are examined."""
NAMED_MAX = 20
"""Hooks named in one answer."""

_NEXT = """SELECT secret, hook FROM webhook_deliveries INDEXED BY deliveries_secret
    WHERE (secret, hook) > (?, ?) ORDER BY secret, hook LIMIT 1"""
_CAME = """SELECT seq FROM webhook_deliveries INDEXED BY deliveries_secret
    WHERE secret = ? AND hook = ? AND coalesce(source, 'http') = 'http'"""
"""What is imported, or fetched, was signed before it came: it says nothing of which secret its hook has now."""
_SIGNED = """SELECT seq FROM webhook_deliveries INDEXED BY deliveries_secret
    WHERE secret = ? AND hook = ? AND source IS NOT 'send'"""
"""It is use of the secret all the same. What `covenq send` sent is neither."""
_ENDS = tuple(f"{sql} ORDER BY seq {way} LIMIT 1" for sql in (_SIGNED, _CAME) for way in ("ASC", "DESC"))
_COUNT = (
    "SELECT count(*) FROM webhook_deliveries INDEXED BY deliveries_secret WHERE secret = ? AND hook = ? AND seq >= ?"
)
_SINCE = "SELECT seq FROM webhook_deliveries WHERE received_at >= ? ORDER BY received_at LIMIT 1"


@dataclass(slots=True)
class SecretUsage:
    """A secret's use by the deliveries: seqs of the first and the newest, each hook's newest, and how many are recent.

    `begun` and `came` are the first, and each hook's newest, of those that were signed when they came.
    """

    first: int
    last: int = 0
    recent: int = 0
    hooks: dict[str, int] = field(default_factory=dict)
    begun: int = 0
    came: dict[str, int] = field(default_factory=dict)


def usage_by_secret(conn: sqlite3.Connection, since: str) -> dict[str, SecretUsage]:
    """Every secret that ever verified a delivery. Deliveries from `since` (RFC 3339) on count as recent."""
    found: dict[str, SecretUsage] = {}
    row = conn.execute(_SINCE, (since,)).fetchone()
    bound = int(row[0]) if row is not None else 1 << 62
    place = ("", "")
    for _ in range(PAIRS_MAX):
        row = conn.execute(_NEXT, place).fetchone()
        if row is None:
            break
        place = (str(row[0]), str(row[1]))
        ends = [conn.execute(sql, place).fetchone() for sql in _ENDS]
        first, last, begun, came = (0 if end is None else int(end[0]) for end in ends)
        if not first:
            continue
        use = found.setdefault(place[0], SecretUsage(first))
        use.first, use.last = min(use.first, first), max(use.last, last)
        use.hooks[place[1]] = last
        if came:
            use.begun, use.came[place[1]] = min(use.begun or begun, begun), came
        use.recent += int(conn.execute(_COUNT, (*place, bound)).fetchone()[0])
    return found


def view(
    conn: sqlite3.Connection,
    secrets: Sequence[SecretStatus],
    now: float,
    *,
    elsewhere: Callable[[SecretSource], bool] = lambda _: False,
) -> Page[Secret]:
    """The configured secrets in their order, then those that only deliveries name.

    `elsewhere` tells whether a secret is in the environment of another process, the daemon's: that it can't be read here
    is then no fault.
    """
    used = usage_by_secret(conn, at_text(now - QUIET_S))
    usable = [source.name for source, trouble in secrets if trouble is None or elsewhere(source)]
    items = []
    for source, trouble in secrets:
        name = source.name
        others = [one.name for one, _ in secrets if one.name in usable and one is not source]
        covering = [one.name for one, _ in secrets if one.name in others and one.scope in (EVERYTHING, source.scope)]
        verdict = _verdict(conn, name, None if name in usable else trouble, others, covering, used, now)
        kind, place = _source(source)
        items.append(
            Secret(
                **asdict(verdict),
                name=name,
                source=kind,
                place=place,
                scope=_scope(source.scope),
                readable=trouble is None,
                problem=trouble,
                bindings=_bindings(conn, name, source.scope),
            )
        )
        _set_usage(conn, items[-1], used.get(name))
    known = {source.name for source, _ in secrets}
    for name in sorted(used.keys() - known):
        gone = _verdict_object("gone", False, "It is not configured any more: nothing that it signs is let in.")
        items.append(
            Secret(
                **asdict(gone),
                name=name,
                source=None,
                place=None,
                scope=None,
                readable=False,
                problem=None,
                bindings=_bindings(conn, name, EVERYTHING),
            )
        )
        _set_usage(conn, items[-1], used[name])
    return Page(items, None)


def _source(source: SecretSource) -> tuple[SourceKind, str | None]:
    """Where it is: the kind of place, and the place."""
    if source.file is not None:
        return "file", str(source.file) or None
    if source.env is not None:
        return "env", source.env or None
    if source.credential is not None:
        return "credential", source.credential or None
    return "value", None


def _scope(scope: Scope) -> SecretScope:
    return SecretScope(list(scope.hooks), list(scope.installations), list(scope.repositories))


def _bindings(conn: sqlite3.Connection, secret: str, scope: Scope) -> list[ScopeBinding]:
    named = {subject_of(secret, name): name for name in scope.repositories_named}
    found = [
        ScopeBinding(
            named.get(row["subject"], row["repo"]),
            row["repo_id"],
            row["since"],
            repositories.present_name(conn, row["repo_id"]),
            row["subject"] in named,
        )
        for row in fold_scopes.of_secret(conn, secret)
    ]
    return sorted(found, key=lambda one: not one.in_effect)


def _set_usage(conn: sqlite3.Connection, item: Secret, use: SecretUsage | None) -> None:
    if use is not None:
        first, last = _delivery(conn, use.first), _delivery(conn, use.last)
        item.first_used_at, item.last_used_at = first["received_at"], last["received_at"]
        item.last_delivery = f"{last['hook']}/{last['guid']}"
        item.recent, item.hooks = use.recent, len(use.hooks)


def _delivery(conn: sqlite3.Connection, seq: int) -> Mapping[str, str]:
    row = conn.execute("SELECT hook, guid, received_at FROM webhook_deliveries WHERE seq = ?", (seq,)).fetchone()
    return dict(zip(("hook", "guid", "received_at"), row, strict=True))


def _verdict(
    conn: sqlite3.Connection,
    name: str,
    trouble: str | None,
    others: Sequence[str],
    covering: Sequence[str],
    used: Mapping[str, SecretUsage],
    now: float,
) -> SecretVerdict:
    """`others` are the other usable secrets, and `covering` those of them whose scope includes this one's."""
    if trouble is not None:
        return _verdict_object(
            "unreadable", False, f"It can't be read, so nothing it signs is let in at a restart: {trouble}."
        )
    use = used.get(name)
    if not others:
        return _verdict_object("only", False, "It is the only one: without it nothing would be let in.")
    if use is None:
        return _verdict_object(
            "unused",
            False,
            "Nothing that came was signed with it yet; GitHub may have been given it, and sign with it already.",
        )
    newer = {
        hook: [one for one in others if one in used and used[one].came.get(hook, 0) > last]
        for hook, last in use.hooks.items()
    }
    waiting = [hook for hook, names in newer.items() if not names]
    if not waiting:
        names = ", ".join(sorted({one for ones in newer.values() for one in ones}))
        hooks = "The hook" if len(newer) == 1 else f"Each of the {len(newer)} hooks"
        return _verdict_object("retire", True, f"{hooks} that signed with it has signed with another since ({names}).")
    if not use.came:
        return _verdict_object(
            "wait",
            False,
            "What it signed was fetched or imported: GitHub may sign with it now, or not any more.",
            waiting,
        )
    begun = [one for one in covering if one in used and used[one].begun > use.last]
    if not begun:
        return _verdict_object("in_use", False, "Hooks still sign with it.", waiting)
    what = "hook " + waiting[0] if len(waiting) == 1 else f"{len(waiting)} hooks"
    have = "has" if len(waiting) == 1 else "have"
    quiet = now - seconds_of(_delivery(conn, max(use.hooks[hook] for hook in waiting))["received_at"])
    since = f"It was not used since {begun[0]} began to be"
    if quiet >= QUIET_S:
        return _verdict_object(
            "retire", True, f"{since}, and {what} {have} not delivered for {int(quiet // 86400)} days.", waiting
        )
    return _verdict_object(
        "wait", False, f"{since}, but {what} {have} not delivered since either, and may still sign with it.", waiting
    )


def _verdict_object(word: VerdictWord, retire: bool, reason: str, waiting: Sequence[str] = ()) -> SecretVerdict:
    return SecretVerdict(word, retire, reason, list(waiting[:NAMED_MAX]))
