"""Load from many connections, and SIGKILL at random moments: what was acknowledged is compared with what is stored.

The kill hits the daemon, the process that folds for it, or both; under load, during a start, and while content is erased, which
rotates and rewrites segments under the fold.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.journal_json import FINAL_KINDS
from tests.support.requests import HOOK, ask, issue, signed
from tests.support.waiting import eventually

CONNECTIONS = 32
ERASE_EVERY_S = 0.1
AGAIN_S = 0.1
"""After a request that nobody answered: while the daemon starts, what all connections try takes its processors from it."""
KILLED = ("daemon", "daemon", "daemon", "follower", "follower", "both")
"""Whom a kill hits, by how often."""
TASK_EVERY = 8
"""One delivery in this many becomes a task; the others are ignored, so that the queue ends in a test's time."""


def config(runs: Path) -> str:
    """A route whose command leaves one line a run: task, attempt."""
    return f"""
[worker]
concurrency = 4

[[route]]
name = "work"
match = "event:issues action:opened"
run = ["/bin/sh", "-c", 'echo "$COVENQ_TASK $COVENQ_ATTEMPT" >> "$0"', "{runs}"]
"""


@dataclass
class Promises:
    """The daemon's answers, over all its restarts. Shared by the connections."""

    accepted: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    first_answers: Counter[str] = field(default_factory=Counter)
    unclear: dict[str, bytes] = field(default_factory=dict)
    """Sent, and never answered."""
    answered: list[tuple[str, bytes]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    followers_killed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, guid: str, sent: bytes, status: int, body: bytes) -> None:
        """One answer to one delivery."""
        with self.lock:
            if status == 503:
                return
            if status not in (200, 202):
                self.broken.append(f"{guid} was answered {status}: {body[:200]!r}")
                return
            said = json.loads(body)
            tasks = tuple(said["tasks"])
            if self.accepted.setdefault(guid, said["seq"]) != said["seq"]:
                self.broken.append(f"{guid} was told seq {self.accepted[guid]}, then {said['seq']}")
            if self.tasks.setdefault(guid, tasks) != tasks:
                self.broken.append(f"{guid} was told tasks {self.tasks[guid]}, then {tasks}")
            self.first_answers[guid] += not said["duplicate"]
            self.unclear.pop(guid, None)
            self.answered.append((guid, sent))


class Load:
    """`CONNECTIONS` threads that post as fast as they are answered, until they are stopped."""

    def __init__(self, daemon: Daemon, promises: Promises, seed: int) -> None:
        self._daemon = daemon
        self._promises = promises
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(f"{seed}.{number}"),), daemon=True)
            for number in range(CONNECTIONS)
        ]
        self._threads.append(threading.Thread(target=self._erase, args=(random.Random(f"{seed}.erase"),), daemon=True))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, rng: random.Random) -> None:
        connection = self._daemon.connect()
        while not self._stopping.is_set():
            guid, body = self._choose(rng)
            _, headers = signed("issues", body, guid)
            try:
                answer = ask(connection, "POST", "/webhook", body, headers)
            except (OSError, http.client.HTTPException):
                connection.close()
                with self._promises.lock:
                    if guid not in self._promises.accepted:
                        self._promises.unclear[guid] = body
                self._stopping.wait(AGAIN_S)
                continue
            self._promises.note(guid, body, answer.status, answer.body)
        connection.close()

    def _erase(self, rng: random.Random) -> None:
        """Erase what was answered, now and then: the daemon rotates, and rewrites segments, meanwhile."""
        while not self._stopping.wait(ERASE_EVERY_S):
            with self._promises.lock:
                wanted = rng.choice(self._promises.answered)[0] if self._promises.answered else None
            if wanted is None:
                continue
            try:
                self._daemon.api("/api/v1/redact", "POST", {"ids": [f"{HOOK}/{wanted}"]})
            except (OSError, http.client.HTTPException):
                continue

    def _choose(self, rng: random.Random) -> tuple[str, bytes]:
        """Mostly a new delivery; sometimes a redelivery of one that was never answered, or of one that was, however long ago."""
        with self._promises.lock:
            if self._promises.unclear and rng.random() < 0.3:
                return rng.choice(list(self._promises.unclear.items()))
            if self._promises.answered and rng.random() < 0.05:
                return rng.choice(self._promises.answered)
        guid = f"{rng.getrandbits(128):032x}"
        action = "opened" if rng.randrange(TASK_EVERY) == 0 else "edited"
        return guid, json.dumps(issue(rng.randrange(10_000), action=action)).encode()


