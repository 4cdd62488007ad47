"""The nodes that share a journal in words: which leads, how far the others are, and what of them somebody has to look at.

It serves one decision: whether this machine may be stopped, or lost. Another has to stand by, near the head, and do the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from covenq.model.database_text import CLOCK_MAX_S
from covenq.text import counted, duration, instant, to_the_second

if TYPE_CHECKING:
    from covenq.model.status import KnownNode

NodeState = Literal["leads", "standby", "away", "stopped"]

_STATES = {"leads": "leads", "standby": "stands by", "away": "away", "stopped": "stopped"}
# What is to be typed on another machine is in no backticks, which would add this one's options.
_LOOK = "Look at its machine, and start covenq serve there; a node that is gone for good is forgotten after 30 days."
_COMPARE = (
    "Compare the files: a daemon reads its own again when it changes, and on SIGHUP; `covenq nodes` shows whose differ."
)
BEHIND_LONG = 10_000
"""Records behind that are worth a word: a node takes over only once it has folded what it needs."""


def nodes_text(nodes: Sequence[KnownNode], now: float) -> str:
    """Each node by name, the one that leads first; "" where no other can have the journal, or none has been seen."""
    return "; ".join(node_lines(nodes, now))


def node_lines(nodes: Sequence[KnownNode], now: float) -> list[str]:
    """The same, a line each."""
    if len(nodes) < 2:
        return []
    return [_node(one, now) for one in sorted(nodes, key=lambda one: (one.state != "leads", one.name, one.id))]


def _node(one: KnownNode, now: float) -> str:
    words = [f"{one.name}{' (here)' if one.here else ''} {_STATES.get(one.state, one.state)}"]
    if one.state in ("away", "stopped"):
        words[0] += f" since {_ago(one.seen, now)}"
    elif one.behind:
        words.append(f"{counted(one.behind, 'record')} behind")
    if one.other_config:
        words.append("another configuration")
    if one.other_secrets:
        words.append("other webhook secrets")
    return ", ".join(words)


def node_troubles(nodes: Sequence[KnownNode], now: float) -> Iterator[tuple[str, str, str]]:
    """What is wrong, as word, sentence and what to do."""
    for one in nodes:
        if one.state == "away":
            words = f"node {one.name} has said nothing for {_ago(one.seen, now)}"
            yield "node", words, _LOOK
        elif one.state == "standby" and (one.behind or 0) > BEHIND_LONG:
            yield "node", f"node {one.name} stands by, and is {counted(one.behind or 0, 'record')} behind", ""
        if abs(one.clock_ahead_s or 0) > CLOCK_MAX_S and one.state in ("leads", "standby"):
            yield (
                "node",
                f"the clock of node {one.name} is {abs(one.clock_ahead_s or 0):.1f} s off",
                "Have it set: a start is refused then.",
            )
        if one.owes and absence(one.state, one.seen) is not None:
            yield "node", owed_text(one), "Start it, or remove its data directory."
        if one.other_config and one.state in ("leads", "standby"):
            words = f"node {one.name} runs with another configuration than this one"
            yield "node", words, _COMPARE
        if one.other_secrets and one.state in ("leads", "standby"):
            yield "node", *_other_secrets(one)


def _other_secrets(one: KnownNode) -> tuple[str, str]:
    """That what is taken in now would be refused once another leads, and what to do."""
    words = f"node {one.name} has other webhook secrets than this one"
    if one.state == "leads":
        words = f"{words}, and leads: deliveries that are signed with those would be refused once this one leads"
        return words, "Copy its secrets to this one, under the same names: `covenq secrets` lists those of a node."
    words = f"{words}: deliveries would be refused there once it leads"
    return words, "Copy the same secrets to it, under the same names: `covenq secrets` lists those of a node."


def config_word(one: KnownNode) -> str:
    """How its configuration and its secrets are beside this node's, in a word or two; "-" where that isn't known."""
    if one.other_config:
        return "another"
    if one.other_secrets:
        return "other secrets"
    return "-" if one.other_config is None else "same"


def named(name: str, address: str | None) -> str:
    """A node as a sentence names it."""
    return name if address is None else f"{name} ({address})"


def absence(state: NodeState, seen: str) -> str | None:
    """What the predicate of a node that isn't there is, and since when; None of one that is."""
    match state:
        case "away":
            return f"is away since {to_the_second(seen)}"
        case "stopped":
            return f"was stopped at {to_the_second(seen)}"
    return None


def owed_text(one: KnownNode) -> str:
    """What a node owes, in a sentence."""
    gone = absence(one.state, one.seen)
    when = "does it now" if gone is None else f"{gone}, and does it when it is back"
    what = counted(one.owes, "delivery", "deliveries")
    return f"node {named(one.name, one.address)} has to remove what was erased of {what}: it {when}"


def _ago(at: str, now: float) -> str:
    then = instant(at)
    return at if then is None else duration(max(0.0, now - then))
