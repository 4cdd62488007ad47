"""A `[[route]]` of the configuration: which deliveries it matches, and how their tasks run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from covenq.config.contract import NO_AGENT, Agent, contract_of
from covenq.config.executor import BRACED, KEEP, forward_of, kind_of, limits_of, pull_of, run_of
from covenq.config.familiar import Trigger
from covenq.config.limits import DEFAULT_SCHEDULING, SCHEDULING_KEYS, Scheduling, parse_scheduling
from covenq.config.resources import NO_LIMITS, ResourceLimits
from covenq.config.toml_position import Step
from covenq.config.toml_table import Table, did_you_mean
from covenq.config.work_token import WorkToken, parse_work_token
from covenq.errors import FilterError
from covenq.filter.grammar import Filter, parse
from covenq.model import Category, Json, JsonObject
from covenq.model.queues import ACT

KEY_FIELDS = (
    "repo", "repo_id", "owner", "number", "head_sha", "ref", "target", "sender", "installation", "label", "hook", "event",
    "action",
)  # fmt: skip
"""The placeholders of a route's `key`."""

UNDECIDED = frozenset(
    {
        "seq",
        "state",
        "reason",
        "route",
        "kind",
        "purpose",
        "familiar",
        "worker",
        "node",
        "category",
        "attempts",
        "duplicates",
    }
)
"""Fields of a filter that have no value yet when a route is chosen."""

ROUTE_KEYS = (
    "name", "match", "else", "run", "forward", "sign", "pull", "timeout", "retry", "key", "env", "limits", "keep", "max_age",
    "purpose", "familiar", "contract", "token", *SCHEDULING_KEYS,
)  # fmt: skip
"""The keys of a `[[route]]`."""

ELSE_MAX = 200
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")