def torture(daemon: Daemon, kills: int, seed: int) -> Promises:
    """Kill the daemon, or what folds for it, `kills` times under load; leaves it running, with the load ended."""
    rng = random.Random(seed)
    promises = Promises()
    for kill in range(kills):
        if not daemon.running:
            daemon.start(wait=False)
        with Load(daemon, promises, seed * 1_000_003 + kill):
            if rng.random() < 0.15:
                threading.Event().wait(rng.random() * 1.5)  # perhaps while it starts or recovers
            else:
                wait_accepting(daemon)
                threading.Event().wait(rng.random() * 0.5)
            target = rng.choice(KILLED)
            if target != "daemon" and (pid := follower_of(daemon)) is not None:
                with suppress(ProcessLookupError):  # it may have ended meanwhile
                    os.kill(pid, signal.SIGKILL)
                promises.followers_killed += 1
            if target != "follower":
                daemon.kill()
    if not daemon.running:
        daemon.start()
    return promises


def follower_of(daemon: Daemon) -> int | None:
    """The pid of the process that folds for it; None while there is none, and where the system doesn't show it."""
    for task in Path(f"/proc/{daemon.pid}/task").glob("*/children"):
        try:
            for pid in task.read_text().split():
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"covenq.daemon.follower" in line or b"tests/support/forking.py" in line:  # started, or forked
                    return int(pid)
        except OSError:
            continue
    return None


def wait_accepting(daemon: Daemon) -> None:
    """Wait until it is ready; a start that fails is a failure of the test."""
    eventually(daemon.ready_or_gone, 120, "ready")
    assert daemon.running, f"it did not start again:\n{daemon.log_tail()}"


def check(daemon: Daemon, promises: Promises, runs: Path) -> dict[str, int]:
    """Every promise against the journal's records; returns counts for the test's output."""
    assert not promises.broken, promises.broken[:5]
    ends = daemon.wait_all_done(300)
    records = daemon.records()

    seqs = [record["seq"] for record in records]
    assert seqs == list(range(1, len(seqs) + 1)), "no record is missing, doubled or out of order"
    by_guid: dict[str, list[int]] = {}
    for record in records:
        if record["kind"] == "delivery.received":
            assert record["subject"] == f"delivery.{HOOK}.{record['data']['guid']}"
            by_guid.setdefault(record["data"]["guid"], []).append(record["seq"])
    lost = set(promises.accepted) - set(by_guid)
    assert not lost, f"{len(lost)} accepted deliveries are not in the journal: {sorted(lost)[:5]}"
    doubled = [guid for guid, found in by_guid.items() if len(found) > 1]
    assert not doubled, f"recorded more than once: {doubled[:5]}"
    moved = [guid for guid, seq in promises.accepted.items() if by_guid[guid] != [seq]]
    assert not moved, f"not at the seq that was answered: {moved[:5]}"
    assert max(promises.first_answers.values(), default=0) <= 1, "two answers said it was no duplicate"

    queued = Counter(record["subject"] for record in records if record["kind"] == "task.queued")
    assert set(queued.values()) <= {1}, "a task was queued twice"
    promised = {f"task.{task}" for tasks in promises.tasks.values() for task in tasks}
    assert not promised - set(queued), "a promised task is not in the journal"
    wanted = {
        record["data"]["guid"]
        for record in records
        if record["kind"] == "delivery.received" and record["data"]["action"] == "opened"
    }
    routed = Counter(record["data"]["guid"] for record in records if record["kind"] == "task.queued")
    assert routed == Counter(wanted), "each delivery that the route wants has one task, and no other has any"

    wrong = {subject: kinds for subject, kinds in ends.items() if len(kinds) != 1}
    assert not wrong, f"tasks that did not end exactly once: {dict(list(wrong.items())[:5])}"
    odd = {kinds[0] for kinds in ends.values()} - {"task.completed", "task.failed", "task.cancelled"}
    assert not odd, odd
    cancelled = {subject for subject, kinds in ends.items() if kinds == ["task.cancelled"]}
    why = {record["data"].get("reason") for record in records if record["kind"] == "task.cancelled"}
    assert not cancelled or why == {"redacted"}, f"cancelled because of {why}: nothing but an erasure does that here"
    ended: set[str] = set()
    for record in records:
        if record["subject"].startswith("task."):
            assert record["subject"] not in ended, f"{record['subject']} moved after its end"
            if record["kind"] in FINAL_KINDS:
                ended.add(record["subject"])

    ran = Counter(runs.read_text().split("\n")[:-1])
    twice = [line for line, count in ran.items() if count > 1]
    assert not twice, f"one attempt ran twice: {twice[:5]}"
    ran_tasks = {line.split()[0] for line in ran}
    completed = {subject.removeprefix("task.") for subject, kinds in ends.items() if kinds == ["task.completed"]}
    assert not completed - ran_tasks, "completed without having run"

    assert daemon.cli_json("verify")["ok"] is True
    status = daemon.api("/api/v1/status").json
    assert sum(status["deliveries"].values()) == len(by_guid)
    assert sum(status["tasks"].values()) == len(queued)
    return {
        "records": len(records),
        "deliveries": len(by_guid),
        "accepted": len(promises.accepted),
        "tasks": len(queued),
        "failed": sum(kinds == ["task.failed"] for kinds in ends.values()),
        "runs": len(ran),
        "erasures": sum("drops" in record["data"] for record in records),
    }
