"""The directory of one attempt, DATA/attempts/<task>/<n>, and its files."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from covenq import atomic_file
from covenq.model import TOKEN
from covenq.paths import ATTEMPTS_NAME
from covenq.tasks.execution.removal import remove_content, remove_tree
from covenq.tasks.execution.untrusted_files import open_file, opened_directory

_OWN_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})
"""Errors that say nothing of the file that was to be opened."""


@dataclass(frozen=True, slots=True)
class AttemptDirectory:
    """The directory of one attempt, and the files in it."""

    path: Path

    @classmethod
    def for_attempt(cls, data: Path, task: str, attempt: int) -> AttemptDirectory:
        """Only an id that is a single plain word becomes a path (model.TOKEN); any other raises ValueError."""
        if not TOKEN.match(task) or attempt < 1:
            raise ValueError(f"{task[:80]!r} attempt {attempt} names no directory")
        return cls(data / ATTEMPTS_NAME / task / str(attempt))

    @property
    def payload(self) -> Path:
        return self.path / "payload"

    @property
    def body(self) -> Path:
        """The bytes as they were received, where they are not the payload's."""
        return self.path / "body"

    @property
    def brief(self) -> Path:
        return self.path / "brief.json"

    @property
    def stdout(self) -> Path:
        return self.path / "stdout"

    @property
    def stderr(self) -> Path:
        return self.path / "stderr"

    @property
    def result(self) -> Path:
        return self.path / "result"

    @property
    def root(self) -> Path:
        """The data or work directory that it is in."""
        return self.path.parents[2]

    def open(self, name: str, flags: int = os.O_RDONLY) -> FileIO:
        """A file in it, if it is a regular one, whatever the command has made of its name. Raises OSError."""
        return open_file(self.path.parents[1], self.path.parent.name, self.path.name, name, flags=flags)

    def prepare(
        self, payload: bytes | None = None, brief: Mapping[str, object] | None = None, body: bytes | None = None
    ) -> None:
        """Create it, private to this user, with the payload, brief and body, if given, and empty outputs. Raises OSError.

        A directory that exists already is left from a history that a restore undid: it is moved aside, not written into.
        """
        attempts, task = self.path.parents[1], self.path.parent
        attempts.mkdir(mode=0o700, exist_ok=True)
        if not os.access(attempts, os.W_OK | os.X_OK):  # a command took the permission away, from all others too
            attempts.chmod(0o700)
        task.mkdir(mode=0o700, exist_ok=True)
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            self.path.rename(task / f"{self.path.name}.{time.time_ns()}")
            self.path.mkdir(mode=0o700)
        try:
            # orjson would refuse the paths in it if one is not UTF-8.
            told = None if brief is None else json.dumps(brief, indent=2).encode()
            files = {self.payload: payload, self.body: body, self.brief: told, self.stdout: b"", self.stderr: b""}
            for path, content in files.items():
                if content is None:
                    continue
                with self.open(path.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
                    write_all(file, memoryview(content))
        except OSError:
            remove_tree(self.path)  # so that it can be tried again when there is space
            raise

    def write_output(self, output: bytes) -> None:
        """Write the output of an attempt that runs no command. A full disk costs the output, not the work."""
        with contextlib.suppress(OSError), self.open(self.stdout.name, os.O_WRONLY) as file:
            write_all(file, memoryview(output))

    def keep_output(self, name: str, output: bytes) -> None:
        """Write the output, `stdout` or `stderr`, of a command that ran elsewhere. A full disk costs the output, not the work."""
        attempts, names = self.path.parents[1], (self.path.parent.name, self.path.name)
        with contextlib.suppress(OSError):
            attempts.mkdir(mode=0o700, exist_ok=True)
            for depth, one in enumerate(names):
                with opened_directory(attempts, *names[:depth]) as fd, contextlib.suppress(FileExistsError):
                    os.mkdir(one, 0o700, dir_fd=fd)
            # A new file: what has that name now is perhaps the link to another task's.
            with opened_directory(attempts, *names) as fd, contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)
            with self.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
                write_all(file, memoryview(output))

    def keep(self, result: bytes) -> None:
        """Write a result that came as bytes, whole, durable with its name when this returns. Raises OSError."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Its own suffix each time: two workers whose leases overlap may send one at once. `collect` syncs.
        atomic_file.replace(self.result, result, suffix=f".{time.time_ns()}", durable=False)
        self.collect()

    def remove_scratch(self) -> None:
        """Remove what the command left beside covenq's own files: clones, caches. Never follows a link.

        What can't be removed stays until retention, and does not affect the outcome.
        """
        own = {path.name for path in (self.payload, self.body, self.brief, self.stdout, self.stderr, self.result)}
        remove_content(self.path.parents[1], self.path.parent.name, self.path.name, keep=own)

    def open_result(self) -> FileIO | None:
        """The command's result; None if it left no regular file. Raises OSError where this process can't open it."""
        try:
            return self.open(self.result.name)
        except OSError as error:
            if error.errno in _OWN_ERRORS:
                raise
            return None

    def read_result(self, most: int) -> bytes | None:
        """The command's result, if there is one of so many bytes at most. Raises OSError."""
        file = self.open_result()
        if file is None:
            return None
        with file:
            content = file.read(most + 1)
        return content if len(content) <= most else None

    def collect(self) -> bool:
        """Make the command's result private, and durable with its name; whether there is one: a regular file.

        The record that points to it is appended after this, so a power cut can't leave the record without the file. Raises
        OSError when it can't be made durable.
        """
        file = self.open_result()
        if file is None:
            return False
        with file:
            with contextlib.suppress(PermissionError):  # written by a set-uid program: another user's
                os.fchmod(file.fileno(), 0o600)
            os.fsync(file.fileno())
        for directory in (self.path, *self.path.parents[:3]):  # up to the data directory's own names
            atomic_file.sync_directory(directory)
        return True


def write_all(file: FileIO, content: memoryview) -> None:
    while content:
        content = content[file.write(content) :]
