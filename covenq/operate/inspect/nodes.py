"""The nodes that share a journal, as they say that they are, and as they are seen."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence

from covenq.model.nodes_text import NodeState
from covenq.model.status import KnownNode
from covenq.operate.answers import AbsentNode
from covenq.state import query
from journal.errors import JournalUnavailable
from journal.interface import Succeeding
from journal.records import NodeSeen

AWAY_S = 5.0
"""Seconds after which a node that says nothing is away: it says that it is there every second."""
_CLOCK_MAX_S = 1e9
_SEQ_MAX = 2**63 - 1
_FINGERPRINT = re.compile("[0-9a-f]{8}")


def known_nodes(
    seen: Sequence[NodeSeen], here: str, head: int, config: str, conn: sqlite3.Connection | None = None
) -> list[KnownNode]:
    """`here` is this node's id, `head` the journal's newest record, `config` the hash of this node's configuration.

    What each owes is looked up in `conn`. Whether its secrets are others goes by what this node has said of its own.
    """
    own = next((_secrets(_said(one.about)) for one in seen if one.id == here), None)
    return [_known(one, here, head, config, own, conn) for one in seen]


def node_states(seen: Sequence[NodeSeen]) -> list[NodeState]:
    """The state of each."""
    return [_state(one) for one in seen]


def _known(
    one: NodeSeen, here: str, head: int, config: str, secrets: str | None, conn: sqlite3.Connection | None
) -> KnownNode:
    said = _said(one.about)
    others = _secrets(said)
    folded, other, ahead = _seq(said, "folded"), said.get("config"), said.get("clock_ahead")
    return KnownNode(
        one.id,
        one.name,
        one.address or None,
        _state(one),
        one.id == here,
        one.since,
        one.seen,
        _text(said, "version"),
        None if folded is None else max(0, head - folded),
        other != config if isinstance(other, str) else None,
        None if others is None or secrets is None else others != secrets,
        float(ahead) if isinstance(ahead, int | float) and abs(ahead) <= _CLOCK_MAX_S else None,
        _text(said, "api") or None,
        0 if conn is None else _owed(said, conn),
    )


def _secrets(said: dict[str, object]) -> str | None:
    """The fingerprint of a node's webhook secrets; None of one that says none, or something else."""
    told = said.get("secrets")
    return told if isinstance(told, str) and _FINGERPRINT.fullmatch(told) else None


def _owed(said: dict[str, object], conn: sqlite3.Connection) -> int:
    """The erasures that a node has not carried out, of what it may have: one that folded a record has what that brought."""
    folded, erased = _seq(said, "folded"), _seq(said, "erased" if "erased" in said else "folded")
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


def _said(about: str) -> dict[str, object]:
    """What a node says of itself: perhaps of another version, and so perhaps in other words; or whoever writes to the table."""
    try:
        said = json.loads(about)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _seq(said: dict[str, object], name: str) -> int | None:
    found = said.get(name)
    return found if isinstance(found, int) and 0 <= found <= _SEQ_MAX else None


def _text(said: dict[str, object], name: str) -> str | None:
    """None also for what can't be printed: half a surrogate pair no answer could hold."""
    found = said.get(name)
    return found if isinstance(found, str) and found.isprintable() else None
