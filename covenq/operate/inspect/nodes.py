"""The nodes that share a journal, as they say that they are, and as they are seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from covenq.model.status import KnownNode
from journal.records import NodeSeen

AWAY_S = 5.0
"""Seconds after which a node that says nothing is away: it says that it is there every second."""

State = Literal["leads", "standby", "away", "stopped"]


def known_nodes(seen: Sequence[NodeSeen], here: str, head: int, config: str) -> list[KnownNode]:
    """`here` is this node's id, `head` the journal's newest record, `config` the hash of this node's configuration."""
    return [_known(one, here, head, config) for one in seen]


def node_states(seen: Sequence[NodeSeen]) -> list[State]:
    """The state of each."""
    return [_state(one) for one in seen]


def _known(one: NodeSeen, here: str, head: int, config: str) -> KnownNode:
    said = _said(one.about)
    folded, version, other = said.get("folded"), said.get("version"), said.get("config")
    ahead = said.get("clock_ahead")
    return KnownNode(
        one.id,
        one.name,
        one.address or None,
        _state(one),
        one.id == here,
        one.since,
        one.seen,
        version if isinstance(version, str) else None,
        max(0, head - folded) if isinstance(folded, int) else None,
        other != config if isinstance(other, str) else None,
        float(ahead) if isinstance(ahead, int | float) else None,
    )


def _state(one: NodeSeen) -> State:
    if one.stopped:
        return "stopped"
    if one.silent_s > AWAY_S:
        return "away"
    return "leads" if one.leads else "standby"


def _said(about: str) -> dict[str, object]:
    """What a node says of itself: perhaps of another version, and so perhaps in other words."""
    try:
        said = json.loads(about)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
