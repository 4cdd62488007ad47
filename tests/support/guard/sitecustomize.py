"""Keeps the tests, and every Python that they start, from the covenq of whoever runs them: its port, data and configuration.

Python imports a module of this name at its start, and this directory is on PYTHONPATH while tests run
(`tests/support/own_covenq.py` says in the environment what is to be kept from). An audit hook sees each file and socket before
it is opened: what is the user's is noted in a file, for the test to fail by, and refused.
"""

from __future__ import annotations

import os
import sys

PORT = 8787
"""The port that covenq listens on unless it is told another."""

NOTE, KEPT = "GUARD_NOTE", "GUARD_KEPT"
"""Variables with the path of the file for notes, and with the user's directories. Not COVENQ_…: tests take those away."""
FILES = frozenset(
    "open os.listdir os.scandir os.mkdir os.remove os.rename os.rmdir os.chmod os.truncate sqlite3.connect".split()
)
"""Audit events whose first argument is a path, or a file's number."""
SOCKETS = frozenset(["socket.bind", "socket.connect"])
"""Audit events of (socket, address)."""


def install(note: str, kept: tuple[str, ...]) -> None:
    """Refuse, from now on and for good, the port and what is below the directories `kept`; a line of each in the file `note`."""

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event in SOCKETS:
            address = args[1]
            if isinstance(address, tuple) and len(address) > 1 and address[1] == PORT:
                refuse(event, f"{address[0]}:{PORT}")
        elif event in FILES and isinstance(path := args[0], str | bytes):
            text = os.fsdecode(path).removeprefix("file://")
            for one in kept:
                if text.startswith(one) and text[len(one) :][:1] in ("", "/", "?"):
                    refuse(event, text)

    def refuse(event: str, what: str) -> None:
        words = " ".join(sys.argv)[:300] if hasattr(sys, "argv") else ""
        with open(os.environ.get(NOTE, note), "a", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123
            file.write(f"{event} {what} by: {words}\n")
        raise PermissionError(f"{what} is of the covenq of whoever runs the tests")

    sys.addaudithook(hook)


if NOTE in os.environ:
    install(os.environ[NOTE], tuple(filter(None, os.environ.get(KEPT, "").split(os.pathsep))))
