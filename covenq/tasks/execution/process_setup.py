"""What a process that runs commands sets of itself, before it does anything else: `covenq serve` and `covenq worker`.

A process inherits more than its environment, and so do the commands that it starts. What whoever started it happened to ignore
or block must not decide whether the end of a command is noticed.
"""

from __future__ import annotations

import signal

_PYTHONS_OWN = frozenset({signal.SIGPIPE, signal.SIGXFSZ} if hasattr(signal, "SIGXFSZ") else {signal.SIGPIPE})
"""Signals that the interpreter ignores, for its errors to be exceptions; subprocess and `launch` reset them for commands."""


def reset_signals() -> None:
    """Take no signal as ignored or blocked because the parent did. In the main thread, before others start and handlers are set.

    With SIGCHLD ignored, the system reaps each command by itself, and its exit status is lost. What is blocked here is blocked
    in every thread that starts later; both are inherited by every command.
    """
    for number in signal.valid_signals() - _PYTHONS_OWN:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
