"""A covenq command run in this process, its output kept in memory, as a terminal's or as a pipe's: for many of them in a test.

`tests.support.commands` runs them as processes, and `tests.support.terminal` at a terminal of its own.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest.mock import patch

from covenq.cli.main import _run
from covenq.tasks.execution import process_tree
from tests.support.checkout import clean_env

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.TextIOWrapper):
    """A stream that is a terminal's, kept in memory."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self.kept = io.BytesIO()
        super().__init__(self.kept, encoding, newline="\n", write_through=True)

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        """Without what moves the cursor or colours."""
        return _CONTROL.sub("", self.kept.getvalue().decode(self.encoding))

    def lines(self) -> list[str]:
        """What is drawn over another line is a line of its own."""
        return self.text().replace("\r", "\n").split("\n")


class Said(NamedTuple):
    code: int
    out: Terminal
    err: Terminal

    @property
    def lines(self) -> list[str]:
        return self.out.lines() + self.err.lines()


def run_piped(words: Sequence[str], env: Mapping[str, str]) -> tuple[int, bytes, bytes]:
    """(exit code, stdout, stderr)"""
    kept = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(one, "utf-8", newline="\n", write_through=True) for one in kept)
    argv, stdin = patch("sys.argv", ["covenq", *words]), patch("sys.stdin", io.StringIO())
    with (
        patch.dict("os.environ", env, clear=True),
        argv,
        stdin,
        _unadopting(),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = _run()
    return code, kept[0].getvalue(), kept[1].getvalue()


def run_on_terminal(words: Sequence[str], env: Mapping[str, str], columns: int, encoding: str = "utf-8") -> Said:
    out, err = Terminal(encoding), Terminal(encoding)
    environment = clean_env(COLUMNS=str(columns), NO_COLOR="1", **env)
    argv, stdin = patch("sys.argv", ["covenq", *words]), patch("sys.stdin", io.StringIO())
    with (
        patch.dict("os.environ", environment, clear=True),
        argv,
        stdin,
        _unadopting(),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        return Said(_run(), out, err)


def _unadopting() -> AbstractContextManager[object]:
    """Keep `serve` and `worker` from having this process kill, for good, what of its children is no command: its helpers are."""
    return patch.object(process_tree, "adopt", lambda: False)
