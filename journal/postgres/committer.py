"""Group commit to a database: one thread sends what is queued, a batch a transaction, and answers it.

What the answers rest on, in order:

1. A batch is one call of `covenq.append` in a transaction of its own; the next is sent when it has been answered.
2. It returned without an error and without a warning: committed, and replicated as far as the server's settings ask for. Only
   now the head moves, and Appended and Conflict are answered.
3. The server said that it failed: nothing of it is there, and its callers are told so.
4. Neither: the connection ended, or the commit came back with a warning that it may not have been replicated. The same calls are
   sent again under the same attempt ids until they are answered, so that what was recorded is found and not recorded twice. A
   caller whose time is up meanwhile is told Unknown if its call was ever sent, and JournalUnavailable if not.

While the server is away calls are held, bounded in number, bytes and time. Once it has been away for longer than that time, they
are refused at once: who would wait for all of it in vain can be told so sooner.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import psycopg

from journal.append import REQUEST_S
from journal.commit_stats import CommitStats
from journal.errors import JournalClosed, JournalError, JournalPoisoned, JournalTaken, JournalUnavailable, copy_of
from journal.format.codec import Prepared
from journal.format.header import SEGMENT_BYTES
from journal.postgres.call import FENCED, SEALED, Answer, Batch, Call, Done, send
from journal.postgres.connections import connect, is_unknown, one_line, refusal, server_of, unavailable
from journal.postgres.deadlines import Conn, ended_after, hang_up
from journal.postgres.lease import name_writer
from journal.records import Appended, Conflict, Unknown

HELD_S = REQUEST_S
"""Seconds that a call waits for its answer, and after which a server that doesn't answer is away."""
HELD_CALLS = 4096
HELD_BYTES = 256 << 20
"""How many calls, and bytes of theirs, wait at most; more are refused until there is room."""
BATCH_CALLS = 512
BATCH_BYTES = 8 << 20
"""Calls, and bytes of their lines, after which a batch is closed. A single call may be larger."""
PAUSE_S = 0.05
PAUSE_MAX_S = 0.5
"""Seconds between two tries to reach the server, doubled at each up to the greatest."""
IDLE_S = 2.0
"""Seconds without an append after which the server is asked whether it is there."""
EXPIRE_S = 0.2
"""Seconds between two looks for calls whose time is up."""
_WRITES = "UPDATE covenq.head SET one = one WHERE false"
"""Changes nothing, waits for nobody, and is refused where a server takes no writes."""
REMEMBERED_S = 3600.0
"""Seconds for which an attempt that got no answer is known to have been sent."""

TAKEN = "another process has taken the journal"
MOVED_HINT = "Look at `covenq status` there."


