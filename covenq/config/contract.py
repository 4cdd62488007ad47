"""A route's `contract`: how its command is told what to do, and how what it leaves is judged.

Without one a command gets covenq's own brief.json, and its exit code alone says how it ended.
"""

from __future__ import annotations

from dataclasses import dataclass

from covenq.config.toml_table import Table
from covenq.model import JsonObject

HEADLESS = "coven-headless/2"
"""A coding agent that runs without a terminal: a session brief in, a result.json out. covenq-headless(7)."""
CONTRACTS = (HEADLESS,)


@dataclass(frozen=True, slots=True)
class Agent:
    """What the brief of a contract says of the agent, beside its id: how it is called, its model, and its skills."""

    display_name: str | None = None
    model: str | None = None
    skills: tuple[str, ...] = ()

    def as_json(self) -> JsonObject:
        """What is said of it, and nothing of what isn't."""
        told: JsonObject = {"display_name": self.display_name, "model": self.model, "skills": list(self.skills)}
        return {name: value for name, value in told.items() if value}

    @classmethod
    def from_json(cls, told: JsonObject) -> Agent:
        """Of a policy as it is recorded. Raises TypeError, ValueError."""
        name, model, skills = told.get("display_name"), told.get("model"), told.get("skills") or []
        if not isinstance(skills, list):
            raise TypeError("skills")
        return cls(None if name is None else str(name), None if model is None else str(model), tuple(map(str, skills)))


NO_AGENT = Agent()


def contract_of(table: Table, kind: str) -> str | None:
    """The route's contract; None where it names none. Raises ConfigError."""
    if "contract" not in table.raw:
        return None
    if kind == "forward":
        raise table.error("contract", "is of commands; this route has forward")
    return table.choice("contract", CONTRACTS)
