"""A Containerfile read: its stages, each with its instructions, as an image builder takes them.

Of the syntax it knows what ours has: comments, ARG before the first FROM, exec forms as JSON, KEY=value. All else is an error.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field

_TOGETHER = frozenset("COPY ENV RUN WORKDIR USER VOLUME EXPOSE STOPSIGNAL HEALTHCHECK ENTRYPOINT CMD".split())


@dataclass
class Stage:
    """What stands between one FROM and the next."""

    image: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)
    """(instruction, the rest of its line) in order."""

    def last(self, instruction: str) -> str:
        """The rest of the last line with that instruction, which is the one that counts. KeyError if there is none."""
        found = [rest for name, rest in self.steps if name == instruction]
        if not found:
            raise KeyError(instruction)
        return found[-1]

    def argv(self, instruction: str) -> list[str]:
        """The words of an exec form: of HEALTHCHECK what stands behind its CMD."""
        rest = self.last(instruction)
        words: list[str] = json.loads(rest[rest.index("[") :])
        return words

    def environment(self) -> dict[str, str]:
        pairs = [word.partition("=") for name, rest in self.steps if name == "ENV" for word in shlex.split(rest)]
        return {name: value for name, _, value in pairs}


def parse(text: str) -> list[Stage]:
    """The stages in their order. ValueError says which line is not understood."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in text.splitlines():
        name, _, rest = line.strip().partition(" ")
        if not name or name.startswith("#"):
            continue
        if name == "ARG" and not stages:
            key, _, value = rest.partition("=")
            arguments[key] = value
        elif name == "FROM":
            for key, value in arguments.items():
                rest = rest.replace(f"${{{key}}}", value)
            image, _, called = rest.partition(" AS ")
            stages.append(Stage(image, called))
        elif name in _TOGETHER and stages and not line.endswith("\\"):
            stages[-1].steps.append((name, rest.strip()))
        else:
            raise ValueError(f"not understood: {line}")
    return stages
