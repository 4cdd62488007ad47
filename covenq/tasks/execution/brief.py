"""A command's inputs: brief.json, argv placeholders, environment.

The same for the commands of the daemon's pool and for those of `covenq worker`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from covenq.tasks.execution.workdir import AttemptDirectory

INHERITED = ("PATH", "HOME", "LANG", "TZ")
"""The only variables of the daemon's environment that a command gets without its route naming them."""

_TEXT_LIMIT = 4096
"""Characters of a variable: PATH_MAX."""
_PLACEHOLDER = re.compile(r"\{(brief|result|payload|task|attempt)\}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Brief:
    """One attempt at one task, and the delivery that the task is about. `seq` is that of the delivery's record."""

    task: str
    attempt: int
    fence: str
    route: str | None
    hook: str | None
    guid: str | None
    seq: int | None
    event: str | None
    action: str | None
    repo: str | None
    installation: int | None
    number: int | None
    head_sha: str | None

    def as_json(self, directory: AttemptDirectory) -> dict[str, object]:
        """The content of brief.json."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {**fields, "payload": str(directory.payload), "result": str(directory.result)}

    def argv(self, run: Sequence[str], directory: AttemptDirectory) -> list[str]:
        """The command line of this attempt; see `command_line`."""
        values = {
            "brief": str(directory.brief),
            "result": str(directory.result),
            "payload": str(directory.payload),
            "task": self.task,
            "attempt": str(self.attempt),
        }
        return command_line(run, values)

    def environment(
        self, base: Mapping[str, str], allowed: Iterable[str], directory: AttemptDirectory, socket: str
    ) -> dict[str, str]:
        """The environment of this attempt's command; see `environment`. `socket` is where the command reports its phases."""
        own: dict[str, str | int | None] = {
            "TASK": self.task,
            "ATTEMPT": self.attempt,
            "FENCE": self.fence,
            "HOOK": self.hook,
            "GUID": self.guid,
            "EVENT": self.event,
            "ACTION": self.action,
            "REPO": self.repo,
            "PAYLOAD": str(directory.payload),
            "RESULT": str(directory.result),
            "SOCKET": socket,
        }
        return environment(base, allowed, own)


def command_line(run: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """A route's argv with {brief}, {result}, {payload}, {task} and {attempt} replaced; other braces stay as they are."""
    return [_PLACEHOLDER.sub(lambda found: values[found[1]], word) for word in run]


def environment(base: Mapping[str, str], allowed: Iterable[str], own: Mapping[str, str | int | None]) -> dict[str, str]:
    """A command's environment: INHERITED and the `allowed` names out of `base`, then `own` as COVENQ_<name>.

    Values that came in a request are hostile: control characters are removed, and a value is cut at 4,096 characters. None
    becomes the empty string, which every script can test.
    """
    variables = {name: base[name] for name in (*INHERITED, *allowed) if name in base}
    variables.setdefault("PATH", os.defpath)
    for name, value in own.items():
        variables[f"COVENQ_{name}"] = "" if value is None else printable(value)
    return variables


def printable(value: object) -> str:
    """Without control characters and lone surrogates, 4,096 characters at most."""
    return _UNPRINTABLE.sub("", str(value))[:_TEXT_LIMIT]
