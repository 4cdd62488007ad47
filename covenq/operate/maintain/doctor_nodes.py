"""The checks of `covenq doctor` on the nodes that share a journal: who leads, what is wrong with the others, and whether each is
reached where it says that it is.

That a node isn't reached shows only once a delivery has to be passed to it: so doctor tries it before. Names and addresses are
from a table that others write: they are bounded, and of what an address answers only the status is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from ipaddress import ip_address
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.parse import urlsplit

from msgspec.structs import replace

from covenq.config.node import ADDRESS_MAX, NAME_MAX, SCHEMES, address_problem
from covenq.model.database_text import AWAY_S
from covenq.model.journal_status import DatabaseStatus
from covenq.model.nodes_text import node_troubles
from covenq.model.status import KnownNode, Status
from covenq.net.address import is_loopback, parse_url, same_address
from covenq.net.no_answer import reason
from covenq.net.outgoing import OutgoingConnection, Route
from covenq.net.transport import NO_ANSWER
from covenq.operate.maintain.finding import BAD, GOOD, WARN, Finding
from covenq.text import counted, duration, one_line

EXAMINED_MAX = 20
"""Nodes that are looked at: this one first, then those that are there."""
TRIED_MAX = 8
ASK_S = 2.0
"""Seconds for a connection and the answer to a request on it."""
GIVEN_UP_S = ASK_S + 1.0
"""Seconds after which nothing is waited for any more, as a name whose servers don't answer, or one of many addresses."""

_ORDER = ("leads", "standby", "away", "stopped")
_REACHED = "Have [node] address name, on that machine, where others reach it, and [server] bind listen there: covenq-cluster(7)."


def node_findings(status: Status | None, now: float, ask: Callable[[str], str | None]) -> Iterator[Finding]:
    """None where one node has the journal. `ask` says of a listener's URL why it doesn't answer, as `unhealthy`."""
    if status is None or len(status.nodes) < 2:
        return
    nodes = _examined(status.nodes)
    yield _leading(nodes, len(status.nodes), status.journal.database)
    for _, words, next in node_troubles(nodes, now):
        yield Finding("nodes", WARN, words, next or None)
    yield from _addresses([one for one in nodes if one.state in ("leads", "standby")], ask)


def _examined(known: Sequence[KnownNode]) -> list[KnownNode]:
    first = sorted(known, key=lambda one: (not one.here, _ORDER.index(one.state), one.name, one.id))
    return [
        replace(one, name=one_line(one.name, NAME_MAX), address=one.address and one.address[: ADDRESS_MAX + 1])
        for one in first[:EXAMINED_MAX]
    ]


def _leading(nodes: Sequence[KnownNode], number: int, database: DatabaseStatus | None) -> Finding:
    words = counted(number, "node")
    away_s = 0.0 if database is None else database.away_s or 0.0
    if away_s > AWAY_S:
        words += f" as they were seen {duration(away_s)} ago, when the database last answered"
    if number > len(nodes):
        words += f", of which {len(nodes)} are looked at"
    leader = next((one for one in nodes if one.state == "leads"), None)
    if leader is None:
        return Finding("nodes", BAD, f"{words}: none leads, so nothing is received", "covenq nodes")
    return Finding("nodes", GOOD, f"{words}: {leader.name}{' (here)' if leader.here else ''} leads")


def _addresses(present: Sequence[KnownNode], ask: Callable[[str], str | None]) -> Iterator[Finding]:
    """What is wrong with where they say that they are reached; each that nothing is wrong with is tried."""
    urls: dict[str, str] = {}
    """By the id of a node; nodes that have no address, since nothing is posted to them, aren't among them."""
    for one in (one for one in present if one.address):
        address = one.address or ""
        problem = address_problem(address)
        other = next(
            (other for other in present if other.id in urls and same_address(urls[other.id], _url(address))), None
        )
        if problem is not None:
            yield Finding("nodes", WARN, f"node {one.name}: its address {problem}", _REACHED)
        elif other is not None:
            words = (
                f"nodes {other.name} and {one.name} say the same address, {address}: nothing can be passed between them"
            )
            yield Finding("nodes", WARN, words, "Have [node] address name, on each machine, where the others reach it.")
        else:
            urls[one.id] = _url(address)
    local = {id for id, url in urls.items() if _is_local(url)}
    elsewhere = local if len(local) < len(urls) else set()  # where all are, they may well be of one machine
    tried = 0
    for one in present:
        url = urls.get(one.id)
        if url is None:
            continue
        if one.id in elsewhere:
            words = f"node {one.name} is reached at {one.address}, it says, where no other machine reaches it"
            yield Finding("nodes", WARN, words, _REACHED)
        elif (
            one.version is not None and tried < TRIED_MAX
        ):  # one that starts has said no version yet, and doesn't listen
            tried += 1
            why = ask(url)
            if why is not None:
                words = f"node {one.name} doesn't answer at {one.address}, where others pass deliveries to it: {why}"
                yield Finding("nodes", WARN, words, _REACHED)


def _url(address: str) -> str:
    return address if address.startswith(SCHEMES) else f"http://{address}"


def _is_local(url: str) -> bool:
    """Whether it is an address of one machine, or of one link, alone."""
    host = urlsplit(url).hostname or ""
    try:
        return is_loopback(host) or ip_address(host).is_link_local
    except ValueError:
        return False


def unhealthy(url: str) -> str | None:
    """Why GET /healthz has no 200 there; None if it has. Within GIVEN_UP_S, whatever its name and it do."""
    answers: SimpleQueue[str | None] = SimpleQueue()
    # A name is looked up by a call that nothing ends: what still waits for it ends with the process.
    Thread(target=lambda: answers.put(_asked(url)), name="ask-node", daemon=True).start()
    try:
        return answers.get(timeout=GIVEN_UP_S)
    except Empty:
        return reason(TimeoutError())


def _asked(url: str) -> str | None:
    """As nodes pass deliveries on: straight, through no proxy."""
    parts = parse_url(url)
    try:
        with closing(OutgoingConnection(Route(parts, {}))) as connection:
            target = f"{parts.path.rstrip('/')}/healthz"
            with closing(
                connection.ask("GET", target, {"Connection": "close"}, None, wait_s=ASK_S, whole_s=ASK_S)
            ) as response:
                return None if response.status == 200 else f"it answers GET /healthz with {response.status}"
    except NO_ANSWER as error:
        return reason(error)
    except ValueError:
        return "it does not speak HTTP"
