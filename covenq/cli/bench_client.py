"""A load generator: sends signed deliveries as fast as they are answered, or at a given rate, and times every answer.

Requests are built before the clock starts, sockets are raw, since a library's time would be measured with them, and it runs in a
process of its own (`run` starts one), because a client under the server's interpreter lock would measure itself.
"""

from __future__ import annotations

import hmac
import json
import select
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from covenq.cli.processor_time import machine_cpu_s

HOOK = "446581321"
ANSWER_S = 15.0
"""Seconds to wait for an answer before the run fails. GitHub itself gives up after ten."""


class Template(NamedTuple):
    """A delivery to be sent many times: its event, the hook's id, and its body, of whose nonce each gets another."""

    event: str
    hook: str
    body: str
    """ASCII. The first 32 zeros in it are the nonce."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """The load to send: to `host:port`, on this many connections, for at most `seconds`.

    `rate` is requests per second, evenly spaced however fast the answers come (an open loop); with None a connection sends its
    next request as soon as the last is answered (a closed loop).
    """

    host: str
    port: int
    secret: str
    seconds: float
    connections: int = 64
    size: int = 8192
    rate: float | None = None
    prefix: str = ""
    """Every GUID begins with this."""
    templates: tuple[Template, ...] = ()
    """What is sent, each in its turn; without any, an issue's event of `size` bytes."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The counts and times of a run. `millis` are the times from when a request was due to its whole answer, sorted.

    `cpu_s` is the processor time that sending took, in seconds; `machine_cpu_s` that of all programs meanwhile, if it is known.
    """

    seconds: float
    statuses: dict[str, int]
    millis: list[float]
    cpu_s: float = 0.0
    machine_cpu_s: float | None = None

    @property
    def accepted(self) -> int:
        return sum(count for status, count in self.statuses.items() if status in ("200", "202"))

    @property
    def rate(self) -> float:
        """Accepted deliveries per second."""
        return self.accepted / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Milliseconds within which this share (0 to 1) of the answers came; 0 if there were none."""
        if not self.millis:
            return 0.0
        return self.millis[min(len(self.millis) - 1, int(share * len(self.millis)))]


def body(size: int) -> bytes:
    """An `issues` payload of exactly `size` bytes (600 or more), shaped like GitHub's, with 32 bytes to make it distinct."""
    user = {"login": "octocat", "id": 1, "type": "User", "site_admin": False}
    more: list[dict[str, object]] = []
    start: dict[str, object] = {
        "action": "opened",
        "nonce": "0" * 32,
        "issue": {"number": 7, "title": "It does not work", "user": user, "labels": [{"name": "bug"}], "body": "Why?"},
        "repository": {"id": 1296269, "name": "hello", "full_name": "octo/hello", "owner": user},
        "sender": user,
        "installation": {"id": 2311},
        "more": more,
        "rest": "",
    }
    length = len(_compact(start))
    for number in range(1_000_000):
        url = f"https://api.github.com/repos/octo/hello/issues/{number}"
        one = {"id": number, "url": url, "labels_url": url + "/labels{/name}", "state": "open", "locked": False}
        if length + len(_compact(one)) + 1 > size:
            break
        more.append(one)
        length = len(_compact(start))
    start["rest"] = "x" * (size - length)
    return _compact(start)


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def requests(count: int, load: LoadPlan) -> list[bytes]:
    """`count` signed requests, each with its own GUID and body; of one template, all are of the same length."""
    secret = load.secret.encode()
    templates = load.templates or (Template("issues", HOOK, body(load.size).decode()),)
    parts = [(_head(load, one), *one.body.encode().partition(b"0" * 32)[::2]) for one in templates]
    made = []
    for number in range(count):
        head, start, end = parts[number % len(parts)]
        one = uuid.uuid4()
        content = start + one.hex.encode() + end
        signature = hmac.digest(secret, content, "sha256").hex().encode()
        made.append(head + str(one).encode() + b"\r\nX-Hub-Signature-256: sha256=" + signature + b"\r\n\r\n" + content)
    return made


