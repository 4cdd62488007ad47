"""The guard of a command under a lease: it ends the command in time, whatever became of the daemon, and changes nothing else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from covenq.config.resources import ResourceLimits
from covenq.model import Category
from covenq.tasks.execution import lease_guard
from covenq.tasks.execution.brief import environment
from covenq.tasks.execution.command import Command, StopEvent, not_started
from covenq.tasks.execution.guard_line import Times
from covenq.tasks.execution.held_lease import HeldLease, times_before
from covenq.tasks.execution.lease_guard import now
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.scheduling.outcome import Outcome
from tests.support.pool import alive
from tests.support.waiting import eventually

PY = [sys.executable, "-S", "-c"]
LONG = 600.0

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="what is left of a command is found in /proc"
)


class Running:
    """A command under a lease, and what its `lost` was set with."""

    def __init__(
        self, root: Path, code: str, times: Times | None = None, *, limits: ResourceLimits | None = None
    ) -> None:
        self.directory = AttemptDirectory.for_attempt(root, "t1", 1)
        self.directory.prepare(b"{}", {})
        self.stop, self.lost = StopEvent(), StopEvent()
        self.lease = HeldLease(times or Times(now() + LONG, now() + LONG), self.lost.set)
        self.fence = f"{os.urandom(8).hex()}.7"
        env = environment(os.environ, (), {"FENCE": self.fence})
        try:
            self.command = Command(
                [*PY, code], env, self.directory, limits=limits or ResourceLimits(), lease=self.lease
            )
        except OSError:
            self.close()
            raise

    def wait(self, timeout_s: float = LONG, grace_s: float = 5.0) -> Outcome:
        return self.command.wait(timeout_s, grace_s, self.stop, self.lost)

    def guard(self) -> int:
        """The pid of its guard: the one other process that has the token, and a group of its own in the session."""
        return eventually(lambda: next(iter(guards(self.fence)), None), what="the guard is there")

    def close(self) -> None:
        self.stop.close()
        self.lost.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[list[Running]]:
    made: list[Running] = []
    yield made
    for one in made:
        one.close()


def guards(fence: str) -> list[int]:
    """The guards of commands with this token."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and alive(int(entry.name)):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                token = f"COVENQ_FENCE={fence}".encode() in (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if token and any(word.endswith(b"launch.py") for word in words):
                found.append(int(entry.name))
    return found


def pids_in(path: Path, count: int) -> list[int]:
    def read() -> list[int] | None:
        found = path.read_text().split() if path.exists() else []
        return [int(word) for word in found] if len(found) == count else None

    return eventually(read, what=f"{count} numbers are in {path.name}")


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("", Outcome(None, 0)),
        ("import sys; sys.exit(3)", Outcome(Category.EXIT, 3, None, "it exited with 3")),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            Outcome(Category.SIGNAL, None, signal.SIGSEGV, "it was ended by SIGSEGV"),
        ),
        # It waits for all of its children: the guard is none.
        (
            "import os\ntry:\n os.wait()\nexcept ChildProcessError: os._exit(7)",
            Outcome(Category.EXIT, 7, None, "it exited with 7"),
        ),
    ],
)
def test_a_command_ends_as_without_a_guard(tmp_path: Path, running: list[Running], code: str, outcome: Outcome) -> None:
    one = Running(tmp_path, code)
    running.append(one)
    assert one.wait() == outcome
    assert not guards(one.fence)
    assert not one.lost.is_set()


def test_what_a_guard_holds_is_not_the_commands(tmp_path: Path, running: list[Running]) -> None:
    """Neither its pipes nor its directory; and what limits the command doesn't limit the guard."""
    code = "import resource, time; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], file=open('limit', 'w'), flush=True)"
    one = Running(tmp_path, f"{code}; time.sleep(600)", limits=ResourceLimits(open_files=50))
    running.append(one)
    assert pids_in(one.directory.path / "limit", 1) == [50]
    guard = one.guard()
    seen = Path(f"/proc/{guard}")
    assert {str((seen / f"fd/{fd}").readlink()) for fd in range(3)} == {"/dev/null"}
    assert str((seen / "cwd").readlink()) == "/"
    assert len(list((seen / "fd").iterdir())) == 5  # with the socket and the command's pidfd
    one.stop.set(0.0)
    assert one.wait().category is Category.INTERRUPTED


