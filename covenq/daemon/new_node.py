"""A new node's state.db: another node's, fetched from its API, or a fold from the start, whichever is faster.

New is a node that has no state.db which the fold goes on from: it has none, or one of another schema. Other nodes that share the
journal have one, and give a copy of it (`covenq.http.api.snapshot`) over TLS, or on this machine itself, to who shows a token. It
is looked at before it is used (`covenq.state.snapshot`), and the fold goes on from its position: so what was erased since then is
erased here before anything waits for the newest record.

A node that folds takes part meanwhile, and one that fetches does not. So fetching ends when a fold would have, after LONGEST_S in
any case, and at once if nobody leads any more; and it is not begun by a node that leads, or that holds requests. Whatever is in
the way, it folds from the start, and the log says why.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from covenq.config.load import Config
from covenq.errors import DiskFull, SnapshotUnusable, StateLocked, StopAsked, UsageError
from covenq.http.api.snapshot import BYTES, JOURNAL, SCHEMA, SEQ
from covenq.model.nodes_text import absence, named
from covenq.model.status import KnownNode
from covenq.net.address import Remote, environment_token, parse_url
from covenq.net.http_client import error_of
from covenq.net.no_answer import reason
from covenq.net.outgoing import OutgoingConnection, Route
from covenq.net.transport import CHUNK, NO_ANSWER, Response, read_up_to
from covenq.operate.inspect.nodes import known_nodes
from covenq.operate.maintain.journal_home import OpenedJournal
from covenq.paths import FETCHED_NAME, STATE_NAME
from covenq.state import schema, snapshot
from covenq.state.schema import Position
from covenq.state.store import read_witness
from covenq.text import counted, escape, latency
from journal.errors import JournalError
from journal.interface import Engine, Succeeding

RECORDS_MIN = 50_000
"""Records that are folded sooner than others are asked for what they have."""
FOLD_S = 25e-6
"""Seconds for a record, where state.db is built anew: 22 µs of processor, measured."""
BYTES_PER_S = 40e6
"""Of a snapshot, assumed: it is written there, comes by the network, and is read to be checked."""
LONGEST_S = 120.0
"""Seconds for fetching, however long a fold takes: a node that fetches stands by for nobody."""
ASK_S = 3.0
"""Seconds for a node to say what it has."""
ASKED_MAX = 4
ERROR_MAX = 64 << 10
LOOK_S = 0.1
"""How often it is looked whether a wait for another node is over."""
PATH = "/api/v1/snapshot"

log = logging.getLogger("covenq.daemon")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a node would send."""

    seq: int
    bytes: int


@dataclass(frozen=True, slots=True)
class NewNode:
    """What a start knows of it. `holds` is whether requests are held until this node serves."""

    config: Config
    data: Path
    env: Mapping[str, str]
    holds: bool
    stopped: Callable[[], bool]
    monotonic: Callable[[], float] = time.monotonic

    def begin(self, opened: OpenedJournal) -> None:
        """Put another node's state.db in place, if that is to be. Nobody has one open. Raises StopAsked."""
        remove_leftovers(self.data)
        if opened.succession is None or snapshot.is_usable(self.data / STATE_NAME, opened.journal):
            return
        records = opened.journal.head().seq
        try:
            self._fetch(opened, opened.succession, records)
        except (SnapshotUnusable, JournalError) as error:
            folds = f"{counted(records, 'record')}, about {latency(records * FOLD_S)}"
            log.info("state.db is folded from the start, %s: %s", folds, error)

    def _fetch(self, opened: OpenedJournal, succession: Succeeding, records: int) -> None:
        """Raises SnapshotUnusable for why there is none."""
        if records < RECORDS_MIN:
            raise SnapshotUnusable(f"other nodes are asked for theirs from {RECORDS_MIN:,} on")
        if succession.leads:
            raise SnapshotUnusable("this node leads, and takes deliveries in meanwhile")
        if self.holds:
            raise SnapshotUnusable("requests wait for this node to start")
        try:
            token = environment_token(self.env)
        except UsageError as error:
            raise SnapshotUnusable(f"no other node can be asked for its own: {error}") from None
        if token is None:
            raise SnapshotUnusable("COVENQ_TOKEN_FILE names no token by which another node could be asked for its own")
        began, nodes = self.monotonic(), succession.nodes(ask=True)
        if not any(one.leads for one in nodes):
            raise SnapshotUnusable("no node leads")
        bound = Bound(succession, self.stopped, self.monotonic, began + min(records * FOLD_S, LONGEST_S))
        fetching = Fetching(opened.journal, self.data, bound)
        known = known_nodes(nodes, opened.node.id, records, self.config.sha256)
        for node in _asked(known):
            try:
                offer, position = fetching.fetch(node, token, records)
            except SnapshotUnusable as error:
                log.warning("state.db is not that of node %s: %s", named(node.name, node.address), error)
                bound.require_time()
                continue
            took, size = latency(self.monotonic() - began), f"{offer.bytes / 1e6:,.1f} MB"
            log.info(
                "state.db is that of node %s, %s of %s: %s in %s, where to fold them takes about %s",
                *(named(node.name, node.address), f"{position.witness.seq:,}", counted(records, "record")),
                *(size, took, latency(records * FOLD_S)),
            )
            return
        raise SnapshotUnusable("no other node that is there gave its own")


