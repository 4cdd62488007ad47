"""Kills servers while deliveries come, and counts what they answered with a 2xx and don't have afterwards.

Each of its processes gets SIGKILL at once, a database server's too. It is started again as a supervisor does, and what had no
answer is sent once more, with some of what had one: that must be there once. SIGKILL leaves to the kernel what was written and
not synced; where the power is cut as well (`power_cut.py`), that is gone.
"""

from __future__ import annotations

import random
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from covenq.cli import bench_client
from tests.bench.compare.losses import Loss, count, held
from tests.bench.compare.power_cut import PowerCut
from tests.bench.intake import OURS, SECRET, Contender
from tests.support.journal_json import records

SENDERS = 32
AGAIN = 64
"""Of what was acknowledged, sent once more after each kill."""
_GUID = re.compile(rb"X-GitHub-Delivery: (\S+)\r\n")


@dataclass
class Answers:
    """What the senders were told."""

    acknowledged: list[bytes] = field(default_factory=list)
    unanswered: list[bytes] = field(default_factory=list)


def send(port: int, requests: Iterator[bytes], answers: Answers, stopped: threading.Event) -> None:
    """Send them one after another over a connection, until it breaks or there are none."""
    with closing(socket.socket()) as connection:
        connection.settimeout(30.0)
        try:
            connection.connect(("127.0.0.1", port))
        except OSError:
            return
        for request in requests:
            if stopped.is_set():
                return
            status = _ask(connection, request)
            if status in (b"200", b"202"):
                answers.acknowledged.append(request)
            else:
                answers.unanswered.append(request)
                if status is None:
                    return


def ask(port: int, request: bytes) -> bytes | None:
    """The status of the answer to one request, over a connection of its own; None where none came whole."""
    with socket.create_connection(("127.0.0.1", port), timeout=60.0) as connection:
        return _ask(connection, request)


def _ask(connection: socket.socket, request: bytes) -> bytes | None:
    """The status of the answer; None where none came whole."""
    received = b""
    try:
        connection.sendall(request)
        while True:
            more = connection.recv(65536)
            if not more:
                return None
            received += more
            head, end, rest = received.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            if end and len(rest) >= (int(length[1]) if length else 0):
                return received[9:12]
    except OSError:
        return None


class _Shared:
    """An iterator for several threads."""

    def __init__(self, items: list[bytes]) -> None:
        self._items, self._lock = iter(items), threading.Lock()

    def __iter__(self) -> _Shared:
        return self

    def __next__(self) -> bytes:
        with self._lock:
            return next(self._items)


def _senders(port: int, requests: list[bytes], answers: Answers, stopped: threading.Event) -> list[threading.Thread]:
    shared = _Shared(requests)
    threads = [threading.Thread(target=send, args=(port, shared, answers, stopped)) for _ in range(SENDERS)]
    for one in threads:
        one.start()
    return threads


def losses(contender: Contender, kills: int, seed: int, power: PowerCut | None = None) -> Loss:
    """Of a running contender, which is running at the end, too. `power`: what was not synced is gone after each kill."""
    moments = random.Random(seed)
    plan = bench_client.LoadPlan("127.0.0.1", 0, SECRET, 1.0, size=2048)
    told = Answers()
    for _ in range(kills):
        never = threading.Event()
        before = len(told.acknowledged)
        threads = _senders(contender.port, bench_client.requests(8000, plan), told, never)
        _wait_for_more(told, before + 50)
        time.sleep(moments.uniform(0.1, 0.7))
        contender.kill()
        for one in threads:
            one.join()
        if power is not None:
            power.cut(contender.base)
        contender.restart()
        unsure, told.unanswered = told.unanswered, []
        again = Answers()
        for one in _senders(contender.port, [*unsure, *told.acknowledged[-AGAIN:]], again, never):
            one.join()
        if again.unanswered:
            raise RuntimeError(f"{contender.name} refuses {len(again.unanswered)} deliveries after its restart")
        told.acknowledged += again.acknowledged
    guids = [found[1].decode() for found in map(_GUID.search, told.acknowledged) if found]
    return count(guids, _there(contender), kills)


def _wait_for_more(told: Answers, wanted: int) -> None:
    until = time.monotonic() + 30
    while len(told.acknowledged) < wanted:
        if time.monotonic() > until:
            raise RuntimeError("a contender accepts nothing: there is nothing to lose")
        time.sleep(0.005)


def _there(contender: Contender) -> list[str]:
    """The GUIDs that its store holds, each as often as it does."""
    if contender.name in OURS:
        data = contender.base / "data"
        received = [str(one["data"]["guid"]) for one in records(data, "delivery.received")]
        return held(received, [str(one["data"]["guid"]) for one in records(data, "task.queued")])
    if contender.database is not None:
        import psycopg

        with psycopg.connect(contender.database.dsn) as database:
            return [row[0] for row in database.execute("SELECT guid FROM deliveries")]
    with closing(sqlite3.connect(contender.base / "deliveries.db")) as db:
        return [row[0] for row in db.execute("SELECT guid FROM deliveries")]