class Committer(threading.Thread):
    """The thread that sends. `submit`, `start_batch`, `next_epoch` and `stop` may be called from any other.

    `publish(batch)` is called with what was answered, before the callers are; `check(conn)` with each new connection,
    and may raise JournalError, which poisons.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        publish: Callable[[Batch], None],
        check: Callable[[Conn], None],
        salt: Callable[[], str],
        is_alive: Callable[[str], bool] = lambda server: True,
        segment_max: int = SEGMENT_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="journal-commit", daemon=True)
        self.stats = CommitStats()
        self.poisoned: JournalError | None = None
        self.full: JournalError | None = None
        self.away: str | None = None
        """Why the server can't be reached, since the last try failed."""
        self.beat = monotonic()
        self.writer = token
        """The name that appends go by: the token, and which connection it is."""
        self._url, self._token, self._connects = url, token, 0
        self._publish, self._check, self._salt, self._segment_max = publish, check, salt, segment_max
        self._monotonic = monotonic
        self._queue: deque[Call] = deque()
        self._waiting_bytes = 0
        self._batch: list[Call] = []
        self._asked_since: float | None = None
        """When the server was first asked for what it has not answered."""
        self._answered_at = monotonic()
        """When it last answered."""
        self._epoch: str | None = None
        self._unanswered: dict[str, float] = {}
        """Attempts that were sent, and of which somebody was told Unknown; when."""
        self._wake = threading.Condition(threading.Lock())
        self._asleep = False
        self._closing = False
        self._conn: Conn | None = None
        self._line: Conn | None = None
        """The newest connection, also while it is made ready."""
        self._warned: str | None = None
        self._pause = threading.Event()
        self._is_alive = is_alive
        self._server = ""
        """Which one the connection is to."""
        self._expirer = threading.Thread(target=self._expire, name="journal-expire", daemon=True)

    # ---- callers' side

    def submit(
        self, prepared: list[Prepared], attempt: str, done: Done, after: Callable[[], None] | None, *, start: bool
    ) -> None:
        """Queue a call.

        Raises JournalPoisoned (or what poisoned it), JournalClosed, JournalUnavailable; it is then not queued.
        """
        now = self._monotonic()
        call = Call(prepared, attempt, now + HELD_S, done, after, repeated=attempt in self._unanswered)
        with self._wake:
            if self.poisoned is not None:
                raise copy_of(self.poisoned)
            if self._closing:
                raise JournalClosed("the journal is closed")
            unreachable = self.unreachable
            if unreachable is not None and not call.repeated:
                raise JournalUnavailable(unreachable)
            if len(self._queue) >= HELD_CALLS or (self._waiting_bytes + call.size > HELD_BYTES and self._queue):
                raise JournalUnavailable(f"{len(self._queue)} appends wait for the database already{self._reason()}")
            self._queue.append(call)
            self._waiting_bytes += call.size
            if self._asleep and start:
                self._asleep = False
                self._wake.notify()

    @property
    def unreachable(self) -> str | None:
        """Why the server can't be asked, once it has not been for as long as calls are held for it; until then they are."""
        since = self._asked_since
        if since is None or self._monotonic() - since <= HELD_S:
            return None
        return f"the database has not answered for {self._monotonic() - since:.0f} s{self._reason()}"

    def _reason(self) -> str:
        return "" if self.away is None else f": {self.away}"

    def start_batch(self) -> None:
        if self._asleep and self._queue:
            with self._wake:
                if self._asleep:
                    self._asleep = False
                    self._wake.notify()

    def next_epoch(self, epoch: str) -> None:
        """The next batch begins a segment in this epoch."""
        with self._wake:
            self._epoch = epoch

    def stop(self) -> None:
        """Refuse new calls, answer the queued ones, and end. Waits for all, hardly longer than a call is held."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self.join(HELD_S)
        if self.is_alive():  # it waits for a server that hangs, or for a standby: everybody was told Unknown
            self.join(2 * EXPIRE_S)
            self.hang_up()
            self.join(HELD_S)

    def hang_up(self) -> None:
        """End the connection: what was sent on it has no answer, and is sent again on the next."""
        hang_up(self._line)

    def poison(self, error: JournalError) -> None:
        """Send nothing any more."""
        with self._wake:
            if self.poisoned is None:
                self.poisoned = error
            self._pause.set()
            self._wake.notify()

    # ---- the threads

    def start(self) -> None:
        super().start()
        self._expirer.start()

    def run(self) -> None:
        try:
            self._probe()  # the first append finds a connection
            while self._run_once():
                pass
        except BaseException as error:
            self.poison(JournalPoisoned(f"the committer failed: {error!r}"))
            raise
        finally:
            failed = self.poisoned or JournalClosed("the journal is closed")
            with self._wake:
                self._closing = True
                waiting = [*self._batch, *self._queue]
                self._queue.clear()
            self._settle(waiting, lambda call: Unknown() if call.sent else failed)
            self._disconnect()

    def _run_once(self) -> bool:
        with self._wake:
            if not self._queue and not self._closing and self.poisoned is None:
                self._asleep = True
                self._wake.wait(1.0 if self._asked_since is None else PAUSE_MAX_S)
                self._asleep = False
            self._take_batch()
            ends = self.poisoned is not None or (self._closing and not self._batch)
        if self._batch and self.poisoned is None:
            self._commit()
        elif not ends and (self._asked_since is not None or self._monotonic() - self._answered_at >= IDLE_S):
            self._probe()
        return not ends

    def _probe(self) -> None:
        """Ask whether the server is there and takes writes, where it was away or has been asked nothing for a while.

        So no call has to wait in order to find out that it is gone, or hangs, takes no writes, or is back.
        """
        if self._asked_since is None:
            self._asked_since = self._monotonic()
        try:
            conn = self._connected()
            with self._in_time(conn):
                conn.execute(_WRITES)
        except psycopg.Error as error:
            self.away = str(unavailable(error))
            self._disconnect()
        except JournalUnavailable as error:
            self.away = str(error)
        except JournalError as error:
            self.poison(error)
        else:
            self._came_back()

    def _came_back(self) -> None:
        """The server has answered."""
        self.away, self._asked_since, self._answered_at = None, None, self._monotonic()

    def _take_batch(self) -> None:
        size = 0
        while self._queue and len(self._batch) < BATCH_CALLS and (not self._batch or size < BATCH_BYTES):
            call = self._queue.popleft()
            self._waiting_bytes -= call.size
            size += call.size
            self._batch.append(call)
        if self._batch and self._asked_since is None:
            self._asked_since = self._monotonic()

    def _commit(self) -> None:
        """Send the batch until it is answered, or nobody waits for it any more."""
        pause = PAUSE_S
        while self.poisoned is None:
            calls = [call for call in self._batch if not call.answered and not call.withdrawn]
            if not calls:
                break
            try:
                conn = self._connected()
            except JournalUnavailable as error:
                self.away = str(error)
                self._pause.wait(pause)
                pause = min(2 * pause, PAUSE_MAX_S)
                continue
            except JournalError as error:
                self.poison(error)
                return
            answered = self._send(conn, calls)
            if answered is not None:
                batch, sent = answered
                self._publish(batch)
                self._count(batch, calls, sent)
                self._settle(calls, dict(zip(map(id, calls), batch.answers, strict=True)))
                break
            if self.away is not None:
                self._pause.wait(pause)
                pause = min(2 * pause, PAUSE_MAX_S)
        if self.poisoned is None:  # else what has no answer gets it when this thread ends
            with self._wake:
                self._batch = []

    def _send(self, conn: Conn, calls: list[Call]) -> tuple[Batch, float] | None:
        """What was answered, and after how many seconds; None if it has to be sent again, or the callers were told why not."""
        with self._wake:
            calls[:] = [call for call in calls if not call.answered and not call.withdrawn]
            for call in calls:
                call.sent = True
            epoch = self._epoch
        if not calls:
            return None
        self._take_warning()
        began = time.perf_counter()
        try:
            with self._in_time(conn):
                batch = send(conn, self.writer, calls, salt=self._salt(), epoch=epoch, segment_max=self._segment_max)
        except psycopg.Error as error:
            if error.sqlstate in (FENCED, SEALED):
                ends = (
                    JournalTaken(TAKEN)
                    if error.sqlstate == FENCED
                    else JournalPoisoned(one_line(error), hint=MOVED_HINT)
                )
                self.poison(ends)
                self._settle(calls, lambda call: Unknown() if call.repeated else ends)
            elif isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
                # Another server has become the primary, or this one is to take no writes for now.
                self.away = str(unavailable(error))
                for call in calls:
                    call.sent = call.repeated
                self._disconnect()
            elif is_unknown(error):
                self._unanswer(calls, one_line(error))
            else:
                failed = refusal(error)
                self.full = failed
                self._came_back()
                self._settle(calls, lambda call: Unknown() if call.repeated else failed)
            return None
        warning = self._take_warning()
        if warning is not None:
            self._unanswer(calls, warning)
            return None
        self.full = None
        self._came_back()
        with self._wake:
            if self._epoch == batch.epoch:
                self._epoch = None
        return batch, time.perf_counter() - began

    def _unanswer(self, calls: list[Call], reason: str) -> None:
        self.away = f"the database did not answer: {reason}"
        for call in calls:
            call.repeated = True
        self._disconnect()

    def _count(self, batch: Batch, calls: list[Call], took: float) -> None:
        records = batch.head.seq - batch.before
        if records:
            self.stats.add(records, sum(call.size for call in calls), took)

    def _settle(self, calls: Sequence[Call], answer: dict[int, Appended | Conflict] | Callable[[Call], Answer]) -> None:
        """Answer the calls; then call each distinct `after` once, but for who was told Unknown."""
        told: dict[Callable[[], None], None] = {}
        for call in calls:
            given = answer(call) if callable(answer) else answer[id(call)]
            if isinstance(given, Unknown):
                self._unanswered[call.attempt] = self._monotonic()
                call.answer(given)
            elif call.answer(given):
                # One whose caller had been told Unknown meanwhile stays remembered: the caller sends it again.
                self._unanswered.pop(call.attempt, None)
                if call.after is not None:
                    told[call.after] = None
        for after in told:
            after()

    def _connected(self) -> Conn:
        if self._conn is None:
            conn = self._line = connect(self._url)
            try:
                with self._in_time(conn):
                    self._server = server_of(conn)
                    self._check(conn)
                    self._connects += 1
                    self.writer = f"{self._token}.{self._connects}"
                    if not name_writer(conn, self._token, self.writer):
                        raise JournalTaken(TAKEN)
            except psycopg.errors.ReadOnlySqlTransaction as error:
                conn.close()
                raise unavailable(error) from error
            except psycopg.Error as error:
                conn.close()
                raise JournalUnavailable(f"the database can't be read: {one_line(error)}") from error
            except BaseException:
                conn.close()
                raise
            conn.add_notice_handler(self._on_notice)
            self._conn = conn
        return self._conn

    def _in_time(self, conn: Conn) -> AbstractContextManager[None]:
        """Ends a connection on which there is no answer, unless its server is alive: then a standby is waited for, or a lock."""
        return ended_after(conn, HELD_S, unless=lambda: self._is_alive(self._server))

    def _on_notice(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self._warned = " ".join((notice.message_primary or "a warning").split())[:300]

    def _take_warning(self) -> str | None:
        warning, self._warned = self._warned, None
        return warning

    def _disconnect(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()

    def _overdue(self, call: Call) -> Answer:
        return Unknown() if call.sent else JournalUnavailable(f"the database did not answer in time{self._reason()}")

    def _expire(self) -> None:
        """Tell those whose time is up, whatever the sending thread waits for; and show that this process lives."""
        while self.is_alive():
            now = self._monotonic()
            self.beat = now
            with self._wake:
                late = [call for call in (*self._batch, *self._queue) if call.deadline <= now and not call.answered]
                for call in late:
                    call.withdrawn = not call.sent
                if late:
                    self._queue = deque(call for call in self._queue if call.deadline > now and not call.answered)
                    self._waiting_bytes = sum(call.size for call in self._queue)
            for attempt, when in self._unanswered.copy().items():
                if now - when > REMEMBERED_S:
                    self._unanswered.pop(attempt, None)
            self._settle(late, self._overdue)
            self.join(EXPIRE_S)