def test_a_program_that_is_not_there(tmp_path: Path, running: list[Running]) -> None:
    directory = AttemptDirectory.for_attempt(tmp_path, "t1", 1)
    directory.prepare(b"{}", {})
    lease = HeldLease(Times(now() + LONG, now() + LONG), lambda grace_s: None)
    with pytest.raises(OSError) as caught:
        Command(["/nonexistent/program"], {"COVENQ_FENCE": "none.1"}, directory, lease=lease)
    outcome = not_started(caught.value, "/nonexistent/program")
    assert outcome.detail == "/nonexistent/program could not be started: No such file or directory"
    assert not guards("none.1")


def test_no_command_starts_when_its_lease_is_over(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="expired"):
        Running(tmp_path, "open('ran', 'w')", Times(now() - 1, now() + LONG))
    assert not (tmp_path / "attempts/t1/1/ran").exists()


TENACIOUS = """if True:
    import os, signal, sys, time
    signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
    children = [os.fork() or 0 for _ in range(1)]
    if children == [0]:
        os.setsid()  # no longer in the group
    with open("pids", "a") as file:
        file.write(f"{os.getpid()}\\n")
    while True:
        time.sleep(600)
"""


def test_all_of_a_command_is_ended_before_its_lease(tmp_path: Path, running: list[Running]) -> None:
    one = Running(tmp_path, TENACIOUS)
    running.append(one)
    pids = pids_in(one.directory.path / "pids", 2)
    assert one.lease.extend(Times(now(), now() + 0.5))
    outcome = one.wait()
    assert outcome.category is Category.INTERRUPTED
    assert one.lost.is_set() and one.lease.over
    assert not any(alive(pid) for pid in pids)
    assert b"asked" in one.directory.stdout.read_bytes()
    assert not one.lease.extend(Times(now() + LONG, now() + LONG))


class Recorded(lease_guard.Guard):
    """A guard of nothing, with what it did in place of signals."""

    def __init__(self, control: int, term_at: float, kill_at: float) -> None:
        super().__init__(control, -1, 0, "", term_at, kill_at)
        self.did: list[object] = []

    def _send(self, number: int) -> None:
        self.did.append(signal.Signals(number))

    def _kill_all(self) -> None:
        self.did.append("all")


class Clock:
    """A clock that is set, and counts how often it was read."""

    def __init__(self) -> None:
        self.at, self.reads = 0.0, 0

    def now(self) -> float:
        self.reads += 1
        return self.at

    def set(self, at: float) -> None:
        """Return once what is told of by then was known to who reads it."""
        self.at = at
        seen = self.reads
        eventually(lambda: self.reads > seen + 3, what="the guard looks at the clock")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(lease_guard, "now", made.now)
    monkeypatch.setattr(lease_guard, "TICK_S", 0.001)
    return made


def test_a_guard_goes_by_the_newest_times_until_it_has_begun(clock: Clock) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        guard = Recorded(theirs.fileno(), 10.0, 12.0)
        thread = threading.Thread(target=guard.run)
        thread.start()
        clock.set(9.0)
        ours.sendall(b"20.0 22.0\n30.0")
        clock.set(9.5)
        ours.sendall(b" 32.0\n")
        clock.set(9.6)
        clock.set(29.9)
        assert guard.did == []
        clock.set(30.0)
        assert guard.did == [signal.SIGTERM, signal.SIGCONT]
        assert ours.recv(10) == b"T\n"
        ours.sendall(b"99.0 99.0\n")  # too late
        clock.set(31.9)
        assert len(guard.did) == 2
        clock.at = 32.0
        thread.join()
        assert guard.did[2:] == ["all"]


def test_a_guard_outlives_the_daemon_until_its_time(clock: Clock) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        guard = Recorded(theirs.fileno(), 10.0, 12.0)
        thread = threading.Thread(target=guard.run)
        thread.start()
        ours.close()
        clock.set(9.9)
        assert guard.did == []
        clock.at = 12.0  # it slept, or was not let run, past both of its times
        thread.join()
        assert guard.did == [signal.SIGTERM, signal.SIGCONT, "all"]


def test_a_guard_is_dismissed(clock: Clock) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        guard = Recorded(theirs.fileno(), 10.0, 12.0)
        ours.sendall(b"D\n")
        guard.run()
        assert guard.did == []