class Bound:
    """How long fetching may go on. Methods may be called from any thread."""

    def __init__(
        self, succession: Succeeding, stopped: Callable[[], bool], monotonic: Callable[[], float], deadline: float
    ) -> None:
        self._succession = succession
        self._stopped = stopped
        self._monotonic = monotonic
        self._deadline = deadline
        self._led = False
        """Whether a node was seen to lead: who does is not known at once."""

    @property
    def left_s(self) -> float:
        """Seconds, at least a moment."""
        return max(0.1, self._deadline - self._monotonic())

    def is_over(self) -> bool:
        return self._stopped() or self._why_over() is not None

    def require_time(self) -> None:
        """Raises SnapshotUnusable once it is over, StopAsked where the daemon is to stop."""
        if self._stopped():
            raise StopAsked("the daemon was asked to stop while another node's state.db was fetched")
        if (why := self._why_over()) is not None:
            raise SnapshotUnusable(why)

    def _why_over(self) -> str | None:
        if self._succession.leader() is not None:
            self._led = True
        elif self._led:
            return "no node leads any more"
        return "it took too long, and a fold takes part meanwhile" if self._monotonic() >= self._deadline else None

    @contextmanager
    def ending(self, connection: OutgoingConnection) -> Iterator[None]:
        """What waits on the connection ends once it is over."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(LOOK_S):
                if self.is_over():
                    connection.shutdown()

        thread = threading.Thread(target=watch, name="snapshot-bound", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


class Fetching:
    """Asks nodes for their state.db, and puts one in place."""

    def __init__(self, journal: Engine, data: Path, bound: Bound) -> None:
        self._journal = journal
        self._data = data
        self._bound = bound

    def fetch(self, node: KnownNode, token: str, records: int) -> tuple[Offer, Position]:
        """Put this node's in place: what it offered, and where it is. Raises SnapshotUnusable, JournalError, StopAsked."""
        asked = self._remote(node, token)
        connection = OutgoingConnection(Route(parse_url(asked.url), {}))
        fetched = self._data / FETCHED_NAME
        try:
            with self._bound.ending(connection):
                self._choose(self._offer(self._ask(connection, asked, "HEAD", ASK_S)), records)
                connection.close()
                response = self._ask(connection, asked, "GET", self._bound.left_s)
                offer = self._offer(response)
                self._choose(offer, records)
                self._receive(response, offer, fetched)
            position = snapshot.check(fetched, self._journal, self._bound.is_over)
            if position.witness.seq != offer.seq:
                raise SnapshotUnusable(f"it said record {offer.seq}, and sent a file at {position.witness.seq}")
            self._bound.require_time()
            snapshot.install(fetched, self._data / STATE_NAME, self._bound.left_s)
        except (OSError, StateLocked, DiskFull) as error:
            words = f"{fetched} can't be written: {error.strerror}" if isinstance(error, OSError) else str(error)
            raise SnapshotUnusable(words) from error
        finally:
            connection.close()
            remove_leftovers(self._data)
        return offer, position

    def _remote(self, node: KnownNode, token: str) -> Remote:
        """Its API. The address is another node's word: no token goes there in clear. Raises SnapshotUnusable."""
        try:
            found = Remote(node.api or "", token)
            exposed = found.exposed
        except UsageError as error:
            raise SnapshotUnusable(f"its API can't be asked: {error}") from None
        if exposed:
            raise SnapshotUnusable(f"the token would reach {found.url} in clear: have it say https, with [node] api")
        return found

    def _ask(self, connection: OutgoingConnection, asked: Remote, method: str, whole_s: float) -> Response:
        """The answer, of which the head has come. Raises SnapshotUnusable."""
        self._bound.require_time()
        headers = {"Authorization": f"Bearer {asked.token}", "Accept-Encoding": "identity"}
        target = parse_url(asked.url).path.rstrip("/") + PATH
        wait_s = min(whole_s, self._bound.left_s)
        try:
            response = connection.ask(method, target, headers, None, wait_s=wait_s, whole_s=wait_s)
            if response.status == 200:
                return response
            said = b"" if method == "HEAD" else read_up_to(response, ERROR_MAX)
        except (*NO_ANSWER, ValueError) as error:
            self._bound.require_time()
            raise SnapshotUnusable(f"its API at {asked.url} can't be reached: {_reason(error)}") from None
        if response.status in (401, 403):
            raise SnapshotUnusable("its API refuses the token: one that it knows, of the role operate, is needed")
        words = f": {escape(str(error_of(response.status, said)))[:500].removesuffix('.')}" if said else ""
        raise SnapshotUnusable(f"its API answers with {response.status}{words}")

    def _offer(self, response: Response) -> Offer:
        """Raises SnapshotUnusable for one that can't be used."""
        said = {name: response.header(name) or "" for name in (JOURNAL, SCHEMA, SEQ, BYTES)}
        if said[JOURNAL] != self._journal.id:
            raise SnapshotUnusable("its state.db is of another journal")
        if said[SCHEMA] != str(schema.VERSION):
            raise SnapshotUnusable(
                f"its state.db has the schema {escape(said[SCHEMA][:20])}, and this covenq's {schema.VERSION}"
            )
        for name in (SEQ, BYTES):
            if not (said[name].isascii() and said[name].isdecimal() and len(said[name]) <= 15):
                raise SnapshotUnusable(f"its {name} is no number")
        return Offer(int(said[SEQ]), int(said[BYTES]))

    def _choose(self, offer: Offer, records: int) -> None:
        """Raises SnapshotUnusable where a fold is faster, or the disk has no room."""
        fold_s = records * FOLD_S
        fetch_s = offer.bytes / BYTES_PER_S + max(0, records - offer.seq) * FOLD_S
        what = f"{offer.bytes / 1e6:,.1f} MB, up to record {offer.seq:,}"
        if fetch_s >= min(fold_s, LONGEST_S):
            raise SnapshotUnusable(f"fetching its state.db, {what}, would take too long: about {latency(fetch_s)}")
        if not snapshot.has_room(self._data, offer.bytes):
            raise SnapshotUnusable(f"the disk has no room for its state.db: {what}")

    def _receive(self, response: Response, offer: Offer, fetched: Path) -> None:
        """Write the answer's body to a file, durably. Raises SnapshotUnusable, OSError."""
        received = 0
        fd = os.open(fetched, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            for piece in self._pieces(response):
                received += len(piece)
                if received > offer.bytes:
                    break
                file.write(piece)
            file.flush()
            os.fsync(fd)
        if received != offer.bytes:
            self._bound.require_time()
            sent = "more" if received > offer.bytes else f"{received:,}"
            raise SnapshotUnusable(f"it said {offer.bytes:,} bytes, and sent {sent}")

    def _pieces(self, response: Response) -> Iterator[bytes]:
        """The body. Raises SnapshotUnusable where it doesn't come, or fetching is over."""
        try:
            while piece := response.read1(CHUNK):
                yield piece
                self._bound.require_time()
        except (*NO_ANSWER, ValueError) as error:
            self._bound.require_time()
            raise SnapshotUnusable(f"its state.db broke off: {_reason(error)}") from None
        finally:
            response.close()


def remove_leftovers(data: Path) -> None:
    """Remove what is left of snapshots, and say what can't be: a start needs none of it."""
    try:
        snapshot.remove_leftovers(data)
    except OSError as error:
        log.warning("%s can't be removed: %s", error.filename, error.strerror)


def may_fetch(config: Config, data: Path, env: Mapping[str, str]) -> bool:
    """Whether this node may be new, and ask others: then connections are better refused than left waiting meanwhile."""
    if config.journal.url is None or read_witness(data / STATE_NAME) is not None:
        return False
    try:
        return environment_token(env) is not None
    except UsageError:
        return False


def _asked(nodes: Sequence[KnownNode]) -> list[KnownNode]:
    """Those that are there and can be asked, first those that don't lead, and of these the furthest."""
    found = [one for one in nodes if not one.here and one.api is not None and absence(one.state, one.seen) is None]
    return sorted(found, key=lambda one: (one.state == "leads", one.behind or 0))[:ASKED_MAX]


def _reason(error: Exception) -> str:
    return "no HTTP" if isinstance(error, ValueError) else reason(error)