def _head(load: LoadPlan, template: Template) -> bytes:
    """The request's head up to the GUID."""
    return (
        f"POST /webhook HTTP/1.1\r\nHost: {load.host}:{load.port}\r\nUser-Agent: GitHub-Hookshot/0000000\r\n"
        f"Accept: */*\r\nContent-Type: application/json\r\nContent-Length: {len(template.body)}\r\n"
        f"X-GitHub-Event: {template.event}\r\nX-GitHub-Hook-ID: {template.hook}\r\n"
        f"X-GitHub-Hook-Installation-Target-Type: repository\r\n"
        f"X-GitHub-Hook-Installation-Target-ID: 1296269\r\nX-GitHub-Delivery: {load.prefix}"
    ).encode()


def run(load: LoadPlan, count: int) -> LoadResult:
    """Send at most `count` requests from a process of its own. Raises OSError if it fails."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "covenq.cli.bench_client"],
        input=json.dumps([asdict(load), count]).encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise OSError(lines[-1] if lines else f"the client ended with {done.returncode}")
    return LoadResult(**json.loads(done.stdout))


def send_all(load: LoadPlan, made: Sequence[bytes]) -> LoadResult:
    """Send these requests and time the answers. Raises OSError if the server refuses, closes, or doesn't answer in ANSWER_S."""
    connections = {}
    for _ in range(load.connections):
        connection = socket.create_connection((load.host, load.port), timeout=ANSWER_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connections[connection.fileno()] = connection
    try:
        return _send_all(load, made, connections)
    finally:
        for connection in connections.values():
            connection.close()


def _send_all(load: LoadPlan, made: Sequence[bytes], connections: dict[int, socket.socket]) -> LoadResult:
    clock = time.perf_counter
    cpu_before, machine_before = time.process_time(), machine_cpu_s()
    descriptors = list(connections)
    idle = deque(descriptors)
    due: dict[int, float] = {}
    partial: dict[int, bytes] = {}
    millis: list[float] = []
    statuses: Counter[str] = Counter()
    step = 1.0 / load.rate if load.rate else 0.0
    sent, count = 0, len(made)
    began = last = clock()
    until = began + load.seconds
    if step:
        count = min(count, int(load.seconds * (load.rate or 0)))
    while True:
        now = clock()
        while idle and sent < count and now < until and (not step or began + sent * step <= now):
            fd = idle.popleft()
            due[fd] = began + sent * step if step else now
            connections[fd].sendall(made[sent])
            sent += 1
            now = clock()
        if not due and (sent >= count or now >= until):
            break
        pause = min(began + sent * step, until) - now if step and idle and sent < count and now < until else ANSWER_S
        ready, _, _ = select.select(descriptors, [], [], max(0.0, pause))
        if not ready and pause >= ANSWER_S:
            raise TimeoutError(f"{len(due)} requests were not answered within {ANSWER_S:g} s")
        for fd in ready:
            received = connections[fd].recv(65536)
            if not received:
                raise ConnectionResetError("the server closed a connection")
            if fd in partial:
                received = partial.pop(fd) + received
            status = _status(received)
            if status is None:
                partial[fd] = received
                continue
            last = clock()
            millis.append((last - due.pop(fd)) * 1000)
            statuses[status] += 1
            idle.append(fd)
    cpu, machine = time.process_time() - cpu_before, machine_cpu_s()
    millis.sort()
    whole = None if machine is None or machine_before is None else machine - machine_before
    return LoadResult(last - began, dict(statuses), millis, cpu, whole)


def _status(answer: bytes) -> str | None:
    """The status of a complete answer; None while it is incomplete. Every answer of covenq's has a Content-Length."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return None
    at = answer.lower().find(b"\r\ncontent-length: ", 0, end)
    length = int(answer[at + 18 : answer.find(b"\r", at + 18)]) if at >= 0 else 0
    return answer[9:12].decode() if len(answer) >= end + 4 + length else None


def main() -> None:
    """Read [load, count] from standard input, write the result to standard output."""
    raw, count = json.load(sys.stdin)
    templates = tuple(Template(*one) for one in raw.pop("templates"))
    load = LoadPlan(**raw, templates=templates)
    print(json.dumps(asdict(send_all(load, requests(count, load)))))


if __name__ == "__main__":
    main()
