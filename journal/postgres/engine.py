"""The journal of a database as a daemon holds it (`journal.postgres.open` makes one)."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from journal.append import append_known
from journal.database import Database
from journal.errors import (
    JournalClosed,
    JournalDamaged,
    JournalError,
    JournalLocked,
    JournalStandby,
    JournalTaken,
    copy_of,
)
from journal.format.entries import prepare_append
from journal.health import Health, Measurement, Measurements
from journal.interface import Durability, Engine, Progress, Succeeding
from journal.postgres import lease
from journal.postgres.call import Answer, Batch, Done
from journal.postgres.committer import HELD_S, TAKEN, Committer
from journal.postgres.connections import Connections, clock_of, connect, unavailable
from journal.postgres.deadlines import Conn, ended_after
from journal.postgres.ending import Ending, check_head, end_of
from journal.postgres.erase import Eraser
from journal.postgres.follow import HeadFollower
from journal.postgres.lease import LeaseKeeper
from journal.postgres.nodes import Heartbeat, nodes_of
from journal.postgres.rows import Rows, Segments
from journal.postgres.watch import Look, Watch
from journal.records import (
    OWN_SUBJECT,
    Appended,
    Conflict,
    Entry,
    Head,
    Leader,
    Node,
    NodeSeen,
    Record,
    Rewritten,
    Unknown,
    Witness,
)

if TYPE_CHECKING:

    def _conforms(journal: PostgresJournal) -> Engine:
        """Checked statically: it promises all that the interface asks of an engine."""
        return journal

    def _succeeds(journal: PostgresJournal) -> Succeeding:
        return journal


ASK_S = 3.0
"""Seconds that the server has to say which nodes there are: who stops waits for it."""


class Opening(NamedTuple):
    """What was found at the opening of a journal."""

    id: str
    epoch: str
    head: Head
    segments: Segments
    look: Look | None
    """What the server said of itself, if it did in time."""
    created: bool
    """Whether the journal was not there before."""


class PostgresJournal:
    """See `journal.interface.Engine` for what the methods promise."""

    def __init__(
        self,
        url: str,
        token: str,
        node: Node,
        found: Opening,
        *,
        segment_max: int,
        leads: bool = True,
        missed: Callable[[Witness], None] = lambda witness: None,
    ) -> None:
        """`leads`: `token` has taken the lease; else this node stands by. `missed`: as `journal.postgres.open` takes it."""
        self._missed = missed
        self.created = found.created
        self._url, self._node, self._leads = url, node, leads
        self._leader: Leader | None = None
        self._stepped_down = False
        self._id, self._epoch, self._head = found.id, found.epoch, found.head
        self._durability: Durability = "fsync"
        self._connections = Connections(url)
        self._segments = found.segments
        self._rows = Rows(self._connections, self._segments)
        self._advanced = threading.Condition()
        self._closed = False
        self._numbers = count()
        self._token = token
        watch = Watch(url, found.look)
        self._committer = Committer(
            url,
            token,
            publish=self._publish,
            check=self._check_head,
            salt=lambda: secrets.token_hex(32),
            is_alive=watch.is_alive_at,
            segment_max=segment_max,
        )
        self._eraser = Eraser(self._connections, lambda: self._committer.writer, self._hangs, segment_max)
        self._heartbeat = Heartbeat(node)
        self._keeper = LeaseKeeper(url, token, self._lost, beat=self._heartbeat.beat)
        self._follower = self._make_follower()
        self._watch = watch
        self._leading = threading.Lock()
        if leads:
            self._start()
        else:
            self._follower.start()
        self._watch.start()

    def _make_follower(self) -> HeadFollower:
        return HeadFollower(
            self._url, self._saw, self._check_head, self._committer.poison, self._heartbeat, own=self._token
        )

    def _start(self) -> None:
        self._committer.start()
        self._keeper.start()

    @property
    def leads(self) -> bool:
        return self._leads

    @property
    def lost(self) -> bool:
        return isinstance(self._committer.poisoned, JournalTaken)

    def leader(self) -> Leader | None:
        return self._leader

    def lead(self) -> bool:
        """See `journal.interface.Succeeding.lead`.

        Who leads may have been kept from renewing its lease by what has kept this node from looking: it gets the time for it.
        What is read here may have been folded: so the head that the lease was taken with has to come after what this node saw.
        """
        with self._leading:
            if self._leads or self._stepped_down or self._closed or self._committer.poisoned is not None:
                return self._leads
            conn = connect(self._url, local=True)
            try:
                with ended_after(conn, HELD_S):
                    end = self._take(conn)
                if end is None:
                    return False
            except JournalLocked:
                return False
            except psycopg.Error as error:
                raise unavailable(error) from error
            finally:
                conn.close()
            self._follower.stop(leaves=False)
            self._saw(end.head, end.epoch, Leader(self._node.name, self._node.address, ""))
            self._start()
            self._leads = True
            return True

    def _take(self, conn: Conn) -> Ending | None:
        """Where the journal ends that was taken; None if its leader has to be given time. Raises as `lease.take` and `end_of`."""
        if self._follower.steady_s < lease.LEASE_S and not lease.is_given_up(conn, self._node):
            return None
        lease.take(conn, self._token, self._node)
        try:
            return end_of(conn, [Witness(self._id, self._head.seq, self._head.sum)])[0]
        except BaseException:
            lease.give_up(conn, self._token)
            raise

    def step_down(self) -> None:
        """See `journal.interface.Succeeding.step_down`."""
        with self._leading:
            if not self._leads or self._closed:
                return
            self._committer.stop()
            self._leads, self._stepped_down = False, True
            self._keeper.stop()
            self._leader = None
            self._follower = self._make_follower()
            self._follower.start()

    def tell(self, about: str) -> None:
        self._heartbeat.about = about

    def nodes(self, *, ask: bool = False) -> list[NodeSeen]:
        if not ask:
            return self._heartbeat.known()
        with self._connections.lent() as conn, ended_after(conn, ASK_S):
            try:
                return nodes_of(conn)
            except psycopg.Error as error:
                raise unavailable(error) from error

    @property
    def id(self) -> str:
        return self._id

    @property
    def epoch(self) -> str:
        return self._epoch

    @property
    def durability(self) -> Durability:
        """By what the newest append's own transaction saw."""
        return self._durability

    def append(self, entries: Sequence[Entry]) -> Appended | Conflict | Unknown:
        answers: list[Answer] = []
        answered = threading.Lock()
        answered.acquire()

        def done(answer: Answer) -> None:
            answers.append(answer)
            answered.release()

        self._submit(entries, done, None, start=True)
        answered.acquire()
        answer = answers[0]
        if isinstance(answer, JournalError):
            raise copy_of(answer)
        return answer

    def submit(self, entries: Sequence[Entry], done: Done, after: Callable[[], None] | None = None) -> None:
        self._submit(entries, done, after, start=False)

    def _submit(self, entries: Sequence[Entry], done: Done, after: Callable[[], None] | None, *, start: bool) -> None:
        prepared = prepare_append(entries)
        self._refuse_standby()
        self._committer.submit(prepared, self._attempt(entries), done, after, start=start)

    def _refuse_standby(self) -> None:
        if not self._leads and not self._closed and self._committer.poisoned is None:
            leader = self._leader
            raise JournalStandby(
                "no node appends to the journal now"
                if leader is None
                else f"{leader.node or 'another node'} appends to the journal"
            )

    def _attempt(self, entries: Sequence[Entry]) -> str:
        """The caller's name for this append, or one of ours: a call is sent again within this engine too."""
        named = entries[0].attempt if entries else None
        return named or f"{self._token}.{next(self._numbers)}"

    def start_batch(self) -> None:
        self._committer.start_batch()

    def head(self) -> Head:
        return self._head

    def read(self, after: int, only: Container[int] | None = None, *, payloads: bool = True) -> Iterator[Record]:
        return self._rows.read(after, self._head.seq, only, payloads=payloads)

    def get(self, seq: int) -> Record | None:
        return self._rows.get(seq) if 0 < seq <= self._head.seq else None

    def last(self, subject: str) -> Record | None:
        seq = self._rows.last(subject, self._head.seq)
        return self._rows.get(seq) if seq else None

    def wait(self, after: int, timeout: float | None) -> bool:
        with self._advanced:
            self._advanced.wait_for(lambda: self._head.seq > after or self._closed or self.poisoned, timeout)
            return self._head.seq > after

    @property
    def lease_clock(self) -> Callable[[], float]:
        return lambda: clock_of(self._connections)

    @property
    def beat(self) -> float:
        return self._committer.beat if self._leads else self._follower.beat

    @property
    def poisoned(self) -> bool:
        return self._committer.poisoned is not None

    @property
    def full(self) -> bool:
        return self._committer.full is not None

    def health(self) -> Health:
        """A database sets no bound that can be asked for: `room` is None."""
        committer = self._committer
        poisoned = None if committer.poisoned is None else str(committer.poisoned)
        full = None if committer.full is None else str(committer.full)
        return Health(poisoned, full, self._unreachable(), database=True)

    def _unreachable(self) -> str | None:
        """Where appends have had no answer for long: what they wait for, as far as the database has said."""
        if not self._leads:
            return self._follower.unreachable
        found = self._committer.unreachable
        if found is None:
            return None
        database = self._watch.database()
        return found if database.waits is None else f"{found}; {database.waits}"

    def _hangs(self) -> bool:
        """Whether the server has said nothing for as long as a call waits for it."""
        away_s = self._watch.database().away_s
        return away_s is not None and away_s > HELD_S

    def database(self) -> Database:
        return self._watch.database()

    def measurements(self) -> Measurements:
        """Segments, and bytes of the tables, as the server said last; of the group commit its commits in seconds and its
        batches in records."""
        stats = self._committer.stats
        measurements: dict[str, Measurement] = {
            "segments": max(self._watch.segments, len(self._segments)),
            "bytes": self._watch.bytes,
            "batches": stats.batches,
            "records": stats.records,
            "sync_seconds": stats.syncs_s.read(),
            "batch_records": stats.batch_records.read(),
            "recent_sync_seconds": tuple(stats.recent_syncs_s.copy()),
            "recent_batch_records": tuple(stats.recent_batches.copy()),
        }
        if stats.last_sync_s is not None:
            measurements["last_sync_seconds"] = stats.last_sync_s
        return measurements

    def parts(self) -> Sequence[tuple[int, int]]:
        """One: content is taken out of its rows."""
        return [(1, self._watch.bytes)]

    @property
    def erasing(self) -> bool:
        """Never: an erasure is one transaction, there or not."""
        return False

    def resume_erasure(self, progress: Progress | None = None) -> Rewritten:
        return Rewritten()

    def erase(
        self, entries: Sequence[Entry], progress: Progress | None = None
    ) -> tuple[Appended | Conflict | Unknown, Rewritten]:
        """See `journal.interface.Erasing.erase`; `journal.postgres.erase` has the argument."""
        if self._closed:
            raise JournalClosed("the journal is closed")
        if self._committer.poisoned is not None:
            raise copy_of(self._committer.poisoned)
        prepared = prepare_append(entries)
        self._refuse_standby()
        found = self._eraser.erase(prepared, self._attempt(entries), self._head.seq)
        if found is None:
            return Unknown(), Rewritten()
        batch, rewritten = found
        self._publish(batch)
        if progress is not None and rewritten.parts:
            progress(1, 1)
        return batch.answers[0], rewritten

    def begin_epoch(self, epoch: str) -> None:
        """Start a new epoch with the next append: seqs from here on may have been assigned before, to other records.

        Raises as an append.
        """
        newest = self._segments.of(self._head.seq + 1)
        if newest is not None and newest[0].first == self._head.seq + 1:
            # An empty segment has the name that the next one would get: it needs a record first.
            append_known(self, [Entry(OWN_SUBJECT, "journal.epoch", {"epoch": epoch})])
        self._committer.next_epoch(epoch)

    def close(self) -> None:
        """Answer what was submitted, take no more, and give the lease up. Repeatable."""
        if self._closed:
            return
        with self._leading:
            leads = self._leads
            if leads:
                self._committer.stop()
            self._follower.stop()
        with self._advanced:
            self._closed = True
            self._advanced.notify_all()
        if leads:
            self._keeper.stop(self._heartbeat.leave)
        self._watch.stop()
        self._connections.close()

    def __enter__(self) -> PostgresJournal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- on the committer's thread, on that of who follows or leads, and on that of who erases

    def _saw(self, head: Head, epoch: str, leader: Leader | None) -> None:
        """What another node has appended."""
        self._leader = leader
        with self._advanced:
            if head.seq > self._head.seq:
                self._head, self._epoch = head, epoch
                self._advanced.notify_all()

    def _publish(self, batch: Batch) -> None:
        with self._advanced:
            self._durability = batch.durability
            if batch.head.seq >= self._head.seq:
                self._head, self._epoch = batch.head, batch.epoch
            self._advanced.notify_all()

    def _check_head(self, conn: Conn) -> None:
        """On a new connection, perhaps to another server: whether it has the newest record that we answered for."""
        head = self._head
        try:
            check_head(conn, head)
        except JournalDamaged:
            self._missed(Witness(self._id, head.seq, head.sum))
            raise

    def _lost(self) -> None:
        self._committer.poison(JournalTaken(TAKEN))
        with self._advanced:
            self._advanced.notify_all()
