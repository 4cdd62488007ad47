"""Take-over: a new process gets the listening sockets of the running daemon, which then ends. Both sides of it.

GitHub sends a delivery once, so a restart may refuse no connection: the listening socket has to outlive the process. A service
manager can hold it (`covenq.daemon.activation`); without one it goes from process to process, as descriptors (SCM_RIGHTS) over
the Unix socket DATA/takeover.sock. Not by SO_REUSEPORT: that makes two sockets with a queue each, so what waits in the queue of
the one that is closed is reset; and any program of the same user could bind the port beside the daemon and get a share of its
deliveries.

What is said, each an object on a line (`covenq.net.descriptors`), N being the new process and O the one that runs:

1. N has loaded its configuration and read its secrets, has looked at the data directory without the lock for whatever would
   keep it from starting there (`covenq.daemon.preflight`), and asks: `{"take_over": 1}`.
2. O answers with its listening sockets, by name, or with `{"refused": …, "hint": …}`. It goes on as if nothing were.
3. N binds what it listens on beside them, accepts connections, holds their requests (`covenq.http.server.held`), and says
   `{"holding": true}`.
4. O stops (`covenq.daemon.stop`): it accepts no more and claims no more, answers what is in flight, ends its commands, and
   passes on connections that have no request: `{"connections": true}` with descriptors. They stay open, and what their clients
   have sent meanwhile is in them, so no request meets a closed connection.
5. O closes the journal and then this connection: its end tells N that the lock is free, and so does O's death. N opens the
   journal, starts, and serves what it held.

What if N fails. Until step 3 O has changed nothing, and an N that refuses, crashes or falls silent is forgotten: so whatever
can be checked without the journal's lock is checked before. That is the configuration and its secrets, every address, what
open files are allowed, the filesystem, permissions, the format of the journal, damage to it, and room to start, counting the
ballast, which a start may use (`covenq.daemon.datadir`). It is no proof: only who has the lock can open the journal, and a disk
may fill up, or a file be damaged, after N has looked. From step 3 on O ends, whatever becomes of N. It could wait for N
to be ready only by keeping the lock that N needs for that; and to start again after it let the journal go would be a second
start in an old process, a path that nothing else ever takes. So an N that dies after step 3 is a daemon that failed to start:
nothing that was answered with 2xx is lost, since O finishes and closes its journal as at any stop, and the next start, of this
version or the one before, has all of it. What N held was never accepted: its senders get 503, or see the connection end if N
was killed.

Who may ask. The socket is 0600 in a directory that is 0700, and the peer must be the same user. A command of a route is that,
too: so a process that descends from the daemon is refused, which would be ended with it in any case. A daemon that a service
manager started is not taken from it: the manager would see it end, and start another or none.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from covenq.errors import CovenqError, Refused
from covenq.net import unix_socket
from covenq.net.descriptors import DESCRIPTORS_MAX, Message, MessageConnection, MessageError, peer_of
from covenq.paths import TAKEOVER_NAME
from covenq.tasks.execution import process_tree

PROTOCOL = 1
ANSWER_S = 10.0
"""Seconds that either side waits for the other's next word."""
END_S = 90.0
"""Seconds that the new process waits for the end of the one before: the erasure of a segment may be in the way."""
_POLL_S = 0.5

log = logging.getLogger("covenq.daemon")


class Successor:
    """The process that takes over, for the one that ends."""

    def __init__(self, connection: MessageConnection, pid: int | None) -> None:
        self._connection = connection
        self.pid = pid

    def pass_on(self, connections: Sequence[socket.socket]) -> None:
        """Give it these connections, and close them here. For one thread."""
        try:
            for at in range(0, len(connections), DESCRIPTORS_MAX):
                numbers = [one.fileno() for one in connections[at : at + DESCRIPTORS_MAX]]
                self._connection.send({"connections": True}, numbers)
        except OSError as error:  # it is gone: what is idle is closed as at any stop
            log.warning("connections can't be passed on: %s", error.strerror or error)
        finally:
            for one in connections:
                one.close()

    def close(self) -> None:
        """Tell it that the journal is closed."""
        self._connection.close()


