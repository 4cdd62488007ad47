"""The nodes that share a journal, as they say that they are, and as they are seen."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from covenq.model.nodes_text import NodeState
from covenq.model.status import KnownNode
from covenq.operate.answers import AbsentNode
from covenq.state import query
from journal.errors import JournalUnavailable
from journal.interface import Succeeding
from journal.records import NodeSeen

CLOCK_MAX_S = 1e9
"""Seconds that a clock may be off: more is none's."""
AWAY_S = 5.0
"""Seconds after which a node that says nothing is away: it says that it is there every second."""


def known_nodes(
    seen: Sequence[NodeSeen], here: str, head: int, config: str, conn: sqlite3.Connection | None = None
) -> list[KnownNode]:
    """`here` is this node's id, `head` the journal's newest record, `config` the hash of this node's configuration.

    What each owes is looked up in `conn`.
    """
    return [_known(one, here, head, config, conn) for one in seen]


def node_states(seen: Sequence[NodeSeen]) -> list[NodeState]:
    """The state of each."""
    return [_state(one) for one in seen]


def _known(one: NodeSeen, here: str, head: int, config: str, conn: sqlite3.Connection | None) -> KnownNode:
    said = _said(one.about)
    folded, version, other = _seq(said.get("folded")), said.get("version"), said.get("config")
    ahead, api = said.get("clock_ahead"), said.get("api")
    return KnownNode(
        one.id,
        one.name,
        one.address or None,
        _state(one),
        one.id == here,
        one.since,
        one.seen,
        version if isinstance(version, str) else None,
        max(0, head - folded) if folded is not None else None,
        other != config if isinstance(other, str) else None,
        float(ahead) if isinstance(ahead, int | float) and abs(ahead) < CLOCK_MAX_S else None,
        api if isinstance(api, str) and api else None,
        0 if conn is None else _owed(said, conn),
    )


def _owed(said: dict[str, object], conn: sqlite3.Connection) -> int:
    """The erasures that a node has not carried out, of what it may have: one that folded a record has what that brought."""
    folded, erased = _seq(said.get("folded")), _seq(said.get("erased", said.get("folded")))
    if folded is None or erased is None:
        return 0  # it has said nothing yet
    return query.count_erased(conn, erased, folded)


def absent_nodes(journal: Succeeding | None, here: str) -> list[AbsentNode]:
    """Those that are not there, as of now, and do what is recorded only when they are back. `here` is this node's id.

    Where the journal can't be asked, as they were seen last.
    """
    if journal is None:
        return []
    try:
        seen = journal.nodes(ask=True)
    except JournalUnavailable:
        seen = journal.nodes()
    found: list[AbsentNode] = []
    for one in (one for one in seen if one.id != here):
        state = _state(one)
        if state == "away" or state == "stopped":
            found.append(AbsentNode(one.name, one.address or None, one.seen, state))
    return found


def _state(one: NodeSeen) -> NodeState:
    if one.stopped:
        return "stopped"
    if one.silent_s > AWAY_S:
        return "away"
    return "leads" if one.leads else "standby"


def _seq(said: object) -> int | None:
    """A record's number, of what anybody may have written; None if it is none."""
    return said if isinstance(said, int) and 0 <= said < 1 << 62 else None


def _said(about: str) -> dict[str, object]:
    """What a node says of itself: perhaps of another version, and so perhaps in other words."""
    try:
        said = json.loads(about)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
