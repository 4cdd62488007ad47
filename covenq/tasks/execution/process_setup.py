"""What a process that runs commands sets of itself, before it does anything else: `covenq serve` and `covenq worker`.

A process inherits more than its environment, and so do the commands that it starts. What whoever started it happened to ignore
or block must not decide whether the end of a command is noticed.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

DESCRIPTORS_MAX = 65_536
"""File descriptors that this process allows itself, where the hard limit has so many."""
_MARGIN = 128
"""Descriptors that other threads may open while a command is being started."""

_PR_SET_DUMPABLE = 4

_PYTHONS_OWN = frozenset({signal.SIGPIPE, signal.SIGXFSZ} if hasattr(signal, "SIGXFSZ") else {signal.SIGPIPE})
"""Signals that the interpreter ignores, for its errors to be exceptions; subprocess and `launch` reset them for commands."""


def prepare() -> None:
    """All of it. In the main thread, before anything else runs."""
    hide_memory()
    reset_signals()
    raise_descriptor_limit()


def undo() -> None:
    """What a program that takes this one's place in the process is to find: limit and SIGHUP as this one found them."""
    for number, soft, hard in inherited_limits():
        resource.setrlimit(number, (soft, hard))
    if outlives_hangup():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def hide_memory() -> bool:
    """Let no other process of this user read this one's environment or memory, where secrets and tokens are; Linux only.

    Its files in /proc are root's from now on, nobody but root may trace it, and it leaves no core dump. A command is again as any
    other process from its exec on: `process_tree` reads its environment. Returns whether the system did it.
    """
    if not sys.platform.startswith("linux"):
        return False
    return int(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)) == 0


def _outlive(number: int, frame: FrameType | None) -> None:
    """For SIGHUP that was ignored, as by nohup: this process outlives it, and its commands start with the default."""


def outlives_hangup() -> bool:
    """Whether SIGHUP was ignored when this process was started, and ends nothing of it."""
    return signal.getsignal(signal.SIGHUP) is _outlive


def reset_signals() -> None:
    """Take no signal as ignored or blocked because the parent did. In the main thread, before others start and handlers are set.

    With SIGCHLD ignored, the system reaps each command by itself, and its exit status is lost. What is blocked here is blocked
    in every thread that starts later; both are inherited by every command.
    """
    for number in signal.valid_signals() - _PYTHONS_OWN:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _outlive if number is signal.SIGHUP else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


class _Descriptors:
    """The soft limit that this process was started with, if it was raised since."""

    inherited: int | None = None


_descriptors = _Descriptors()


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard one, up to DESCRIPTORS_MAX.

    The usual soft limit, 1024, is for programs that call select(2). Commands may be such programs: they start with the limit
    that this process was started with.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # a system with a lower limit of its own
        return
    _descriptors.inherited = soft


def descriptor_limit() -> int | None:
    """The soft limit of open files of this process; None for none."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def inherited_limits() -> list[tuple[int, int, int]]:
    """(resource, soft, hard) for setrlimit, of what a command gets back; nothing where nothing was raised."""
    if _descriptors.inherited is None:
        return []
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [(resource.RLIMIT_NOFILE, _descriptors.inherited, hard)]


def can_lower_limit() -> bool:
    """Whether the inherited limit leaves this process's other threads enough for a moment (`inherited_limit`).

    A new descriptor gets the lowest free number, which is at most the number of those that are open.
    """
    if _descriptors.inherited is None:
        return True
    try:
        return len(os.listdir("/dev/fd")) + _MARGIN <= _descriptors.inherited  # noqa: PTH208 - names alone
    except OSError:
        return False


@contextmanager
def inherited_limit() -> Iterator[None]:
    """While a command is started, this process has the limit that the command is to inherit. One thread at a time.

    A helper process between the two (`launch`) would cost each command ten milliseconds, and a function between fork and exec is
    not safe in a process with threads.
    """
    if _descriptors.inherited is None:
        yield
        return
    raised, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_descriptors.inherited, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