class TakeoverServer:
    """Waits, on a thread of its own, for a process that takes over."""

    def __init__(
        self, path: Path, listening: Mapping[str, socket.socket], stop: Callable[[], None], *, managed: bool
    ) -> None:
        """`listening` are the sockets by name, `stop` has this process stop. `managed`: a service manager started it."""
        self._path = path
        self._listening = dict(listening)
        self._stop = stop
        self._managed = managed
        self._bound: socket.socket | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="takeover", daemon=True)
        self.successor: Successor | None = None
        """Set before `stop` is called."""

    def start(self) -> None:
        """With the journal's lock: what is at the path belongs to a dead process. Raises as `unix_socket.bind`."""
        self._bound = unix_socket.bind(self._path)
        self._bound.listen(8)
        self._bound.settimeout(_POLL_S)
        self._thread.start()

    def close(self) -> None:
        """Take part in no take-over that has not begun. With the journal's lock: the path may be the successor's after that."""
        self._closing.set()
        if self._bound is None:
            return
        with contextlib.suppress(OSError):
            self._bound.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join(2 * _POLL_S)
        self._bound.close()
        self._bound = None
        self._path.unlink(missing_ok=True)

    def release(self) -> None:
        """The journal is closed: tell the successor."""
        if self.successor is not None:
            self.successor.close()

    def _run(self) -> None:
        bound = self._bound
        if bound is None:
            return
        asked = select.poll()
        asked.register(bound, select.POLLIN)
        while not self._closing.is_set():
            # Not by `accept` alone: of a socket that was shut down it asks again and again, until its time is over.
            if not asked.poll(_POLL_S * 1000) or self._closing.is_set():
                continue
            try:
                accepted, _ = bound.accept()
            except TimeoutError:
                continue
            except OSError:
                return  # it was closed
            connection = MessageConnection(accepted)
            try:
                peer = peer_of(accepted)
                if self._negotiate(connection, peer):
                    self.successor = Successor(connection, None if peer is None else peer[0])
                    self._stop()
                    continue  # who asks from now on is told so
            except (OSError, MessageError, ValueError) as error:
                log.warning("a process that asked to take over did not: %s", error)
            connection.close()

    def _negotiate(self, connection: MessageConnection, peer: tuple[int, int] | None) -> bool:
        """Whether the peer listens now, and waits for this process to end. Raises OSError, MessageError."""
        asked = connection.receive(ANSWER_S)
        if asked is None:
            return False
        if connection.ended():  # this process was stopped, or busy, for longer than that one waited
            log.info("a process that asked to take over did not wait for an answer: this one goes on")
            return False
        refusal = self._refusal(asked, peer)
        if refusal is not None:
            log.warning("a process may not take over: %s", refusal)  # whatever became of it, nothing changes here
            connection.send({"refused": str(refusal), "hint": refusal.hint})
            return False
        names = list(self._listening)
        connection.send({"listening": names}, [self._listening[name].fileno() for name in names])
        said = connection.receive(ANSWER_S)
        if said is None or said.fields.get("holding") is not True:
            log.warning("a process that asked to take over gave up: this one goes on")
            return False
        log.info("process %s takes over", "?" if peer is None else peer[0])
        return True

    def _refusal(self, asked: Message, peer: tuple[int, int] | None) -> Refused | None:
        if asked.fields.get("take_over") != PROTOCOL:
            return Refused("the running daemon is of another version, which hands over otherwise", hint=_STOP_FIRST)
        if peer is not None and peer[1] != os.geteuid():
            return Refused(f"the running daemon is user {os.geteuid()}'s", hint="Start the new one as the same user.")
        if peer is not None and process_tree.descends(peer[0]):
            return Refused("a command of the running daemon would be ended with it", hint="Start it from elsewhere.")
        if self.successor is not None:
            who = "another process" if self.successor.pid is None else f"process {self.successor.pid}"
            return Refused(f"{who} takes over from the running daemon already", hint=_ASK_AGAIN)
        if self._managed:
            return Refused("a service manager runs the daemon that is there", hint=_MANAGED)
        if self._closing.is_set():
            return Refused("the running daemon is stopping", hint="Start the new one without --take-over.")
        return None


class Predecessor:
    """The running daemon, for the process that takes over."""

    def __init__(self, connection: MessageConnection, pid: int | None) -> None:
        self._connection = connection
        self._who = "the running daemon" if pid is None else f"process {pid}"

    def listening(self) -> list[socket.socket] | None:
        """Ask for its listening sockets. They are the caller's. None if it has ended. Raises Refused, CovenqError."""
        try:
            self._connection.send({"take_over": PROTOCOL})
            answer = self._connection.receive(ANSWER_S)
        except TimeoutError:
            raise CovenqError(f"{self._who} did not answer within {ANSWER_S:g} s", hint=_STUCK) from None
        except ConnectionError:
            return None
        except (OSError, MessageError) as error:
            raise CovenqError(f"{self._who} did not hand over: {error}", hint=_STOP_FIRST) from error
        if answer is None:
            return None
        if "refused" in answer.fields:
            raise Refused(str(answer.fields["refused"]), hint=str(answer.fields.get("hint", _STOP_FIRST)))
        return [socket.socket(fileno=number) for number in answer.descriptors]

    def stop(self) -> None:
        """Say that this process accepts connections: the other stops. One that has ended meanwhile needn't be told."""
        try:
            self._connection.send({"holding": True})
        except OSError as error:
            log.info("%s has ended by itself: %s", self._who, error.strerror)

    def wait(self, adopt: Callable[[socket.socket], None]) -> None:
        """Wait until it has closed its journal, and have the connections that it passes on adopted. Raises Refused."""
        try:
            while (message := self._connection.receive(END_S)) is not None:
                for number in message.descriptors:
                    adopt(socket.socket(fileno=number))
        except TimeoutError:
            raise Refused(
                f"{self._who} was told to stop {END_S:g} s ago, and has not", hint="Look at its log, or kill it."
            ) from None
        except (OSError, MessageError) as error:
            log.info("%s ended: %s", self._who, error)

    def close(self) -> None:
        self._connection.close()


def connect(data: Path) -> Predecessor | None:
    """The daemon that runs in the data directory; None if none does. Raises Refused."""
    try:
        connection = unix_socket.connect(data / TAKEOVER_NAME, ANSWER_S)
    except BlockingIOError:
        raise Refused("the running daemon takes no connection at its takeover.sock", hint=_STUCK) from None
    except OSError:
        return None
    peer = peer_of(connection)
    if peer is not None and peer[1] != os.geteuid():
        connection.close()
        raise Refused(f"the running daemon is user {peer[1]}'s", hint="Start the new one as the same user.")
    return Predecessor(MessageConnection(connection), None if peer is None else peer[0])


_STOP_FIRST = "Stop it, and start the new one without --take-over."
_STUCK = (
    "It is stopped (SIGSTOP), or stuck: look at it. If it must go, end it, and start the new one without --take-over."
)
_ASK_AGAIN = "`covenq status` shows which one runs; to replace that, ask again."
_MANAGED = (
    "Let it restart the daemon: `systemctl restart covenq`. With covenq.socket no connection is refused meanwhile."
)
