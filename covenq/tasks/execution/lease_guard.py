"""The guard of a command that runs under a lease: a process that ends the command before the lease ends.

Whatever has become of the daemon by then, which may be stopped, killed or cut off: another machine runs the task again when its
lease is over, so the command must not live longer. `launch` forks it between its own start and the command's, so that no command
runs without it. Nothing of covenq is imported here (`python -I -S`).

The command stays the daemon's own child, and its exit status, its group and what it used are the system's own words. The guard is
no child of the command, which may wait for all of its children, but of the daemon that adopts orphans, else of the first process.
It is in the command's session, in a group of its own: as long as it lives, no other process can get the number by which it
signals the command's group.

All times are seconds of CLOCK_BOOTTIME, which counts while the machine sleeps. On the socket the daemon sends lines: `TERM KILL`,
two times that replace those it was started with, or `D`, when it has ended the command itself. The guard sends `P PID` at first,
and `T` when it has begun to end the command; after that it takes no new times.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal is made of, without its enumerations: they take time and memory
import errno
import os
import select
import time

TICK_S = 0.5
"""Seconds between two looks at the clock: poll(2) doesn't count while the machine sleeps."""
PASS_S = 0.02
PASSES = 3000
"""Seconds between two passes that kill what is left, and how many: an uninterruptible call is waited for a minute."""

PROC = "/proc"
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    return time.clock_gettime(CLOCK)


def arm(control: int, term_at: float, kill_at: float) -> None:
    """Fork the guard of this process, which then executes the command. Raises OSError: ETIME where the time is over already.

    Called in the process that leads the command's session and group.
    """
    if now() >= term_at:
        raise OSError(errno.ETIME, os.strerror(errno.ETIME))
    leader = os.getpid()
    pidfd = os.pidfd_open(leader) if hasattr(os, "pidfd_open") else -1
    between = os.fork()
    if between == 0:
        try:
            os.setpgid(0, 0)
            guard = os.fork()
            if guard == 0:
                _detach({control, pidfd})
                Guard(control, pidfd, leader, os.environ.get("COVENQ_FENCE", ""), term_at, kill_at).run()
                os._exit(0)
            os.write(control, b"P %d\n" % guard)
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
        finally:
            os._exit(1)
    number = os.waitstatus_to_exitcode(os.waitpid(between, 0)[1])
    if number:
        raise OSError(abs(number), os.strerror(abs(number)))
    os.close(control)
    if pidfd >= 0:
        os.close(pidfd)


def _detach(kept: set[int]) -> None:
    """Hold nothing of the command's: neither its pipes, of which somebody waits for the end, nor its directory."""
    os.chdir("/")
    _signal.signal(_signal.SIGHUP, _signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    for fd in (int(name) for name in os.listdir("/dev/fd")):  # noqa: PTH208 - pathlib would cost each guard a megabyte
        if fd > 2 and fd not in kept:
            try:
                os.close(fd)
            except OSError:  # that of the list itself
                pass


class Guard:
    """`leader` is the command's pid, its session's and group's number; `fence` the token in the environment of what it starts."""

    def __init__(self, control: int, pidfd: int, leader: int, fence: str, term_at: float, kill_at: float) -> None:
        self.control, self.pidfd, self.leader = control, pidfd, leader
        self.mark = b"COVENQ_FENCE=" + os.fsencode(fence) if fence else b""
        self.term_at, self.kill_at = term_at, kill_at
        self.began = False
        self.dismissed = False
        self._unread = b""
        self._poll = select.poll()
        for fd in (control, pidfd):
            if fd >= 0:
                self._poll.register(fd, select.POLLIN)

    def run(self) -> None:
        """Until the daemon has ended the command, or all of it is killed."""
        while not self.dismissed:
            at = now()
            if not self.began and at >= self.term_at:
                self.began = True
                self._tell()
                self._send(_signal.SIGTERM)
                self._send(_signal.SIGCONT)  # a stopped process takes SIGTERM only when it goes on
            if self.began and at >= self.kill_at:
                self._kill_all()
                return
            until = self.kill_at if self.began else self.term_at
            for fd, _ in self._poll.poll(1000 * min(max(until - at, 0.001), TICK_S)):
                if fd == self.control:
                    self._hear()
                else:
                    self._poll.unregister(fd)
                    self._send(_signal.SIGKILL)  # as the daemon does it: the group ends with its leader

    def _tell(self) -> None:
        try:
            os.write(self.control, b"T\n")
        except OSError:  # the daemon is gone, or has not read for long
            pass

    def _hear(self) -> None:
        try:
            got = os.read(self.control, 4096)
        except OSError:
            got = b""
        if not got:  # the daemon is gone: the one that starts in its place ends the command, else the time does
            self._poll.unregister(self.control)
            return
        *lines, self._unread = (self._unread + got).split(b"\n")
        for line in lines:
            if line == b"D":
                self.dismissed = True
            elif not self.began:
                term, kill = line.split()
                self.term_at, self.kill_at = float(term), float(kill)

    def _send(self, number: int) -> None:
        try:
            os.killpg(self.leader, number)
        except (ProcessLookupError, PermissionError):
            pass

    def _kill_all(self) -> None:
        """SIGKILL the group, and what has left it, until nothing of it is left."""
        for _ in range(PASSES):
            self._send(_signal.SIGKILL)
            if not sum(self._kill(pid) for pid in _pids()):
                return
            time.sleep(PASS_S)

    def _kill(self, pid: int) -> bool:
        """Kill it if it is one of the command's; whether it was, and lives."""
        try:
            pinned = os.pidfd_open(pid)
        except OSError:  # gone already
            return False
        try:
            if not self._is_of_command(pid):
                return False
            _signal.pidfd_send_signal(pinned, _signal.SIGKILL)
        except OSError:  # gone meanwhile, or another user's
            return False
        finally:
            os.close(pinned)
        return True

    def _is_of_command(self, pid: int) -> bool:
        with open(f"{PROC}/{pid}/stat", "rb") as file:  # noqa: PTH123
            state, _, group, session = file.read().rpartition(b")")[2].split()[:4]
        if state in b"ZX":
            return False
        if int(session) == self.leader or int(group) == self.leader:
            return True
        with open(f"{PROC}/{pid}/environ", "rb") as file:  # noqa: PTH123
            return bool(self.mark) and self.mark in file.read().split(b"\0")


def _pids() -> list[int]:
    """Every process but this one; none where there is no /proc."""
    own = os.getpid()
    try:
        return [int(name) for name in os.listdir(PROC) if name.isdecimal() and int(name) != own]  # noqa: PTH208
    except OSError:
        return []