@dataclass(frozen=True, slots=True)
class Retry:
    """`max` retries after the first attempt; exponential from `backoff_s` seconds, never over `cap_s`.

    `on` are the categories of failure that are tried again; None is every one but `policy`.
    """

    max: int = 0
    backoff_s: float = 2.0
    cap_s: float = 300.0
    on: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A route: each delivery that `filter` matches makes one task, which runs with these settings."""

    name: str
    match: str
    filter: Filter
    run: tuple[str, ...]
    kind: str = "run"
    timeout_s: float = 600.0
    retry: Retry = Retry()
    key: str | None = None
    scheduling: Scheduling = DEFAULT_SCHEDULING
    otherwise: str | None = None
    """`else`: the reason of a delivery that no route matches, if this route is the nearest."""
    env: tuple[str, ...] = ()
    forward: str | None = None
    """For `kind` "forward": the address that the delivery is posted to."""
    sign: str | None = None
    """The name of the secret that a forward is signed anew with; None: it keeps GitHub's signature."""
    limits: ResourceLimits = NO_LIMITS
    keep: str = "all"
    purpose: str | None = None
    """What its tasks are for, in a word of its own, which they freeze."""
    familiar: str | None = None
    """The id of the agent that its tasks are run as, which they freeze."""
    contract: str | None = None
    """How its command is told what to do and how what it leaves is judged, one of CONTRACTS; None: by its exit code alone."""
    agent: Agent = NO_AGENT
    """What its tasks are told of the agent, as they freeze it; the brief of a contract says it."""
    max_age_s: float | None = None
    """What GitHub first sent longer ago is held back when it is fetched; None: as `[reconcile] max_age` says."""
    trigger: Trigger | None = None
    """What a delivery must be beside what `filter` says, for a route that a familiar makes."""
    place: tuple[Step, ...] = field(default=(), compare=False)
    """Where in the configuration's file it stands, as `covenq.config.toml_position` takes it."""
    token: WorkToken | None = None
    """What the token may do that an attempt gets for its work; None: it gets none."""
    policy: Mapping[str, Json] = field(init=False, repr=False, compare=False)
    """The part of the route that a task freezes, as the record `task.queued` holds it. Made once, and not for every delivery."""

    events: frozenset[str] | None = field(init=False, repr=False, compare=False)
    """The only events that `filter` can match; None if it names none. Of ten routes most are about another event."""
    condition: Filter = field(init=False, repr=False, compare=False)
    """What is left of `filter` for a delivery of one of `events`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "policy", self._policy())
        events, condition = self.filter.split("event")
        object.__setattr__(self, "events", events)
        object.__setattr__(self, "condition", condition)

    @property
    def labels(self) -> JsonObject:
        """What its tasks are named by beside its own name, as far as it says so."""
        told = {"purpose": self.purpose, "familiar": self.familiar}
        return {name: value for name, value in told.items() if value is not None}

    def _policy(self) -> dict[str, Json]:
        what: dict[str, Json] = {"run": list(self.run)}
        if self.kind == "forward":
            what = {"forward": self.forward}
            if self.sign is not None:
                what["sign"] = self.sign
        elif self.kind == "pull":
            what = {"pull": True}
        elif self.kind == ACT:
            what = {ACT: self.purpose}
        if self.contract is not None:
            what["contract"] = self.contract
        if agent := self.agent.as_json():
            what["agent"] = agent
        if limits := self.limits.as_json():
            what["limits"] = limits
        if self.keep != KEEP[0]:
            what["keep"] = self.keep
        if self.token is not None:
            what["token"] = self.token.as_json()
        retry: dict[str, Json] = {"max": self.retry.max, "backoff_s": self.retry.backoff_s, "cap_s": self.retry.cap_s}
        if self.retry.on is not None:
            retry["on"] = list(self.retry.on)
        return {**what, "timeout_s": self.timeout_s, "retry": retry, **self.scheduling.policy(), "env": list(self.env)}


def digest(routes: Sequence[Route]) -> str:
    told = [route_object(route) for route in routes]
    # All triggers have the same scope. It is said once, and not where there is none: hashes of older configurations stay.
    told += [{"scope": route.trigger.scope.as_json()} for route in routes if route.trigger is not None][:1]
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def route_object(route: Route) -> JsonObject:
    """A route as JSON shows it. Its digest is over this, so that what isn't said isn't there."""
    more: JsonObject = {} if route.max_age_s is None else {"max_age_s": route.max_age_s}
    if route.trigger is not None:
        more["trigger"] = route.trigger.as_json()
    return {
        "name": route.name,
        "match": route.match,
        "kind": route.kind,
        **route.labels,
        "key": route.key,
        "policy": route.policy,
        **more,
    }


def parse_route(table: Table) -> Route:
    """The route of a `[[route]]`. Raises ConfigError."""
    table.where = f"route {table.token('name')!r}"
    table.require_known(ROUTE_KEYS)
    return route_of(table)


def route_of(table: Table) -> Route:
    """The route that a table says, of which only ROUTE_KEYS are read. Raises ConfigError."""
    name = table.token("name")
    kind = kind_of(table)
    if kind == "pull":
        pull_of(table)
    match = table.text("match")
    key = table.text("key", "") or None
    for word in BRACED.findall(key or ""):
        if word not in KEY_FIELDS:
            raise table.error("key", f"{{{word}}} is nothing that a key can hold{did_you_mean(word, KEY_FIELDS)}")
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
        run=run_of(table) if kind == "run" else (),
        kind=kind,
        timeout_s=timeout,
        retry=_retry(table),
        key=key,
        scheduling=parse_scheduling(table, keyed=key is not None),
        otherwise=_otherwise(table),
        env=environment,
        forward=forward_of(table) if kind == "forward" else None,
        sign=table.token("sign") if "sign" in table.raw else None,
        limits=limits_of(table),
        keep=table.choice("keep", KEEP),
        purpose=table.token("purpose") if "purpose" in table.raw else None,
        contract=contract_of(table, kind),
        familiar=table.token("familiar") if "familiar" in table.raw else None,
        max_age_s=table.duration("max_age", 0.0) if "max_age" in table.raw else None,
        place=table.path,
        token=parse_work_token(table),
    )


def _filter(table: Table, match: str) -> Filter:
    try:
        parsed = parse(match)
    except FilterError as error:
        raise table.error("match", str(error), hint=error.hint) from None
    for name in sorted(parsed.fields() & UNDECIDED):
        raise table.error("match", f"{name!r} has no value yet when a route is chosen")
    return parsed


def _retry(table: Table) -> Retry:
    retry = table.table("retry", ("max", "backoff", "cap", "on"))
    categories = tuple(category.value for category in Category if category is not Category.POLICY)
    on = retry.texts("on", ()) if "on" in retry.raw else None
    for word in on or ():
        if word not in categories:
            raise retry.error("on", f"{word[:40]!r} is none of {', '.join(categories)}{did_you_mean(word, categories)}")
    most = retry.integer("max", 0, 0, 1000)
    return Retry(most, retry.duration("backoff", 2.0), retry.duration("cap", 300.0), on)


def _otherwise(table: Table) -> str | None:
    if "else" not in table.raw:
        return None
    text = table.text("else").strip()
    if not text or len(text) > ELSE_MAX or not text.isprintable():
        raise table.error("else", f"must be one line of 1 to {ELSE_MAX} characters")
    return text
