"""A command's inputs: brief.json, argv placeholders, environment.

The same for the commands of the daemon's pool and for those of `covenq worker`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from covenq.config.executor import PLACEHOLDERS
from covenq.errors import BadRequest
from covenq.github.request import content_type_of, is_form, json_of
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.scheduling.outcome import Task
from journal.records import Record

INHERITED = ("PATH", "HOME", "LANG", "TZ")
"""The only variables of the daemon's environment that a command gets without its route naming them."""

_TEXT_LIMIT = 4096
"""Characters of a variable: PATH_MAX."""
_PLACEHOLDER = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Content:
    """What a delivery brought: the JSON that a command reads, and the bytes as they were received, if those are others."""

    payload: bytes
    body: bytes | None = None

    @classmethod
    def of(cls, body: bytes, content_type: str | None) -> Content:
        if not is_form(content_type):
            return cls(body)
        try:
            return cls(json_of(body, content_type), body)
        except BadRequest:  # nothing that was accepted: the journal is of another make
            return cls(body, body)


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
    repo_id: int | None
    sender: str | None
    installation: int | None
    number: int | None
    head_sha: str | None
    ref: str | None
    purpose: str | None
    familiar: str | None
    content_type: str | None
    """Of the body as it was received: of a form, the payload is its decoded JSON."""
    github_token_file: str | None = None
    """The path of the file with the token for its work, where its route has one."""

    def body(self, directory: AttemptDirectory) -> Path:
        """The file with the bytes as they were received: that of the payload, unless they came as a form."""
        return directory.body if is_form(self.content_type) else directory.payload

    def as_json(self, directory: AttemptDirectory) -> dict[str, object]:
        """The content of brief.json."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        paths = {"payload": directory.payload, "body": self.body(directory), "result": directory.result}
        return {**fields, **{name: str(path) for name, path in paths.items()}}

    def argv(self, run: Sequence[str], directory: AttemptDirectory) -> list[str]:
        """The command line of this attempt; see `command_line`."""
        values = {
            "brief": str(directory.brief),
            "result": str(directory.result),
            "payload": str(directory.payload),
            "body": str(self.body(directory)),
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
            "REPO_ID": self.repo_id,
            "NUMBER": self.number,
            "SHA": self.head_sha,
            "REF": self.ref,
            "PURPOSE": self.purpose,
            "FAMILIAR": self.familiar,
            "SENDER": self.sender,
            "INSTALLATION": self.installation,
            "PAYLOAD": str(directory.payload),
            "BODY": str(self.body(directory)),
            "RESULT": str(directory.result),
            "SOCKET": socket,
        }
        if self.github_token_file is not None:
            own["GITHUB_TOKEN_FILE"] = self.github_token_file
        return environment(base, allowed, own)


def brief_of(task: Task, attempt: int, fence: str, delivery: Record, github_token_file: str | None = None) -> Brief:
    """The brief of an attempt in this daemon: what its task says, and the record of the delivery."""
    return Brief(
        task=task.id,
        attempt=attempt,
        fence=fence,
        route=task.route,
        hook=task.hook,
        guid=task.guid,
        seq=delivery.seq,
        event=task.event,
        action=task.action,
        repo=task.repo,
        repo_id=task.repo_id,
        sender=(delivery.about or {}).get("sender"),
        installation=task.installation,
        number=task.number,
        head_sha=task.head_sha,
        ref=task.ref,
        purpose=task.purpose,
        familiar=task.familiar,
        content_type=content_type_of(delivery.data.get("headers")),
        github_token_file=github_token_file,
    )


def command_line(run: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """A route's argv with the PLACEHOLDERS replaced; other braces stay as they are."""
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