def test_a_lease_is_not_extended_when_its_command_is_being_ended() -> None:
    at = 0.0
    lost: list[float] = []
    lease = HeldLease(Times(10.0, 12.0), lost.append, lambda: at)
    at = 9.0
    assert lease.check() and lease.extend(Times(20.0, 22.0))
    at = 20.0
    assert not lease.extend(Times(30.0, 32.0))
    assert not lease.check() and lease.over
    assert lost == [2.0]
    assert not lease.extend(Times(30.0, 32.0))
    assert not lease.check()
    assert lost == [2.0]


def test_a_command_whose_guard_is_killed_is_killed(tmp_path: Path, running: list[Running]) -> None:
    one = Running(tmp_path, "import time; time.sleep(600)")
    running.append(one)
    os.kill(one.guard(), signal.SIGKILL)
    outcome = one.wait()
    assert (outcome.category, outcome.detail) == (Category.INTERNAL, "the process that guards its lease was killed")
    assert not alive(one.command.pid)


def test_a_guard_that_is_stopped_keeps_no_command_alive(tmp_path: Path, running: list[Running]) -> None:
    one = Running(tmp_path, "import time; time.sleep(600)")
    running.append(one)
    guard = one.guard()
    os.kill(guard, signal.SIGSTOP)
    try:
        one.lease.extend(Times(now() + 0.1, now() + 0.2))
        eventually(lambda: not one.lease.check(), what="the lease is over here too")
        assert one.wait().category is Category.INTERRUPTED
        assert not alive(one.command.pid)
    finally:
        os.kill(guard, signal.SIGKILL)


def test_times_leave_the_command_most_of_its_lease() -> None:
    assert times_before(1000.0, 120.0, 5.0) == Times(994.0, 999.0)
    assert times_before(1000.0, 8.0, 5.0) == Times(997.0, 999.0)
    assert times_before(1000.0, 1.0, 5.0) == Times(999.625, 999.875)


DAEMON = """if True:
    import os, sys, time
    from pathlib import Path
    from covenq.tasks.execution import process_tree
    from covenq.tasks.execution.command import Command, StopEvent
    from covenq.tasks.execution.guard_line import Times
    from covenq.tasks.execution.held_lease import HeldLease
    from covenq.tasks.execution.lease_guard import now
    from covenq.tasks.execution.workdir import AttemptDirectory
    process_tree.adopt()
    directory = AttemptDirectory.for_attempt(Path(sys.argv[1]), "t1", 1)
    directory.prepare(b"{}", {})
    lost = StopEvent()
    lease = HeldLease(Times(now() + 600, now() + 600), lost.set)
    command = Command([sys.executable, "-S", "-c", sys.argv[2]], {"COVENQ_FENCE": sys.argv[3]}, directory, lease=lease)
    sys.stdin.readline()
    lease.extend(Times(now() + 1.0, now() + 1.5))
    print(lease.times.term_at, flush=True)
    outcome = command.wait(600.0, 5.0, StopEvent(), lost)
    print(outcome.category, lost.is_set(), lease.over, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_the_daemon_is_stopped_or_killed(tmp_path: Path, number: signal.Signals) -> None:
    """The command and what has left its group end in time, and a daemon that goes on knows that the lease was over."""
    fence = f"{os.urandom(8).hex()}.9"
    argv = [sys.executable, "-c", DAEMON, str(tmp_path), TENACIOUS, fence]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdin is not None and daemon.stdout is not None
        try:
            pids = pids_in(tmp_path / "attempts/t1/1/pids", 2)
            (guard,) = guards(fence)
            daemon.stdin.write(b"\n")
            daemon.stdin.flush()
            ends = float(daemon.stdout.readline())
            daemon.send_signal(number)
            eventually(lambda: not any(alive(pid) for pid in pids), what="all of the command has ended")
            assert now() >= ends  # it went on until its time
            eventually(lambda: not guards(fence), what="so has the guard")
            if number == signal.SIGSTOP:
                daemon.send_signal(signal.SIGCONT)
                assert daemon.stdout.readline() == b"signal True True\n"
                assert not Path(f"/proc/{guard}").exists()  # reaped
        finally:
            daemon.kill()
