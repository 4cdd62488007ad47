"""A `[[route]]` of the configuration: which deliveries it wants, and what becomes of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from covenq.config_table import Table, near
from covenq.errors import FilterError
from covenq.filter import Filter, parse
from covenq.model import JsonObject

PLACEHOLDERS = ("brief", "result", "payload", "task", "attempt")
"""What may stand in braces in a route's `run`: paths and ids of ours. Nothing that a request chose ever becomes an
argument, where it could pass for an option; a command finds those in its environment and its payload."""

KEY_FIELDS = (
    "repo", "repo_id", "owner", "number", "head_sha", "sender", "installation", "label", "hook", "event", "action"
)  # fmt: skip
"""What may stand in braces in a route's `key`."""

SUPERSEDE = ("never", "queued", "running")
UNDECIDED = frozenset({"seq", "state", "reason", "route", "kind", "worker", "category", "attempts", "duplicates"})
"""Fields of a filter that have no value yet when a route is chosen."""


_BRACED = re.compile(r"\{([A-Za-z_]+)\}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")


@dataclass(frozen=True, slots=True)
class Retry:
    """`max` retries after the first attempt; exponential from `backoff_s` seconds, never over `cap_s`."""

    max: int = 0
    backoff_s: float = 2.0
    cap_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Route:
    """A rule: deliveries that `filter` matches make one task each, run as this says."""

    name: str
    match: str
    filter: Filter
    run: tuple[str, ...]
    kind: str = "run"
    timeout_s: float = 600.0
    retry: Retry = Retry()
    key: str | None = None
    supersede: str = "never"
    env: tuple[str, ...] = ()

    def policy(self) -> JsonObject:
        """What a task freezes of its route, as the record `task.queued` holds it."""
        return {
            "run": list(self.run),
            "timeout_s": self.timeout_s,
            "retry": {"max": self.retry.max, "backoff_s": self.retry.backoff_s, "cap_s": self.retry.cap_s},
            "supersede": self.supersede,
            "env": list(self.env),
        }


def digest(routes: Sequence[Route]) -> str:
    told = [{"name": r.name, "match": r.match, "kind": r.kind, "key": r.key, "policy": r.policy()} for r in routes]
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def parse_route(table: Table) -> Route:
    name = table.token("name")
    table.where = f"route {name!r}"
    for later in ("forward", "pull"):
        if later in table.raw:
            raise table.error(later, "this version can only run commands: write run = [...]")
    table.only(("name", "match", "run", "timeout", "retry", "key", "supersede", "env"))
    match = table.text("match")
    retry = table.table("retry", ("max", "backoff", "cap"))
    key = table.text("key", "") or None
    for word in _BRACED.findall(key or ""):
        if word not in KEY_FIELDS:
            raise table.error("key", f"{{{word}}} is nothing that a key can hold{near(word, KEY_FIELDS)}")
    supersede = table.choice("supersede", SUPERSEDE)
    if supersede != "never":
        raise table.error("supersede", f'{supersede!r} is not there yet: this version knows only "never"')
    timeout = table.duration("timeout", 600.0)
    if timeout <= 0:
        raise table.error("timeout", "must be longer than nothing")
    environment = table.texts("env", ())
    for variable in environment:
        if not _ENV_NAME.match(variable) or variable.startswith("COVENQ_"):
            raise table.error("env", f"{variable[:40]!r} is no environment variable that may be passed on")
    return Route(
        name=name,
        match=match,
        filter=_filter(table, match),
        run=_run(table),
        timeout_s=timeout,
        retry=Retry(retry.whole("max", 0, 0, 1000), retry.duration("backoff", 2.0), retry.duration("cap", 300.0)),
        key=key,
        supersede=supersede,
        env=environment,
    )


def _filter(table: Table, match: str) -> Filter:
    try:
        parsed = parse(match)
    except FilterError as error:
        raise table.error("match", str(error), hint=error.hint) from None
    for name in sorted(parsed.fields() & UNDECIDED):
        raise table.error("match", f"{name!r} has no value yet when a route is chosen")
    return parsed


def _run(table: Table) -> tuple[str, ...]:
    argv = table.texts("run")
    if not argv or not argv[0]:
        raise table.error("run", "needs a command and its arguments, each a text of its own")
    for word in argv:
        if "\0" in word:
            raise table.error("run", "an argument can't hold a NUL")
        for name in _BRACED.findall(word):
            if name in PLACEHOLDERS:
                continue
            if name in KEY_FIELDS or name in ("title", "guid"):
                raise table.error(
                    "run",
                    f"{{{name}}} comes from the request, which must not become an argument",
                    hint="The command finds it in its environment (COVENQ_REPO, COVENQ_EVENT, …) and in its payload.",
                )
            if guess := near(name, PLACEHOLDERS):
                raise table.error("run", f"{{{name}}} is no placeholder{guess}")
    return argv
