"""Readiness, status and watchdog for a service manager: systemd's sd_notify(3) protocol, datagrams to the socket it names.

The watchdog is fed only with evidence: a keep-alive goes out only if the journal's own thread, the one that syncs, has run
since the last. A timer's thread would go on while a sync hangs and nothing could be accepted.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

from covenq.model.status import Watchdog

FEEDS_PER_INTERVAL = 4
"""Keep-alives in a watchdog's interval, so that one or two may come late."""

RESTART_S = 900
"""Seconds that a start in the same process may take before the watchdog ends it: as long as a service's start may."""

log = logging.getLogger("covenq.daemon")


class Notifier:
    """For one thread. Without NOTIFY_SOCKET it does nothing; that a manager can't be reached is logged once."""

    def __init__(
        self,
        env: Mapping[str, str],
        *,
        restarted: bool = False,
        pid: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`restarted`: the program before this one, in the same process, called `lift_watchdog`."""
        self._monotonic = monotonic
        self._address = _address(env.get("NOTIFY_SOCKET", ""))
        self._every = _watchdog_s(env, os.getpid() if pid is None else pid) / FEEDS_PER_INTERVAL
        self._fed = monotonic()
        self._beat: float | None = None
        self._status = ""
        self._failed = False
        self._lifted = restarted

    @property
    def watchdog_enabled(self) -> bool:
        """Whether the service manager expects keep-alives."""
        return self._address is not None and self._every > 0

    def ready(self, status: str) -> None:
        """The start, or a reload, is over."""
        self._status = status
        watched = (
            f"\nWATCHDOG_USEC={self._every * FEEDS_PER_INTERVAL * 1e6:.0f}" if self._lifted and self._every else ""
        )
        self._lifted = False
        self._send(f"READY=1\nSTATUS={_line(status)}{watched}")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def lift_watchdog(self) -> None:
        """Before this process starts anew: it feeds nothing until it is ready, and then has the interval that it had."""
        if self.watchdog_enabled:
            self._send(f"WATCHDOG_USEC={RESTART_S * 1_000_000}\nWATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=stopping")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent when it changes."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={_line(text)}")

    def feed(self, beat: float) -> bool:
        """Feed the watchdog if it is due and `beat` has changed since the last time; whether it was fed. Call it often."""
        now = self._monotonic()
        if not self.watchdog_enabled or now - self._fed < self._every or beat == self._beat:
            return False
        self._fed, self._beat = now, beat
        self._send("WATCHDOG=1")
        return True

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(1.0)
                sock.sendto(message.encode(), self._address)
        except OSError as error:
            if not self._failed:
                self._failed = True
                log.warning("the service manager can't be told anything: %s", error.strerror or error)


def watchdog_of(env: Mapping[str, str], pid: int) -> Watchdog | None:
    """How systemd watches this process, for the status: nobody else can read the environment. None if it didn't start it."""
    if env.get("SYSTEMD_EXEC_PID") != str(pid):
        return None
    return Watchdog((_watchdog_s(env, pid) or None) if env.get("NOTIFY_SOCKET") else None)


def is_manager(env: Mapping[str, str]) -> bool:
    """Whether a service manager started this process, and waits for its word."""
    return _address(env.get("NOTIFY_SOCKET", "")) is not None


def _address(text: str) -> str | bytes | None:
    """A path, or a name in the abstract namespace, which is written with @ and begins with NUL."""
    if text.startswith("@"):
        return b"\0" + os.fsencode(text[1:])
    return text if text.startswith("/") else None


def _watchdog_s(env: Mapping[str, str], pid: int) -> float:
    """The watchdog's interval; 0 where there is none, or it is meant for another process."""
    usec, meant = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", "")
    if not (usec.isascii() and usec.isdecimal()) or (meant and meant != str(pid)):
        return 0.0
    return int(usec[:18]) / 1e6


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
