"""The section `[node]`: what this covenq is called, and where others reach it, among those that share a journal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from covenq.config.toml_table import Table
from covenq.errors import ConfigError, UsageError
from covenq.net.address import parse_url

VARIABLES = {"name": "COVENQ_NODE_NAME", "address": "COVENQ_NODE_ADDRESS", "api": "COVENQ_NODE_API"}
NAME_MAX = 64
ADDRESS_MAX = 500
SCHEMES = ("http://", "https://")
_NAME = re.compile(rf"[0-9A-Za-z._-]{{1,{NAME_MAX}}}\Z")
_HINTS = {
    "name": f"Write {NAME_MAX} letters, digits, ., _ or - at most, as in node-a.",
    "address": "Write host:port, as in 10.0.0.5:8787, or https://node-a.example.org.",
    "api": "Write https://node-a.example.org:8788, as `--url` takes it.",
}
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - what is refused


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """As it stands in the configuration; None: it doesn't say."""

    name: str | None = None
    address: str | None = None
    """`host:port`, or a URL without a slash at its end."""
    api: str | None = None
    """A URL without a slash at its end."""


UNNAMED = NodeSettings()


def parse_node(top: Table, env: Mapping[str, str]) -> NodeSettings:
    """The section, and what the environment says in its place. Raises ConfigError."""
    table = top.table("node", ("name", "address", "api"))
    return NodeSettings(
        **{key: _setting(table, key, env.get(variable), variable) for key, variable in VARIABLES.items()}
    )


def _setting(table: Table, key: str, overridden: str | None, variable: str) -> str | None:
    """The value, checked; None where there is none."""
    if not overridden and key not in table.raw:
        return None
    value = overridden or table.text(key)
    problem = _name_problem(value) if key == "name" else address_problem(value, url=key == "api")
    hint = _HINTS.get(key)
    if problem is None:
        return value.rstrip("/")
    raise ConfigError(f"{variable} {problem}", hint=hint) if overridden else table.error(key, problem, hint=hint)


def _name_problem(text: str) -> str | None:
    return None if _NAME.match(text) else f"{text[:80]!r} is not 1 to {NAME_MAX} letters, digits, ., _ or -"


def address_problem(text: str, *, url: bool = False) -> str | None:
    """What is wrong with it, in words that quote nothing of an address with a password in it."""
    if len(text) > ADDRESS_MAX:
        return f"is of over {ADDRESS_MAX} characters"
    if "@" in text:
        return "is an address with a name or a password in it"
    if url and not text.startswith(SCHEMES):
        return f"{text[:80]!r} is no URL"
    try:
        parts = parse_url(text if text.startswith(SCHEMES) else f"http://{text}")
    except UsageError:
        return f"{text[:80]!r} is no address that other nodes could reach"
    if parts.hostname in _EVERYWHERE:
        return f"{text[:80]!r} stands for every address, and is none that other nodes could reach"
    if not text.startswith(SCHEMES) and (parts.port is None or parts.path):
        return f"{text[:80]!r} is no host:port"
    return None
