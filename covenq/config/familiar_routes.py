"""The routes that familiars make: one for each purpose, so that a task's route says whose it is and what it is for.

They are ordinary routes. What the filter grammar can't say is their `trigger`, which `covenq.routing.trigger` decides about.
Each is read as the table of a `[[route]]` would be, with the familiar's own keys in it: so whatever a route can have, a
familiar can, and an error names the line where it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from covenq.config.contract import Agent
from covenq.config.familiar import (
    DEEPEN,
    FIX,
    PULL_WORDS,
    REVIEW,
    Familiar,
    Purpose,
    Scope,
    Trigger,
    TriggerKind,
)
from covenq.config.familiar_table import OWN_KEYS, Familiars, parse_familiars
from covenq.config.limits import SCHEDULING_KEYS, Cap
from covenq.config.route import ROUTE_KEYS, Route, route_of
from covenq.config.toml_table import Table
from covenq.model.queues import ACT

KEY = "{repo_id}#{number}"
"""Of work on an issue or a pull request: two agents don't do it at once. What only answers has none, and waits for none."""

MADE_KEYS = frozenset({"name", "match", "else", "purpose", "familiar", "key", *SCHEDULING_KEYS}) - {"priority"}
"""The keys of a route that a familiar can't have: they are made, or would count for each of its routes alone."""

_ASSIGNED = {("issues", "assigned"): TriggerKind.ASSIGNMENT}
_LABELED_ISSUE = {("issues", "labeled"): TriggerKind.LABELS}
_LABELED_PULL = {("pull_request", "labeled"): TriggerKind.LABELS}
_OPENED = {
    ("pull_request", action): TriggerKind.REVIEWS
    for action in ("opened", "synchronize", "reopened", "ready_for_review")
}
_SAID_ON_PULL = {
    ("issue_comment", "created"): TriggerKind.COMMANDS,
    ("pull_request_review", "submitted"): TriggerKind.COMMANDS,
    ("pull_request_review_comment", "created"): TriggerKind.COMMANDS,
}
_SAID_ON_ISSUE = {("issue_comment", "created"): TriggerKind.COMMANDS}

_Kinds = Mapping[tuple[str, str], TriggerKind]
_NONE: frozenset[str] = frozenset()


class _Shape(NamedTuple):
    """A route to be made: its purpose, what it is about, and the commands that it takes on issues and on pull requests."""

    purpose: str
    kinds: _Kinds
    issue_words: frozenset[str] = _NONE
    pull_words: frozenset[str] = _NONE
    unknown: bool = False
    works: bool = False
    """It is work on the issue or the pull request, and no answer."""
    acts: bool = False
    """The daemon does it, as an operator would: nothing of the familiar runs."""
    supersede: str = "never"


class MadeRoute(NamedTuple):
    """A route, and the table that errors about it are told by."""

    table: Table
    route: Route


def make_routes(top: Table, installation_cap: Cap) -> tuple[Familiars, list[MadeRoute]]:
    """The familiars of the configuration, and their routes, in order; `installation_cap` as `parse_familiars` takes it.

    Raises ConfigError.
    """
    tables = top.tables("familiar")
    familiars = parse_familiars(top, tables, installation_cap)
    made: list[MadeRoute] = []
    for index, (table, familiar) in enumerate(zip(tables, familiars.all, strict=True)):
        table.where = f"familiar {familiar.id!r}"
        for key in sorted(MADE_KEYS & table.raw.keys()):
            raise table.error(key, "is of a [[route]]; a familiar's routes are made with theirs", hint=_hint(key))
        table.require_known([*OWN_KEYS, *(key for key in ROUTE_KEYS if key not in MADE_KEYS)])
        before = tuple(one for one in familiars.all[:index] if one.labels & familiar.labels)
        made += (_made(table, familiar, shape, familiars.scope, before) for shape in _shapes(familiar))
    return familiars, made


def _shapes(familiar: Familiar) -> Iterator[_Shape]:
    others = frozenset(familiar.words)
    known = frozenset({FIX, REVIEW, Purpose.CANCEL.value, Purpose.RETRY.value}) | others
    fix, review = frozenset({FIX}), frozenset({REVIEW})
    yield _Shape(Purpose.FIX_ISSUE, {**_ASSIGNED, **_LABELED_ISSUE, **_SAID_ON_ISSUE}, issue_words=fix, works=True)
    yield _Shape(
        Purpose.REVIEW_PULL_REQUEST,
        {**_OPENED, **_LABELED_PULL, **_SAID_ON_PULL},
        pull_words=review,
        works=True,
        # By one route, so that a newer review takes the place of an older one, however either came about.
        supersede="queued",
    )
    yield _Shape(Purpose.ADDRESS_REVIEW_COMMENT, _SAID_ON_PULL, pull_words=fix, works=True)
    for word in familiar.words:
        one = frozenset({word})
        if word == DEEPEN:  # a review, too
            yield _Shape(word, _SAID_ON_PULL, pull_words=one, works=True, supersede="queued")
        else:
            yield _Shape(word, _SAID_ON_PULL, one, one)
    for purpose in (Purpose.CANCEL, Purpose.RETRY):
        one = frozenset({purpose.value})
        yield _Shape(purpose, _SAID_ON_PULL, one, one, acts=True)
    yield _Shape(Purpose.CLARIFICATION, _SAID_ON_PULL, known - PULL_WORDS, known, unknown=True)


def _made(table: Table, familiar: Familiar, shape: _Shape, scope: Scope, before: Sequence[Familiar]) -> MadeRoute:
    raw: dict[str, object] = {"pull": True}
    if not shape.acts:
        raw = {key: value for key, value in table.raw.items() if key not in OWN_KEYS}
    raw |= {
        "name": route_name(familiar.id, shape.purpose),
        "match": _match(shape.kinds),
        "purpose": str(shape.purpose),
        "familiar": familiar.id,
        "supersede": shape.supersede,
    }
    if shape.works:
        raw["key"] = KEY
    told = Table(table.file, table.where, raw, table.path, table.text_of_file)
    trigger = Trigger(
        familiar,
        shape.kinds,
        scope,
        shape.issue_words,
        shape.pull_words,
        shape.unknown,
        tuple(before) if TriggerKind.LABELS in shape.kinds.values() else (),
    )
    made = replace(route_of(told), trigger=trigger)
    if shape.acts:
        return MadeRoute(told, replace(made, kind=ACT))
    agent = Agent(familiar.display_name, familiar.model, familiar.skills)
    return MadeRoute(told, replace(made, agent=agent))


def route_name(familiar: str, purpose: str) -> str:
    """The name of a familiar's route: it says whose it is, and what its tasks are for."""
    return f"{familiar}-{purpose.replace('_', '-')}"


def _match(kinds: _Kinds) -> str:
    """The filter: the events and actions, from which the trigger takes the pairs that it is about."""
    events = ",".join(dict.fromkeys(event for event, _ in kinds))
    actions = ",".join(dict.fromkeys(action for _, action in kinds))
    return f"event:{events} action:{actions}"


def _hint(key: str) -> str:
    if key in ("concurrency", "daily"):
        return "Give the installation `limits`, or [limits] route, which counts for each of its routes."
    return "Leave it out, or write a [[route]] of your own."
